//! An OVF envelope: the XML that says which disks a machine has, in which files they lie, and how they are plugged in.
//!
//! ```text
//! References   File   id ─▶ href, size, compression, chunkSize      (a name beside the envelope)
//! DiskSection  Disk   diskId ─▶ fileRef, capacity × units, format, parentRef
//! VirtualSystem ... Item   ResourceType 17, HostResource ovf:/disk/ID, Parent ─▶ controller's Item, AddressOnParent
//! ```
//! Specification: DMTF DSP0243, "Open Virtualization Format", 2.1.1; resource types: CIM schema,
//! `CIM_ResourceAllocationSettingData`. Read without DTD and entities; prefixes of namespaces are the writer's choice, so
//! elements and attributes are known by their local names.

use super::super::xml::bounded;
use crate::error::{At, Error, Result};
use crate::text::escape;
use roxmltree::{Document, Node, ParsingOptions};

/// Bytes of an envelope. Exports have some KiB; VirtualBox's with a screenshot inside have a few hundred.
pub(super) const MAX_ENVELOPE: u64 = 4 << 20;
/// Elements, attributes and texts of an envelope.
const MAX_NODES: u32 = 200_000;
/// Virtual systems of an envelope, and items of hardware of one: a large machine has some hundred of these.
const MAX_SYSTEMS: usize = 64;
const MAX_ITEMS: usize = 1024;
/// Disks of an envelope.
const MAX_DISKS: usize = super::super::tar::MAX_DISKS;

/// Resource type of a disk drive.
const DISK_DRIVE: &str = "17";

/// What an envelope says of disks.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    /// Name of the first virtual system: its `Name`, else its id.
    pub(super) system: Option<String>,
    /// What its operating system section says.
    pub(super) guest: Option<String>,
    /// The disks of the first virtual system, in the order in which its firmware finds them; then those of the disk
    /// section that no system has.
    pub(super) disks: Vec<Disk>,
    /// Disks of further virtual systems: ids.
    pub(super) elsewhere: Vec<String>,
    /// How many virtual systems there are.
    pub(super) systems: usize,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) id: String,
    /// Where its content lies; a disk without a file is empty.
    pub(super) file: Option<File>,
    /// In bytes, if the envelope states a number.
    pub(super) capacity: Option<u64>,
    /// The URI that names its format.
    pub(super) format: String,
    pub(super) parent: Option<String>,
}

/// A file beside the envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    pub(super) href: String,
    /// In bytes, as it lies there: all its parts together, and packed if it is packed.
    pub(super) size: Option<u64>,
    pub(super) compression: Compression,
    /// It is cut into files `href.000000000`, ... of so many bytes.
    pub(super) chunk: Option<u64>,
}

/// How a file is packed, section 7.1, "ovf:compression".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Compression {
    /// `identity`, or nothing said.
    #[default]
    Identity,
    Gzip,
    /// This, which the specification does not know.
    Other(String),
}

impl Compression {
    fn of(stated: Option<&str>) -> Self {
        match stated.map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            None | Some("" | "identity") => Self::Identity,
            Some("gzip") => Self::Gzip,
            Some(other) => Self::Other(shown(other)),
        }
    }
}

