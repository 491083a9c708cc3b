//! A member's superblock, in each of its four places.
//!
//! | version | where | bytes |
//! |---|---|---|
//! | 0.90 | the last 64 KiB that begin at a multiple of 64 KiB | 4096, in the byte order of the machine that wrote it |
//! | 1.0 | 8 to 12 KiB before the end, at a multiple of 4 KiB | 256 and 2 for each device |
//! | 1.1 | at the start | the same |
//! | 1.2 | 4 KiB from the start | the same |
//!
//! Layout as in Linux 6.18, `include/uapi/linux/raid/md_p.h`; what is made of it as in `drivers/md/md.c`.

use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::fmt;

const MAGIC: u32 = 0xa92b_4efc;
/// Bytes of a superblock, the list of roles included.
const SIZE: usize = 4096;
/// The part of version 1 in front of the list of roles.
const FIXED: usize = 256;
/// What version 0.90 keeps free at the end of a device (`MD_RESERVED_BYTES`).
const RESERVED: u64 = 64 << 10;

/// Bits of `feature_map`.
const RECOVERY_OFFSET: u32 = 2;
const RESHAPE: u32 = 4;
const BAD_BLOCKS: u32 = 8;
const REPLACEMENT: u32 = 16;
const JOURNAL: u32 = 512;
const RAID0_LAYOUT: u32 = 4096;
/// All that Linux 6.18 knows (`MD_FEATURE_ALL`).
const KNOWN: u32 = 0x1fff;

/// A raid level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Linear,
    Raid0,
    Raid1,
    Raid4,
    Raid5,
    Raid6,
    Raid10,
    Other(i32),
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear => f.write_str("linear"),
            Self::Raid0 => f.write_str("raid0"),
            Self::Raid1 => f.write_str("raid1"),
            Self::Raid4 => f.write_str("raid4"),
            Self::Raid5 => f.write_str("raid5"),
            Self::Raid6 => f.write_str("raid6"),
            Self::Raid10 => f.write_str("raid10"),
            Self::Other(level) => write!(f, "level {level}"),
        }
    }
}

impl Level {
    const fn of(number: u32) -> Self {
        match number.cast_signed() {
            -1 => Self::Linear,
            0 => Self::Raid0,
            1 => Self::Raid1,
            4 => Self::Raid4,
            5 => Self::Raid5,
            6 => Self::Raid6,
            10 => Self::Raid10,
            other => Self::Other(other),
        }
    }
}

/// What a device is to the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It has this place.
    Active(u32),
    /// A spare, a failed one, a journal.
    None,
}

/// What a superblock says, of either version.
#[derive(Clone, Debug)]
pub(super) struct Super {
    pub(super) uuid: [u8; 16],
    /// Version 1: `host:name`, as it is.
    pub(super) name: String,
    /// Version 0.90: the number of the device.
    pub(super) minor: Option<u32>,
    pub(super) level: Level,
    pub(super) layout: Option<u32>,
    /// Bytes; 0 where there is none.
    pub(super) chunk: u64,
    pub(super) raid_disks: u32,
    /// Bytes of each member that are used, but for linear and raid0.
    pub(super) size: u64,
    pub(super) events: u64,
    /// Its data on the member.
    pub(super) data_start: u64,
    pub(super) data_len: u64,
    pub(super) is_rebuilding: bool,
    pub(super) is_replacement: bool,
    pub(super) has_bad_blocks: bool,
    /// Data and parity fit.
    pub(super) is_clean: bool,
    /// What keeps us from reading the array, by name.
    pub(super) refused: Option<&'static str>,
    /// The number of this device among all that the array ever had.
    device: u32,
    /// The role of each of them.
    roles: Vec<Role>,
}

/// Is there one of version 1.1 or 1.2?
pub(super) fn at_start(probe: &Probe<'_>) -> bool {
    [0, 4096].into_iter().any(|at| probe.head.get(at..).is_some_and(|bytes| version_1(bytes, wide(at))))
}

