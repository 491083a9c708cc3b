//! The plain bytes of encrypted sectors, deciphered as they are read.

use super::cipher::{Cipher, SECTOR, in_memory, whole_sectors};
use crate::block::{Below, BlockSource, Step, check_range};
use crate::error::{Error, Result};
use crate::num::{narrow, wide};
use std::ops::Range;
use std::sync::Arc;

/// The largest sector of dm-crypt.
const MAX_SECTOR: usize = 4096;

/// Which bytes of a source are encrypted, and how its sectors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first encrypted byte.
    pub start: u64,
    /// How many there are: a multiple of `sector`.
    pub len: u64,
    /// Bytes that are ciphered together: 512, 1024, 2048 or 4096.
    pub sector: u32,
    /// The number of the first sector for its vector, counted in 512 bytes.
    pub first: u64,
}

/// An encrypted region of a source, in the clear. Keeps nothing of what it has deciphered.
///
/// A hole in the ciphertext is no hole here: what was never written deciphers to noise, as it does on the machine that
/// made the disk. So all of it is data, and nothing is known to be zero.
#[derive(Debug)]
pub struct Decrypted {
    source: Arc<dyn BlockSource>,
    region: Region,
    cipher: Cipher,
}

impl Decrypted {
    /// The region of `source` under `cipher`; its last sector must be whole, or it is left out.
    ///
    /// # Errors
    /// `Unsupported` for another size of sector.
    pub fn new(source: Arc<dyn BlockSource>, region: Region, cipher: Cipher) -> Result<Self> {
        if !matches!(region.sector, 512 | 1024 | 2048 | 4096) {
            return Err(Error::unsupported(format!("an encryption sector of {} bytes", region.sector)));
        }
        let len = whole_sectors(region.len, region.sector);
        Ok(Self { source, region: Region { len, ..region }, cipher })
    }

    /// Reads whole sectors.
    fn sectors(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.source.read_at(buf, self.region.start.saturating_add(offset))?;
        let number = self.region.first.wrapping_add(offset.div_euclid(SECTOR));
        self.cipher.decrypt(buf, in_memory(self.region.sector), number);
        Ok(())
    }
}

impl BlockSource for Decrypted {
    fn len(&self) -> u64 {
        self.region.len
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.region.len)?;
        let sector = u64::from(self.region.sector);
        while !buf.is_empty() {
            let start = whole_sectors(offset, self.region.sector);
            let skip = narrow(offset.saturating_sub(start));
            let whole = narrow(whole_sectors(wide(buf.len()), self.region.sector));
            let done = if skip == 0 && whole > 0 {
                let (now, _) = buf.split_at_mut(whole);
                self.sectors(now, offset)?;
                whole
            } else {
                // The rest of a sector of which only a part is wanted goes through a sector of our own.
                let mut own = [0; MAX_SECTOR];
                let own = own.get_mut(..narrow(sector)).unwrap_or_default();
                self.sectors(own, start)?;
                let part = own.get(skip..).unwrap_or_default();
                let len = part.len().min(buf.len());
                buf.iter_mut().zip(part).for_each(|(byte, plain)| *byte = *plain);
                len
            };
            buf = buf.get_mut(done..).unwrap_or_default();
            offset = offset.saturating_add(wide(done));
        }
        Ok(())
    }

    fn advise(&self, ranges: &[Range<u64>]) {
        let start = self.region.start;
        let moved = ranges.iter().map(|range| {
            let end = range.end.min(self.region.len);
            start.saturating_add(range.start.min(end))..start.saturating_add(end)
        });
        self.source.advise(&moved.collect::<Vec<_>>());
    }

    fn step(&self, offset: u64) -> Result<Step> {
        check_range(offset, 1, self.region.len)?;
        let len = self.region.len.saturating_sub(offset);
        let below = Below::Encrypted(Arc::clone(&self.source), self.region.start.saturating_add(offset));
        Ok(Step { len, below })
    }

    fn label(&self) -> String {
        self.source.label()
    }

    fn preferred_size(&self) -> u32 {
        self.source.preferred_size().max(self.region.sector)
    }

    fn stored_size(&self) -> u64 {
        self.source.stored_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Zeros;
    use crate::crypt::cipher::Spec;
    use crate::error::ErrorKind;

    fn over_a_hole(sector: u32) -> Result<Decrypted> {
        let cipher = Spec::parse("aes-xts-plain64").unwrap().with_key(&[[1; 16], [2; 16]].concat()).unwrap();
        let region = Region { start: 512, len: 9000, sector, first: 0 };
        Decrypted::new(Arc::new(Zeros(20_000)), region, cipher)
    }

    #[test]
    fn a_hole_in_the_ciphertext_is_data() {
        let plain = over_a_hole(512).unwrap();
        let extent = plain.extent(0).unwrap();
        assert_eq!((extent.len, extent.zero, extent.hole), (8704, false, false));
        let mut buf = [0; 512];
        plain.read_at(&mut buf, 0).unwrap();
        assert_ne!(buf, [0; 512]);
    }

    #[test]
    fn any_piece_is_that_piece_of_the_whole() {
        let plain = over_a_hole(4096).unwrap();
        let mut whole = vec![0; 8192];
        plain.read_at(&mut whole, 0).unwrap();
        for (offset, len) in [(0, 1), (1, 5), (4095, 2), (100, 8000), (4096, 4096), (8191, 1), (8192, 0)] {
            let mut part = vec![0; len];
            plain.read_at(&mut part, wide(offset)).unwrap();
            assert_eq!(part, whole[offset..offset.saturating_add(len)], "{len} at {offset}");
        }
        assert_eq!(plain.read_at(&mut [0; 2], 8191).unwrap_err().kind(), ErrorKind::OutOfRange);
    }

    #[test]
    fn another_size_of_sector_is_refused() {
        assert_eq!(over_a_hole(520).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
