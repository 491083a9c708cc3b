//! `DiskDescriptor.xml`: which files make up a bundle, where each lies on the disk, and which snapshot stands on which.
//!
//! Specification: qemu, `docs/interop/prl-xml.txt`.

use super::super::xml::bounded;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use crate::text::escape;
use roxmltree::{Document, Node, ParsingOptions};

/// Longest descriptor that is read; real ones have a few KiB.
pub(super) const MAX_XML: u64 = 1 << 20;
/// Elements and texts in one. Each costs some memory while it is parsed.
const MAX_NODES: u32 = 50_000;
/// Images behind each other; real chains have a handful.
const MAX_CHAIN: usize = 32;
const SECTOR: u64 = 512;

/// The image that the guest writes to, unless `TopGUID` names another.
const TOP: &str = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
/// The parent of an image that has none; also "no encryption".
const NONE: &str = "{00000000-0000-0000-0000-000000000000}";

/// How an image's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bytes as they are.
    Plain,
    /// An expanding file.
    Compressed,
}

/// One image of a storage.
#[derive(Debug)]
pub(super) struct Image {
    guid: String,
    pub(super) kind: Kind,
    pub(super) file: String,
}

/// A part of the disk.
#[derive(Debug)]
pub(super) struct Storage {
    /// In bytes.
    pub(super) len: u64,
    images: Vec<Image>,
}

impl Storage {
    pub(super) fn image(&self, guid: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.guid == guid)
    }
}

/// A descriptor, taken apart.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// One behind the other, from the disk's first byte on.
    pub(super) storages: Vec<Storage>,
    top: String,
    /// Image and parent.
    shots: Vec<(String, String)>,
}

/// Does a file begin as one?
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    let head = head.get(..head.len().min(4096)).unwrap_or_default();
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let word = b"<Parallels_disk_image";
    head.starts_with(b"<") && head.windows(word.len()).any(|window| window == word)
}

fn at() -> At {
    At::new("parallels", "descriptor")
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name).and_then(|child| child.text()).map(str::trim)
}

fn number(node: Node<'_, '_>, name: &str) -> Result<u64> {
    let text = text(node, name).unwrap_or_default();
    text.parse().map_err(|_| {
        Error::corrupt(at()).because(format!("{name} is '{}', not a number", escape(text.as_bytes())))
    })
}

fn guid(node: Node<'_, '_>, name: &str) -> Result<String> {
    let text = text(node, name).map(str::to_ascii_lowercase);
    text.ok_or_else(|| Error::corrupt(at()).because(format!("an element without {name}")))
}

