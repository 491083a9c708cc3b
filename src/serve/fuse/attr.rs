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
        blksize: if stat.blksize.is_power_of_two() { stat.blksize.max(512) } else { 4096 },
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
