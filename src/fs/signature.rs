//! Signatures of what is recognised and not read: file systems of other times and systems, members of arrays and of volumes
//! of other makers. Each has `blkid`'s word for a name, marks that must all be there, and where it keeps its UUID and label.
//!
//! Places as in util-linux 2.39, `libblkid/src/superblocks`, a file of that name for most; where two bytes or four are all
//! there is, a checksum or numbers beside them must fit too.

use crate::block::{BlockSource, Probe};
use crate::checksum::crc32_from;
use crate::error::Result;
use crate::num::narrow;
use crate::ondisk::{get_be16, get_be32, get_be64, get_le16, get_le32, uuid};
use crate::text::Text;

/// Something that is recognised.
struct Signature {
    /// `blkid`'s word.
    name: &'static str,
    /// Bytes that stand there, all of them.
    marks: &'static [Mark],
    /// What else must fit.
    fits: fn(&Probe<'_>) -> bool,
    uuid: Id,
    /// First byte and length.
    label: Option<(usize, usize)>,
}

/// Bytes at a place.
enum Mark {
    /// From the start on.
    Start(usize, &'static [u8]),
    /// So many bytes before the end.
    End(usize, &'static [u8]),
}
use Mark::{End, Start};

/// How a UUID is kept.
enum Id {
    None,
    /// 16 bytes, in order.
    Bytes(usize),
    /// As text of that length.
    Text(usize, usize),
    /// 32 bits, big-endian, shown as a number.
    Number(usize),
    /// 64 bits, of the last page; little-endian, shown in hexadecimal.
    Tail(usize),
    /// Two little-endian words, shown in hexadecimal.
    Words(usize),
    /// A FAT's number.
    Fat(usize),
}

const ANY: fn(&Probe<'_>) -> bool = |_| true;

/// A signature that is nothing but bytes at one place of the first ones.
const fn plain(name: &'static str, marks: &'static [Mark]) -> Signature {
    Signature { name, marks, fits: ANY, uuid: Id::None, label: None }
}

/// The same with an identity.
const fn known(
    name: &'static str,
    marks: &'static [Mark],
    uuid: Id,
    label: Option<(usize, usize)>,
) -> Signature {
    Signature { name, marks, fits: ANY, uuid, label }
}

/// The same with a check.
const fn checked(name: &'static str, marks: &'static [Mark], fits: fn(&Probe<'_>) -> bool) -> Signature {
    Signature { name, marks, fits, uuid: Id::None, label: None }
}

/// 64 KiB.
const K64: usize = 0x10000;
const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";

/// Identifiers of BitLocker, on a removable disk that begins as one with FAT.
const BITLOCKER: &[u8] = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
const BITLOCKER_ON_WRITE: &[u8] = b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8";

/// Members of arrays first: what they hold may look like something else.
const SIGNATURES: &[Signature] = &[
    plain("isw_raid_member", &[End(1024, b"Intel Raid ISM Cfg Sig. ")]),
    plain("ddf_raid_member", &[End(512, b"\xde\x11\xde\x11"), End(480, b"01.")]),
    plain("nvidia_raid_member", &[End(1024, b"NVIDIA  ")]),
    plain("lsi_mega_raid_member", &[End(512, b"$XIDE$")]),
    plain("adaptec_raid_member", &[End(512, b"\x37\xfc\x4d\x1e"), End(256, b"DPTM")]),
    checked("jmicron_raid_member", &[End(512, b"JM")], jmicron),
    checked("silicon_medley_raid_member", &[End(416, b"\0\0\0\x2f")], silicon),
    checked("via_raid_member", &[End(512, b"\x55\xaa")], via),
    plain("hpt37x_raid_member", &[Start(4640, b"\xf0\x16\x78\x5a")]),
    plain("hpt37x_raid_member", &[Start(4640, b"\xfd\x16\x78\x5a")]),
    known("bcache", &[Start(0x1018, BCACHE)], Id::Bytes(0x1028), None),
    known("bcachefs", &[Start(0x1018, BCACHE), Start(0x1000, BCACHEFS)], Id::Bytes(0x1028), None),
    known("bcachefs", &[Start(0x1018, BCACHEFS)], Id::Bytes(0x1038), None),
    known("drbd", &[End(4096 - 60, b"\x83\x74\x02\x6b")], Id::Tail(40), None),
    known("drbd", &[End(4096 - 60, b"\x83\x74\x02\x6c")], Id::Tail(40), None),
    known("drbd", &[End(4096 - 60, b"\x83\x74\x02\x6d")], Id::Tail(48), None),
    known("drbdmanage_control_volume", &[Start(0, b"$DRBDmgr=q")], Id::Text(11, 32), None),
    known("vdo", &[Start(0, b"dmvdo001")], Id::Bytes(40), None),
    plain("ceph_bluestore", &[Start(0, b"bluestore block device")]),
    Signature { fits: zfs, ..plain("zfs_member", &[Start(0x4000, b"\x01\x01\0\0")]) },
    known("apfs", &[Start(32, b"NXSB")], Id::Bytes(72), None),
    Signature {
        label: Some((512, 32)),
        ..plain("befs", &[Start(544, b"1SFB"), Start(580, b"\x31\x10\x12\xdd")])
    },
    plain("BitLocker", &[Start(3, b"MSWIN4.1"), Start(424, BITLOCKER)]),
    plain("BitLocker", &[Start(3, b"MSWIN4.1"), Start(424, BITLOCKER_ON_WRITE)]),
    plain("bfs", &[Start(0, b"\xce\xfa\xad\x1b")]),
    Signature {
        label: Some((48, 16)),
        ..plain("cramfs", &[Start(0, b"\x45\x3d\xcd\x28"), Start(16, b"Compressed ROMFS")])
    },
    Signature {
        label: Some((48, 16)),
        ..plain("cramfs", &[Start(0, b"\x28\xcd\x3d\x45"), Start(16, b"Compressed ROMFS")])
    },
    known(
        "gfs2",
        &[Start(K64, b"\x01\x16\x19\x70\0\0\0\x01"), Start(K64 + 24, b"\0\0\x07")],
        Id::Bytes(K64 + 256),
        Some((K64 + 160, 64)),
    ),
    checked("hfsplus", &[Start(1024, b"H+\0\x04")], ANY),
    checked("hfsplus", &[Start(1024, b"HX\0\x05")], ANY),
    checked("hfsplus", &[Start(1024, b"BD"), Start(1024 + 124, b"H+")], hfs),
    checked("hfs", &[Start(1024, b"BD")], hfs),
    known(
        "hpfs",
        &[Start(0x2000, b"\x49\xe8\x95\xf9"), Start(0x2200, b"\x49\x18\x91\xf9")],
        Id::Fat(39),
        Some((43, 11)),
    ),
    known("jfs", &[Start(0x8000, b"JFS1")], Id::Bytes(0x8000 + 136), Some((0x8000 + 152, 16))),
    Signature {
        uuid: Id::Bytes(1024 + 104),
        label: Some((1024 + 120, 16)),
        ..checked("jbd", &[Start(1080, b"\x53\xef")], jbd)
    },
    checked("minix", &[], minix),
    known("mpool", &[Start(0, b"mpoolDev")], Id::Bytes(40), Some((8, 32))),
    Signature {
        uuid: Id::Bytes(1024 + 152),
        label: Some((1024 + 168, 80)),
        ..checked("nilfs2", &[Start(1030, b"\x34\x34")], nilfs)
    },
    known("nss", &[Start(0x1000, b"SPB5")], Id::Bytes(0x115c), None),
    known("ocfs2", &[Start(1024, b"OCFSV2")], Id::Bytes(1024 + 336), Some((1024 + 272, 64))),
    known("ocfs2", &[Start(2048, b"OCFSV2")], Id::Bytes(2048 + 336), Some((2048 + 272, 64))),
    known("ocfs2", &[Start(4096, b"OCFSV2")], Id::Bytes(4096 + 336), Some((4096 + 272, 64))),
    known("ocfs2", &[Start(8192, b"OCFSV2")], Id::Bytes(8192 + 336), Some((8192 + 272, 64))),
    known("reiserfs", &[Start(K64 + 52, b"ReIsErFs")], Id::None, None),
    known("reiserfs", &[Start(K64 + 52, b"ReIsEr2Fs")], Id::Bytes(K64 + 84), Some((K64 + 100, 16))),
    known("reiserfs", &[Start(K64 + 52, b"ReIsEr3Fs")], Id::Bytes(K64 + 84), Some((K64 + 100, 16))),
    known("reiserfs", &[Start(0x2034, b"ReIsErFs")], Id::None, None),
    known("reiser4", &[Start(K64, b"ReIsEr4")], Id::Bytes(K64 + 20), Some((K64 + 36, 16))),
    known("romfs", &[Start(0, b"-rom1fs-")], Id::None, Some((16, 32))),
    known("swsuspend", &[Start(0, b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c")], Id::Bytes(1036), None),
    known("swsuspend", &[Start(4086, b"S1SUSPEND")], Id::Bytes(1036), Some((1052, 16))),
    known("swsuspend", &[Start(4086, b"S2SUSPEND")], Id::Bytes(1036), Some((1052, 16))),
    known("swsuspend", &[Start(4086, b"ULSUSPEND")], Id::Bytes(1036), Some((1052, 16))),
    known("swsuspend", &[Start(4086, b"LINHIB0001")], Id::Bytes(1036), Some((1052, 16))),
    // Swap of machines with other pages than 4 KiB.
    known("swap", &[Start(0x2000 - 10, b"SWAPSPACE2")], Id::Bytes(1036), Some((1052, 16))),
    known("swap", &[Start(0x4000 - 10, b"SWAPSPACE2")], Id::Bytes(1036), Some((1052, 16))),
    known("swap", &[Start(0x8000 - 10, b"SWAPSPACE2")], Id::Bytes(1036), Some((1052, 16))),
    known("swap", &[Start(K64 - 10, b"SWAPSPACE2")], Id::Bytes(1036), Some((1052, 16))),
    plain("squashfs3", &[Start(0, b"hsqs"), Start(28, b"\x03\0")]),
    plain("squashfs3", &[Start(0, b"sqsh"), Start(28, b"\0\x03")]),
    known("ubi", &[Start(0, b"UBI#\x01")], Id::Number(24), None),
    known("ubifs", &[Start(0, b"\x31\x18\x10\x06"), Start(20, b"\x06")], Id::Bytes(108), None),
    known("ufs", &[Start(8192 + 1372, b"\x54\x19\x01\0")], Id::Words(8192 + 144), None),
    known("ufs", &[Start(K64 + 1372, b"\x19\x01\x54\x19")], Id::Words(K64 + 144), None),
    known("ufs", &[Start(K64 + 1372, b"\x19\x54\x01\x19")], Id::Words(K64 + 144), None),
    checked("udf", &[], udf),
    plain("vxfs", &[Start(1024, b"\xf5\xfc\x01\xa5")]),
    plain("vxfs", &[Start(8192, b"\xa5\x01\xfc\xf5")]),
    checked("xfs_external_log", &[Start(0, b"\xfe\xed\xba\xbe\0\0\0")], xfs_log),
    plain("zonefs", &[Start(0, b"SFOZ")]),
];

/// Places that no probe reaches, looked at only when nothing else is known of a volume.
enum Far {
    Start(u64, &'static [u8]),
    End(u64, &'static [u8]),
    /// So many bytes before the end, or a few more: at a multiple of the second number.
    Aligned(u64, u64, &'static [u8]),
}

const FAR: &[(Far, &str)] = &[
    (Far::End(11 * 512, b"\xf3\x16\x78\x5a"), "hpt45x_raid_member"),
    (Far::End(11 * 512, b"\xfd\x16\x78\x5a"), "hpt45x_raid_member"),
    (Far::End(63 * 512, b"Promise Technology, Inc."), "promise_fasttrack_raid_member"),
    // Linux include/uapi/linux/raid/md_p.h, versions 1.0 and 0.90.
    (Far::Aligned(8 << 10, 4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0"), "linux_raid_member"),
    (Far::Aligned(64 << 10, 64 << 10, b"\xfc\x4e\x2b\xa9\0\0\0\0"), "linux_raid_member"),
    (Far::Aligned(64 << 10, 64 << 10, b"\xa9\x2b\x4e\xfc\0\0\0\0"), "linux_raid_member"),
    (Far::Start(1 << 20, b"\x0d\xd0\x01\xc0"), "VMFS_volume_member"),
    (Far::Start(2 << 20, b"\x5e\xf1\xab\x2f"), "VMFS"),
    (Far::Start((256 << 10) + 1372, b"\x19\x01\x54\x19"), "ufs"),
];

impl Signature {
    fn is_there(&self, probe: &Probe<'_>) -> bool {
        let mark = |mark: &Mark| match mark {
            Start(at, bytes) => probe.has(*at, bytes),
            End(back, bytes) => tail(probe, *back).is_some_and(|rest| rest.starts_with(bytes)),
        };
        self.marks.iter().all(mark) && (self.fits)(probe)
    }
}

/// What is recognised although a reader's signature, or a better known one, is there too: an ext superblock of a journal, a
/// squashfs of a version that is not read, a swap area that holds a suspended system, a locked removable disk that shows a
/// small FAT with a program for unlocking it.
pub(super) fn find_first(probe: &Probe<'_>) -> Option<&'static str> {
    find(probe).filter(|name| matches!(*name, "jbd" | "squashfs3" | "swsuspend" | "BitLocker"))
}

/// What the first and last bytes are the signature of.
pub(super) fn find(probe: &Probe<'_>) -> Option<&'static str> {
    SIGNATURES.iter().find(|signature| signature.is_there(probe)).map(|signature| signature.name)
}

/// What else has its signature where a probe does not reach.
///
/// # Errors
/// What the source reports.
pub(super) fn find_far(volume: &dyn BlockSource) -> Result<Option<&'static str>> {
    for (place, name) in FAR {
        let aligned = |back: u64, to: u64| {
            let place = volume.len().checked_sub(back)?;
            place.checked_sub(place.checked_rem(to)?)
        };
        let (at, bytes) = match place {
            Far::Start(at, bytes) => (Some(*at), *bytes),
            Far::End(back, bytes) => (volume.len().checked_sub(*back), *bytes),
            Far::Aligned(back, to, bytes) => (aligned(*back, *to), *bytes),
        };
        let mut there = [0; 32];
        let Some(there) = there.get_mut(..bytes.len()) else { continue };
        let end = at.and_then(|at| at.checked_add(crate::num::wide(bytes.len())));
        if let Some(at) = at.filter(|_| end.is_some_and(|end| end <= volume.len())) {
            volume.read_at(there, at)?;
            if there == bytes {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}

/// UUID and label of what is there, if it is called `kind`.
pub(super) fn identity(kind: &str, probe: &Probe<'_>) -> (Option<String>, Text) {
    let named = SIGNATURES.iter().filter(|signature| signature.name == kind);
    let Some(found) = named.into_iter().find(|signature| signature.is_there(probe)) else {
        return (None, Text::default());
    };
    match kind {
        "hfs" => return (None, pascal(probe, 1024 + 36)),
        "zfs_member" => return pool(probe),
        _ => {}
    }
    let hexadecimal = |bytes: [u8; 8]| format!("{:016x}", u64::from_le_bytes(bytes));
    let uuid = match found.uuid {
        Id::None => None,
        Id::Bytes(at) => probe.bytes::<16>(at).filter(|id| *id != [0; 16]).map(|id| uuid(&id)),
        Id::Text(at, len) => {
            probe.head.get(at..).and_then(|rest| rest.get(..len)).map(|text| Text::from(text).to_string())
        }
        Id::Number(at) => get_be32(probe.head, at).map(|number| number.to_string()),
        Id::Tail(at) => tail(probe, 4096_usize.saturating_sub(at))
            .and_then(|rest| rest.first_chunk().copied())
            .map(hexadecimal),
        Id::Words(at) => get_le32(probe.head, at)
            .zip(get_le32(probe.head, at.saturating_add(4)))
            .map(|(high, low)| format!("{high:08x}{low:08x}")),
        Id::Fat(at) => get_le32(probe.head, at).map(super::identity::fat_number),
    };
    let label = found.label.map_or_else(Text::default, |(at, len)| super::identity::label(probe, at, len));
    (uuid, label)
}

/// The bytes from so many before the end on.
fn tail<'a>(probe: &Probe<'a>, back: usize) -> Option<&'a [u8]> {
    probe.tail.get(probe.tail.len().checked_sub(back)?..)
}

/// The last sector's words up to byte `len` of it, added.
fn sum(probe: &Probe<'_>, len: usize) -> Option<u16> {
    let sector = tail(probe, 512)?.get(..len)?;
    Some(
        sector
            .as_chunks::<2>()
            .0
            .iter()
            .fold(0, |sum: u16, word| sum.wrapping_add(u16::from_le_bytes(*word))),
    )
}

fn jmicron(probe: &Probe<'_>) -> bool {
    matches!(sum(probe, 128), Some(0 | 1))
}

fn silicon(probe: &Probe<'_>) -> bool {
    let stored = tail(probe, 512).and_then(|sector| get_le16(sector, 0x13e));
    sum(probe, 0x13e).zip(stored).is_some_and(|(sum, stored)| sum.wrapping_neg() == stored)
}

fn via(probe: &Probe<'_>) -> bool {
    let Some(sector) = tail(probe, 512).and_then(|rest| rest.first_chunk::<51>()) else { return false };
    let [.., stored] = *sector;
    let sum = sector.iter().take(50).fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    sector.get(2).is_some_and(|version| *version <= 1) && sum == stored
}

/// A block size that HFS can have: a multiple of 512.
fn hfs(probe: &Probe<'_>) -> bool {
    get_be32(probe.head, 1024 + 20).is_some_and(|size| size != 0 && size.is_multiple_of(512))
}

/// An ext superblock whose incompatible feature 8 says that it is a journal alone.
fn jbd(probe: &Probe<'_>) -> bool {
    get_le32(probe.head, 1024 + 96).is_some_and(|features| features & 8 != 0)
}

fn minix(probe: &Probe<'_>) -> bool {
    let word = |at: usize, big: bool| {
        let at = at.saturating_add(1024);
        let word = if big { get_be16(probe.head, at) } else { get_le16(probe.head, at) };
        u32::from(word.unwrap_or(0))
    };
    [false, true].into_iter().any(|big| {
        let word = |at| word(at, big);
        let (inodes, inode_maps, zone_maps) = (word(0), word(4), word(6));
        let zones = if matches!(word(16), 0x2468 | 0x2478) { u32::MAX } else { word(2) };
        matches!(word(16), 0x137f | 0x138f | 0x2468 | 0x2478)
            && inodes != 0
            && word(10) == 0
            && word(18) <= 3
            && inode_maps.saturating_mul(8192) > inodes
            && (zones == u32::MAX || zone_maps.saturating_mul(8192) >= zones.saturating_sub(word(8)))
            && zone_maps != 0
    })
}

/// The checksum of nilfs2's superblock, with its own field as zero.
fn nilfs(probe: &Probe<'_>) -> bool {
    let Some(block) = probe.head.get(1024..) else { return false };
    let len = narrow(u64::from(get_le16(block, 8).unwrap_or(0)));
    let parts = block.get(..len).and_then(|all| Some((all.get(..16)?, all.get(20..)?)));
    let (Some(seed), Some(stored), Some((front, back))) = (get_le32(block, 12), get_le32(block, 16), parts)
    else {
        return false;
    };
    crc32_from(crc32_from(crc32_from(seed, front), &[0; 4]), back) == stored
}

/// ECMA-167, part 2, 8.3: descriptors from 32 KiB on, one a sector, of which one is NSR02 or NSR03.
fn udf(probe: &Probe<'_>) -> bool {
    let nsr = |at: usize| probe.has(at, b"\0NSR02\x01") || probe.has(at, b"\0NSR03\x01");
    (0x8000..K64).step_by(2048).any(nsr)
}

/// A log record's header: version 1 or 2, format 1 to 3.
fn xfs_log(probe: &Probe<'_>) -> bool {
    let word = |at: usize| get_be32(probe.head, at);
    matches!(word(8), Some(1 | 2)) && matches!(word(300), Some(1..=3))
}

/// A string with its length in front.
fn pascal(probe: &Probe<'_>, at: usize) -> Text {
    let len = probe.head.get(at).copied().unwrap_or(0);
    super::identity::label(probe, at.saturating_add(1), usize::from(len.min(27)))
}

fn zfs(probe: &Probe<'_>) -> bool {
    pool(probe).0.is_some()
}

/// Identity of the pool, from the name-value list of a ZFS label: pairs of an encoded size, a decoded size, a name with its
/// length, a type, a count and the value; all big-endian, padded to four bytes (XDR).
fn pool(probe: &Probe<'_>) -> (Option<String>, Text) {
    const PAIRS: usize = 64;
    let (mut guid, mut name, mut at) = (None, Text::default(), 0x400c_usize);
    for _ in 0..PAIRS {
        let size = narrow(u64::from(get_be32(probe.head, at).unwrap_or(0)));
        let Some(pair) = at.checked_add(size).and_then(|end| probe.head.get(at..end)).filter(|_| size > 0)
        else {
            break;
        };
        let len = narrow(u64::from(get_be32(pair, 8).unwrap_or(0)));
        let padded =
            len.checked_next_multiple_of(4).and_then(|len| len.checked_add(12)).unwrap_or(usize::MAX);
        let key = pair.get(12..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        let value = pair.get(padded..).unwrap_or_default();
        match key {
            b"pool_guid" => guid = get_be64(value, 8).map(|guid| guid.to_string()),
            b"name" => {
                let len = narrow(u64::from(get_be32(value, 8).unwrap_or(0)));
                name = Text::from(value.get(12..).and_then(|rest| rest.get(..len)).unwrap_or_default());
            }
            _ => {}
        }
        at = at.saturating_add(size);
    }
    (guid, name)
}
