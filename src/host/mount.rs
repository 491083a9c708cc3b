//! Mounting FUSE and unmounting it: by the system calls when we may, else through `fusermount3`.
//!
//! Every mount is `ro,nosuid,nodev`, and `noexec` unless the user said `exec`: an image is a stranger's.

use super::mounts::{self, Entry, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::ffi::CString;
use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a mount may take to say that it is dead.
const DEAD_TIME: Duration = Duration::from_secs(2);
/// Read-ahead in KiB: four of the largest requests the kernel makes, so that every thread has one to answer while the reader
/// copies another. Measured on two cores, 1 GiB in a row of a sparse VMDK: 0.60 s at the default of 128, 0.43 at 1024, 0.36 at 4096, 0.45 at 8192.
const READ_AHEAD: &str = "4096";
/// Mounts upon ours that go with it.
const MAX_COVERS: usize = 100;
/// The verbs that work without any of this.
const WITHOUT: &str = "imgmount ls, find, cat, cp, check and serve need no mount";

/// What to mount.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Where: an absolute path, from [`prepare`].
    pub point: &'a Path,
    /// What `findmnt` shows as the source; already free of secrets and control characters.
    pub name: &'a str,
    /// May programs of the image be run?
    pub exec: bool,
    /// May other users come in?
    pub allow_other: bool,
    /// Does the kernel judge by the guest's own modes who may read what? With `allow_other` it always does.
    pub default_permissions: bool,
}

impl Wish<'_> {
    /// The options that say who may come in and read, with a comma before each.
    const fn who(&self) -> &'static str {
        match (self.allow_other, self.default_permissions) {
            (true, _) => ",allow_other,default_permissions",
            (false, true) => ",default_permissions",
            (false, false) => "",
        }
    }
}

/// How unmounting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounted {
    /// It is gone.
    Done,
    /// Somebody holds something in it.
    Busy,
    /// There is no mount.
    NotThere,
}

fn host(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Host, message)
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

/// Does anyone answer at a path? Asked in a thread of its own, for a dead server may never answer. The kernel remembers
/// attributes, so they prove nothing of a mount that has been looked at before; `statfs` always asks. Asked as `owner`, who
/// mounted it, if this is root, whom the kernel would answer itself.
///
/// # Errors
/// What `stat` and `statfs` report; `TIMEDOUT` after `patience`.
pub fn answers(path: &Path, owner: Option<(u32, u32)>, patience: Duration) -> std::result::Result<(), Errno> {
    let (tell, told) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        mounts::become_owner(owner);
        let ask = || rustix::fs::stat(&path).and_then(|_| rustix::fs::statfs(&path)).map(|_| ());
        // A question that waits when the connection ends is aborted; the next one is told that there is none.
        tell.send(ask().or_else(|errno| if errno == Errno::CONNABORTED { ask() } else { Err(errno) }))
    });
    told.recv_timeout(patience).unwrap_or(Err(Errno::TIMEDOUT))
}

/// The path without links and dots, also for a dead mount, of which nothing but the name can be asked.
#[must_use]
pub fn absolute(point: &Path) -> PathBuf {
    if let Ok(path) = point.canonicalize() {
        return path;
    }
    let parent = point.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), point.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => std::path::absolute(point).unwrap_or_else(|_| point.to_owned()),
    }
}

/// Makes sure that something can be mounted at a path: an existing directory that is empty and no FUSE mount. A dead
/// mount of ours is detached first; `say` hears of it.
///
/// # Errors
/// `Host`, with the next step.
pub fn prepare(point: &Path, make: bool, nonempty: bool, say: &mut dyn FnMut(String)) -> Result<PathBuf> {
    let shown = show(point);
    let mut path = absolute(point);
    while let Some(entry) = mounts::at(&path)?.filter(|entry| entry.kind.starts_with("fuse")) {
        if entry.is_ours() && answers(&path, entry.owner(), DEAD_TIME).err() == Some(Errno::NOTCONN) {
            unmount(&path, true)?;
            say(format!("{shown}: detached a dead mount of {}", escape(entry.source.as_bytes())));
            continue;
        }
        let error = host(format!("{shown}: {} is mounted there already", escape(entry.source.as_bytes())));
        return Err(error.help(format!("imgmount unmount {shown}")));
    }
    if make {
        std::fs::create_dir_all(&path)
            .map_err(|error| host(format!("{shown}: cannot be made")).caused_by(error))?;
        path = absolute(point);
    }
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => host(format!("{shown}: no such directory"))
            .help(format!("make it first, or let it be made: imgmount --mkdir ... {shown}")),
        std::io::ErrorKind::NotADirectory => {
            host(format!("{shown}: is not a directory")).help("give an existing empty directory")
        }
        _ => host(shown.clone()).caused_by(error),
    };
    let mut entries = std::fs::read_dir(&path).map_err(failed)?;
    if !nonempty && entries.next().is_some() {
        return Err(host(format!("{shown}: is not empty"))
            .help("give an empty directory, or cover its content with -o nonempty"));
    }
    Ok(path)
}

