//! Ciphered clusters: how qcow and qcow2 encrypt what they store. Tables, zeroed and packed clusters are never encrypted.
//!
//! | method | sectors are numbered by | whether a key fits |
//! |---|---|---|
//! | LUKS, of qcow2 | where they lie in the file | its header tells |
//! | AES, of both, the old one | where they are on the disk | nothing tells |
//!
//! Specification: qemu, `docs/interop/qcow2.txt`, sections "Full disk encryption header pointer" and "Data encryption". It
//! says 256 bits of the old AES key; qemu's code uses 128 (`crypto/block-qcow.c`).

use super::OpenCx;
use crate::block::{BlockSource, Layout, Place, Run};
use crate::crypt::cipher::{SECTOR, Spec};
use crate::crypt::luks::Luks;
use crate::crypt::{Decrypted, Region, locked};
use crate::engine::Mapper;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::num::round_up;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The file `data` in the clear, under the key of the LUKS header that lies in `source` at `place` (byte and length).
/// Facts and warnings of the header come with it.
///
/// # Errors
/// As [`Luks::load`] and [`Luks::unlock`].
pub(super) fn luks(
    source: &dyn BlockSource,
    place: (u64, u64),
    data: Arc<dyn BlockSource>,
    cx: &OpenCx<'_>,
) -> Result<(Arc<dyn BlockSource>, Luks)> {
    let (start, len) = place;
    let luks = Luks::load(source, start, len, cx.budget)?;
    if luks.version() != 1 {
        return Err(Error::unsupported(format!("LUKS version {} in an image", luks.version())));
    }
    let cipher = luks.unlock(source, start, cx.keys.of("disk"))?;
    // The header's own payload offset means nothing here: a cluster's sectors count from the start of the file.
    let region = Region { start: 0, len: data.len(), sector: 512, first: 0 };
    Ok((Arc::new(Decrypted::new(data, region, cipher)?), luks))
}

/// The key of the old AES encryption: a passphrase, cut or padded with zeros to 16 bytes.
#[derive(Debug)]
pub(super) struct OldKey(Zeroizing<[u8; 16]>);

impl OldKey {
    /// What to call the method.
    pub(super) const METHOD: &str = "the old AES encryption of qcow, aes-cbc-plain64";
    /// What to know of it.
    pub(super) const WARNING: &str = "no key is refused by the old AES encryption of qcow: if what is read is noise, the key is wrong (a newline at the end of its file?)";

    /// The first key that was given for the disk.
    ///
    /// # Errors
    /// `Encrypted` when there is none.
    pub(super) fn given(keys: &Keys) -> Result<Self> {
        let given = keys.of("disk").next().ok_or_else(|| locked(Self::METHOD))?;
        let mut key = Zeroizing::new([0; 16]);
        // qemu takes a passphrase as a string of C, which ends at a NUL.
        let text = given.split(|byte| *byte == 0).next().unwrap_or_default();
        key.iter_mut().zip(text).for_each(|(byte, given)| *byte = *given);
        Ok(Self(key))
    }

    /// A disk whose stored clusters are encrypted, in the clear.
    ///
    /// # Errors
    /// None that a sound key could cause.
    pub(super) fn open(
        &self,
        layout: impl Layout + 'static,
        mapper: &Mapper,
    ) -> Result<Arc<dyn BlockSource>> {
        let layout = Arc::new(layout);
        let stored = mapper.map(Ciphertext(Arc::clone(&layout)));
        let region = Region { start: 0, len: stored.len(), sector: 512, first: 0 };
        let plain = Decrypted::new(stored, region, Spec::QCOW.with_key(&*self.0)?)?;
        let mut files = layout.files().to_vec();
        files.push(Arc::new(plain));
        Ok(mapper.map(Ciphered { layout, files }))
    }
}

/// The stored clusters of a disk, as they are, at their places on the disk; holes for all others. Whole sectors.
#[derive(Debug)]
struct Ciphertext<L>(Arc<L>);

impl<L: Layout> Layout for Ciphertext<L> {
    fn size(&self) -> u64 {
        round_up(self.0.size(), SECTOR).unwrap_or(u64::MAX)
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        self.0.files()
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let run = self.0.run_at(offset)?;
        let place = if let Place::Stored { .. } = run.place { run.place } else { Place::Hole };
        Ok(Run { place, ..run })
    }
}

/// A disk whose stored clusters come out of the last of its files: all of them in the clear, at their places on the disk.
#[derive(Debug)]
struct Ciphered<L> {
    layout: Arc<L>,
    files: Vec<Arc<dyn BlockSource>>,
}

impl<L: Layout> Layout for Ciphered<L> {
    fn size(&self) -> u64 {
        self.layout.size()
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let run = self.layout.run_at(offset)?;
        Ok(match run.place {
            Place::Stored { .. } => {
                Run { place: Place::Stored { file: self.files.len().saturating_sub(1), offset }, ..run }
            }
            _ => run,
        })
    }

    fn unpack(&self, stored: &[u8], unit: u64) -> Result<Vec<u8>> {
        self.layout.unpack(stored, unit)
    }

    fn unpacked_len(&self, unit: u64) -> u64 {
        self.layout.unpacked_len(unit)
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        self.layout.parent()
    }

    fn unit_size(&self) -> u32 {
        self.layout.unit_size()
    }
}
