//! qcow2: qemu's copy-on-write image, versions 2 and 3.
//!
//! ```text
//! header ─ extensions ─ backing file name
//!    ├─ L1 table ─▶ L2 table ─▶ cluster: standard │ zlib or zstd │ zero │ none → backing file, or a hole
//!    └─ snapshot table ─▶ an L1 table for each snapshot, of the same clusters
//! ```
//! A standard cluster lies in the image or, where there is one, in the external data file; with extended L2 entries each
//! of its 32 subclusters is allocated by itself; it may be encrypted. A snapshot becomes a layer. Reference counts and bitmaps are no part of
//! any disk and are not followed.
//!
//! Specification: qemu, `docs/interop/qcow2.txt`.

use super::backing::{self, Stated};
use super::ciphered::{self, OldKey};
use super::clusters::{ClusterMap, L1, inflate_cluster};
use super::{Confidence, Format, Layer, OpenCx, Opened, unpack};
use crate::block::{BlockSource, Layout, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::Reference;
use crate::num::wide;
use crate::ondisk::read_table;
use crate::text::escape;
use header::{BITMAPS, CORRUPT, Compression, DIRTY, Encryption, HEAD, Header, LAZY_REFCOUNTS};
use snapshot::Snapshot;
use std::sync::Arc;
use tables::Descriptors;

mod header;
mod snapshot;
mod tables;

/// The format.
pub const FORMAT: Format = Format {
    name: "qcow2",
    aliases: &[],
    about: "qemu's copy-on-write image: versions 2 and 3, zlib and zstd clusters, subclusters, backing and data files, snapshots, encryption",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    let version = probe.bytes(4).map(u32::from_be_bytes);
    (probe.has(0, b"QFI\xfb") && version != Some(1)).then_some(Confidence::Signature)
}

/// What the image's own disk and its snapshots share.
#[derive(Debug)]
struct Image {
    map: ClusterMap<Descriptors>,
    compression: Compression,
    /// The image; where there is one, its external data file; where it is encrypted with LUKS, that in the clear.
    files: Vec<Arc<dyn BlockSource>>,
    parent: Option<Arc<dyn BlockSource>>,
    /// Of the old encryption, whose sectors count on the disk and not in the file.
    key: Option<OldKey>,
}

impl Image {
    /// One of its disks.
    fn disk(self: &Arc<Self>, size: u64, l1: Result<L1>, cx: &OpenCx<'_>) -> Result<Arc<dyn BlockSource>> {
        let disk = Disk { image: Arc::clone(self), size, l1 };
        match &self.key {
            Some(key) => key.open(disk, cx.mapper),
            None => Ok(cx.mapper.map(disk)),
        }
    }
}

/// One disk of an image: its own, or a snapshot's.
#[derive(Debug)]
struct Disk {
    image: Arc<Image>,
    size: u64,
    /// What is wrong with a snapshot's table is told to whoever reads that snapshot.
    l1: Result<L1>,
}

impl Layout for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.image.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        self.image.map.run_at(self.l1.clone()?, offset)
    }

    fn outline_at(&self, offset: u64) -> Result<Run> {
        self.image.map.outline_at(self.l1.clone()?, offset)
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        let at = At::new("qcow2", "compressed cluster").index(unit);
        let size = self.image.map.cluster();
        match self.image.compression {
            Compression::Zlib => inflate_cluster(stored, size, at),
            Compression::Zstd => unpack::zstd(stored, size, &at),
        }
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.image.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        1 << self.image.map.cluster_bits
    }
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let len = source.len().min(HEAD);
    let head = read_table(&*source, 0, len, HEAD, At::new("qcow2", "header"), cx.budget)?;
    if !head.starts_with(b"QFI\xfb") {
        return Err(Error::new(
            ErrorKind::NotAnImage,
            "is not a qcow2 image: it does not begin with 'QFI\\xfb'",
        ));
    }
    let header = Header::parse(&head)?;
    let l1 = header.l1.within(source.len(), At::new("qcow2", "L1 table"))?;
    let mut warnings = Vec::new();
    let mut facts = facts(&header, &mut warnings);
    let snapshots = snapshots(&*source, &header, &mut facts, &mut warnings)?;
    let mut map = ClusterMap::new(
        Arc::clone(&source),
        (header.cluster_bits, header.l2_bits()),
        header.backing.is_some(),
        Descriptors::new(&header),
    );
    if header.has_extended_l2() {
        map.entry_len = 16;
    }
    // The files behind the image itself; clusters lie in the last one.
    let mut more = Vec::new();
    if header.has_data_file() {
        more.push(data_file(&header, cx)?);
    }
    let mut key = None;
    match header.encryption {
        Encryption::None => {}
        Encryption::Aes => {
            key = Some(OldKey::given(cx.keys)?);
            facts.push(("encryption", OldKey::METHOD.to_owned()));
            warnings.push(OldKey::WARNING.to_owned());
        }
        Encryption::Luks(place) => {
            let data = Arc::clone(more.last().unwrap_or(&source));
            let (plain, luks) = ciphered::luks(&*source, place, data, cx)?;
            // The header's payload lies nowhere, and its sectors are of 512 bytes.
            facts.extend(
                luks.facts()
                    .into_iter()
                    .filter(|(name, _)| !matches!(*name, "payload offset" | "sector size")),
            );
            more.push(plain);
        }
    }
    if let Some(data) = more.last() {
        map.data = (more.len(), data.len());
    }
    let parent = match header.backing {
        Some((offset, len)) => {
            let at = At::new("qcow2", "backing file name");
            let cap = u64::from(header::MAX_BACKING_NAME);
            let name = read_table(&*source, offset, u64::from(len), cap, at, cx.budget)?;
            facts.push(("backing file", escape(&name).to_string()));
            let format = header.extensions.backing_format.as_deref().filter(|format| !format.is_empty());
            if let Some(format) = format {
                facts.push(("backing format", escape(format).to_string()));
            }
            Some(backing::open(&name, format.map_or(Stated::Forgotten, Stated::As), cx)?)
        }
        None => None,
    };
    let image = Arc::new(Image {
        map,
        compression: header.compression,
        files: [source].into_iter().chain(more).collect(),
        parent: parent.as_ref().map(|parent| Arc::clone(&parent.disk)),
        key,
    });
    let disk = image.disk(header.size, Ok(l1), cx)?;
    let mut opened = Opened::single(disk, FORMAT.name, cx);
    (opened.subformat, opened.facts, opened.warnings) =
        (Some(format!("v{}", header.version)), facts, warnings);
    if let Some(parent) = parent {
        backing::put_below(&mut opened, parent);
    }
    for (number, snapshot) in (0..).zip(snapshots) {
        opened.layers.push(layer(&image, &header, number, &snapshot, cx)?);
    }
    Ok(opened)
}