impl Envelope {
    /// Reads an envelope.
    ///
    /// # Errors
    /// `Corrupt` when it is not XML or not an envelope; `Unsupported` for a document type definition; `Limit` for too many
    /// elements or disks.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let at = || At::new("ovf", "envelope");
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let text = std::str::from_utf8(text)
            .map_err(|error| Error::corrupt(at()).because("is not UTF-8").caused_by(error))?;
        bounded(text).map_err(|error| error.at(at()))?;
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|error| match error {
            roxmltree::Error::DtdDetected => {
                Error::unsupported("a document type definition in an OVF").at(at())
            }
            roxmltree::Error::NodesLimitReached => {
                Error::limit(format!("more than {MAX_NODES} elements")).at(at())
            }
            // The parser's words carry names of the document.
            other => {
                Error::corrupt(at()).because(format!("no XML: {}", escape(other.to_string().as_bytes())))
            }
        })?;
        let root = document.root_element();
        if root.tag_name().name() != "Envelope" {
            let name = escape(root.tag_name().name().as_bytes()).to_string();
            return Err(Error::corrupt(at()).because(format!("its root is '{name}', not 'Envelope'")));
        }
        let files = files(root)?;
        let disks = disks(root, &files)?;
        let systems: Vec<Node<'_, '_>> =
            root.descendants().filter(|node| node.has_tag("VirtualSystem")).collect();
        if systems.len() > MAX_SYSTEMS {
            return Err(Error::limit(format!("more than {MAX_SYSTEMS} virtual systems")).at(at()));
        }
        let mut found = Self { systems: systems.len(), ..Self::default() };
        let mut plugged: Vec<Vec<usize>> = Vec::new();
        for system in &systems {
            plugged.push(order(*system, &disks, &files)?);
        }
        let first = plugged.first().cloned().unwrap_or_default();
        let of_others: Vec<usize> =
            plugged.iter().skip(1).flatten().copied().filter(|disk| !first.contains(disk)).collect();
        let free = (0..disks.len()).filter(|disk| !first.contains(disk) && !of_others.contains(disk));
        let own = first.iter().copied().chain(free);
        found.disks = own.filter_map(|disk| disks.get(disk).cloned()).collect();
        found.elsewhere =
            of_others.iter().filter_map(|disk| disks.get(*disk).map(|disk| disk.id.clone())).collect();
        if let Some(system) = systems.first() {
            let name = system.children().find(|node| node.has_tag("Name")).and_then(|node| node.text());
            found.system = name.map(str::trim).or_else(|| system.attr("id")).map(shown);
            let section = system.children().find(|node| node.has_tag("OperatingSystemSection"));
            let text =
                section.and_then(|node| node.children().find(|node| node.has_tag("Description"))?.text());
            let named = text.map(str::trim).filter(|text| !text.is_empty());
            found.guest = named.or_else(|| section?.attr("osType")).map(shown);
        }
        Ok(found)
    }
}

/// Text of the document, cut to what fits on a line.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    escape(short.as_bytes()).to_string()
}

/// Elements and attributes by local name.
trait Local<'a> {
    fn has_tag(&self, name: &str) -> bool;
    fn attr(&self, name: &str) -> Option<&'a str>;
    fn child_text(&self, name: &str) -> Option<&'a str>;
}

impl<'a> Local<'a> for Node<'a, '_> {
    fn has_tag(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }

    fn attr(&self, name: &str) -> Option<&'a str> {
        self.attributes().find(|attribute| attribute.name() == name).map(|attribute| attribute.value())
    }

    fn child_text(&self, name: &str) -> Option<&'a str> {
        self.children().find(|node| node.has_tag(name)).and_then(|node| node.text()).map(str::trim)
    }
}

/// References: id and file.
fn files(root: Node<'_, '_>) -> Result<Vec<(String, File)>> {
    let mut found: Vec<(String, File)> = Vec::new();
    let references = root.children().filter(|node| node.has_tag("References"));
    for node in references.flat_map(|node| node.children()).filter(|node| node.has_tag("File")) {
        let id = node.attr("id").unwrap_or_default().to_owned();
        let href = node.attr("href").unwrap_or_default().to_owned();
        let at = || At::new("ovf", "File");
        if found.iter().any(|(other, _)| *other == id) {
            return Err(
                Error::corrupt(at()).because(format!("two files have the id '{}'", escape(id.as_bytes())))
            );
        }
        if found.len() >= super::MAX_FILES {
            return Err(Error::limit(format!("more than {} files", super::MAX_FILES)).at(at()));
        }
        let number = |name: &str| node.attr(name).and_then(|text| text.trim().parse::<u64>().ok());
        let chunk = number("chunkSize").filter(|size| *size > 0);
        let compression = Compression::of(node.attr("compression"));
        found.push((id, File { href, size: number("size"), compression, chunk }));
    }
    Ok(found)
}

