//! VMDK: VMware's disk, one sparse file or a descriptor with extents beside it.
//!
//! | createType | what it is |
//! |---|---|
//! | `monolithicSparse`, `streamOptimized` | one sparse extent with the descriptor inside |
//! | `monolithicFlat`, `vmfs` | a descriptor and one flat file |
//! | `twoGbMaxExtentSparse`, `twoGbMaxExtentFlat` | a descriptor and many files |
//!
//! Extents are opened through the gate. Specification: VMware, "Virtual Disk Format 5.0".

use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::Reference;
use crate::num::wide;
use crate::ondisk::read_table;
use crate::text::escape;
use descriptor::{Access, Descriptor, ExtentLine, MAX_DESCRIPTOR, NO_PARENT, is_descriptor};
use sparse::{Markers, SECTOR, Sparse, is_sparse};
use std::sync::Arc;

mod descriptor;
mod sparse;

/// The format.
pub const FORMAT: Format = Format {
    name: "vmdk",
    aliases: &[],
    about: "VMware's disk: monolithicSparse, streamOptimized, monolithicFlat, twoGbMaxExtentSparse and -Flat, vmfs",
    probe,
    open,
};

/// The ESX sparse formats, known by their first bytes so that they can be refused by name.
const COWD: &[u8] = b"COWD";
const SESPARSE: &[u8] = &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0];

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let signed =
        is_sparse(probe.head) || is_descriptor(probe.head) || probe.has(0, COWD) || probe.has(0, SESPARSE);
    signed.then_some(Confidence::Signature)
}

/// What one extent is made of.
#[derive(Debug)]
enum Kind {
    Zero,
    Flat { file: usize, offset: u64 },
    Sparse(Box<Sparse>),
}

/// A part of the disk.
#[derive(Debug)]
struct Extent {
    start: u64,
    len: u64,
    kind: Kind,
}

/// An open disk.
#[derive(Debug)]
struct Vmdk {
    size: u64,
    unit: u32,
    extents: Vec<Extent>,
    files: Vec<Arc<dyn BlockSource>>,
}

impl Vmdk {
    fn extent(&self, offset: u64) -> Result<&Extent> {
        let after = self.extents.partition_point(|extent| extent.start <= offset);
        let found = after.checked_sub(1).and_then(|index| self.extents.get(index));
        found.ok_or_else(|| Error::out_of_range(offset, 1, self.size))
    }

    /// Where a run lies, with or without the markers of its compressed grains.
    fn locate(&self, offset: u64, markers: Markers) -> Result<Run> {
        let extent = self.extent(offset)?;
        let inside = offset.saturating_sub(extent.start);
        let left = extent.len.saturating_sub(inside);
        let mut run = match &extent.kind {
            Kind::Zero => Run { len: left, place: Place::Zero },
            Kind::Flat { file, offset } => {
                let host = offset.saturating_add(inside);
                let end = self.files.get(*file).map_or(0, |file| file.len());
                let at = At::new("vmdk", "flat extent").index(wide(*file));
                let len = super::pages::held(left, host, end, &at)?;
                Run { len, place: Place::Stored { file: *file, offset: host } }
            }
            Kind::Sparse(sparse) => sparse.run_at(inside, extent.start, markers)?,
        };
        run.len = run.len.min(left);
        Ok(run)
    }
}

impl Layout for Vmdk {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        self.locate(offset, Markers::Read)
    }

    fn outline_at(&self, offset: u64) -> Result<Run> {
        self.locate(offset, Markers::Skip)
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        let extent = self.extent(unit)?;
        match &extent.kind {
            Kind::Sparse(sparse) => sparse.unpack(stored, unit.saturating_sub(extent.start)),
            _ => Err(Error::new(ErrorKind::Internal, "only sparse extents hold compressed grains")),
        }
    }

    fn unit_size(&self) -> u32 {
        self.unit
    }
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let mut head = [0; 512];
    let len = crate::num::narrow(source.len().min(512));
    source.read_at(head.get_mut(..len).unwrap_or_default(), 0)?;
    if head.starts_with(COWD) {
        return Err(Error::unsupported("the VMDK type vmfsSparse (COWD)").help(CONVERT));
    }
    if head.starts_with(SESPARSE) {
        return Err(Error::unsupported("the VMDK type seSparse").help(CONVERT));
    }
    if is_sparse(&head) { open_sparse(source, cx) } else { open_descriptor(&source, cx) }
}

const CONVERT: &str = "vmkfstools -i OLD NEW or qemu-img convert makes a disk that can be read";

