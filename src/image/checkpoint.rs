//! A checkpoint: a place in a deflate stream from which it can be inflated without what stands before it.
//!
//! ```text
//! packed  ─────┬──────────────┬──────────────┬───   a checkpoint is the bit where a block of the stream begins,
//!              bit            bit            bit     with the 32 KiB of plain text before it, its *window*, to which
//! plain   ═════╪══════════════╪══════════════╪═══   the stream may refer back (RFC 1951, section 2)
//!           window         window         window
//! ```
//! They are found by going through the stream once. Windows are kept packed; when all of them together would take more
//! than [`MAX_INDEX`], checkpoints are given up so that those that are left lie further apart.

use super::wrapper::{MAX_STORED, MAX_UNIT};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use flate2::{Compress, Compression, FlushCompress, Status};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress};
use std::fmt;
use std::ops::Range;

/// How far a stream refers back, at most.
pub(super) const WINDOW: usize = 32 << 10;
/// Where the plain text is made: a ring that holds a window behind whatever is being written.
const RING: usize = 2 * WINDOW;
/// Plain bytes between checkpoints, to begin with.
const SPACING: u64 = 1 << 20;
/// The longest distance between checkpoints that a reader has to bear; a stream that needs more has no index.
const MAX_SPACING: u64 = 32 << 20;
/// Memory for the checkpoints of one stream.
const MAX_INDEX: usize = 48 << 20;

/// Why a call of [`Inflater::inflate`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The ring is full or the input is used up: go on.
    More,
    /// A block of the stream begins here.
    Block,
    /// The stream has ended.
    End,
}

/// A deflate stream being inflated, a piece at a time.
pub(super) struct Inflater {
    state: Box<DecompressorOxide>,
    ring: Box<[u8]>,
    /// Where in the ring the next byte goes.
    at: usize,
    /// What the last call made.
    made: Range<usize>,
    /// Plain bytes that the ring holds or held, up to a window.
    behind: usize,
    flags: u32,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

impl Inflater {
    /// At a stream's start. With `blocks` it stops at each of its blocks.
    pub(super) fn new(blocks: bool) -> Self {
        let stop = if blocks { TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY } else { 0 };
        Self {
            state: Box::default(),
            ring: vec![0; RING].into(),
            at: 0,
            made: 0..0,
            behind: 0,
            flags: TINFL_FLAG_HAS_MORE_INPUT | stop,
        }
    }

    /// At the start of a zlib stream (RFC 1950), whose sum is checked when its end comes.
    pub(super) fn zlib() -> Self {
        let mut inflater = Self::new(false);
        inflater.flags |= TINFL_FLAG_PARSE_ZLIB_HEADER;
        inflater
    }

    /// At a checkpoint: behind `window`, with the `bits` upper bits of the byte `first` in front of the next input.
    pub(super) fn resume(window: &[u8], first: u8, bits: u8) -> Self {
        let mut inflater = Self::new(false);
        if let Some(place) = inflater.ring.get_mut(..window.len()) {
            place.copy_from_slice(window);
            inflater.at = window.len();
            inflater.behind = window.len();
        }
        let bits = bits.min(7);
        let bit_buf = first.checked_shr(8_u32.saturating_sub(bits.into())).unwrap_or(0);
        let state = BlockBoundaryState { num_bits: bits, bit_buf, ..BlockBoundaryState::default() };
        *inflater.state = DecompressorOxide::from_block_boundary_state(&state);
        inflater
    }

    /// Begins another stream; the plain text before it is out of its reach.
    pub(super) fn restart(&mut self) {
        *self.state = DecompressorOxide::default();
        // What a damaged stream finds before its start is the same from a checkpoint as it was on the way to it.
        self.ring.fill(0);
        (self.at, self.behind) = (0, 0);
    }

