//! `imgmount map`: where the bytes of a disk, or of a guest's file, lie.
//!
//! ```text
//! file byte ─▶ volume byte ─▶ disk byte ─▶ byte of a container file
//!           fs::run_at     step()       step(), through every layer below
//! ```

use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, plan};
use crate::block::{Below, BlockSource, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::fs::tree::Follow;
use crate::stack::Stack;
use serde::Serialize;
use std::ffi::OsString;
use std::sync::Arc;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE for the disk, IMAGE:PATH or IMAGE PATH for a file of the guest
    #[arg(required = true, num_args = 1..=2, value_name = "IMAGE")]
    words: Vec<OsString>,
}

/// Storeys of one way down: layers, volumes in volumes. The gate allows fewer.
const MAX_STOREYS: u32 = 128;
/// Variants whose runs are as long as their file: for them, and for raw disks, the holes of the host's file are shown.
/// For the others the format's own allocation is, as `qemu-img map` does.
const FLAT: &[&str] = &["fixed", "monolithicFlat", "twoGbMaxExtentFlat", "vmfs"];

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let targets = plan::targets(&args.words);
    let [target] = targets.as_slice() else {
        return Err(Error::new(ErrorKind::Usage, "map shows one disk or one file")
            .help("imgmount map IMAGE, or imgmount map IMAGE:/PATH"));
    };
    let mut stream = Stream::new();
    let mut tally = Tally::default();
    if target.path.is_some() {
        let mut images = Images::new(common);
        file(target, &mut images, common, &mut stream)?;
    } else {
        let given = plan::given(&target.image, common)?;
        let (_, opened) = plan::open_image(&target.image, &given, &plan::options(common), common)?;
        // Of an archive's disk the variant says its format, too: "raw", "vmdk monolithicFlat".
        let variant = opened.subformat.as_ref().and_then(|name| name.rsplit(' ').next());
        let flat =
            opened.format == "raw" || variant.is_some_and(|name| name == "raw" || FLAT.contains(&name));
        let others: Vec<&str> = opened.others.iter().filter_map(|disk| disk.member.as_deref()).collect();
        if !others.is_empty() {
            let image = plan::shown(&target.image);
            let others: Vec<String> = others.iter().map(|member| format!("{image}//{member}")).collect();
            super::out::say(common, &format!("this is the first disk; the others: {}", others.join(", ")));
        }
        disk(&opened.disk, flat, common, &mut stream)?;
    }
    tally.done();
    stream.end()?;
    Ok(tally.exit())
}

/// Where one way down ends.
#[derive(Debug)]
struct Landing {
    /// Bytes that go the same way.
    len: u64,
    /// Layers passed: 0 is the image itself.
    depth: u32,
    end: End,
    /// What is stored must be deciphered.
    encrypted: bool,
    /// The byte of the disk that was passed.
    disk_offset: Option<u64>,
}

#[derive(Debug)]
enum End {
    /// A byte of a file.
    Ground(Arc<dyn BlockSource>, u64),
    /// Packed, in so many bytes from there on.
    Packed(Arc<dyn BlockSource>, u64, u64),
    /// Nowhere: worked out from other bytes.
    Computed,
    Zero,
    Hole,
}

/// Goes down from a byte of `source` to a file.
fn descend(
    source: &Arc<dyn BlockSource>,
    offset: u64,
    len: u64,
    disk: &Arc<dyn BlockSource>,
) -> Result<Landing> {
    let mut landing = Landing { len, depth: 0, end: End::Hole, encrypted: false, disk_offset: None };
    let (mut here, mut at) = (Arc::clone(source), offset);
    for _ in 0..MAX_STOREYS {
        if landing.disk_offset.is_none() && std::ptr::addr_eq(Arc::as_ptr(&here), Arc::as_ptr(disk)) {
            landing.disk_offset = Some(at);
        }
        let step = here.step(at)?;
        landing.len = landing.len.min(step.len.max(1));
        match step.below {
            Below::Here => {
                landing.end = End::Ground(here, at);
                return Ok(landing);
            }
            Below::Zero => {
                landing.end = End::Zero;
                return Ok(landing);
            }
            // `qemu-img map` counts what lies past the end of a layer to the one above it.
            Below::Hole | Below::PastParent => return Ok(landing),
            Below::Computed => {
                landing.end = End::Computed;
                return Ok(landing);
            }
            Below::Packed(file, at, stored) => {
                let (file, at) = ground(file, at)?;
                landing.end = End::Packed(file, at, stored);
                return Ok(landing);
            }
            Below::Stored(below, to) => (here, at) = (below, to),
            Below::Encrypted(below, to) => {
                landing.encrypted = true;
                (here, at) = (below, to);
            }
            Below::Parent(below, to) => {
                landing.depth = landing.depth.saturating_add(1);
                (here, at) = (below, to);
            }
        }
    }
    Err(Error::limit(format!("more than {MAX_STOREYS} storeys lie below the disk")))
}