/// One sparse extent that carries its descriptor.
fn open_sparse(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let sparse = Sparse::load(Arc::clone(&source), 0)?;
    let Some((at, len)) = sparse.descriptor else { return Err(bare_extent(cx)) };
    let place = At::new("vmdk", "embedded descriptor");
    let text = read_table(&*source, at, len.min(MAX_DESCRIPTOR), MAX_DESCRIPTOR, place, cx.budget)?;
    let descriptor = Descriptor::parse(&text)?;
    // qemu's extents reserve room for a descriptor and leave it empty.
    if descriptor.create_type.is_empty() && descriptor.extents.is_empty() {
        return Err(bare_extent(cx));
    }
    check(&descriptor, &["monolithicSparse", "streamOptimized"])?;
    if descriptor.extents.len() > 1 {
        return Err(Error::unsupported(format!(
            "an embedded descriptor with {} extents",
            descriptor.extents.len()
        )));
    }
    let mut warnings = sparse.warnings.clone();
    if let Some(line) =
        descriptor.extents.first().filter(|line| line.sectors.checked_mul(SECTOR) != Some(sparse.size))
    {
        warnings.push(format!(
            "the descriptor says {} sectors, the header {}; the header is followed, as VMware and qemu do",
            line.sectors,
            sparse.size.checked_div(SECTOR).unwrap_or(0)
        ));
    }
    let mut facts = facts(&descriptor);
    facts.push(("grain size", sparse.grain.to_string()));
    facts.push(("version", sparse.version.to_string()));
    facts.push(("compressed", if sparse.is_compressed() { "yes" } else { "no" }.to_owned()));
    let layout = Vmdk {
        size: sparse.size,
        unit: u32::try_from(sparse.grain).unwrap_or(u32::MAX),
        extents: vec![Extent { start: 0, len: sparse.size, kind: Kind::Sparse(Box::new(sparse)) }],
        files: vec![source],
    };
    Ok(opened(layout, &descriptor, facts, warnings, cx))
}

/// A sparse extent alone says neither what disk it belongs to nor whether there are more.
fn bare_extent(cx: &OpenCx<'_>) -> Error {
    let name = cx.locator.file_name();
    let stem = name.rsplit_once("-s").map(|(stem, _)| format!("'{}.vmdk'", escape(stem.as_bytes())));
    let error =
        Error::new(ErrorKind::NotAnImage, "is one extent of a VMDK without its descriptor, not a whole disk");
    error.help(format!(
        "open the descriptor beside it, {}",
        stem.unwrap_or_else(|| "a small text file".to_owned())
    ))
}

/// A text descriptor with its extents in other files.
fn open_descriptor(source: &Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let place = At::new("vmdk", "descriptor");
    let text = read_table(&**source, 0, source.len(), MAX_DESCRIPTOR, place, cx.budget)?;
    if !is_descriptor(&text) {
        return Err(Error::new(
            ErrorKind::NotAnImage,
            "is not a VMDK: it begins neither with 'KDMV' nor with '# Disk DescriptorFile'",
        ));
    }
    let descriptor = Descriptor::parse(&text)?;
    check(
        &descriptor,
        &[
            "monolithicSparse",
            "monolithicFlat",
            "twoGbMaxExtentSparse",
            "twoGbMaxExtentFlat",
            "2GbMaxExtentSparse",
            "2GbMaxExtentFlat",
            "vmfs",
        ],
    )?;
    if descriptor.extents.is_empty() {
        return Err(Error::corrupt(At::new("vmdk", "descriptor")).because("names no extents"));
    }
    let mut layout = Vmdk { size: 0, unit: 4096, extents: Vec::new(), files: Vec::new() };
    let mut warnings = Vec::new();
    for (index, line) in descriptor.extents.iter().enumerate() {
        cx.budget.step("vmdk extents")?;
        let number = wide(index).saturating_add(1);
        let (kind, len) = open_extent(line, &mut layout, &mut warnings, number, cx)?;
        if len == 0 {
            continue;
        }
        let start = layout.size;
        layout.size = start.checked_add(len).ok_or_else(|| {
            Error::corrupt(At::new("vmdk", "extent").index(number))
                .because("the extents together exceed 2^64 bytes")
        })?;
        layout.extents.push(Extent { start, len, kind });
    }
    let mut facts = facts(&descriptor);
    facts.push(("extents", descriptor.extents.len().to_string()));
    Ok(opened(layout, &descriptor, facts, warnings, cx))
}

