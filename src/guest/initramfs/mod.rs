//! The archive that the kernel unpacks before it has a disk, and the kernel modules in it.
//!
//! ```text
//! file = segment*            segment = padding? (cpio* | packed(cpio*))
//! cpio = entry* TRAILER!!!   packed  = gzip | xz | zstd | lz4 legacy | lzma | bzip2
//! ```
//! (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.) Every segment is walked: microcode stands in
//! front, and modules may be in any of them. The archive is read as a stream and never unpacked; the walk ends as soon
//! as every wanted module was seen.

use super::file::Input;
use super::kernel::module_name;
use super::pe;
use crate::budget::Budget;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::tree::{Node, Tree};
use crate::num::{narrow, wide};
use crate::text::escape;
use lz4::Lz4Legacy;
use std::collections::BTreeSet;
use std::io::{self, Read};

mod default;
mod lz4;
mod script;

pub use default::{Bounds, DefaultInitramfs, Loaded};

/// Unpacked bytes of all segments together; the largest seen in the field is under 300 MiB.
const MAX_UNPACKED: u64 = 512 << 20;
/// Entries of all segments together; measured archives have some 900.
const MAX_ENTRIES: u64 = 100_000;
/// Memory of a decoder: the largest zstd window that the kernel's own decoder accepts.
const MAX_WINDOW: u64 = 128 << 20;
/// Longest name in a cpio entry: `PATH_MAX`.
const MAX_NAME: u64 = 4096;
/// The longest file whose content is kept.
const MAX_KEPT: u64 = 256 << 10;
/// Rules of network interfaces that are kept; a system has one such file.
const MAX_NET_RULES: usize = 16;
/// The size of a newc header.
const HEADER: usize = 110;

/// What was found in an archive.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Names of the kernel modules, `-` written as `_`. All of them, if the walk was not cut short.
    pub modules: BTreeSet<String>,
    /// Entries that were seen.
    pub entries: u64,
    /// How the segments are packed, in order.
    pub packing: Vec<&'static str>,
    /// udev's rules in it that name network interfaces by their addresses.
    pub net_rules: Vec<Packed>,
    /// Of an `init` of nash (RHEL 5 and older): the modules that it loads. Nothing else loads any there.
    pub insmod: Option<BTreeSet<String>>,
    /// How the walk ended.
    pub end: End,
}

/// How a walk ended.
#[derive(Clone, Debug, Default)]
pub enum End {
    /// At the end of the file.
    #[default]
    Whole,
    /// Early, because everything wanted was there.
    CutShort,
    /// Where the archive is cut off or damaged; what stands behind that nobody can unpack.
    Damaged(Error),
}

/// A small file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its path there.
    pub path: Vec<u8>,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Listing {
    /// Would the kernel have this module from here? In an archive with a script that loads modules one by one, only if
    /// the script names it.
    #[must_use]
    pub fn loads(&self, module: &str) -> bool {
        self.modules.contains(module) && self.insmod.as_ref().is_none_or(|named| named.contains(module))
    }

    /// Is everything of `wanted` in it?
    #[must_use]
    pub fn has_all(&self, wanted: &BTreeSet<String>) -> bool {
        wanted.is_subset(&self.modules)
    }
}

/// Walks an archive until every module of `wanted` was seen, or to its end. In a unified kernel image it is the one
/// inside.
///
/// # Errors
/// When it cannot be read or is damaged, is packed in a way that is not known, or is larger than the bounds.
pub fn walk(tree: &Tree, node: Node, wanted: &BTreeSet<String>, budget: &Budget) -> Result<Listing> {
    let listing = look(tree, node, wanted, budget)?;
    match listing.end {
        End::Damaged(error) => Err(error),
        End::Whole | End::CutShort => Ok(listing),
    }
}