/// The disk sections.
fn disks(root: Node<'_, '_>, files: &[(String, File)]) -> Result<Vec<Disk>> {
    let mut found: Vec<Disk> = Vec::new();
    // Old envelopes have <Section xsi:type="ovf:DiskSection_Type">.
    let is_section = |node: &Node<'_, '_>| {
        node.has_tag("DiskSection")
            || (node.has_tag("Section") && node.attr("type").is_some_and(|kind| kind.contains("DiskSection")))
    };
    let sections = root.children().filter(is_section);
    for node in sections.flat_map(|node| node.children()).filter(|node| node.has_tag("Disk")) {
        let at = || At::new("ovf", "Disk");
        let id = node.attr("diskId").unwrap_or_default().to_owned();
        let name = escape(id.as_bytes()).to_string();
        if found.iter().any(|disk| disk.id == id) {
            return Err(Error::corrupt(at()).because(format!("two disks have the id '{name}'")));
        }
        if found.len() >= MAX_DISKS {
            return Err(Error::limit(format!("more than {MAX_DISKS} disks")).at(at()));
        }
        let file = match node.attr("fileRef").filter(|reference| !reference.is_empty()) {
            None => None,
            Some(reference) => {
                let file = files.iter().find(|(id, _)| id == reference).map(|(_, file)| file.clone());
                let missing = || {
                    let reference = escape(reference.as_bytes());
                    Error::corrupt(at())
                        .because(format!("'{name}' is in the file '{reference}', which is not listed"))
                };
                Some(file.ok_or_else(missing)?)
            }
        };
        found.push(Disk {
            id,
            file,
            capacity: node.attr("capacity").and_then(|text| {
                text.trim().parse::<u64>().ok()?.checked_mul(units(node.attr("capacityAllocationUnits"))?)
            }),
            format: node.attr("format").unwrap_or_default().to_owned(),
            parent: node.attr("parentRef").filter(|text| !text.is_empty()).map(str::to_owned),
        });
    }
    Ok(found)
}

/// How many bytes an allocation unit has: `byte`, `byte * 2^30`, `byte*10^9`, `GigaBytes` (DSP0004, annex C.1, and the
/// words of OVF 0.9). `None` if it is something else.
fn units(text: Option<&str>) -> Option<u64> {
    let Some(text) = text else { return Some(1) };
    let plain: String = text.to_ascii_lowercase().split_whitespace().collect();
    let old = [("bytes", 0), ("kilobytes", 10), ("megabytes", 20), ("gigabytes", 30), ("terabytes", 40)];
    if let Some((_, shift)) = old.iter().find(|(name, _)| *name == plain) {
        return 1_u64.checked_shl(*shift);
    }
    let mut factors = plain.split('*');
    if factors.next() != Some("byte") {
        return None;
    }
    factors.try_fold(1_u64, |product, factor| {
        let factor = match factor.split_once('^') {
            Some((base, power)) => base.parse::<u64>().ok()?.checked_pow(power.parse().ok()?)?,
            None => factor.parse().ok()?,
        };
        product.checked_mul(factor)
    })
}

/// The disks of a system in the order of its controllers and of the places on them: places in `disks`.
///
/// Controllers of one kind go by their own address, kinds by which is listed first, as a firmware counts.
fn order(system: Node<'_, '_>, disks: &[Disk], files: &[(String, File)]) -> Result<Vec<usize>> {
    let is_item = |node: &Node<'_, '_>| ["Item", "StorageItem"].iter().any(|name| node.has_tag(name));
    let items: Vec<Item<'_>> =
        system.descendants().filter(is_item).take(MAX_ITEMS.saturating_add(1)).map(Item::of).collect();
    if items.len() > MAX_ITEMS {
        return Err(
            Error::limit(format!("more than {MAX_ITEMS} items")).at(At::new("ovf", "VirtualHardwareSection"))
        );
    }
    let mut drives: Vec<((usize, u64, usize, u64), usize)> = Vec::new();
    for item in items.iter().filter(|item| item.kind == DISK_DRIVE) {
        let Some(disk) = item.resource.and_then(|name| meant(name, disks, files)) else { continue };
        let parent = item.parent.and_then(|id| items.iter().position(|other| other.id == Some(id)));
        let controller = parent.and_then(|at| Some((at, items.get(at)?)));
        let (first, address, at) = match controller {
            Some((at, controller)) => {
                let same = items.iter().position(|other| other.kind == controller.kind);
                (same.unwrap_or(at), controller.address.unwrap_or(0), at)
            }
            None => (usize::MAX, 0, usize::MAX),
        };
        if drives.iter().all(|(_, known)| *known != disk) {
            drives.push(((first, address, at, item.slot.unwrap_or(u64::MAX)), disk));
        }
    }
    // Stable: what has no place keeps its place in the document.
    drives.sort_by_key(|(key, _)| *key);
    Ok(drives.into_iter().map(|(_, disk)| disk).collect())
}

