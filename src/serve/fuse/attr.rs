//! Attributes: from what a file system says of a file to what the kernel is told.

use crate::fs::{FileType, Stat, Time};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whose files they seem to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The guest's own numbers.
    #[default]
    Guest,
    /// One user and group for everything.
    All {
        /// User number.
        uid: u32,
        /// Group number.
        gid: u32,
    },
}

impl Owner {
    const fn of(self, stat: &Stat) -> (u32, u32) {
        match self {
            Self::Guest => (stat.uid, stat.gid),
            Self::All { uid, gid } => (uid, gid),
        }
    }
}

pub(super) const fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::File => fuser::FileType::RegularFile,
        FileType::Dir => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Char => fuser::FileType::CharDevice,
        FileType::Block => fuser::FileType::BlockDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
    }
}

fn time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let second = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

/// A device number as the kernel's `new_decode_dev` reads it: 12 bits of major, 20 of minor.
const fn device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// Bytes of one page of a directory's listing, for a directory of this size. Readers take st_blksize for the room that
/// readdir(3) needs (glibc's sysdeps/unix/sysv/linux/opendir.c: 32 KiB at least, 1 MiB at most), and the kernel asks us for as
/// much at a time; pages behind the first have no attributes (see [`super::eager`]). With attributes a name takes 152 bytes and
/// itself, which is less than fourteen times what it takes in a directory of ext4.
fn page(size: u64) -> u32 {
    let room = size.saturating_mul(16).clamp(4 << 10, 1 << 20).next_power_of_two();
    u32::try_from(room).unwrap_or(4096)
}

/// The attributes of a guest's file under the number `id`.
pub(super) fn of(id: u64, stat: &Stat, owner: Owner) -> fuser::FileAttr {
    let (uid, gid) = owner.of(stat);
    let mtime = time(stat.mtime);
    fuser::FileAttr {
        ino: fuser::INodeNo(id),
        size: stat.size,
        blocks: stat.blocks,
        atime: time(stat.atime),
        mtime,
        ctime: time(stat.ctime),
        crtime: stat.btime.map_or(mtime, time),
        kind: kind(stat.kind),
        perm: stat.mode & 0o7777,
        nlink: stat.nlink,
        uid,
        gid,
        rdev: device(stat.rdev),
        // The kernel takes the logarithm of it.
        blksize: match stat.kind {
            FileType::Dir => page(stat.size),
            _ if stat.blksize.is_power_of_two() => stat.blksize.max(512),
            _ => 4096,
        },
        flags: 0,
    }
}

/// The attributes of one of the view's own nodes.
pub(super) fn own(
    id: u64,
    is_dir: bool,
    size: u64,
    blocks: u64,
    at: SystemTime,
    (uid, gid): (u32, u32),
) -> fuser::FileAttr {
    fuser::FileAttr {
        ino: fuser::INodeNo(id),
        size,
        blocks,
        atime: at,
        mtime: at,
        ctime: at,
        crtime: at,
        kind: if is_dir { fuser::FileType::Directory } else { fuser::FileType::RegularFile },
        perm: if is_dir { 0o555 } else { 0o444 },
        nlink: if is_dir { 2 } else { 1 },
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listings_page_is_a_power_of_two_that_all_names_fit() {
        assert_eq!([0, 100, 256, 257].map(page), [4096, 4096, 4096, 8192]);
        assert_eq!([4096, 12 << 10, 1 << 20, u64::MAX].map(page), [64 << 10, 256 << 10, 1 << 20, 1 << 20]);
    }

    #[test]
    fn a_time_before_1970_counts_its_nanoseconds_forward() {
        let half_before = time(Time { secs: -1, nanos: 500_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(half_before).unwrap(), Duration::from_millis(500));
    }

    #[test]
    fn device_numbers_are_those_of_makedev() {
        // From `stat -c %r` of nodes made with mknod: 8,1 and 259,65537.
        assert_eq!(device((8, 1)), 0x801);
        assert_eq!(device((259, 0x1_0001)), 0x1001_0301);
    }
}
