//! VMDK: VMware's disk, one sparse file or a descriptor with extents beside it.
//!
//! | createType | what it is | here |
//! |---|---|---|
//! | `monolithicSparse`, `streamOptimized` | one sparse extent with the descriptor inside | `sparse.rs` |
//! | `twoGbMaxExtentSparse` | a descriptor and sparse extents | `sparse.rs` |
//! | `monolithicFlat`, `twoGbMaxExtentFlat`, `vmfs`, `vmfsThin` and its likes | a descriptor and flat files | `extent.rs` |
//! | `vmfsSparse`, `seSparse` | a descriptor and what ESX hosts write for snapshots | `esx.rs` |
//! | `custom` | a descriptor and extents of any of these kinds | |
//! | `fullDevice`, `partitionedDevice`, `vmfsRaw`, `vmfsRDM`, `vmfsRDMP` | a description of a device: its bytes are not here | refused |
//!
//! Any of them may be a delta disk, which holds what differs from a parent. The parent is named by `parentFileNameHint`
//! and known by its CID: a parent that was written to since has another one, and is refused, because the two no longer
//! fit together. Extents and parents are opened through the gate.
//!
//! Of the two grain directories of a sparse extent the first counts, as in qemu. Its redundant copy is used where the
//! first names a place outside the file, and only there: a reader cannot tell which of two sound ones is newer.
//!
//! Specification: VMware, "Virtual Disk Format 5.0".

use super::{Confidence, Format, OpenCx, Opened, parent};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::wide;
use crate::ondisk::read_table;
use crate::text::escape;
use descriptor::{Descriptor, MAX_DESCRIPTOR, is_descriptor};
use extent::{CONVERT, Extent, Extents, Kind, Signature};
use sparse::{Markers, SECTOR, Sparse};
use std::sync::Arc;

mod descriptor;
mod esx;
mod extent;
mod sparse;

/// The format.
pub const FORMAT: Format = Format {
    name: "vmdk",
    aliases: &[],
    about: "VMware's disk: monolithicSparse, streamOptimized, monolithicFlat, twoGbMaxExtentSparse and -Flat, vmfs, vmfsSparse (COWD), seSparse, custom; delta disks",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let signed = Signature::in_head(probe.head).is_some() || is_descriptor(probe.head);
    signed.then_some(Confidence::Signature)
}

/// An open disk.
#[derive(Debug)]
struct Vmdk {
    extents: Extents,
    parent: Option<Arc<dyn BlockSource>>,
}

impl Vmdk {
    fn extent(&self, offset: u64) -> Result<&Extent> {
        let after = self.extents.list.partition_point(|extent| extent.start <= offset);
        let found = after.checked_sub(1).and_then(|index| self.extents.list.get(index));
        found.ok_or_else(|| Error::out_of_range(offset, 1, self.extents.size))
    }

    fn locate(&self, offset: u64, markers: Markers) -> Result<Run> {
        let extent = self.extent(offset)?;
        let run = extent.run_at(offset.saturating_sub(extent.start), markers, &self.extents.files)?;
        let place = match run.place {
            Place::Hole if self.parent.is_some() => Place::Parent,
            place => place,
        };
        Ok(Run { place, ..run })
    }
}

impl Layout for Vmdk {
    fn size(&self) -> u64 {
        self.extents.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.extents.files
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

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        // COWD counts by sectors; nobody gains by asking for so little.
        u32::try_from(self.extents.grain.max(4096)).unwrap_or(u32::MAX)
    }
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let (descriptor, own) = describe(&source, cx)?;
    check(&descriptor)?;
    let (mut extents, mut warnings) = (Extents::default(), Vec::new());
    let mut facts = descriptor.facts();
    if let Some(sparse) = own {
        facts.push(("grain size", sparse.grain.to_string()));
        facts.push(("version", sparse.version.to_string()));
        facts.push(("compressed", if sparse.is_compressed() { "yes" } else { "no" }.to_owned()));
        embedded(sparse, source, &descriptor, &mut extents, &mut warnings)?;
    } else {
        if descriptor.extents.is_empty() {
            return Err(Error::corrupt(At::new("vmdk", "descriptor")).because("names no extents"));
        }
        for (index, line) in descriptor.extents.iter().enumerate() {
            cx.budget.step("vmdk extents")?;
            extents.open(line, wide(index).saturating_add(1), cx)?;
        }
        facts.push(("extents", descriptor.extents.len().to_string()));
    }
    let below = match descriptor.parent()? {
        Some((cid, hint)) => Some(open_parent(cid, hint, cx)?),
        None => None,
    };
    warnings.append(&mut extents.warnings);
    let disk = cx.mapper.map(Vmdk { extents, parent: below.as_ref().map(|below| Arc::clone(&below.disk)) });
    let subformat = Some(escape(&descriptor.create_type).to_string());
    let mut opened = Opened { subformat, facts, warnings, ..Opened::single(disk, FORMAT.name, cx) };
    if let Some(below) = below {
        parent::lay_over(&mut opened, below);
    }
    Ok(opened)
}