/// Where one of version 1.0 or 0.90 stands.
pub(super) fn at_end(source: &dyn BlockSource) -> Result<Option<u64>> {
    for place in ends(source.len()).into_iter().flatten() {
        let mut bytes = [0; FIXED];
        source.read_at(&mut bytes, place)?;
        if version_1(&bytes, place) || version_0(&bytes) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Where superblocks of versions 1.0 and 0.90 are, on a device of that length.
fn ends(len: u64) -> [Option<u64>; 2] {
    let floor = |value: u64, to: u64| value.checked_rem(to).and_then(|over| value.checked_sub(over));
    let one = len.checked_sub(8 << 10).and_then(|end| floor(end, 4096));
    let zero = floor(len, RESERVED).and_then(|end| end.checked_sub(RESERVED));
    [one, zero].map(|place| place.filter(|place| place.saturating_add(wide(SIZE)) <= len))
}

/// Is this the start of a superblock of version 1 that belongs at `place`?
fn version_1(bytes: &[u8], place: u64) -> bool {
    let is_ours = get_le32(bytes, 0) == Some(MAGIC) && get_le32(bytes, 4) == Some(1);
    is_ours && get_le64(bytes, 144).and_then(|sector| sector.checked_mul(512)) == Some(place)
}

fn version_0(bytes: &[u8]) -> bool {
    let word = |at: usize| get_le32(bytes, at).map(|word| [word, word.swap_bytes()]);
    let (Some([little, big]), Some(major)) = (word(0), word(4)) else { return false };
    (little == MAGIC || big == MAGIC) && major == [0, 0]
}

impl Super {
    /// Reads the superblock of a member, wherever it is.
    ///
    /// # Errors
    /// `Corrupt` when its checksum or its numbers are wrong; what the source reports.
    pub(super) fn load(source: &dyn BlockSource) -> Result<Self> {
        for place in [Some(0), Some(4096)].into_iter().chain(ends(source.len())).flatten() {
            let mut bytes = vec![0; SIZE.min(narrow(source.len().saturating_sub(place)))];
            source.read_at(&mut bytes, place)?;
            if version_1(&bytes, place) {
                return Self::one(&bytes, place, source);
            }
            if place != 0 && place != 4096 && version_0(&bytes) {
                return Self::zero(&bytes, place);
            }
        }
        Err(Error::corrupt(At::new("md", "superblock")).because("there is none"))
    }

    /// Version 1.
    fn one(bytes: &[u8], place: u64, source: &dyn BlockSource) -> Result<Self> {
        let at = At::new("md", "superblock").byte(place);
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        let u32_at = |at: usize| get_le32(bytes, at).unwrap_or(0);
        let u64_at = |at: usize| get_le64(bytes, at).unwrap_or(0);
        let sectors = |at: usize| u64_at(at).saturating_mul(512);
        let devices = narrow(u64::from(u32_at(220)));
        let end = devices.checked_mul(2).and_then(|len| len.checked_add(FIXED));
        let covered = end
            .and_then(|end| bytes.get(..end))
            .ok_or_else(|| bad(format!("{devices} devices in its list")))?;
        let (stored, computed) = (u32_at(216), sum_1(covered));
        if stored != computed {
            return Err(bad(format!("its checksum is {computed:#010x}, it says {stored:#010x}")));
        }
        let features = u32_at(8);
        let roles = covered.get(FIXED..).unwrap_or_default().as_chunks::<2>().0;
        let role = |role: &[u8; 2]| match u16::from_le_bytes(*role) {
            // Spare, failed, journal.
            0xfffd..=0xffff => Role::None,
            number => Role::Active(u32::from(number)),
        };
        let level = Level::of(u32_at(72));
        let has_layout = level != Level::Raid0 || features & RAID0_LAYOUT != 0;
        let name = bytes.get(32..64).unwrap_or_default();
        let name = name.get(..name.iter().position(|byte| *byte == 0).unwrap_or(32)).unwrap_or_default();
        let refused = match features {
            _ if features & !KNOWN != 0 => Some("an md feature that Linux 6.18 has no name for"),
            _ if features & RESHAPE != 0 => Some("an array in the middle of a reshape"),
            _ if features & JOURNAL != 0 => Some("an array with a write journal"),
            _ => None,
        };
        Ok(Self {
            uuid: bytes.get(16..).and_then(|rest| rest.first_chunk().copied()).unwrap_or_default(),
            name: String::from_utf8_lossy(name).into_owned(),
            minor: None,
            level,
            layout: has_layout.then(|| u32_at(76)),
            chunk: u64::from(u32_at(88)).saturating_mul(512),
            raid_disks: u32_at(92),
            size: sectors(80),
            events: u64_at(200),
            data_start: sectors(128),
            data_len: sectors(136),
            is_rebuilding: features & RECOVERY_OFFSET != 0 && u64_at(152) != u64::MAX,
            is_replacement: features & REPLACEMENT != 0,
            has_bad_blocks: features & BAD_BLOCKS != 0 && has_bad_blocks(bytes, place, source),
            is_clean: u64_at(208) == u64::MAX,
            refused,
            device: u32_at(160),
            roles: roles.iter().map(role).collect(),
        })
    }

    /// Version 0.90: words in the byte order of the machine that wrote it.
    fn zero(bytes: &[u8], place: u64) -> Result<Self> {
        let at = At::new("md", "superblock").byte(place);
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        let is_big = get_le32(bytes, 0) != Some(MAGIC);
        let word = |number: usize| {
            let word = get_le32(bytes, number.saturating_mul(4)).unwrap_or(0);
            if is_big { word.swap_bytes() } else { word }
        };
        let all: u64 = (0..SIZE / 4)
            .filter(|number| *number != 38)
            .map(|number| u64::from(word(number)))
            .fold(0, u64::wrapping_add);
        let (stored, computed) = (word(38), fold(all));
        // The kernel of some machines summed differently; it looks at the low half then (`md_csum_fold`).
        if half(stored) != half(computed) {
            return Err(bad(format!("its checksum is {computed:#010x}, it says {stored:#010x}")));
        }
        let pair = |high: usize, low: usize| u64::from(word(high)) << 32 | u64::from(word(low));
        let (high, low) = if is_big { (39, 40) } else { (40, 39) };
        let refused = match word(2) {
            90 => None,
            91 => Some("an array in the middle of a reshape"),
            _ => Some("an md superblock of a version before 0.90"),
        };
        let level = Level::of(word(7));
        // Each device has 32 words: number, major, minor, place, state.
        let role = |device: usize| {
            let first = device.saturating_mul(32).saturating_add(128);
            let (place, state) = (word(first.saturating_add(3)), word(first.saturating_add(4)));
            // Bit 0: failed; bit 2: in sync.
            if state & 0b101 == 0b100 { Role::Active(place) } else { Role::None }
        };
        let mut uuid = [0; 16];
        for (bytes, number) in uuid.as_chunks_mut::<4>().0.iter_mut().zip([5, 13, 14, 15]) {
            *bytes = word(number).to_be_bytes();
        }
        Ok(Self {
            uuid,
            name: String::new(),
            minor: Some(word(11)),
            level,
            layout: (level != Level::Raid0).then(|| word(64)),
            chunk: u64::from(word(65)),
            raid_disks: word(10),
            size: u64::from(word(8)).saturating_mul(1024),
            events: pair(high, low),
            data_start: 0,
            data_len: place,
            is_rebuilding: false,
            is_replacement: false,
            has_bad_blocks: false,
            is_clean: word(33) & 1 != 0,
            refused,
            device: word(992),
            roles: (0..27).map(role).collect(),
        })
    }

    /// The role that this superblock, the newest, gives a device with that one.
    pub(super) fn role_of(&self, device: &Self) -> Role {
        self.roles.get(narrow(u64::from(device.device))).copied().unwrap_or(Role::None)
    }
}

/// The checksum of version 1: 32-bit words, and a half word at the end, its own left out.
fn sum_1(covered: &[u8]) -> u32 {
    let (words, rest) = covered.as_chunks::<4>();
    let word = |(number, word): (usize, &[u8; 4])| {
        if number == 54 { 0 } else { u64::from(u32::from_le_bytes(*word)) }
    };
    let sum = words.iter().enumerate().map(word).fold(0, u64::wrapping_add);
    fold(sum.wrapping_add(u64::from(get_le16(rest, 0).unwrap_or(0))))
}

/// The two halves added.
fn fold(sum: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = sum.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).wrapping_add(u32::from_le_bytes([e, f, g, h]))
}

/// The sum's halves added until 16 bits are left.
fn half(sum: u32) -> u32 {
    let once = (sum & 0xffff).wrapping_add(sum >> 16);
    (once & 0xffff).wrapping_add(once >> 16)
}

/// Does the list of bad blocks that belongs to a superblock hold any? One that cannot be read may.
fn has_bad_blocks(bytes: &[u8], place: u64, source: &dyn BlockSource) -> bool {
    let sectors = u64::from(get_le16(bytes, 186).unwrap_or(0));
    let offset = i64::from(get_le32(bytes, 188).unwrap_or(0).cast_signed());
    if sectors == 0 || offset == 0 {
        return false;
    }
    let start = place.checked_add_signed(offset.saturating_mul(512));
    let mut first = [0; 8];
    match start.map(|start| source.read_at(&mut first, start)) {
        // The list ends with all ones.
        Some(Ok(())) => u64::from_le_bytes(first) != u64::MAX,
        _ => true,
    }
}
