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
use crate::budget::Budget;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::tree::{Node, Tree};
use crate::num::{narrow, wide};
use std::collections::BTreeSet;
use std::io::{self, Read};

/// Unpacked bytes of all segments together; the largest seen in the field is under 300 MiB.
const MAX_UNPACKED: u64 = 512 << 20;
/// Entries of all segments together; measured archives have some 900.
const MAX_ENTRIES: u64 = 100_000;
/// Memory of a decoder: the largest zstd window that the kernel's own decoder accepts.
const MAX_WINDOW: u64 = 128 << 20;
/// Longest name in a cpio entry: `PATH_MAX`.
const MAX_NAME: u64 = 4096;
/// Largest block of an lz4 legacy frame, unpacked (lz4 frame format, "Legacy frame").
const LZ4_BLOCK: usize = 8 << 20;
/// Largest such block, packed: what `LZ4_compressBound` says of 8 MiB.
const LZ4_PACKED: u32 = 8_421_520;
/// The size of a newc header.
const HEADER: usize = 110;

/// What was found in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Names of the kernel modules, `-` written as `_`. All of them, if the walk was not cut short.
    pub modules: BTreeSet<String>,
    /// Entries that were seen.
    pub entries: u64,
    /// How the segments are packed, in order.
    pub packing: Vec<&'static str>,
    /// The walk ended early, because everything wanted was there.
    pub cut_short: bool,
}

/// Walks an archive until every module of `wanted` was seen, or to its end.
///
/// # Errors
/// When it cannot be read, unpacked or understood, or is larger than the bounds.
pub fn walk(tree: &Tree, node: Node, wanted: &BTreeSet<String>, budget: &Budget) -> Result<Listing> {
    let mut walk = Walk { listing: Listing::default(), wanted, unpacked: 0, budget };
    let mut input = Input::new(tree, node);
    if input.peek(1)?.is_empty() {
        return Err(at(0).because("is empty"));
    }
    while walk.segment(&mut input)? == Next::Segment {}
    Ok(walk.listing)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Segment,
    Stop,
}

struct Walk<'a> {
    listing: Listing,
    wanted: &'a BTreeSet<String>,
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
            return Err(at(start).because("neither a newc archive nor packed in a known way"));
        };
        self.listing.packing.push(packing);
        let done = self.decode(packing, input);
        match input.take_error() {
            Some(error) => Err(error),
            None => done.map_err(|error| match error.kind() {
                ErrorKind::Limit => error,
                _ => error.at(At::new("initramfs", packing).byte(start)),
            }),
        }
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
            if let Some(module) = module_name(name) {
                self.listing.modules.insert(module);
                if !self.wanted.is_empty() && self.wanted.is_subset(&self.listing.modules) {
                    self.listing.cut_short = true;
                    return Ok(Next::Stop);
                }
            }
            self.skip(stream, entry.size.saturating_add(pad(entry.size)))?;
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

/// The LEGACY frame of lz4, which the kernel wants: blocks of 8 MiB, each behind its packed length.
struct Lz4Legacy<'a, 'b> {
    input: &'a mut Input<'b>,
    started: bool,
    block: Vec<u8>,
    taken: usize,
}

impl<'a, 'b> Lz4Legacy<'a, 'b> {
    fn new(input: &'a mut Input<'b>) -> Self {
        Self { input, started: false, block: Vec::new(), taken: 0 }
    }

    /// Unpacks the next block; `false` when what follows is none.
    fn next_block(&mut self) -> Result<bool> {
        const MAGIC: u32 = 0x184c_2102;
        loop {
            let ahead = self.input.peek(4)?;
            let Some(length) = ahead.first_chunk().copied().map(u32::from_le_bytes) else { return Ok(false) };
            if length == MAGIC {
                // A second frame may follow directly; the kernel goes on with it.
                io::BufRead::consume(self.input, 4);
                self.started = true;
                continue;
            }
            if !self.started || length == 0 || length > LZ4_PACKED {
                return Ok(false);
            }
            let want = narrow(u64::from(length)).saturating_add(4);
            let packed = self.input.peek(want)?;
            let packed = packed.get(4..).filter(|packed| packed.len().saturating_add(4) == want);
            let packed = packed.ok_or_else(|| cpio("an lz4 block is cut off"))?;
            let block = lz4_flex::block::decompress(packed, LZ4_BLOCK).map_err(|error| {
                Error::corrupt(At::new("initramfs", "lz4 block")).because(error.to_string())
            })?;
            io::BufRead::consume(self.input, want);
            (self.block, self.taken) = (block, 0);
            return Ok(true);
        }
    }
}

impl Read for Lz4Legacy<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let rest = self.block.get(self.taken..).unwrap_or_default();
            let count = rest.len().min(buf.len());
            if count > 0 {
                if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
                    to.copy_from_slice(from);
                }
                self.taken = self.taken.saturating_add(count);
                return Ok(count);
            }
            if !self.next_block().map_err(|error| io::Error::other(error.chain()))? {
                return Ok(0);
            }
        }
    }
}