/// Opens what one extent line names; its kind and its length in bytes.
fn open_extent(
    line: &ExtentLine,
    layout: &mut Vmdk,
    warnings: &mut Vec<String>,
    number: u64,
    cx: &OpenCx<'_>,
) -> Result<(Kind, u64)> {
    let at = At::new("vmdk", "extent").index(number);
    let len = line.sectors.checked_mul(SECTOR).ok_or_else(|| {
        Error::corrupt(at.clone()).because(format!("{} sectors exceed 2^64 bytes", line.sectors))
    })?;
    if line.access == Access::None {
        return Err(Error::unsupported(format!("extent {number} with access NOACCESS")));
    }
    match line.kind.as_str() {
        "ZERO" => return Ok((Kind::Zero, len)),
        "FLAT" | "VMFS" | "SPARSE" => {}
        other => {
            let other = escape(other.as_bytes());
            return Err(
                Error::unsupported(format!("the VMDK extent type {other} (extent {number})")).help(CONVERT)
            );
        }
    }
    let found = cx.gate.open(cx.locator, &line.name, Reference::Extent)?;
    let file = layout.files.len();
    layout.files.push(Arc::clone(&found.source));
    if line.kind == "SPARSE" {
        let shown = escape(&line.name).to_string();
        let sparse =
            Sparse::load(found.source, file).map_err(|error| error.context(format!("extent '{shown}'")))?;
        // What follows an extent lies where the descriptor puts it; a header that promises more or less would shift it.
        let rounded = len.checked_next_multiple_of(sparse.grain);
        if sparse.size != len && Some(sparse.size) != rounded {
            return Err(Error::corrupt(at).because(format!(
                "'{shown}' holds {} sectors, the descriptor says {}",
                sparse.size.checked_div(SECTOR).unwrap_or(0),
                line.sectors
            )));
        }
        warnings.extend(sparse.warnings.iter().map(|warning| format!("extent '{shown}': {warning}")));
        layout.unit = u32::try_from(sparse.grain).unwrap_or(u32::MAX);
        return Ok((Kind::Sparse(Box::new(sparse)), len));
    }
    let offset = line
        .offset
        .checked_mul(SECTOR)
        .ok_or_else(|| Error::corrupt(at).because(format!("starts at sector {} of its file", line.offset)))?;
    if offset.saturating_add(len) > found.source.len() {
        warnings.push(format!(
            "extent '{}' is cut off: {} bytes are described, the file has {}",
            escape(&line.name),
            offset.saturating_add(len),
            found.source.len()
        ));
    }
    Ok((Kind::Flat { file, offset }, len))
}

/// Refuses what is not read: a parent, encryption, another type than `known`.
fn check(descriptor: &Descriptor, known: &[&str]) -> Result<()> {
    let shown = escape(&descriptor.create_type).to_string();
    if descriptor.encrypted {
        return Err(Error::new(ErrorKind::Encrypted, "the VMDK is encrypted, and no key can be given yet"));
    }
    if descriptor.parent_cid.is_some_and(|cid| cid != NO_PARENT) {
        let hint = descriptor.parent_hint.as_deref().unwrap_or(b"");
        return Err(Error::unsupported(format!("a VMDK delta disk (its parent is '{}')", escape(hint)))
            .help("qemu-img convert of the delta, with its parent beside it, makes a whole disk"));
    }
    if !known.iter().any(|known| known.eq_ignore_ascii_case(&shown)) {
        return Err(Error::unsupported(format!("the VMDK createType '{shown}'")).help(CONVERT));
    }
    Ok(())
}

fn facts(descriptor: &Descriptor) -> Vec<(&'static str, String)> {
    let mut facts = vec![("create type", escape(&descriptor.create_type).to_string())];
    if let Some(cid) = descriptor.cid {
        facts.push(("CID", format!("{cid:08x}")));
    }
    if let Some(adapter) = &descriptor.adapter {
        facts.push(("adapter type", escape(adapter).to_string()));
    }
    if let Some(version) = &descriptor.hardware_version {
        facts.push(("hardware version", escape(version).to_string()));
    }
    facts
}

fn opened(
    layout: Vmdk,
    descriptor: &Descriptor,
    facts: Vec<(&'static str, String)>,
    warnings: Vec<String>,
    cx: &OpenCx<'_>,
) -> Opened {
    let disk = cx.mapper.map(layout);
    let subformat = Some(escape(&descriptor.create_type).to_string());
    Opened { subformat, facts, warnings, ..Opened::single(disk, FORMAT.name, cx) }
}
