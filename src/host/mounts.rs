//! The mounts of this host, as the kernel lists them in `/proc/self/mountinfo`.

use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, StatxFlags};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// The type our mounts have: `fuse`, subtype `imgmount`.
pub const TYPE: &str = "fuse.imgmount";

/// Of `linux/stat.h`.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// Bytes that are read of what a mount tells about itself.
const MAX_TOLD: u64 = 1 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mount's own number, never used twice at the same time.
    pub id: u64,
    /// Device number, as `major:minor`.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its options, as `ro,nosuid,...`.
    pub options: String,
    /// Its type: `ext4`, `fuse.imgmount`.
    pub kind: String,
    /// What is mounted; for ours the image.
    pub source: String,
    /// The file system's own options; for ours with `user_id=` and `group_id=` of who mounted it.
    pub own_options: String,
}

impl Entry {
    /// Is it one of ours?
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.kind == TYPE
    }

    /// User and group who mounted it, if it is of FUSE.
    #[must_use]
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.own_number("user_id").zip(self.own_number("group_id"))
    }

    /// The number behind one of the file system's own options, as in `user_id=1000`.
    #[must_use]
    pub fn own_number(&self, name: &str) -> Option<u32> {
        let mut words = self.own_options.split(',');
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

/// A mount of ours that is found again wherever it stands by now, and that no other is taken for.
#[derive(Clone, Debug)]
pub struct Known {
    entry: Entry,
    /// The number that the kernel gives to no second mount; from Linux 6.8 on.
    unique: Option<u64>,
}

impl Known {
    /// The mount that stands on top at a path, if it is one of ours.
    ///
    /// # Errors
    /// As [`all`].
    pub fn at(point: &Path) -> Result<Option<Self>> {
        let entry = at(point)?.filter(Entry::is_ours);
        Ok(entry.map(|entry| Self { unique: unique(&entry.point), entry }))
    }

    /// As the kernel lists it.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Is this it? Both of the numbers in the kernel's list are those of the next mount as soon as this one is gone.
    #[must_use]
    pub fn is(&self, other: &Entry) -> bool {
        let has_its_numbers = self.entry.id == other.id && self.entry.device == other.device;
        has_its_numbers && self.entry.source == other.source && self.entry.owner() == other.owner()
    }

    /// As it stands now, if it still does.
    ///
    /// # Errors
    /// As [`all`].
    pub fn find(&self) -> Result<Option<Standing>> {
        let mounts = all()?;
        let Some(entry) = mounts.iter().find(|entry| self.is(entry)) else { return Ok(None) };
        let top = mounts.iter().rfind(|other| other.point == entry.point);
        let is_covered = top.is_some_and(|top| !self.is(top));
        let number = if is_covered { None } else { unique(&entry.point) };
        let is_another = self.unique.zip(number).is_some_and(|(ours, theirs)| ours != theirs);
        Ok((!is_another).then(|| Standing { entry: entry.clone(), is_covered }))
    }
}

/// Where a [`Known`] mount stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// As the kernel lists it.
    pub entry: Entry,
    /// Has something else been mounted upon it?
    pub is_covered: bool,
}

/// The number of the mount at a path that is given out once: statx(2), `STATX_MNT_ID_UNIQUE`. Nobody who serves it is asked.
fn unique(point: &Path) -> Option<u64> {
    let asked = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(rustix::fs::CWD, point, flags, asked).ok()?;
    (stat.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(stat.stx_mnt_id)
}

/// Undoes the kernel's escapes: blank, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                let digit = |c: &u8| c & 7;
                Some((digit(a) << 6) | (digit(b) << 3) | digit(c))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

/// Reads the text of a `mountinfo` file, proc_pid_mountinfo(5):
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Entry> {
    let line = |line: &[u8]| -> Option<Entry> {
        let mut fields = line.split(|byte| *byte == b' ');
        let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = text(fields.nth(1)?);
        let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
        let options = text(fields.next()?);
        fields.find(|field| *field == b"-")?;
        let (kind, source, own_options) =
            (text(fields.next()?), text(fields.next()?), text(fields.next().unwrap_or_default()));
        Some(Entry { id, device, point, options, kind, source, own_options })
    };
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Every mount that this process sees, in the order they were made.
///
/// # Errors
/// `Host` when `/proc` is not there.
pub fn all() -> Result<Vec<Entry>> {
    let text = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| Error::new(ErrorKind::Host, "/proc/self/mountinfo").caused_by(error))?;
    Ok(parse(&text))
}

/// The mount that stands on top at a path, if it is a mount point.
///
/// # Errors
/// As [`all`].
pub fn at(point: &Path) -> Result<Option<Entry>> {
    Ok(all()?.into_iter().rfind(|entry| entry.point == point))
}

/// Makes this thread the one who mounted, if it is root's: root itself cannot look into the mount of a user.
pub(super) fn become_owner(owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner
        && rustix::process::geteuid().is_root()
        && uid != 0
    {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        let _ = rustix::thread::set_thread_res_gid(gid, gid, gid);
        let _ = rustix::thread::set_thread_res_uid(uid, uid, uid);
    }
}

/// Reads one of the files in which a mount of ours tells about itself (`status`, `stats`), in a thread, since a hung
/// mount may never answer; for root it becomes the user who mounted.
///
/// # Errors
/// The system's own; `TimedOut` after `patience`, `NotConnected` when nobody serves the mount any more.
pub fn tells(entry: &Entry, file: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    let owner = entry.owner();
    let path = entry.point.join(".imgmount").join(file);
    std::thread::spawn(move || {
        become_owner(owner);
        let mut text = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_TOLD).read_to_end(&mut text));
        tell.send(read.map(|_| text))
    });
    told.recv_timeout(patience).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_past_the_optional_ones() {
        let text =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n";
        let entries = parse(text);
        let entry = entries.first().unwrap();
        assert_eq!((entry.id, entry.device.as_str(), entry.kind.as_str()), (36, "98:0", "ext3"));
        assert_eq!((entry.point.as_path(), entry.options.as_str()), (Path::new("/mnt2"), "rw,noatime"));
    }

    #[test]
    fn a_blank_in_a_path_comes_back() {
        let text =
            b"40 35 0:44 / /mnt/my\\040disk\\134x ro - fuse.imgmount my\\040disk.vmdk ro,user_id=1000\n";
        let entry = parse(text).remove(0);
        assert_eq!(
            (entry.point.as_path(), entry.source.as_str()),
            (Path::new("/mnt/my disk\\x"), "my disk.vmdk")
        );
        assert!(entry.is_ours());
        assert_eq!(entry.own_number("user_id"), Some(1000));
    }

    #[test]
    fn the_root_is_among_this_hosts_mounts() {
        assert!(all().unwrap().iter().any(|entry| entry.point == Path::new("/")));
    }
}
