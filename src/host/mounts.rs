//! The mounts of this host, as the kernel lists them in `/proc/self/mountinfo`.

use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
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
#[derive(Debug)]
pub struct Known {
    entry: Entry,
    /// The number that the kernel gives to no second mount; from Linux 6.8 on.
    unique: Option<u64>,
    /// The directory that its mount point is in, and its name there: the way to it when a directory above is mounted upon.
    way: Option<(OwnedFd, OsString)>,
}

impl Known {
    /// The mount that stands on top at a path, if it is one of ours.
    ///
    /// # Errors
    /// As [`all`].
    pub fn at(point: &Path) -> Result<Option<Self>> {
        let Some(entry) = at(point)?.filter(Entry::is_ours) else { return Ok(None) };
        let way = point.parent().zip(point.file_name());
        let way = way.and_then(|(parent, name)| Some((place(parent).ok()?, name.to_owned())));
        Ok(Some(Self { unique: unique(&entry.point), entry, way }))
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
        let Some(entry) = all()?.into_iter().find(|entry| self.is(entry)) else { return Ok(None) };
        let by_directory = self
            .way
            .as_ref()
            .map(|(parent, name)| Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name));
        let mut ways = std::iter::once(entry.point.clone()).chain(by_directory);
        let path = ways.find(|path| leads_to(path, &entry));
        let number = path.as_deref().and_then(unique);
        let is_another = self.unique.zip(number).is_some_and(|(ours, theirs)| ours != theirs);
        Ok((!is_another).then_some(Standing { entry, path }))
    }
}

/// Where a [`Known`] mount stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// As the kernel lists it.
    pub entry: Entry,
    /// A path that leads to it; none where something else has been mounted upon it.
    pub path: Option<PathBuf>,
}

/// Opens a place for no more than to name it, which asks nobody who serves it.
fn place(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty())
}

/// The number of the mount that an open file is of: proc_pid_fdinfo(5), `mnt_id: 42`.
pub(super) fn mount_in(fdinfo: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(fdinfo).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The number of the mount that a path leads into.
///
/// # Errors
/// What opening it reports.
pub(super) fn mount_of(path: &Path) -> rustix::io::Result<Option<u64>> {
    let place = place(path)?;
    Ok(mount_in(&Path::new("/proc/self/fdinfo").join(place.as_raw_fd().to_string())))
}

/// Does a path lead to this mount, and not to another upon it or upon a directory above? Where nobody may look, yes.
fn leads_to(path: &Path, mount: &Entry) -> bool {
    match mount_of(path) {
        Ok(number) => number.is_none_or(|number| number == mount.id),
        Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR),
    }
}

/// The mount point of what hides a mount, if its path does not lead to it.
///
/// # Errors
/// As [`all`].
pub fn hidden_by(mount: &Entry) -> Result<Option<PathBuf>> {
    if leads_to(&mount.point, mount) {
        return Ok(None);
    }
    let above = |entry: &Entry| entry.id != mount.id && mount.point.starts_with(&entry.point);
    let mut mounts = all()?;
    mounts.retain(above);
    let is_on_top = |entry: &Entry| mount_of(&entry.point) == Ok(Some(entry.id));
    let deepest =
        mounts.iter().filter(|entry| is_on_top(entry)).max_by_key(|entry| entry.point.as_os_str().len());
    Ok(Some(deepest.map_or_else(|| PathBuf::from("/"), |entry| entry.point.clone())))
}

/// Is a process one of ours that serves this mount, for all that can be seen? Its number is what the mount itself tells, and
/// anybody may mount what calls itself ours.
#[must_use]
pub fn is_served_by(mount: &Entry, process: u64) -> bool {
    let process = Path::new("/proc").join(process.to_string());
    let owner = std::fs::metadata(&process).map(|of| of.uid());
    let name = std::fs::read(process.join("comm")).unwrap_or_default();
    owner.is_ok_and(|owner| mount.owner().is_some_and(|(user, _)| user == owner))
        && name.trim_ascii_end() == b"imgmount"
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
        let _ = rustix::thread::set_thread_groups(&[]);
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
    fn a_mount_is_not_believed_that_others_serve_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("imgmount");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut ours = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let mut other = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let of = |user: u32| {
            let line = format!("40 35 0:44 / /mnt ro - fuse.imgmount disk ro,user_id={user},group_id=0\n");
            parse(line.as_bytes()).remove(0)
        };
        let is = |user, child: &std::process::Child| is_served_by(&of(user), u64::from(child.id()));
        // A child is called like its parent until it runs its own program.
        let name = || std::fs::read(format!("/proc/{}/comm", other.id())).unwrap();
        while name() != b"sleep\n" {
            std::thread::sleep(Duration::from_millis(1));
        }
        let said = [is(user, &ours), is(user + 1, &ours), is(user, &other)];
        for child in [&mut ours, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(said, [true, false, false]);
    }

    #[test]
    fn the_root_is_among_this_hosts_mounts() {
        assert!(all().unwrap().iter().any(|entry| entry.point == Path::new("/")));
    }
}