/// The file in which a packed unit lies: a part of an archive is not one.
fn ground(mut file: Arc<dyn BlockSource>, mut at: u64) -> Result<(Arc<dyn BlockSource>, u64)> {
    for _ in 0..MAX_STOREYS {
        match file.step(at)?.below {
            Below::Stored(below, to) => (file, at) = (below, to),
            _ => break,
        }
    }
    Ok((file, at))
}

/// One entry of a disk's map, with the fields of `qemu-img map --output=json`.
#[derive(Debug, Serialize)]
struct Entry {
    start: u64,
    length: u64,
    depth: u32,
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
    #[serde(skip)]
    encrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

impl Entry {
    /// Takes the next entry in, if it goes on where this one ends.
    fn takes(&mut self, next: &Self) -> bool {
        let same = (self.depth, self.present, self.zero, self.data, self.compressed, self.encrypted)
            == (next.depth, next.present, next.zero, next.data, next.compressed, next.encrypted);
        let goes_on = self.offset.map(|offset| offset.saturating_add(self.length)) == next.offset;
        let merges = same && goes_on && self.filename == next.filename;
        if merges {
            self.length = self.length.saturating_add(next.length);
        }
        merges
    }
}

fn entry(disk: &Arc<dyn BlockSource>, start: u64, flat: bool) -> Result<Entry> {
    let landing = descend(disk, start, disk.len().saturating_sub(start), disk)?;
    let mut entry = Entry {
        start,
        length: landing.len,
        depth: landing.depth,
        present: true,
        zero: false,
        data: true,
        compressed: false,
        encrypted: false,
        offset: None,
        filename: None,
    };
    entry.encrypted = landing.encrypted;
    match landing.end {
        // Bytes that must be deciphered cannot be read at an offset; nor does a hole in them read as zero.
        _ if landing.encrypted => {}
        End::Ground(file, at) => {
            if flat {
                let extent = file.extent(at)?;
                entry.length = entry.length.min(extent.len.max(1));
                (entry.zero, entry.data) = (extent.zero, !extent.zero);
            }
            (entry.offset, entry.filename) = (Some(at), Some(file.label()));
        }
        End::Packed(..) => entry.compressed = true,
        End::Computed => {}
        End::Zero => (entry.zero, entry.data) = (true, false),
        End::Hole => (entry.present, entry.zero, entry.data) = (false, true, false),
    }
    Ok(entry)
}

fn disk(disk: &Arc<dyn BlockSource>, flat: bool, common: &Common, stream: &mut Stream) -> Result<()> {
    let mut last: Option<Entry> = None;
    let mut first = true;
    let mut print = |entry: &Entry, stream: &mut Stream| -> Result<()> {
        if common.json {
            stream.bytes(if first { b"[" } else { b",\n" })?;
            first = false;
            return stream.json(entry);
        }
        if first {
            stream.line(format_args!("{:<15} {:<15} {:<15} File", "Offset", "Length", "Mapped to"))?;
            first = false;
        }
        match (entry.offset, &entry.filename) {
            (Some(offset), Some(name)) if entry.data && !entry.zero => stream.line(format_args!(
                "{:<15} {:<15} {:<15} {name}",
                c_hex(entry.start),
                c_hex(entry.length),
                c_hex(offset)
            )),
            _ if entry.compressed || entry.encrypted => stream.line(format_args!(
                "{:<15} {:<15} {:<15}",
                c_hex(entry.start),
                c_hex(entry.length),
                if entry.compressed { "compressed" } else { "encrypted" }
            )),
            _ => Ok(()),
        }
    };
    let mut at = 0;
    while at < disk.len() {
        let next = entry(disk, at, flat)?;
        at = at.saturating_add(next.length);
        if last.as_mut().is_some_and(|known| known.takes(&next)) {
            continue;
        }
        if let Some(known) = last.replace(next) {
            print(&known, stream)?;
        }
    }
    if let Some(known) = &last {
        print(known, stream)?;
    }
    let close: &[u8] = match (common.json, last.is_some()) {
        (false, _) => b"",
        (true, true) => b"]\n",
        (true, false) => b"[]\n",
    };
    stream.bytes(close)
}

/// A number as C's `%#x` prints it: 0 without a prefix.
fn c_hex(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
}

/// One run of a file's map.
#[derive(Debug, Serialize)]
struct FileRun {
    file_offset: u64,
    length: u64,
    /// `data`, `zero`, `hole`, `packed`, `encrypted`.
    kind: &'static str,
    volume_offset: Option<u64>,
    disk_offset: Option<u64>,
    /// The layer that has it: 0 is the image itself.
    depth: u32,
    container_offset: Option<u64>,
    /// Length of the packed unit it is part of.
    packed: Option<u64>,
    container: Option<String>,
}

/// Pieces of a file that are shown: as many as 4 GiB in blocks of 1 KiB could have. A crafted table could name one block
/// a thousand million times.
const MAX_FILE_RUNS: usize = 4 << 20;

fn file(target: &Target, images: &mut Images<'_>, common: &Common, stream: &mut Stream) -> Result<()> {
    let stack = images.get(&target.image)?;
    let (tree, path, node) = images.find(target, Follow::Yes)?;
    let said = |error: Error| error.context(target.shown());
    let stat = tree.stat(node).map_err(said)?;
    if stat.kind != FileType::File {
        return Err(said(super::content::not_regular(stat.kind)));
    }
    let fs = tree.fs(node)?;
    let volume = tree.volume(node);
    let mut runs = Vec::new();
    let mut at = 0;
    while at < stat.size {
        let run = fs.run_at(node.ino, at).map_err(said)?;
        let len = run.len.min(stat.size.saturating_sub(at)).max(1);
        let landed = landed(&stack, volume, at, len, run.place).map_err(said)?;
        at = at.saturating_add(landed.length);
        if runs.len() >= MAX_FILE_RUNS {
            return Err(said(Error::limit(format!("the file lies in more than {MAX_FILE_RUNS} pieces"))));
        }
        runs.push(landed);
    }
    if common.json {
        let (text, bytes) = super::entry::lossless(&path);
        let mut document = serde_json::json!({
            "schema": "imgmount.file-map/1", "image": stack.name, "path": text, "volume": volume, "size": stat.size, "runs": runs,
        });
        if let (Some(bytes), Some(map)) = (bytes, document.as_object_mut()) {
            map.insert("path_bytes".to_owned(), bytes.into());
        }
        return stream.json_document(&document);
    }
    stream.line(format_args!("{}: {} bytes on volume {volume}", target.shown(), stat.size))?;
    let head = ["file", "length", "kind", "volume", "disk", "container", ""];
    let row = |columns: [&str; 7]| {
        let [a, b, c, d, e, f, g] = columns;
        format!("{a:<12} {b:<12} {c:<7} {d:<14} {e:<14} {f:<14} {g}").trim_end().to_owned()
    };
    stream.line(row(head))?;
    for run in &runs {
        let place = |offset: Option<u64>| offset.map_or_else(|| "-".to_owned(), c_hex);
        let name = run.container.clone().unwrap_or_default();
        let depth = if run.depth > 0 { format!("{name} (layer {})", run.depth) } else { name };
        stream.line(row([
            &c_hex(run.file_offset),
            &c_hex(run.length),
            run.kind,
            &place(run.volume_offset),
            &place(run.disk_offset),
            &place(run.container_offset),
            &depth,
        ]))?;
    }
    Ok(())
}

/// Follows one run of a file down to its container.
fn landed(stack: &Stack, volume: &str, file_offset: u64, length: u64, place: Place) -> Result<FileRun> {
    let mut run = FileRun {
        file_offset,
        length,
        kind: "data",
        volume_offset: None,
        disk_offset: None,
        depth: 0,
        container_offset: None,
        packed: None,
        container: None,
    };
    let volume_offset = match place {
        Place::Stored { offset, .. } => offset,
        Place::Packed { offset, .. } => {
            run.kind = "packed";
            offset
        }
        Place::Zero => {
            run.kind = "zero";
            return Ok(run);
        }
        Place::Hole | Place::Parent => {
            run.kind = "hole";
            return Ok(run);
        }
    };
    run.volume_offset = Some(volume_offset);
    let Some(volume) = stack.volume(volume) else { return Ok(run) };
    let landing = descend(&volume.source, volume_offset, length, stack.disk_of(&volume.id))?;
    run.length = landing.len;
    run.disk_offset = landing.disk_offset;
    run.depth = landing.depth;
    if landing.encrypted {
        run.kind = "encrypted";
    }
    match landing.end {
        End::Ground(file, at) => (run.container, run.container_offset) = (Some(file.label()), Some(at)),
        End::Packed(file, at, stored) => {
            run.kind = "packed";
            run.packed = Some(stored);
            (run.container, run.container_offset) = (Some(file.label()), Some(at));
        }
        End::Computed => run.kind = "computed",
        // Nothing stored deciphers to noise, not to zeros.
        End::Zero | End::Hole if landing.encrypted => {}
        End::Zero => run.kind = "zero",
        End::Hole => run.kind = "hole",
    }
    Ok(run)
}
