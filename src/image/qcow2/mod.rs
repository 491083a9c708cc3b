//! qcow2: qemu's copy-on-write image, versions 2 and 3.
//!
//! ```text
//! header ─ extensions ─ backing file name
//!    └─ L1 table ─▶ L2 table ─▶ cluster: standard │ zlib or zstd │ zero │ none → backing file, or a hole
//! ```
//! Reference counts, bitmaps and snapshots are no part of the active disk and are not followed.
//! Specification: qemu, `docs/interop/qcow2.txt`.

use super::{Confidence, Format, Layer, OpenCx, Opened, unpack};
use crate::block::{BlockSource, Layout, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::{Found, Reference};
use crate::num::narrow;
use crate::ondisk::read_table;
use crate::text::escape;
use header::{CORRUPT, Compression, DIRTY, HEAD, Header};
use std::sync::Arc;
use tables::{Cluster, Tables};

mod header;
mod tables;

/// The format.
pub const FORMAT: Format = Format {
    name: "qcow2",
    aliases: &["qcow"],
    about: "qemu's copy-on-write image: versions 2 and 3, zlib and zstd clusters, backing files",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    probe.has(0, b"QFI\xfb").then_some(Confidence::Signature)
}

/// An open image.
#[derive(Debug)]
struct Qcow2 {
    size: u64,
    cluster_bits: u32,
    compression: Compression,
    tables: Tables,
    files: [Arc<dyn BlockSource>; 1],
    parent: Option<Arc<dyn BlockSource>>,
}

impl Layout for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let mapping = self.tables.lookup(offset)?;
        let place = match mapping.cluster {
            Cluster::Unallocated if self.parent.is_some() => Place::Parent,
            Cluster::Unallocated => Place::Hole,
            Cluster::Zero => Place::Zero,
            Cluster::Standard(offset) => Place::Stored { file: 0, offset },
            Cluster::Compressed(at, stored) => {
                let unit = offset >> self.cluster_bits;
                let skip = offset.saturating_sub(unit << self.cluster_bits);
                Place::Packed { file: 0, offset: at, stored, unit, skip }
            }
        };
        Ok(Run { len: mapping.len, place })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        let at = At::new("qcow2", "compressed cluster").index(unit);
        let size = 1_u64 << self.cluster_bits;
        match self.compression {
            Compression::Zlib => {
                let plain = unpack::inflate(stored, size, false, &at)?;
                if plain.len() == narrow(size) {
                    return Ok(plain);
                }
                Err(Error::corrupt(at).because(format!("unpacks to {} of {size} bytes", plain.len())))
            }
            Compression::Zstd => unpack::zstd(stored, size, &at),
        }
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.parent.as_ref()
    }

    fn unit_size(&self) -> u32 {
        1 << self.cluster_bits
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
    header.refuse_encryption()?;
    let l1_end = header.l1_offset.saturating_add(header.l1_entries.saturating_mul(8));
    if l1_end > source.len() {
        return Err(Error::corrupt(At::new("qcow2", "L1 table").byte(header.l1_offset)).because(format!(
            "ends at {l1_end:#x}, but the file ends at {:#x}: it was cut off",
            source.len()
        )));
    }
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
    let mut warnings = Vec::new();
    if header.incompatible & DIRTY != 0 {
        facts.push(("dirty", "yes".to_owned()));
        warnings.push(
            "the image is marked dirty: its writer did not close it; clusters are read as its tables say"
                .to_owned(),
        );
    }
    if header.incompatible & CORRUPT != 0 {
        facts.push(("corrupt", "yes".to_owned()));
        warnings.push("the image is marked corrupt by its writer; what its tables still say is read, 'qemu-img check' shows the damage".to_owned());
    }
    if header.snapshots > 0 {
        facts.push(("snapshots", snapshots(&*source, &header, cx)));
    }
    if let Some(bitmaps) = header.extensions.bitmaps {
        facts.push(("bitmaps", bitmaps.to_string()));
    }
    let parent = match header.backing {
        Some((offset, len)) => {
            let at = At::new("qcow2", "backing file name");
            let cap = u64::from(header::MAX_BACKING_NAME);
            let name = read_table(&*source, offset, u64::from(len), cap, at, cx.budget)?;
            facts.push(("backing file", escape(&name).to_string()));
            if let Some(format) = &header.extensions.backing_format {
                facts.push(("backing format", escape(format).to_string()));
            }
            Some(open_backing(&name, header.extensions.backing_format.as_deref(), cx)?)
        }
        None => None,
    };
    let layout = Qcow2 {
        size: header.size,
        cluster_bits: header.cluster_bits,
        compression: header.compression,
        tables: Tables::new(Arc::clone(&source), &header),
        files: [source],
        parent: parent.as_ref().map(|parent| Arc::clone(&parent.disk)),
    };
    let disk = cx.mapper.map(layout);
    let mut layers = vec![Layer::file(cx.locator, FORMAT.name, Arc::clone(&disk))];
    if let Some(parent) = parent {
        let name = parent.layers.first().map(|layer| layer.name.clone()).unwrap_or_default();
        warnings.extend(parent.warnings.iter().map(|warning| format!("{name}: {warning}")));
        layers.extend(parent.layers);
    }
    let subformat = Some(format!("v{}", header.version));
    Ok(Opened { subformat, facts, layers, warnings, ..Opened::single(disk, FORMAT.name, cx) })
}

/// Opens the layer below through the gate.
fn open_backing(name: &[u8], format: Option<&[u8]>, cx: &OpenCx<'_>) -> Result<Opened> {
    let shown = escape(name);
    let Found { source, locator } = cx.gate.open(cx.locator, name, Reference::Backing)?;
    let below = cx.below(&locator);
    let format = match format.filter(|format| !format.is_empty()) {
        Some(named) => {
            let named = escape(named).to_string();
            let known = super::by_name(&named);
            known.map_err(|_| Error::unsupported(format!("the backing format '{named}' of '{shown}'")))?.name
        }
        // To guess raw would be to trust the guest: it can write any header into a raw disk, and with it name files.
        None => match super::signed(&*source, &locator.file_name())?.as_slice() {
            [one] => one.name,
            _ => {
                let error = Error::new(
                    ErrorKind::Ambiguous,
                    format!("names no format for its backing file '{shown}', which does not show one itself"),
                );
                return Err(error.help(
                    "say it in a copy of the overlay: qemu-img rebase -u -b NAME -F raw COPY (or -F with the right format)",
                ));
            }
        },
    };
    super::open(source, Some(format), &below)
        .map_err(|error| error.context(format!("backing file '{shown}'")))
}

/// The snapshots, for `info`: as many as a bounded look at the table shows. Trouble here spoils nothing else.
fn snapshots(source: &dyn BlockSource, header: &Header, cx: &OpenCx<'_>) -> String {
    const LOOK: u64 = 64 << 10;
    let len = LOOK.min(source.len().saturating_sub(header.snapshots_offset));
    let at = At::new("qcow2", "snapshot table");
    let table = read_table(source, header.snapshots_offset, len, LOOK, at, cx.budget).unwrap_or_default();
    let (mut names, mut rest) = (Vec::new(), table.as_slice());
    for _ in 0..header.snapshots.min(256) {
        let Some((len, name)) = header::snapshot(rest) else { break };
        names.push(name);
        rest = rest.get(narrow(len)..).unwrap_or_default();
    }
    format!("{}: {}", header.snapshots, names.join(", "))
}
