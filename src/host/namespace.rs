//! A mount nobody else sees: a user and mount name space of our own, for `-- CMD` without root and without `fusermount3`.

use crate::error::{Error, ErrorKind, Result};
use rustix::thread::UnshareFlags;
use std::path::Path;

/// Moves this process into new user and mount name spaces, where it may mount. Its user and group keep their numbers, so
/// a command started later has the user's rights and no more. Must be called before any thread is started.
///
/// # Errors
/// `Host` when this host does not let users do it.
pub fn enter() -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Host, "neither root, nor fusermount3, nor a name space of our own")
            .caused_by(error)
            .help(format!(
                "{}; or install the package 'fuse3'. imgmount ls, find, cat, cp, check and serve need no mount",
                way()
            ))
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

/// Settings of the kernel, each with the value that forbids users a name space of their own, and what allows it.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("user/max_mnt_namespaces", "0", "sysctl user.max_mnt_namespaces=15000"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// The next step on this host, by what stands in the way.
fn way() -> String {
    let is = |name: &str, value: &str| {
        std::fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() == value)
    };
    if let Some((_, _, fix)) = SETTINGS.iter().find(|(name, value, _)| is(name, value)) {
        return format!("as root: {fix}");
    }
    // The default seccomp profiles of Docker and Podman refuse the call, whatever the kernel's settings are.
    if ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists()) {
        return "start the container with --device /dev/fuse --cap-add SYS_ADMIN \
                (Docker on AppArmor: also --security-opt apparmor=unconfined)"
            .to_owned();
    }
    "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN".to_owned()
}
