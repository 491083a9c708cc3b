//! The boot sector of a locked volume: which BitLocker made it, and where its metadata lie.
//!
//! ```text
//!          0         3            160                176                 424 440
//! Vista    eb 52 90  -FVE-FS-     (an NTFS boot sector; at 56 the cluster of the first metadata)
//! 7, 10    eb 58 90  -FVE-FS-     identifier         3 offsets
//! To Go    eb 58 90  MSWIN4.1     (a FAT32 boot sector of a volume with a program for older Windows)  identifier, 3 offsets
//! ```
//! "BitLocker Drive Encryption (BDE) format specification" of libbde, "Volume header".

use crate::error::{At, Error, Result};
use crate::ondisk::{get_le16, get_le64};

/// Signature of a volume, and of its metadata.
pub(super) const SIGNATURE: &[u8; 8] = b"-FVE-FS-";
/// What stands in its place on To Go.
const TO_GO: &[u8; 8] = b"MSWIN4.1";
/// Identifier of a volume encrypted as a whole, 4967d63b-2e29-4ad8-8399-f6a339e3d001.
const WHOLE: [u8; 16] =
    [0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01];
/// Identifier of a volume that is encrypted as it is written, 92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8.
const ON_WRITE: [u8; 16] =
    [0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8];

/// Which BitLocker made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// Windows Vista and Server 2008: the front of the volume stays where it is.
    Vista {
        /// Bytes in a cluster, of which metadata take whole ones.
        cluster: u64,
        /// Bytes of the file system, its last sector not among them.
        size: u64,
    },
    /// Windows 7 and later.
    Seven,
    /// Windows 7 and later, on a removable disk with FAT.
    ToGo,
}

/// What a boot sector says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) maker: Maker,
    /// Bytes in a sector, which are ciphered together.
    pub(super) sector: u32,
    /// Conversion under way, by which a sector is encrypted when it is written.
    pub(super) is_on_write: bool,
    /// First bytes of the metadata's copies; Vista names one here.
    pub(super) copies: Vec<u64>,
}

/// Is this the first sector of a locked volume?
pub(super) fn is_locked(head: &[u8]) -> bool {
    let at = |at: usize, what: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(what));
    at(3, SIGNATURE) || (at(3, TO_GO) && (at(424, &WHOLE) || at(424, &ON_WRITE)))
}

impl Boot {
    /// Reads the first sector.
    ///
    /// # Errors
    /// `NotAnImage` for what is no locked volume; `Unsupported` for one of a kind that nobody has described.
    pub(super) fn parse(head: &[u8]) -> Result<Self> {
        let at = At::new("bitlocker", "boot sector").byte(0);
        if !is_locked(head) {
            return Err(Error::new(crate::error::ErrorKind::NotAnImage, "not a BitLocker volume").at(at));
        }
        let le16 = |at: usize| get_le16(head, at).unwrap_or(0);
        let le64 = |at: usize| get_le64(head, at).unwrap_or(0);
        // Of exFAT it is 0 (Windows 10 version 1903).
        let sector = if le16(11) == 0 { 512 } else { u32::from(le16(11)) };
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return Err(Error::corrupt(at).because(format!("{sector} bytes in a sector")));
        }
        let is_to_go = !head.get(3..).is_some_and(|rest| rest.starts_with(SIGNATURE));
        let identifier = if is_to_go { 424 } else { 160 };
        let id: [u8; 16] =
            head.get(identifier..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default();
        if head.starts_with(&[0xeb, 0x52, 0x90]) {
            let cluster = u64::from(head.get(13).copied().unwrap_or(0)).saturating_mul(sector.into());
            let first = le64(56).checked_mul(cluster).filter(|first| *first != 0);
            let first = first.ok_or_else(|| Error::corrupt(at).because("no place for the metadata"))?;
            let size = le64(40).saturating_mul(sector.into());
            let maker = Maker::Vista { cluster, size };
            return Ok(Self { maker, sector, is_on_write: false, copies: vec![first] });
        }
        if !head.starts_with(&[0xeb, 0x58, 0x90]) || !matches!(id, WHOLE | ON_WRITE) {
            return Err(Error::unsupported(format!(
                "a BitLocker volume with the identifier {}",
                crate::ondisk::guid(&id)
            ))
            .at(at));
        }
        let offsets = [16, 24, 32].map(|skip| le64(identifier.saturating_add(skip)));
        Ok(Self {
            maker: if is_to_go { Maker::ToGo } else { Maker::Seven },
            sector,
            is_on_write: id == ON_WRITE,
            copies: offsets.to_vec(),
        })
    }
}