    /// Takes some of `input`: how many bytes, and why it stopped. What it made is [`Inflater::made`].
    ///
    /// # Errors
    /// `Corrupt` at `at`.
    pub(super) fn inflate(&mut self, input: &[u8], at: &At) -> Result<(usize, Stop)> {
        if self.at >= RING {
            self.at = 0;
        }
        let (status, taken, made) = decompress(&mut self.state, input, &mut self.ring, self.at, self.flags);
        let end = self.at.saturating_add(made);
        self.made = self.at..end;
        self.at = end;
        self.behind = self.behind.saturating_add(made).min(WINDOW);
        let stop = match status {
            TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput => Stop::More,
            TINFLStatus::BlockBoundary => Stop::Block,
            TINFLStatus::Done => Stop::End,
            _ => return Err(Error::corrupt(at.clone()).because("damaged deflate stream")),
        };
        Ok((taken, stop))
    }

    /// What was made has been dealt with.
    pub(super) const fn forget(&mut self) {
        self.made = 0..0;
    }

    /// The plain bytes that the last call made.
    pub(super) fn made(&self) -> &[u8] {
        self.ring.get(self.made.clone()).unwrap_or_default()
    }

    /// Has all input been used up just where a block begins?
    pub(super) fn is_between_blocks(&self) -> bool {
        self.state.block_boundary_state().is_some_and(|state| state.num_bits == 0)
    }

    /// At a block: how many bits of the byte taken last belong to it.
    pub(super) fn bits(&self) -> u8 {
        self.state.block_boundary_state().map_or(0, |state| state.num_bits)
    }

    /// The plain bytes behind, as far as the stream may refer to them.
    pub(super) fn window(&self) -> Vec<u8> {
        let mut window = Vec::with_capacity(self.behind);
        let before = self.behind.saturating_sub(self.at);
        window.extend_from_slice(self.ring.get(RING.saturating_sub(before)..).unwrap_or_default());
        window.extend_from_slice(
            self.ring.get(self.at.saturating_sub(self.behind)..self.at).unwrap_or_default(),
        );
        window
    }
}

/// A checkpoint. See the module's picture.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The bit of the packed file, from the lowest of its first byte on.
    pub bit: u64,
    /// The first plain byte after it.
    pub plain: u64,
    /// Everything up to the next one is zeros.
    pub zero: bool,
    /// Its window, packed; `None` at the start of a stream, header and all.
    window: Option<Box<[u8]>>,
}

impl Checkpoint {
    /// What it takes in memory.
    fn cost(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.window.as_ref().map_or(0, |window| window.len().saturating_add(16)))
    }

    /// Its window, unpacked; `None` at the start of a stream.
    ///
    /// # Errors
    /// `Corrupt` never, as we packed it.
    pub(super) fn window(&self) -> Result<Option<Vec<u8>>> {
        let at = At::new("checkpoint", "window");
        self.window
            .as_deref()
            .map(|packed| super::unpack::inflate(packed, wide(WINDOW), false, &at))
            .transpose()
    }
}

fn pack(window: &[u8]) -> Box<[u8]> {
    let mut packed = Vec::with_capacity(window.len() / 2);
    let mut stream = Compress::new(Compression::fast(), false);
    loop {
        packed.reserve(4096);
        let rest = window.get(narrow(stream.total_in())..).unwrap_or_default();
        // Packing plain bytes into memory that grows has no way to fail.
        match stream.compress_vec(rest, &mut packed, FlushCompress::Finish) {
            Ok(Status::StreamEnd) | Err(_) => return packed.into_boxed_slice(),
            Ok(_) => {}
        }
    }
}

/// The checkpoints of a stream while they are found.
#[derive(Debug)]
pub(super) struct Finder {
    points: Vec<Checkpoint>,
    spacing: u64,
    cost: usize,
    plain: u64,
}

impl Finder {
    /// At the start of a stream at byte `offset` of the file.
    pub(super) fn new(offset: u64) -> Self {
        let first = Checkpoint { bit: offset.saturating_mul(8), plain: 0, zero: true, window: None };
        Self { points: vec![first], spacing: SPACING, cost: 0, plain: 0 }
    }