/// The descriptor of the disk that begins in `source`, and the sparse extent around it if it has one that holds data.
fn describe(source: &Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<(Descriptor, Option<Sparse>)> {
    let signature = Signature::of(&**source)?;
    if signature.is_none() {
        let place = At::new("vmdk", "descriptor");
        let text = read_table(&**source, 0, source.len(), MAX_DESCRIPTOR, place, cx.budget)?;
        if !is_descriptor(&text) {
            return Err(Error::new(
                ErrorKind::NotAnImage,
                "is not a VMDK: it begins neither with 'KDMV' nor with '# Disk DescriptorFile'",
            ));
        }
        return Ok((Descriptor::parse(&text)?, None));
    }
    let bare = || bare_extent(signature.map_or("", Signature::name), cx);
    if signature != Some(Signature::Hosted) {
        return Err(bare());
    }
    let sparse = Sparse::load(Arc::clone(source), 0)?;
    let (at, len) = sparse.descriptor.ok_or_else(bare)?;
    let place = At::new("vmdk", "embedded descriptor");
    let text = read_table(&**source, at, len.min(MAX_DESCRIPTOR), MAX_DESCRIPTOR, place, cx.budget)?;
    let descriptor = Descriptor::parse(&text)?;
    // qemu's extents reserve room for a descriptor and leave it empty.
    if descriptor.create_type.is_empty() && descriptor.extents.is_empty() {
        return Err(bare());
    }
    // A header of no capacity only carries the descriptor, whose extents lie elsewhere.
    let holds_data = sparse.size > 0;
    Ok((descriptor, holds_data.then_some(sparse)))
}

/// The one sparse extent that carries its descriptor.
fn embedded(
    sparse: Sparse,
    source: Arc<dyn BlockSource>,
    descriptor: &Descriptor,
    extents: &mut Extents,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let shown = escape(&descriptor.create_type).to_string();
    if !["monolithicSparse", "streamOptimized"].iter().any(|known| known.eq_ignore_ascii_case(&shown)) {
        return Err(Error::unsupported(format!("the VMDK createType '{shown}' in a sparse extent")));
    }
    if descriptor.extents.len() > 1 {
        return Err(Error::unsupported(format!(
            "an embedded descriptor with {} extents",
            descriptor.extents.len()
        )));
    }
    let line = descriptor.extents.first();
    if let Some(line) = line.filter(|line| line.sectors.checked_mul(SECTOR) != Some(sparse.size)) {
        warnings.push(format!(
            "the descriptor says {} sectors, the header {}; the header is followed, as VMware and qemu do",
            line.sectors,
            sparse.size / SECTOR
        ));
    }
    extents.files.push(source);
    let len = sparse.size;
    extents.push(Kind::Sparse(Box::new(sparse)), len)
}

/// Opens the parent that `hint` names, and makes sure by its CID that it is as it was when the delta was made.
fn open_parent(cid: u32, hint: &[u8], cx: &OpenCx<'_>) -> Result<Opened> {
    let found = parent::find(&[hint.to_vec()], cx)?;
    let theirs = describe(&found.source, &cx.below(&found.locator))
        .map_err(|error| error.context(format!("parent '{}'", found.locator)))?
        .0
        .cid;
    if theirs != Some(cid) {
        let has = theirs.map_or_else(|| "none".to_owned(), |theirs| format!("{theirs:08x}"));
        let error = Error::corrupt(At::new("vmdk", "descriptor")).because(format!(
            "remembers the CID {cid:08x} of its parent '{}', whose CID is {has}: that was written to after this disk was made from it, or is another disk",
            escape(hint)
        ));
        return Err(error.help("take the parent from the same copy or backup as this disk"));
    }
    parent::load(found, FORMAT.name, cx)
}

/// A sparse extent alone says neither what disk it belongs to nor whether there are more.
fn bare_extent(kind: &str, cx: &OpenCx<'_>) -> Error {
    let name = cx.locator.file_name();
    let stem = name.strip_suffix(".vmdk").or_else(|| name.strip_suffix(".VMDK")).unwrap_or(&name);
    let numbered = |(stem, number): (&str, &str)| {
        let number = number.strip_prefix(['s', 'f'])?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| stem.to_owned())
    };
    let disk = ["-delta", "-sesparse", "-flat"]
        .iter()
        .find_map(|end| stem.strip_suffix(end).map(str::to_owned))
        .or_else(|| stem.rsplit_once('-').and_then(numbered));
    let beside = disk
        .map_or_else(|| "a small text file".to_owned(), |disk| format!("'{}.vmdk'", escape(disk.as_bytes())));
    let what = format!("is one {kind} extent of a VMDK without its descriptor, not a whole disk");
    Error::new(ErrorKind::NotAnImage, what).help(format!("open the descriptor beside it, {beside}"))
}

/// Types whose bytes lie in the files that the descriptor names.
const READ: &[&str] = &[
    "monolithicSparse",
    "monolithicFlat",
    "streamOptimized",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "2GbMaxExtentFlat",
    "vmfs",
    "vmfsThin",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "vmfsSparse",
    "seSparse",
    "custom",
];

/// Types that stand for a device of the host.
const DEVICES: &[&str] = &[
    "fullDevice",
    "partitionedDevice",
    "vmfsRaw",
    "vmfsRDM",
    "vmfsRDMP",
    "vmfsRawDeviceMap",
    "vmfsPassthroughRawDeviceMap",
];

/// Refuses what is not read: encryption, a difference that lies in a storage array, a device, an unknown type.
fn check(descriptor: &Descriptor) -> Result<()> {
    let shown = escape(&descriptor.create_type).to_string();
    let is_among = |list: &[&str]| list.iter().any(|known| known.eq_ignore_ascii_case(&shown));
    if descriptor.encrypted {
        return Err(Error::new(ErrorKind::Encrypted, "the VMDK is encrypted, and no key can be given yet"));
    }
    if descriptor.is_native_snapshot {
        return Err(Error::unsupported("a native snapshot (isNativeSnapshot)")
            .help("the storage array of the ESX host holds the difference; consolidate the snapshot there"));
    }
    if is_among(DEVICES) {
        return Err(Error::unsupported(format!("the VMDK createType '{shown}', which stands for a device"))
            .help("open the device itself, or a raw copy of it"));
    }
    if !is_among(READ) {
        return Err(Error::unsupported(format!("the VMDK createType '{shown}'")).help(CONVERT));
    }
    Ok(())
}
