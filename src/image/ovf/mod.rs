//! OVF: a machine's description with its disks in files beside it; [`super::ova`] is the same in one archive.
//!
//! ```text
//! x.ovf         the envelope: which disks, in which files, in which order     (envelope.rs)
//! x-disk1.vmdk  a disk, in any format that we read
//! x.mf          sums of all of them                                           (manifest.rs)
//! ```
//! The first disk is the one that boots; the others come with it as [`Opened::others`]. Files are taken from a [`Folder`]:
//! the archive, or the gate. Beside an envelope lie other people's files, too, and an envelope may come from anybody: what
//! it lists is opened only if its name is a disk's and its first bytes are.

use super::tar::{disk_id, disk_in, is_ovf_name, outermost, together, unknown};
use super::{Confidence, Format, OpenCx, Opened, StoredSum};
use crate::block::{BlockSource, Layout, Place, Probe, Run, check_range};
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::{Found, Gate, Locator, Reference};
use crate::ondisk::read_table;
use crate::text::escape;
use envelope::{Compression, Disk, Envelope, File, MAX_ENVELOPE};
use manifest::MAX_MANIFEST;
use std::sync::Arc;

mod envelope;
mod manifest;

/// The format.
pub const FORMAT: Format = Format {
    name: "ovf",
    aliases: &[],
    about: "machine's description with its disks beside it: all of them, or x.ovf//MEMBER",
    probe,
    open,
};

/// Files of one machine, chunks included; the gate lets no image open more.
const MAX_FILES: usize = 4096;
/// Namespaces of envelopes, those of version 0.9 included.
const NAMESPACES: &[&[u8]] = &[b"/ovf/envelope", b"/schema/ovf/1/envelope"];
/// Words in a format's URI, and the format that they mean.
const URIS: &[(&str, &str)] = &[
    ("vhdx", "vhdx"),
    ("vhd", "vhd"),
    ("vmdk", "vmdk"),
    ("qcow2", "qcow2"),
    ("vdi", "vdi"),
    ("#raw", "raw"),
];

/// Where the files lie that an envelope lists.
pub(super) trait Folder {
    /// The file of this name; `None` when there is none.
    ///
    /// # Errors
    /// When it may not be opened, or cannot.
    fn find(&self, name: &str) -> Result<Option<Found>>;

    /// What a disk in it may open.
    fn gate(&self) -> &dyn Gate;

    /// Are all its files the machine's own? Then a disk without a signature is a raw disk, and no stranger's file.
    fn is_own(&self) -> bool;

    /// Opens what a user names though the envelope has no disk of that name.
    ///
    /// # Errors
    /// `NotFound` with the names that there are besides `disks`.
    fn other(&self, name: &str, disks: &[String], cx: &OpenCx<'_>) -> Result<Opened>;
}

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let text = probe.head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(probe.head).trim_ascii_start();
    let named = |name: &[u8]| probe.head.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name));
    let is_ovf = text.starts_with(b"<")
        && (named(b"<Envelope") || named(b":Envelope"))
        && NAMESPACES.iter().any(|name| named(name));
    is_ovf.then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    outermost(cx)?;
    let folder = Beside { gate: cx.gate, envelope: cx.locator, source };
    machine(FORMAT.name, &*folder.source, &cx.locator.file_name(), &folder, cx)
}

/// The files beside an envelope, behind the gate.
struct Beside<'a> {
    gate: &'a dyn Gate,
    envelope: &'a Locator,
    source: Arc<dyn BlockSource>,
}

impl Folder for Beside<'_> {
    fn find(&self, name: &str) -> Result<Option<Found>> {
        if name == self.envelope.file_name() {
            let (source, locator) = (Arc::clone(&self.source), self.envelope.clone());
            return Ok(Some(Found { source, locator }));
        }
        match self.gate.open(self.envelope, name.as_bytes(), Reference::Member) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotAnImage => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn gate(&self) -> &dyn Gate {
        self.gate
    }

    fn is_own(&self) -> bool {
        false
    }

    fn other(&self, name: &str, disks: &[String], _cx: &OpenCx<'_>) -> Result<Opened> {
        Err(unknown(name, disks))
    }
}