/// May this process mount by itself?
#[must_use]
pub fn is_privileged() -> bool {
    let admin = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    admin || rustix::process::geteuid().is_root()
}

/// The helper that mounts for those who may not.
#[must_use]
pub fn helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/bin", "/bin"].map(PathBuf::from)).collect();
    ["fusermount3", "fusermount"]
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)))
        .find(|path| path.is_file())
}

/// Is there a helper, and may it do more than we?
#[must_use]
pub fn has_helper() -> bool {
    // What a container's `no_new_privs` takes away is the right that makes it a helper.
    helper().is_some() && !rustix::thread::no_new_privs().unwrap_or(false)
}

/// Mounts, and hands over the `/dev/fuse` that must now be answered.
///
/// # Errors
/// `Host` with what is missing, and the doors that need no mount.
pub fn mount(wish: &Wish<'_>) -> Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/fuse").map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let fix = if missing {
            "load the module with 'modprobe fuse'; in a container, start it with --device /dev/fuse"
        } else {
            "in a container, start it with --device /dev/fuse"
        };
        host("/dev/fuse cannot be opened").caused_by(error).help(format!("{fix}. Without it: {WITHOUT}"))
    })?;
    if is_privileged() {
        match by_syscall(wish, &device) {
            Ok(()) => return Ok(device.into()),
            // A container's root without CAP_SYS_ADMIN.
            Err(Errno::PERM | Errno::ACCESS) if helper().is_some() => {}
            Err(errno) => {
                return Err(host(format!("{}: cannot be mounted", show(wish.point)))
                    .caused_by(errno)
                    .help(format!("mounting needs CAP_SYS_ADMIN or fusermount3. {WITHOUT}")));
            }
        }
    }
    drop(device);
    by_helper(wish)
}

fn by_syscall(wish: &Wish<'_>, device: &File) -> std::result::Result<(), Errno> {
    let mode = rustix::fs::stat(wish.point)?.st_mode;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={}",
        device.as_raw_fd(),
        rustix::fs::FileType::from_raw_mode(mode).as_raw_mode(),
        uid.as_raw(),
        gid.as_raw()
    );
    data.push_str(wish.who());
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let mut flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    if !wish.exec {
        flags |= MountFlags::NOEXEC;
    }
    rustix::mount::mount(wish.name, wish.point, mounts::TYPE, flags, data.as_c_str())
}