/// What `info` says of a header, and what is odd about it.
fn facts(header: &Header, warnings: &mut Vec<String>) -> Vec<(&'static str, String)> {
    let yes = || "yes".to_owned();
    let mut facts = vec![
        ("version", header.version.to_string()),
        ("cluster size", header.cluster().to_string()),
        (
            "compression type",
            match header.compression {
                Compression::Zlib => "zlib".to_owned(),
                Compression::Zstd => "zstd".to_owned(),
            },
        ),
        ("refcount bits", header.refcount_bits.to_string()),
    ];
    if header.has_extended_l2() {
        facts.push(("extended L2 entries", yes()));
        facts.push(("subcluster size", (header.cluster() / 32).to_string()));
    }
    if header.compatible & LAZY_REFCOUNTS != 0 {
        facts.push(("lazy refcounts", yes()));
    }
    if header.incompatible & DIRTY != 0 {
        facts.push(("dirty", yes()));
        warnings.push(
            "the image is marked dirty: its writer did not close it; clusters are read as its tables say"
                .to_owned(),
        );
    }
    if header.incompatible & CORRUPT != 0 {
        facts.push(("corrupt", yes()));
        warnings.push("the image is marked corrupt by its writer; what its tables still say is read, 'qemu-img check' shows the damage".to_owned());
    }
    if let Some(bitmaps) = header.extensions.bitmaps {
        let state = if header.autoclear & BITMAPS == 0 { " (inconsistent)" } else { "" };
        facts.push(("bitmaps", format!("{bitmaps}{state}")));
    }
    if let Some(name) = header.extensions.data_file.as_ref().filter(|_| header.has_data_file()) {
        facts.push(("data file", escape(name).to_string()));
        facts.push(("data file raw", if header.has_raw_data_file() { yes() } else { "no".to_owned() }));
    }
    let ignored = header.ignored_features();
    if !ignored.is_empty() {
        facts.push(("ignored features", ignored.join(", ")));
    }
    facts
}

