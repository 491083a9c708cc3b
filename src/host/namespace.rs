//! A mount nobody else sees: a user and mount name space of our own, for `-- CMD` without root and without `fusermount3`.

use crate::error::{Error, ErrorKind, Result};
use rustix::thread::UnshareFlags;

/// Moves this process into new user and mount name spaces, where it may mount. Its user and group keep their numbers, so
/// a command started later has the user's rights and no more. Must be called before any thread is started.
///
/// # Errors
/// `Host` when this host does not let users do it.
pub fn enter() -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Host, "neither root, nor fusermount3, nor a name space of our own")
            .caused_by(error)
            .help(
                "install the package 'fuse3', or allow it: sysctl kernel.unprivileged_userns_clone=1. \
                 imgmount ls, find, cat, cp, check and serve need no mount",
            )
    };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of UnshareFlags::FILES, which is not used here"
    )]
    rustix::thread::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|errno| failed(errno.into()))?;
    // user_namespaces(7): a group map may be written by an unprivileged user only after setgroups is given up.
    std::fs::write("/proc/self/setgroups", "deny").map_err(failed)?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).map_err(failed)?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).map_err(failed)
}