/// Opens the machine that the envelope in `source` describes, called `name` in its folder.
pub(super) fn machine(
    format: &'static str,
    source: &dyn BlockSource,
    name: &str,
    folder: &dyn Folder,
    cx: &OpenCx<'_>,
) -> Result<Opened> {
    let at = At::new("ovf", "envelope");
    let text = read_table(source, 0, source.len(), MAX_ENVELOPE, at, cx.budget)?;
    let envelope = Envelope::parse(&text)?;
    if let Some(wanted) = cx.member {
        let disk = envelope.disks.iter().find(|disk| title(disk) == wanted || disk.id == wanted);
        let mut opened = match disk {
            Some(disk) => open_disk(disk, folder, cx),
            None => folder.other(wanted, &envelope.disks.iter().map(title).collect::<Vec<_>>(), cx),
        }?;
        let sums = sums(name, folder, cx, &mut Vec::new(), &mut opened.warnings)?;
        opened.sums.extend(sums.into_iter().filter(|sum| Some(&sum.of) == opened.member.as_ref()));
        return Ok(opened);
    }
    let mut disks = Vec::new();
    for (number, disk) in envelope.disks.iter().enumerate() {
        let keys = cx.keys.of_disk(&disk_id(number));
        let opened = open_disk(disk, folder, &OpenCx { keys: &keys, ..*cx }).map_err(|error| {
            let others: Vec<String> =
                envelope.disks.iter().filter(|other| other.id != disk.id).map(title).collect();
            let hint = error.help_text().map(|help| format!("; {help}")).unwrap_or_default();
            match others.first() {
                Some(other) => {
                    error.help(format!("the other disks can be opened alone, as in IMAGE//{other}{hint}"))
                }
                None => error,
            }
        });
        disks.push(opened?);
    }
    let mut facts = vec![("envelope", escape(name.as_bytes()).to_string())];
    facts.extend(envelope.system.clone().map(|system| ("virtual system", system)));
    facts.extend(envelope.guest.clone().map(|guest| ("guest by the OVF", guest)));
    let mut warnings = Vec::new();
    if envelope.systems > 1 {
        let elsewhere: Vec<String> =
            envelope.elsewhere.iter().map(|id| escape(id.as_bytes()).to_string()).collect();
        let systems = envelope.systems;
        warnings.push(format!(
            "the OVF describes {systems} virtual systems; this is the first, without the others' disks: {}",
            elsewhere.join(", ")
        ));
    }
    let sums = sums(name, folder, cx, &mut facts, &mut warnings)?;
    if !sums.is_empty() {
        for disk in disks.iter().filter_map(|disk| disk.member.as_ref()) {
            let covers = |sum: &StoredSum| sum.of == *disk || sum.of.starts_with(&format!("{disk}."));
            if !sums.iter().any(covers)
                && envelope.disks.iter().any(|d| d.file.is_some() && title(d) == *disk)
            {
                warnings.push(format!("the manifest has no sum of '{disk}'"));
            }
        }
    }
    let mut opened = together(format, facts, warnings, disks).ok_or_else(|| {
        Error::new(ErrorKind::NotAnImage, "describes a machine without disks")
            .at(At::new("ovf", "DiskSection"))
    })?;
    opened.sums.splice(0..0, sums);
    Ok(opened)
}

/// What a disk is called: by its file, an empty one by its id. Safe to show.
fn title(disk: &Disk) -> String {
    let name = disk.file.as_ref().map_or(disk.id.as_str(), |file| bare(&file.href));
    escape(name.as_bytes()).to_string()
}

fn bare(href: &str) -> &str {
    href.trim_start_matches("./")
}

/// The name that a reference means, if it is one of a file beside the envelope or below its folder.
fn plain(href: &str) -> Result<&str> {
    let name = bare(href);
    let steps = name.split('/').all(|part| !part.is_empty() && part != "..");
    if steps && !name.contains([':', '\0']) {
        return Ok(name);
    }
    let shown = escape(href.as_bytes());
    Err(Error::new(ErrorKind::ExternalRef, format!("names the file '{shown}', which is never opened"))
        .help("an OVF may name files beside it and nothing else; open the disk itself if you trust it"))
}

/// `%20` and the like, as in a URI; `None` when there are none.
fn unescape(name: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = (byte == b'%').then(|| tail.get(..2)).flatten();
        let code = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8(out).ok().filter(|plain| plain != name)
}

/// The file of this name, taken literally or as a URI.
fn look_up(name: &str, folder: &dyn Folder) -> Result<Option<Found>> {
    if let Some(found) = folder.find(name)? {
        return Ok(Some(found));
    }
    match unescape(name) {
        Some(other) => folder.find(plain(&other)?),
        None => Ok(None),
    }
}