/// As [`walk`], but damage in the archive itself is no error: it is where the walk ends.
///
/// # Errors
/// When the file cannot be read, is packed in a way that is not known, or is larger than the bounds.
pub fn look(tree: &Tree, node: Node, wanted: &BTreeSet<String>, budget: &Budget) -> Result<Listing> {
    let mut walk = Walk { listing: Listing::default(), wanted, has_flat: false, unpacked: 0, budget };
    let mut input = match pe::section(tree, node, b".initrd")? {
        Some(section) => Input::within(tree, node, section.offset, section.size),
        None => Input::new(tree, node),
    };
    if input.peek(1)?.is_empty() {
        walk.listing.end = End::Damaged(at(0).because("is empty"));
        return Ok(walk.listing);
    }
    loop {
        match walk.segment(&mut input) {
            Ok(Next::Segment) => {}
            Ok(Next::Stop) => return Ok(walk.listing),
            Err(error) => {
                if let Some(error) = input.take_error() {
                    return Err(error);
                }
                if error.kind() != ErrorKind::Corrupt {
                    return Err(error);
                }
                walk.listing.end = End::Damaged(error);
                return Ok(walk.listing);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Segment,
    Stop,
}

struct Walk<'a> {
    listing: Listing,
    wanted: &'a BTreeSet<String>,
    /// A module stands in `lib` itself, so an `init` of nash may say which are loaded.
    has_flat: bool,
    unpacked: u64,
    budget: &'a Budget,
}

fn at(byte: u64) -> Error {
    Error::corrupt(At::new("initramfs", "segment").byte(byte))
}

impl Walk<'_> {
    fn segment(&mut self, input: &mut Input<'_>) -> Result<Next> {
        while input.peek(1)? == [0] {
            self.budget.step("initramfs padding")?;
            // Padding is a few bytes to a page; taken in pieces, since a hostile one may be as long as the file.
            let zeros = input.peek(4096)?.iter().take_while(|byte| **byte == 0).count();
            io::BufRead::consume(input, zeros);
        }
        let start = input.position();
        let head = input.peek(6)?;
        if head.is_empty() {
            return Ok(Next::Stop);
        }
        let Some(packing) = packing(head) else {
            let why = "neither a newc archive nor packed in a known way";
            // Behind a good segment the kernel reports it and starts with what it has.
            let error = if self.listing.entries == 0 {
                at(start)
            } else {
                at(start).with_kind(ErrorKind::Unsupported)
            };
            return Err(error.because(why));
        };
        self.listing.packing.push(packing);
        self.decode(packing, input).map_err(|error| match error.kind() {
            ErrorKind::Limit => error,
            _ => error.at(At::new("initramfs", packing).byte(start)),
        })
    }

    fn decode(&mut self, packing: &'static str, input: &mut Input<'_>) -> Result<Next> {
        let bad = |error: io::Error| Error::corrupt(At::new("initramfs", packing)).because(error.to_string());
        match packing {
            "cpio" => self.archive(input),
            "gzip" => self.archives(&mut flate2::bufread::GzDecoder::new(input)),
            "bzip2" => self.archives(&mut bzip2::bufread::BzDecoder::new(input)),
            "xz" => {
                let limit = u32::try_from(MAX_WINDOW >> 10).unwrap_or(u32::MAX);
                self.archives(&mut lzma_rust2::XzReader::new_mem_limit(input, false, limit))
            }
            "lzma" => {
                let limit = u32::try_from(MAX_WINDOW >> 10).unwrap_or(u32::MAX);
                let mut decoder =
                    lzma_rust2::LzmaReader::new_mem_limit(&mut *input, limit, None).map_err(bad)?;
                let next = self.archives(&mut decoder)?;
                let (input, unused) = decoder.into_parts();
                input.put_back(&unused);
                Ok(next)
            }
            "zstd" => {
                let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(input, MAX_WINDOW);
                self.archives(&mut decoder.map_err(|error| bad(io::Error::other(error)))?)
            }
            "lz4" => self.archives(&mut Lz4Legacy::new(input)),
            _ => Err(Error::unsupported(format!("an initramfs packed with {packing}"))),
        }
    }

    /// Every archive of an unpacked stream, to its end.
    fn archives(&mut self, stream: &mut dyn Read) -> Result<Next> {
        let mut stream = io::BufReader::with_capacity(64 << 10, stream);
        loop {
            let ahead = io::BufRead::fill_buf(&mut stream).map_err(|error| unpacking(&error))?;
            match ahead.first() {
                None => return Ok(Next::Segment),
                Some(0) => {
                    let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
                    self.spend(wide(zeros))?;
                    io::BufRead::consume(&mut stream, zeros);
                }
                Some(_) => {
                    if self.archive(&mut stream)? == Next::Stop {
                        return Ok(Next::Stop);
                    }
                }
            }
        }
    }

    /// One archive, to its trailer (or the end of the stream after a whole entry, as the kernel accepts it).
    fn archive(&mut self, stream: &mut dyn Read) -> Result<Next> {
        loop {
            self.budget.step("initramfs entries")?;
            let mut header = [0; HEADER];
            match fill(stream, &mut header)? {
                0 => return Ok(Next::Segment),
                HEADER => {}
                _ => return Err(cpio("the header of an entry is cut off")),
            }
            let entry = Header::parse(&header)?;
            let mut name = vec![0; narrow(entry.name_len)];
            if fill(stream, &mut name)? != name.len() {
                return Err(cpio("the name of an entry is cut off"));
            }
            let name = name.strip_suffix(&[0]).unwrap_or(&name);
            self.spend(wide(HEADER).saturating_add(entry.name_len))?;
            // Header with name, and data, each end at a multiple of four.
            self.skip(stream, pad(wide(HEADER).saturating_add(entry.name_len)))?;
            if name == b"TRAILER!!!" {
                return Ok(Next::Segment);
            }
            self.listing.entries = self.listing.entries.saturating_add(1);
            if self.listing.entries > MAX_ENTRIES {
                return Err(Error::limit(format!("initramfs: more than {MAX_ENTRIES} entries")));
            }
            let size = entry.size.saturating_add(pad(entry.size));
            if let Some(module) = module_name(name) {
                self.has_flat |= is_flat(name);
                self.listing.modules.insert(module);
                if !self.has_flat && !self.wanted.is_empty() && self.listing.has_all(self.wanted) {
                    self.listing.end = End::CutShort;
                    return Ok(Next::Stop);
                }
            } else if is_nested(name) && !self.wanted.is_empty() {
                let name = escape(name);
                return Err(Error::unsupported(format!("its modules are in {name}, which is not read")));
            } else if let Some(kind) = Kept::of(name).filter(|_| (1..=MAX_KEPT).contains(&entry.size)) {
                let mut bytes = vec![0; narrow(entry.size)];
                if fill(stream, &mut bytes)? != bytes.len() {
                    return Err(cpio("the data of an entry is cut off"));
                }
                self.spend(entry.size)?;
                self.keep(kind, name, bytes);
                self.skip(stream, pad(entry.size))?;
                continue;
            }
            self.skip(stream, size)?;
        }
    }

    fn keep(&mut self, kind: Kept, name: &[u8], bytes: Vec<u8>) {
        match kind {
            Kept::Init => self.listing.insmod = script::insmod(&bytes),
            Kept::NetRules if self.listing.net_rules.len() < MAX_NET_RULES => {
                self.listing.net_rules.push(Packed { path: name.to_vec(), bytes });
            }
            Kept::NetRules => {}
        }
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        if self.unpacked > MAX_UNPACKED {
            return Err(Error::limit(format!("initramfs: more than {MAX_UNPACKED} bytes unpacked")));
        }
        Ok(())
    }

    fn skip(&mut self, stream: &mut dyn Read, mut count: u64) -> Result<()> {
        let mut buffer = vec![0; 32 << 10];
        while count > 0 {
            self.budget.step("initramfs data")?;
            let want = narrow(count.min(wide(buffer.len())));
            let part = buffer.get_mut(..want).unwrap_or_default();
            let got = stream.read(part).map_err(|error| unpacking(&error))?;
            if got == 0 {
                return Err(cpio("the data of an entry is cut off"));
            }
            self.spend(wide(got))?;
            count = count.saturating_sub(wide(got));
        }
        Ok(())
    }
}

/// A file whose content is kept.
#[derive(Clone, Copy)]
enum Kept {
    /// What the kernel starts.
    Init,
    /// udev's rules that name network interfaces: `70-persistent-net.rules`.
    NetRules,
}

impl Kept {
    fn of(name: &[u8]) -> Option<Self> {
        let path = name.strip_prefix(b"./").or_else(|| name.strip_prefix(b"/")).unwrap_or(name);
        if path == b"init" {
            return Some(Self::Init);
        }
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut pairs = file.windows(b"persistent-net".len());
        let is_net = file.ends_with(b".rules") && pairs.any(|part| part == b"persistent-net");
        is_net.then_some(Self::NetRules)
    }
}

/// `lib/virtio_blk.ko`, as mkinitrd of RHEL 5 puts modules.
fn is_flat(name: &[u8]) -> bool {
    let path = name.strip_prefix(b"./").or_else(|| name.strip_prefix(b"/")).unwrap_or(name);
    path.strip_prefix(b"lib/").is_some_and(|rest| !rest.contains(&b'/'))
}

/// What dracut's modules `squash` and `squash-erofs` pack everything else into.
fn is_nested(name: &[u8]) -> bool {
    let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(file, b"squash-root.img" | b"squashfs-root.img" | b"erofs-root.img")
}

fn cpio(why: &str) -> Error {
    Error::corrupt(At::new("initramfs", "cpio")).because(why)
}

fn unpacking(error: &io::Error) -> Error {
    Error::corrupt(At::new("initramfs", "packed data")).because(error.to_string())
}

fn pad(len: u64) -> u64 {
    len.wrapping_neg() & 3
}

/// Reads until `buf` is full or the stream ends.
fn fill(stream: &mut dyn Read, buf: &mut [u8]) -> Result<usize> {
    let mut done = 0_usize;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).map_err(|error| unpacking(&error))? {
            0 => break,
            count => done = done.saturating_add(count),
        }
    }
    Ok(done)
}