/// Opens the external data file through the gate. It is raw by definition.
fn data_file(header: &Header, cx: &OpenCx<'_>) -> Result<Arc<dyn BlockSource>> {
    if header.has_raw_data_file() && header.backing.is_some() {
        let at = At::new("qcow2", "header").byte(0x58);
        return Err(Error::corrupt(at)
            .because("says that its data file alone is the whole disk, and names a backing file"));
    }
    let name = header.extensions.data_file.as_ref().ok_or_else(|| {
        Error::unsupported("an external data file whose name the image does not say")
            .help("write the name into a copy of the image: qemu-img amend -f qcow2 -o data_file=NAME COPY")
    })?;
    cx.gate.open(cx.locator, name, Reference::DataFile).map(|found| found.source)
}

/// The entries of the snapshot table.
fn snapshots(
    source: &dyn BlockSource,
    header: &Header,
    facts: &mut Vec<(&'static str, String)>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Snapshot>> {
    /// Names in the line of `info`; the list of layers has them all.
    const NAMES: usize = 16;
    if header.snapshots == 0 {
        return Ok(Vec::new());
    }
    let found = snapshot::load(source, header)?;
    let mut names: Vec<String> =
        found.iter().take(NAMES).map(|s| format!("{} '{}'", escape(&s.id), escape(&s.name))).collect();
    if found.len() > NAMES {
        names.push("...".to_owned());
    }
    facts.push(("snapshots", format!("{}: {}", header.snapshots, names.join(", "))));
    if wide(found.len()) < u64::from(header.snapshots) {
        warnings.push(format!(
            "of {} snapshots only the first {} can be listed: the snapshot table is damaged or larger than any that is accepted",
            header.snapshots,
            found.len()
        ));
    }
    if header.has_data_file() {
        // "Neither compressed clusters nor internal snapshots are supported": their clusters would be those of today.
        warnings.push(
            "the image has snapshots and an external data file, which holds one disk only: they are not read"
                .to_owned(),
        );
        return Ok(Vec::new());
    }
    Ok(found)
}

/// A snapshot as a layer. Nothing of it is read before its disk is.
fn layer(
    image: &Arc<Image>,
    header: &Header,
    number: u64,
    snapshot: &Snapshot,
    cx: &OpenCx<'_>,
) -> Result<Layer> {
    let at = || At::new("qcow2", "snapshot table").index(number);
    let size = snapshot.size.unwrap_or(header.size);
    let l1 = L1 { offset: snapshot.l1_offset, entries: snapshot.l1_entries };
    let l1 = header.check_l1(l1, size, at()).and_then(|l1| l1.within(image.map.pages.file_len(), at()));
    let disk = image.disk(size, l1, cx)?;
    let name = escape(&snapshot.name).to_string();
    Ok(Layer { name, snapshot: Some(escape(&snapshot.id).to_string()), format: FORMAT.name, size, disk })
}