/// A disk's file, its chunks put together.
fn fetch(file: &File, folder: &dyn Folder, cx: &OpenCx<'_>) -> Result<Found> {
    let name = plain(&file.href)?;
    let missing = |what: String| {
        let error = Error::new(ErrorKind::NotAnImage, format!("{what} is missing"));
        error.help("an OVF comes with its disks: beside it, or in the archive")
    };
    let Some(chunk) = file.chunk else {
        let found = look_up(name, folder)?.ok_or_else(|| missing("the disk's file".to_owned()))?;
        whole(file, found.source.len())?;
        return Ok(found);
    };
    let mut joined = Joined { starts: Vec::new(), files: Vec::new(), size: 0 };
    let mut locator = None;
    let count = file.size.map(|size| size.div_ceil(chunk).max(1));
    for number in 0.. {
        if count == Some(number) {
            break;
        }
        if joined.files.len() >= MAX_FILES {
            return Err(Error::limit(format!("more than {MAX_FILES} chunks")));
        }
        let part = format!("{name}.{number:09}");
        let Some(found) = look_up(&part, folder)? else {
            if number > 0 && count.is_none() {
                break;
            }
            return Err(missing(format!("its part '{}'", escape(part.as_bytes()))));
        };
        let len = found.source.len();
        let may_be_last = count.is_none_or(|count| number.saturating_add(1) == count);
        if len > chunk || (len < chunk && !may_be_last) {
            let shown = escape(part.as_bytes());
            return Err(Error::corrupt(At::new("ovf", "chunk").index(number))
                .because(format!("'{shown}' has {len} bytes, not {chunk}")));
        }
        locator.get_or_insert(found.locator);
        joined.starts.push(joined.size);
        joined.files.push(found.source);
        joined.size = joined.size.saturating_add(len);
        if len < chunk {
            break;
        }
    }
    whole(file, joined.size)?;
    let mut locator = locator.unwrap_or_else(|| cx.locator.clone());
    // The name of the whole tells probers more than that of a part.
    if let Locator::Path(path) = &mut locator {
        path.set_extension("");
    }
    Ok(Found { source: cx.mapper.map(joined), locator })
}

/// Is a file as long as the envelope says? "If present, the value of the `ovf:size` attribute shall match the actual size
/// of the referenced file" (DSP0243, section 7.1).
fn whole(file: &File, has: u64) -> Result<()> {
    let Some(size) = file.size.filter(|size| *size != has) else { return Ok(()) };
    let why = if has < size { ": it was cut off" } else { "" };
    Err(Error::corrupt(At::new("ovf", "File"))
        .because(format!("has {has} bytes, not the {size} stated{why}")))
}

/// Files one behind the other.
#[derive(Debug)]
struct Joined {
    /// Where each file starts in the whole.
    starts: Vec<u64>,
    files: Vec<Arc<dyn BlockSource>>,
    size: u64,
}

impl Layout for Joined {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let file = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let inside = offset.saturating_sub(self.starts.get(file).copied().unwrap_or(0));
        let len = self.files.get(file).map_or(0, |file| file.len()).saturating_sub(inside);
        Ok(Run { len, place: Place::Stored { file, offset: inside } })
    }
}

/// A disk that was never written: all zeros.
#[derive(Debug)]
struct Empty(u64);

impl Layout for Empty {
    fn size(&self) -> u64 {
        self.0
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &[]
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        Ok(Run { len: self.0.saturating_sub(offset), place: Place::Hole })
    }
}

/// Opens a disk of the envelope.
fn open_disk(disk: &Disk, folder: &dyn Folder, cx: &OpenCx<'_>) -> Result<Opened> {
    let name = title(disk);
    let said = |error: Error| error.context(format!("'{name}'"));
    if let Some(parent) = &disk.parent {
        let parent = escape(parent.as_bytes());
        return Err(said(Error::unsupported(format!("a disk over another one (parentRef '{parent}')"))));
    }
    let Some(file) = &disk.file else {
        let size = disk.capacity.filter(|size| *size > 0).ok_or_else(|| {
            said(Error::corrupt(At::new("ovf", "Disk")).because("an empty disk without a capacity"))
        })?;
        let locator = cx.locator.member(&name);
        let mut opened =
            Opened::single(cx.mapper.map(Empty(size)), super::raw::FORMAT.name, &cx.below(&locator));
        opened.subformat = Some("empty".to_owned());
        opened.member = Some(name);
        return Ok(opened);
    };
    let stated =
        URIS.iter().find(|(word, _)| disk.format.to_ascii_lowercase().contains(word)).map(|(_, name)| *name);
    let is_raw = |format: &str| format == super::raw::FORMAT.name;
    if let Compression::Other(packing) = &file.compression {
        return Err(said(Error::unsupported(format!("a file with compression '{packing}'"))));
    }
    let mut found = fetch(file, folder, cx).map_err(said)?;
    let mut unpacked = None;
    if file.compression == Compression::Gzip {
        let plain;
        (found, plain) = super::gzip::unpacked(found, cx).map_err(said)?;
        unpacked = Some(plain);
    }
    let forced = stated.filter(|format| is_raw(format) && folder.is_own());
    let mut opened = disk_in(found, &name, forced, folder.gate(), cx).map_err(said)?;
    if let Some((how, warnings)) = unpacked {
        opened.facts.insert(0, ("wrapper", how));
        opened.warnings.splice(0..0, warnings);
    }
    let is_bare = is_raw(opened.format);
    if let Some(stated) = stated.filter(|stated| is_bare && !is_raw(stated)) {
        return Err(said(
            Error::corrupt(At::new("ovf", "Disk"))
                .because(format!("the OVF says that it is {stated}, but it carries no signature of one")),
        ));
    }
    if is_bare && !folder.is_own() {
        let error = Error::new(ErrorKind::ExternalRef, "is listed, but does not begin as a disk image does");
        return Err(said(
            error.help("without a signature it may be anybody's file; open it itself if it is a raw disk"),
        ));
    }
    if let Some(stated) =
        stated.filter(|stated| *stated != opened.format && opened.layers.iter().all(|l| l.format != *stated))
    {
        opened.warnings.push(format!("the OVF says that '{name}' is {stated}, but it is {}", opened.format));
    }
    if let Some(size) = disk.capacity.filter(|size| *size != opened.disk.len()) {
        let has = opened.disk.len();
        opened.warnings.push(format!("the OVF says that '{name}' has {size} bytes, but the disk has {has}"));
    }
    Ok(opened)
}