/// A piece of hardware.
struct Item<'a> {
    kind: &'a str,
    id: Option<&'a str>,
    parent: Option<&'a str>,
    resource: Option<&'a str>,
    /// A controller's own number.
    address: Option<u64>,
    /// The place on its controller.
    slot: Option<u64>,
}

impl<'a> Item<'a> {
    fn of(node: Node<'a, '_>) -> Self {
        let number = |name: &str| node.child_text(name).and_then(|text| text.parse().ok());
        Self {
            kind: node.child_text("ResourceType").unwrap_or_default(),
            id: node.child_text("InstanceID"),
            parent: node.child_text("Parent"),
            resource: node.child_text("HostResource"),
            address: number("Address"),
            slot: number("AddressOnParent"),
        }
    }
}

/// The disk that `ovf:/disk/ID` means, or `/disk/ID` as version 0.9 wrote it, or `ovf:/file/ID`.
fn meant(resource: &str, disks: &[Disk], files: &[(String, File)]) -> Option<usize> {
    let path = resource.strip_prefix("ovf:").unwrap_or(resource);
    if let Some(id) = path.strip_prefix("/disk/") {
        return disks.iter().position(|disk| disk.id == id);
    }
    let (_, file) = files.iter().find(|(id, _)| Some(id.as_str()) == path.strip_prefix("/file/"))?;
    disks.iter().position(|disk| disk.file.as_ref() == Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two_and_ten() {
        let of = |text: &str| units(Some(text));
        assert_eq!(
            (of("byte * 2^30"), of("byte*10^9"), of("byte")),
            (Some(1 << 30), Some(1_000_000_000), Some(1))
        );
        assert_eq!(
            (of("GigaBytes"), of("byte * 2^10 * 4"), units(None)),
            (Some(1 << 30), Some(4096), Some(1))
        );
        assert_eq!((of("bit"), of("byte * 2^99"), of("byte * x")), (None, None, None));
    }

    fn envelope(disks: &str, items: &str) -> Result<Envelope> {
        let text = format!(
            "<?xml version='1.0'?><o:Envelope xmlns:o='http://schemas.dmtf.org/ovf/envelope/1' xmlns:r='r'>\
             <o:References><o:File o:id='f1' o:href='a.vmdk'/><o:File o:id='f2' o:href='b.vmdk'/></o:References>\
             <o:DiskSection>{disks}</o:DiskSection><o:VirtualSystem o:id='vm'>\
             <o:VirtualHardwareSection>{items}</o:VirtualHardwareSection></o:VirtualSystem></o:Envelope>"
        );
        Envelope::parse(text.as_bytes())
    }

    fn item(kind: u8, id: u32, rest: &str) -> String {
        format!(
            "<o:Item><r:InstanceID>{id}</r:InstanceID><r:ResourceType>{kind}</r:ResourceType>{rest}</o:Item>"
        )
    }

    fn drive(id: u32, disk: &str, parent: u32, slot: u32) -> String {
        item(
            17,
            id,
            &format!(
                "<r:HostResource>ovf:/disk/{disk}</r:HostResource><r:Parent>{parent}</r:Parent>\
                 <r:AddressOnParent>{slot}</r:AddressOnParent>"
            ),
        )
    }

    fn ids(found: &Envelope) -> Vec<&str> {
        found.disks.iter().map(|disk| disk.id.as_str()).collect()
    }

    const TWO: &str =
        "<o:Disk o:diskId='d1' o:fileRef='f1' o:capacity='1'/><o:Disk o:diskId='d2' o:fileRef='f2'/>";

    #[test]
    fn disks_go_by_their_place_on_the_controller() {
        let items = [item(6, 3, ""), drive(9, "d1", 3, 1), drive(8, "d2", 3, 0)].concat();
        assert_eq!(ids(&envelope(TWO, &items).unwrap()), ["d2", "d1"]);
    }

    #[test]
    fn controllers_of_one_kind_go_by_their_address() {
        // VMware lists IDE controller 1 before IDE controller 0.
        let ide = |id, address| item(5, id, &format!("<r:Address>{address}</r:Address>"));
        let items = [ide(4, 1), ide(5, 0), drive(9, "d1", 4, 0), drive(8, "d2", 5, 0)].concat();
        assert_eq!(ids(&envelope(TWO, &items).unwrap()), ["d2", "d1"]);
    }

    #[test]
    fn disks_that_are_not_plugged_in_come_last() {
        let items = [item(6, 3, ""), drive(9, "d2", 3, 0)].concat();
        assert_eq!(ids(&envelope(TWO, &items).unwrap()), ["d2", "d1"]);
        assert_eq!(ids(&envelope(TWO, "").unwrap()), ["d1", "d2"]);
    }

    #[test]
    fn an_empty_disk_has_no_file() {
        let disk = "<o:Disk o:diskId='e' o:capacity='2' o:capacityAllocationUnits='byte * 2^30'/>";
        let found = envelope(disk, "").unwrap();
        assert_eq!((found.disks[0].file.clone(), found.disks[0].capacity), (None, Some(2 << 30)));
    }

    #[test]
    fn a_file_that_is_not_listed_is_corrupt() {
        let error = envelope("<o:Disk o:diskId='d' o:fileRef='no'/>", "").unwrap_err();
        assert!(error.to_string().contains("'no', which is not listed"), "{error}");
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><Envelope>&b;</Envelope>";
        let error = Envelope::parse(bomb).unwrap_err();
        assert!(error.to_string().contains("document type definition"), "{error}");
        assert!(Envelope::parse(b"<Envelope>&b;</Envelope>").is_err());
    }

    #[test]
    fn depth_and_number_of_elements_are_bounded() {
        let deep = [
            b"<Envelope>".to_vec(),
            b"<a>".repeat(180_000),
            b"</a>".repeat(180_000),
            b"</Envelope>".to_vec(),
        ];
        assert!(Envelope::parse(&deep.concat()).unwrap().disks.is_empty());
        let many = [b"<Envelope>".to_vec(), b"<a/>".repeat(200_001), b"</Envelope>".to_vec()];
        assert_eq!(Envelope::parse(&many.concat()).unwrap_err().kind(), crate::error::ErrorKind::Limit);
    }

    #[test]
    fn a_compression_is_none_gzip_or_another() {
        let of = |text: &str| Compression::of(Some(text));
        assert_eq!((of("identity"), of(""), Compression::of(None)), Default::default());
        assert_eq!((of("gzip"), of("bzip2")), (Compression::Gzip, Compression::Other("bzip2".to_owned())));
    }

    #[test]
    fn what_keeps_a_parser_busy_is_bounded() {
        let many: String = (0..100_000).map(|n| format!("a{n} = '' ")).collect();
        let error = Envelope::parse(format!("<Envelope {many}/>").as_bytes()).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Limit);
        let nested: String = (0..30_000).map(|n| format!("<a xmlns:b{n}='{n}'>")).collect();
        let nested = format!("<Envelope>{nested}{}</Envelope>", "</a>".repeat(30_000));
        assert_eq!(Envelope::parse(nested.as_bytes()).unwrap_err().kind(), crate::error::ErrorKind::Limit);
    }

    #[test]
    fn a_second_system_keeps_its_disks_to_itself() {
        let text = format!(
            "<Envelope><References><File id='f1' href='a'/><File id='f2' href='b'/></References><DiskSection>{}</DiskSection>\
             <VirtualSystemCollection><VirtualSystem id='one'>{}</VirtualSystem><VirtualSystem id='two'>{}</VirtualSystem>\
             </VirtualSystemCollection></Envelope>",
            TWO.replace("o:", ""),
            drive(1, "d2", 0, 0).replace("o:", "").replace("r:", ""),
            drive(1, "d1", 0, 0).replace("o:", "").replace("r:", ""),
        );
        let found = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!((ids(&found), found.elsewhere.as_slice()), (vec!["d2"], &["d1".to_owned()][..]));
    }
}