impl Descriptor {
    /// Takes a descriptor apart.
    ///
    /// # Errors
    /// `Corrupt` for what is no XML or contradicts itself; `Unsupported` and `Encrypted` by name.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt = |why: String| Error::corrupt(at()).because(why);
        let text_of_it = std::str::from_utf8(bytes).map_err(|_| corrupt("is not UTF-8".to_owned()))?;
        bounded(text_of_it).map_err(|error| error.at(at()))?;
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text_of_it, options);
        let document = document.map_err(|error| {
            corrupt(format!("is no sound XML ({})", escape(error.to_string().as_bytes())))
        })?;
        let root = document.root_element();
        if !root.has_tag_name("Parallels_disk_image") {
            return Err(corrupt("the root is not Parallels_disk_image".to_owned()));
        }
        if let Some(parameters) = child(root, "Disk_Parameters") {
            Self::check(parameters)?;
        }
        let data = child(root, "StorageData").ok_or_else(|| corrupt("StorageData is missing".to_owned()))?;
        let storages = Self::storages(data)?;
        let mut found = Self { storages, top: TOP.to_owned(), shots: Vec::new() };
        if let Some(snapshots) = child(root, "Snapshots") {
            if let Some(top) = text(snapshots, "TopGUID").filter(|top| !top.is_empty()) {
                found.top = top.to_ascii_lowercase();
            }
            for shot in snapshots.children().filter(|child| child.has_tag_name("Shot")) {
                found.shots.push((guid(shot, "GUID")?, guid(shot, "ParentGUID")?));
            }
        }
        Ok(found)
    }

    /// Refuses what changes the meaning of the rest.
    fn check(parameters: Node<'_, '_>) -> Result<()> {
        if text(parameters, "Padding").is_some_and(|padding| padding != "0") {
            return Err(Error::unsupported("a Parallels disk with Padding").at(at()));
        }
        if let Some(size) = text(parameters, "LogicSectorSize").filter(|size| *size != "512") {
            let size = escape(size.as_bytes()).to_string();
            return Err(Error::unsupported(format!("a Parallels disk with LogicSectorSize {size}")).at(at()));
        }
        let engine = child(parameters, "Encryption").and_then(|encryption| text(encryption, "Engine"));
        if engine.is_some_and(|engine| !engine.is_empty() && engine != NONE) {
            return Err(Error::new(
                ErrorKind::Encrypted,
                "the Parallels disk is encrypted, and no key can be given",
            ));
        }
        Ok(())
    }

    fn storages(data: Node<'_, '_>) -> Result<Vec<Storage>> {
        let mut storages: Vec<(u64, Storage)> = Vec::new();
        for node in data.children().filter(|child| child.has_tag_name("Storage")) {
            let (start, end) = (number(node, "Start")?, number(node, "End")?);
            let len =
                end.checked_sub(start).and_then(|sectors| sectors.checked_mul(SECTOR)).filter(|len| *len > 0);
            let len = len.ok_or_else(|| {
                Error::corrupt(at()).because(format!("a storage of sectors {start} to {end}"))
            })?;
            let mut images = Vec::new();
            for image in node.children().filter(|child| child.has_tag_name("Image")) {
                let kind = match text(image, "Type").unwrap_or_default() {
                    "Plain" => Kind::Plain,
                    "Compressed" => Kind::Compressed,
                    other => {
                        let other = escape(other.as_bytes()).to_string();
                        return Err(
                            Error::unsupported(format!("the Parallels image type '{other}'")).at(at())
                        );
                    }
                };
                let file = text(image, "File").unwrap_or_default().to_owned();
                images.push(Image { guid: guid(image, "GUID")?, kind, file });
            }
            storages.push((start, Storage { len, images }));
        }
        storages.sort_by_key(|(start, _)| *start);
        let mut expected = 0_u64;
        for (index, (start, storage)) in storages.iter().enumerate() {
            if *start != expected {
                return Err(Error::corrupt(At::new("parallels", "storage").index(wide(index)))
                    .because(format!("starts at sector {start}, the one before ends at {expected}")));
            }
            expected = expected.saturating_add(storage.len / SECTOR);
        }
        if storages.is_empty() {
            return Err(Error::corrupt(at()).because("names no storages"));
        }
        Ok(storages.into_iter().map(|(_, storage)| storage).collect())
    }

    /// The images of the chain, the top first.
    ///
    /// # Errors
    /// `Limit` for a chain that is too long or goes in a circle.
    pub(super) fn chain(&self) -> Result<Vec<String>> {
        // A descriptor that lists no snapshots has one image in each storage, whatever its name.
        if self.shots.is_empty()
            && let Some([one]) = self.storages.first().map(|storage| storage.images.as_slice())
        {
            return Ok(vec![one.guid.clone()]);
        }
        let mut chain = vec![self.top.clone()];
        loop {
            let last = chain.last().map(String::as_str).unwrap_or_default();
            let parent = self.shots.iter().find(|(image, _)| image == last).map(|(_, parent)| parent);
            match parent {
                Some(parent) if parent != NONE => chain.push(parent.clone()),
                _ => return Ok(chain),
            }
            if chain.len() > MAX_CHAIN {
                return Err(Error::limit(format!("more than {MAX_CHAIN} snapshots lie behind each other")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xml(inside: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<Parallels_disk_image Version=\"1.0\">{inside}</Parallels_disk_image>"
        )
    }

    fn storage(start: u64, end: u64) -> String {
        format!(
            "<Storage><Start>{start}</Start><End>{end}</End><Image><GUID>{{A}}</GUID><Type>Plain</Type>\
             <File>x.hds</File></Image></Storage>"
        )
    }

    #[test]
    fn storages_are_put_in_order_and_must_meet() {
        let parts = |a, b| xml(&format!("<StorageData>{}{}</StorageData>", storage(8, a), storage(0, b)));
        let found = Descriptor::parse(parts(24, 8).as_bytes()).unwrap();
        assert_eq!(found.storages.iter().map(|s| s.len).collect::<Vec<_>>(), [4096, 8192]);
        assert_eq!(found.chain().unwrap(), ["{a}"]);
        assert!(Descriptor::parse(parts(24, 7).as_bytes()).is_err());
        assert!(Descriptor::parse(parts(8, 8).as_bytes()).is_err());
    }

    #[test]
    fn snapshots_in_a_circle_end() {
        let shots =
            format!("<Snapshots><Shot><GUID>{TOP}</GUID><ParentGUID>{TOP}</ParentGUID></Shot></Snapshots>");
        let text = xml(&format!("<StorageData>{}</StorageData>{shots}", storage(0, 8)));
        assert_eq!(Descriptor::parse(text.as_bytes()).unwrap().chain().unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn entities_and_floods_of_elements_are_refused() {
        let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaa\">]>{}", xml("&a;"));
        assert!(Descriptor::parse(bomb.as_bytes()).is_err());
        assert!(Descriptor::parse(xml(&"<a/>".repeat(60_000)).as_bytes()).is_err());
    }

    #[test]
    fn encryption_is_said() {
        let text = "<Disk_Parameters><Encryption><Engine>{1}</Engine></Encryption></Disk_Parameters>";
        assert_eq!(Descriptor::parse(xml(text).as_bytes()).unwrap_err().kind(), ErrorKind::Encrypted);
    }
}