/// `fusermount3` opens `/dev/fuse`, mounts it, and sends it back over a socket that it is told the number of: 0, its
/// standard input.
fn by_helper(wish: &Wish<'_>) -> Result<OwnedFd> {
    let Some(helper) = helper() else {
        return Err(host("neither the right to mount (CAP_SYS_ADMIN) nor fusermount3 is there")
            .help(format!(
                "install the package 'fuse3', or run as root; for one command alone: imgmount IMAGE -- CMD. {WITHOUT}"
            )));
    };
    if wish.allow_other && !may_allow_other() {
        return Err(host("-o allow_other is not allowed to users on this host")
            .help("as root: echo user_allow_other >> /etc/fuse.conf"));
    }
    let mut options = format!(
        "ro,nosuid,nodev,subtype=imgmount,fsname={}",
        wish.name.replace('\\', "\\\\").replace(',', "\\,")
    );
    if !wish.exec {
        options.push_str(",noexec");
    }
    options.push_str(wish.who());
    let failed = |error: std::io::Error| host(show(&helper)).caused_by(error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let child = Command::new(&helper)
        .args(["-o", &options, "--"])
        .arg(wish.point)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let device = receive(&ours);
    let output = child.wait_with_output().map_err(failed)?;
    if let Some(device) = device.filter(|_| output.status.success()) {
        return Ok(device);
    }
    let said = escape(output.stderr.trim_ascii()).to_string();
    Err(host(if said.is_empty() { format!("{}: {}", show(&helper), output.status) } else { said })
        .help(format!("the directory must be yours. {WITHOUT}")))
}

fn may_allow_other() -> bool {
    let conf = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    rustix::process::geteuid().is_root() || conf.lines().any(|line| line.trim() == "user_allow_other")
}

fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    if received.bytes == 0 {
        return None;
    }
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// Unmounts what stands on top at an absolute path; `lazy` takes it out of sight even while it is held.
///
/// # Errors
/// `Host` when it is not allowed.
pub fn unmount(point: &Path, lazy: bool) -> Result<Unmounted> {
    let mut flags = UnmountFlags::NOFOLLOW;
    if lazy {
        flags |= UnmountFlags::DETACH;
    }
    match rustix::mount::unmount(point, flags) {
        Ok(()) => Ok(Unmounted::Done),
        Err(Errno::BUSY) => Ok(Unmounted::Busy),
        Err(Errno::INVAL | Errno::NOENT) => Ok(Unmounted::NotThere),
        Err(Errno::PERM) => unmount_by_helper(point, lazy),
        Err(errno) => Err(host(format!("{}: cannot be unmounted", show(point))).caused_by(errno)),
    }
}

/// Unmounts this mount, wherever it stands by now, and no other: what others put upon it makes it busy, and where it is
/// gone nothing is touched. `lazy` takes with it what stands upon it, as `umount -l` does.
///
/// # Errors
/// `Host` when it is not allowed.
pub fn unmount_this(mount: &Known, lazy: bool) -> Result<Unmounted> {
    for _ in 0..MAX_COVERS {
        let Some(now) = mount.find()? else { return Ok(Unmounted::NotThere) };
        let point = now.entry.point.as_path();
        match now.path {
            // Behind what hides it, the helper does not find it.
            Some(path) if path != point && !is_privileged() => break,
            Some(path) => return unmount(&path, lazy),
            None => {}
        }
        let is_covered = mounts::at(point)?.is_some_and(|top| !mount.is(&top));
        if !lazy || !is_covered {
            break;
        }
        unmount(point, true)?;
    }
    Ok(Unmounted::Busy)
}

/// Takes a mount away that nobody serves any more. One that has its numbers and answers is another: before Linux 6.8 nothing
/// else tells them apart.
///
/// # Errors
/// As [`unmount_this`].
pub fn unmount_dead(mount: &Known) -> Result<Unmounted> {
    let Some(now) = mount.find()? else { return Ok(Unmounted::NotThere) };
    let is_dead = |path: &PathBuf| answers(path, now.entry.owner(), DEAD_TIME).err() == Some(Errno::NOTCONN);
    if now.path.as_ref().is_none_or(is_dead) { unmount_this(mount, true) } else { Ok(Unmounted::NotThere) }
}

fn unmount_by_helper(point: &Path, lazy: bool) -> Result<Unmounted> {
    let shown = show(point);
    let Some(entry) = mounts::at(point)? else { return Ok(Unmounted::NotThere) };
    let owner = entry.own_number("user_id");
    if let Some(owner) = owner.filter(|owner| *owner != rustix::process::getuid().as_raw()) {
        return Err(host(format!("{shown}: was mounted by user {owner}, and you are not"))
            .help(format!("as that user or as root: imgmount unmount {shown}")));
    }
    let Some(helper) = helper() else {
        return Err(host(format!("{shown}: unmounting needs root or fusermount3"))
            .help(format!("install the package 'fuse3', or as root: imgmount unmount {shown}")));
    };
    let failed = |error: std::io::Error| host(show(&helper)).caused_by(error);
    let output = Command::new(&helper)
        .args(if lazy { ["-u", "-z", "--"].as_slice() } else { ["-u", "--"].as_slice() })
        .arg(point)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    let said = escape(output.stderr.trim_ascii()).to_string();
    match output.status.success() {
        true => Ok(Unmounted::Done),
        false if said.to_ascii_lowercase().contains("busy") => Ok(Unmounted::Busy),
        false => Err(host(said)),
    }
}

/// Lets the kernel read ahead in large requests. Only root may; says whether it worked.
#[must_use]
pub fn widen_read_ahead(entry: &Entry) -> bool {
    std::fs::write(format!("/sys/class/bdi/{}/read_ahead_kb", entry.device), READ_AHEAD).is_ok()
}
