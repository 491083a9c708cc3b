//! Parallels: the disk of Parallels Desktop, Virtuozzo and OpenVZ. One expanding file (`.hds`), or a bundle (`.hdd`): a
//! directory of such files and `DiskDescriptor.xml`, which says how they make one disk.
//!
//! ```text
//! x.hdd/DiskDescriptor.xml ─┬─ storage: sectors 0..n       image {top}.hds ─▶ image {snapshot}.hds ─▶ …
//!                           └─ storage: sectors n..m       (split disks have several storages)
//! ```
//! A bundle is opened by its directory or by the XML in it. Specification: qemu, `docs/interop/parallels.txt` and
//! `docs/interop/prl-xml.txt`.

use super::segments::Joined;
use super::{Confidence, Format, Layer, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::engine::Slice;
use crate::error::{At, Error, ErrorKind, Result};
use crate::locator::Reference;
use crate::num::wide;
use crate::ondisk::read_table;
use crate::text::escape;
use descriptor::{Descriptor, Image, Kind, MAX_XML, Storage, is_descriptor};
use hds::{Hds, Header, is_hds};
use std::sync::Arc;

mod descriptor;
mod hds;

/// The format.
pub const FORMAT: Format = Format {
    name: "parallels",
    aliases: &["hds", "hdd"],
    about: "Parallels disk: .hds of both versions, and .hdd bundles, split or with snapshots",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (is_hds(probe.head) || is_descriptor(probe.head)).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let mut head = [0; 16];
    let len = crate::num::narrow(source.len().min(16));
    source.read_at(head.get_mut(..len).unwrap_or_default(), 0)?;
    if is_hds(&head) {
        return open_hds(source, cx);
    }
    let text = read_table(&*source, 0, source.len(), MAX_XML, At::new("parallels", "descriptor"), cx.budget)?;
    if !is_descriptor(&text) {
        let error = "is no Parallels disk: it begins with neither signature and is no DiskDescriptor.xml";
        return Err(Error::new(ErrorKind::NotAnImage, error));
    }
    open_bundle(&Descriptor::parse(&text)?, cx)
}

/// One file alone.
fn open_hds(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let header = Header::load(&*source)?;
    let (facts, mut warnings) = (header.facts(), header.warnings());
    let name = cx.locator.file_name();
    if name.contains(".{") && name.ends_with("}.hds") {
        warnings.push(
            "the name is that of one file of a bundle: what other files of it hold reads as zero; open the directory that \
             holds DiskDescriptor.xml for the whole disk"
                .to_owned(),
        );
    }
    let subformat = Some(header.version().to_owned());
    let disk = cx.mapper.map(Hds::new(&header, source, None));
    Ok(Opened { subformat, facts, warnings, ..Opened::single(disk, FORMAT.name, cx) })
}

fn open_bundle(descriptor: &Descriptor, cx: &OpenCx<'_>) -> Result<Opened> {
    let chain = descriptor.chain()?;
    let mut warnings = Vec::new();
    let mut layers: Vec<Layer> = Vec::new();
    let mut below: Vec<Arc<dyn BlockSource>> = Vec::new();
    for guid in chain.iter().rev() {
        let mut level = Vec::new();
        let mut name = String::new();
        for (index, storage) in descriptor.storages.iter().enumerate() {
            cx.budget.step("parallels storages")?;
            let (part, file) = open_part(storage, guid, below.get(index), index, &mut warnings, cx)?;
            name = if level.is_empty() { file } else { format!("{} {guid}", cx.locator) };
            level.push(part);
        }
        let disk = match level.as_slice() {
            [one] => Arc::clone(one),
            parts => cx.mapper.map(Joined::new(parts.to_vec())?),
        };
        layers.insert(0, Layer { name, snapshot: None, format: FORMAT.name, size: disk.len(), disk });
        below = level;
    }
    let top = layers
        .first()
        .ok_or_else(|| Error::corrupt(At::new("parallels", "descriptor")).because("no images"))?;
    let mut opened = Opened::single(Arc::clone(&top.disk), FORMAT.name, cx);
    opened.layers = layers;
    opened.subformat = Some("bundle".to_owned());
    opened.facts = vec![
        ("storages", descriptor.storages.len().to_string()),
        ("images in the chain", chain.len().to_string()),
        ("top image", chain.first().map(|guid| escape(guid.as_bytes()).to_string()).unwrap_or_default()),
    ];
    opened.warnings = warnings;
    Ok(opened)
}

/// What one image of a storage makes of what is below it, just as long as the storage is; and its file.
fn open_part(
    storage: &Storage,
    guid: &str,
    below: Option<&Arc<dyn BlockSource>>,
    index: usize,
    warnings: &mut Vec<String>,
    cx: &OpenCx<'_>,
) -> Result<(Arc<dyn BlockSource>, String)> {
    let at = || At::new("parallels", "storage").index(wide(index));
    let shown = escape(guid.as_bytes()).to_string();
    let Some(Image { kind, file, .. }) = storage.image(guid) else {
        return Err(
            Error::corrupt(at()).because(format!("has no image {shown}, which the chain of snapshots needs"))
        );
    };
    let found = cx.gate.open(cx.locator, file.as_bytes(), Reference::Member)?;
    let name = escape(file.as_bytes()).to_string();
    let disk = match kind {
        Kind::Plain if below.is_some() => {
            return Err(Error::unsupported(format!("a snapshot of type Plain ('{name}')")).at(at()));
        }
        Kind::Plain => found.source,
        Kind::Compressed => {
            let header =
                Header::load(&*found.source).map_err(|error| error.context(format!("image '{name}'")))?;
            warnings.extend(header.warnings().iter().map(|warning| format!("image '{name}': {warning}")));
            cx.mapper.map(Hds::new(&header, found.source, below.map(Arc::clone)))
        }
    };
    let len = storage.len;
    if disk.len() < len {
        return Err(Error::corrupt(at()).because(format!(
            "has {len} bytes, its image '{name}' only {}: it was cut off, or the descriptor is wrong",
            disk.len()
        )));
    }
    let disk = if disk.len() == len { disk } else { Arc::new(Slice::new(disk, 0, len)?) };
    Ok((disk, found.locator.to_string()))
}