/// The sums of the manifest beside the envelope called `name`; without a manifest there are none.
fn sums(
    name: &str,
    folder: &dyn Folder,
    cx: &OpenCx<'_>,
    facts: &mut Vec<(&'static str, String)>,
    warnings: &mut Vec<String>,
) -> Result<Vec<StoredSum>> {
    let Some(stem) = is_ovf_name(name.as_bytes()).then(|| name.get(..name.len().saturating_sub(4))).flatten()
    else {
        return Ok(Vec::new());
    };
    let found = match folder.find(&format!("{stem}.mf")) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Vec::new()),
        // The disks are good without it.
        Err(error) => {
            warnings.push(format!("a manifest cannot be had: {}", error.chain()));
            return Ok(Vec::new());
        }
    };
    let at = At::new("ovf", "manifest");
    let text = read_table(&*found.source, 0, found.source.len(), MAX_MANIFEST, at, cx.budget)?;
    let (lines, odd) = manifest::parse(&text);
    warnings.extend(odd);
    let mut sums = Vec::new();
    for line in lines {
        cx.budget.step("manifest")?;
        let shown = escape(line.file.as_bytes()).to_string();
        let found = plain(&line.file).and_then(|name| look_up(name, folder));
        let bytes: Arc<dyn BlockSource> = match found {
            Ok(Some(found)) => found.source,
            Ok(None) => Arc::new(Absent(Error::new(ErrorKind::NotFound, format!("'{shown}' is missing")))),
            Err(error) => Arc::new(Absent(error)),
        };
        sums.push(StoredSum { of: shown, algorithm: line.algorithm, stated: line.sum, bytes });
    }
    let signed = if matches!(folder.find(&format!("{stem}.cert")), Ok(Some(_))) {
        "; signed by a .cert, which is not checked"
    } else {
        ""
    };
    facts.push(("manifest", format!("{} sums{signed} (imgmount hash --verify checks them)", sums.len())));
    Ok(sums)
}

/// A file that the manifest names and that cannot be had: whoever reads it hears why.
#[derive(Debug)]
struct Absent(Error);

impl BlockSource for Absent {
    // One byte, so that a sum of it is not that of nothing.
    fn len(&self) -> u64 {
        1
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        Err(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_beside_the_envelope() {
        assert_eq!(plain("./a b.vmdk").unwrap(), "a b.vmdk");
        assert_eq!(plain("disks/a.vmdk").unwrap(), "disks/a.vmdk");
        for bad in ["../x", "/etc/passwd", "a/../b", "http://h/x", "file:///x", "", "a//b", "a\0"] {
            assert_eq!(plain(bad).unwrap_err().kind(), ErrorKind::ExternalRef, "{bad}");
        }
    }

    #[test]
    fn a_reference_may_be_escaped_as_a_uri() {
        assert_eq!(unescape("a%20b%2evmdk").as_deref(), Some("a b.vmdk"));
        assert_eq!((unescape("a.vmdk"), unescape("a%2"), unescape("%zz")), (None, None, None));
    }

    #[test]
    fn an_envelope_is_known_by_its_namespace() {
        let has = |head: &[u8]| {
            let len = crate::num::wide(head.len());
            probe(&Probe { head, tail: head, len, name: "x" }).is_some()
        };
        assert!(has(
            b"\xef\xbb\xbf<?xml version='1.0'?>\n<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'>"
        ));
        assert!(has(b"<ovf:Envelope xmlns:ovf='http://www.vmware.com/schema/ovf/1/envelope'/>"));
        assert!(!has(b"<html>see http://schemas.dmtf.org/ovf/envelope/1</html>"));
        assert!(!has(b"Envelope http://schemas.dmtf.org/ovf/envelope/1"));
    }
}
