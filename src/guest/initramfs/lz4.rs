//! The LEGACY frame of lz4 (lz4 frame format, "Legacy frame"): the only one that kernels unpack.

use super::cpio;
use crate::error::{At, Error, Result};
use crate::guest::file::Input;
use crate::num::narrow;
use std::io::{self, Read};

/// Largest block, unpacked.
const LZ4_BLOCK: usize = 8 << 20;
/// Largest block, packed: what `LZ4_compressBound` says of 8 MiB.
const LZ4_PACKED: u32 = 8_421_520;

/// The LEGACY frame of lz4, which the kernel wants: blocks of 8 MiB, each behind its packed length.
pub(super) struct Lz4Legacy<'a, 'b> {
    input: &'a mut Input<'b>,
    started: bool,
    block: Vec<u8>,
    taken: usize,
}

impl<'a, 'b> Lz4Legacy<'a, 'b> {
    pub(super) fn new(input: &'a mut Input<'b>) -> Self {
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