/// How a segment is packed, by its first bytes (Linux `lib/decompress.c`).
fn packing(head: &[u8]) -> Option<&'static str> {
    let table: &[(&[u8], &str)] = &[
        (b"070701", "cpio"),
        (b"070702", "cpio"),
        (&[0x1f, 0x8b], "gzip"),
        (&[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
        (&[0x5d, 0x00, 0x00], "lzma"),
        (b"BZh", "bzip2"),
        (&[0x89, 0x4c, 0x5a, 0x4f], "lzo"),
    ];
    table.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

/// The two fields of a newc header that matter here: ASCII hexadecimal, eight digits each (cpio(5), "New ASCII Format").
struct Header {
    size: u64,
    name_len: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER]) -> Result<Self> {
        if !bytes.starts_with(b"070701") && !bytes.starts_with(b"070702") {
            return Err(cpio("an entry does not start with 070701"));
        }
        let number = |at: usize| -> Option<u64> {
            let digits = std::str::from_utf8(bytes.get(at..)?.get(..8)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        // Byte 54: c_filesize. Byte 94: c_namesize, which counts the NUL.
        let (Some(size), Some(name_len)) = (number(54), number(94)) else {
            return Err(cpio("an entry's header is not hexadecimal"));
        };
        if name_len == 0 || name_len > MAX_NAME {
            return Err(cpio("an entry's name has an impossible length"));
        }
        Ok(Self { size, name_len })
    }
}