    /// Notes the next plain bytes.
    pub(super) fn saw(&mut self, plain: &[u8]) {
        static ZEROS: [u8; RING] = [0; RING];
        self.plain = self.plain.saturating_add(wide(plain.len()));
        if let Some(last) = self.points.last_mut() {
            last.zero = last.zero && ZEROS.get(..plain.len()) == Some(plain);
        }
    }

    /// Is the last checkpoint far enough behind for another one?
    pub(super) fn is_due(&self) -> bool {
        self.points.last().is_none_or(|last| self.plain.saturating_sub(last.plain) >= self.spacing)
    }

    /// Makes a checkpoint at `bit`; without a window at the start of a stream.
    ///
    /// # Errors
    /// `Limit` when the index would become too large.
    pub(super) fn cut(&mut self, bit: u64, window: Option<&[u8]>) -> Result<()> {
        // Zeros go on: the place before them is as good.
        if let [.., before, last] = self.points.as_slice()
            && before.zero
            && last.zero
        {
            self.points.pop();
        }
        let point = Checkpoint { bit, plain: self.plain, zero: true, window: window.map(pack) };
        self.cost = self.cost.saturating_add(point.cost());
        self.points.push(point);
        if self.cost > MAX_INDEX {
            self.thin_out()?;
        }
        Ok(())
    }

    /// Gives up every other checkpoint or so.
    fn thin_out(&mut self) -> Result<()> {
        while self.cost > MAX_INDEX / 2 {
            self.spacing = self.spacing.saturating_mul(2);
            if self.spacing > MAX_SPACING {
                return Err(Error::limit("an index of more memory than is given to it"));
            }
            let ends: Vec<u64> =
                self.points.iter().skip(1).map(|point| point.plain).chain([self.plain]).collect();
            let mut kept: Vec<Checkpoint> = Vec::new();
            for (point, end) in std::mem::take(&mut self.points).into_iter().zip(ends) {
                match kept.last_mut() {
                    Some(last) if end.saturating_sub(last.plain) <= self.spacing => last.zero &= point.zero,
                    _ => kept.push(point),
                }
            }
            self.points = kept;
            self.cost = self.points.iter().map(Checkpoint::cost).sum();
        }
        Ok(())
    }

    /// All of them; `end` is the byte of the file behind the last stream. `None` if some lie too far apart to be read.
    pub(super) fn finish(self, end: u64) -> Option<Checkpoints> {
        let found = Checkpoints { points: self.points, end, len: self.plain };
        let sane = |number: usize| {
            let (stored, plain) = found.span(number);
            let zero = found.points.get(number).is_some_and(|point| point.zero);
            zero || (plain <= MAX_UNIT && stored.end.saturating_sub(stored.start) <= MAX_STORED)
        };
        (0..found.points.len()).all(sane).then_some(found)
    }
}

/// All checkpoints of a file.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub points: Vec<Checkpoint>,
    end: u64,
    /// Plain bytes of all.
    pub len: u64,
}

impl Checkpoints {
    /// What lies from a checkpoint to the next: bytes of the file, and how many plain ones.
    pub(super) fn span(&self, number: usize) -> (Range<u64>, u64) {
        let next = self.points.get(number.saturating_add(1));
        let (start, plain) = self.points.get(number).map_or((0, 0), |point| (point.bit / 8, point.plain));
        let end = next.map_or(self.end, |next| next.bit.div_ceil(8));
        (start..end, next.map_or(self.len, |next| next.plain).saturating_sub(plain))
    }
}

/// The start of an inflater at a checkpoint: itself, and the rest of `stored`, whose first byte holds the checkpoint's bit.
///
/// # Errors
/// As [`Checkpoint::window`].
pub(super) fn enter<'a>(point: &Checkpoint, window: &[u8], stored: &'a [u8]) -> (Inflater, &'a [u8]) {
    let used = u8::try_from(point.bit % 8).unwrap_or(0);
    match stored.split_first() {
        Some((first, rest)) if used > 0 => {
            (Inflater::resume(window, *first, 8_u8.saturating_sub(used)), rest)
        }
        _ => (Inflater::resume(window, 0, 0), stored),
    }
}
