//! `imgmount doctor`: what this host can do, and the one line that fixes each gap.
//!
//! ```text
//! a door    mount, private mount (own user namespace), NBD server, verbs: each open or shut
//! a finding one fact of the host that a door needs, with its remedy where it is missing
//! ```

use super::{Common, Exit, out};
use crate::error::Result;
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// One fact of the host.
struct Finding {
    name: &'static str,
    good: bool,
    /// What was seen.
    seen: String,
    /// The line that helps, where it is not good.
    fix: &'static str,
}

/// One way to a guest's files.
struct Door {
    name: &'static str,
    open: bool,
    about: &'static str,
}

pub(super) fn run(_args: &Args, common: &Common) -> Result<Exit> {
    let host = Host::look();
    let (findings, doors) = (host.findings(), host.doors());
    let can_mount = host.can_mount() || host.can_mount_privately();
    if common.json {
        out::json(&json!({
            "schema": "imgmount.doctor/1",
            "version": env!("CARGO_PKG_VERSION"),
            "doors": doors.iter().map(|door| json!({ "name": door.name, "open": door.open, "about": door.about })).collect::<Vec<_>>(),
            "findings": findings.iter().map(|finding| json!({
                "name": finding.name,
                "ok": finding.good,
                "seen": finding.seen,
                "fix": (!finding.good).then_some(finding.fix),
            })).collect::<Vec<_>>(),
        }));
    } else {
        out::data(&format!("imgmount {}\n", env!("CARGO_PKG_VERSION")));
        for door in &doors {
            out::data(&format!(
                "{:<5} {:<14} {}\n",
                if door.open { "open" } else { "shut" },
                door.name,
                door.about
            ));
        }
        out::data("\n");
        for finding in &findings {
            out::data(&format!(
                "{:<5} {:<22} {}\n",
                if finding.good { "ok" } else { "lacks" },
                finding.name,
                finding.seen
            ));
            if !finding.good {
                out::data(&format!("      {:<22} {}\n", "", finding.fix));
            }
        }
    }
    Ok(if can_mount { Exit::OK } else { Exit::NO })
}

/// What was looked at, once.
struct Host {
    admin: bool,
    fuse: std::result::Result<(), String>,
    fusermount: Option<PathBuf>,
    allow_other: bool,
    namespaces: std::result::Result<(), String>,
    fuse_in_kernel: bool,
    openat2: bool,
    loops: bool,
    files: u64,
}

impl Host {
    fn look() -> Self {
        Self {
            admin: has_cap_sys_admin(),
            fuse: opens("/dev/fuse"),
            fusermount: in_path("fusermount3"),
            allow_other: fs::read_to_string("/etc/fuse.conf")
                .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other")),
            namespaces: user_namespaces(),
            fuse_in_kernel: fs::read_to_string("/proc/filesystems")
                .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().last() == Some("fuse"))),
            openat2: beneath_works(),
            loops: Path::new("/dev/loop-control").exists(),
            files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }

    fn can_mount(&self) -> bool {
        self.fuse.is_ok() && (self.admin || self.fusermount.is_some())
    }

    fn can_mount_privately(&self) -> bool {
        self.fuse.is_ok() && (self.admin || self.namespaces.is_ok())
    }

    fn doors(&self) -> Vec<Door> {
        vec![
            Door {
                name: "verbs",
                open: true,
                about: "imgmount ls|find|cat|cp|stat|hash|info|check IMAGE: need nothing of the host",
            },
            Door { name: "mount", open: self.can_mount(), about: "imgmount IMAGE MOUNTPOINT" },
            Door {
                name: "private mount",
                open: self.can_mount_privately(),
                about: "imgmount IMAGE -- COMMAND: in a mount namespace of its own",
            },
            Door { name: "serve", open: true, about: "imgmount serve IMAGE: NBD on a socket" },
        ]
    }

    fn findings(&self) -> Vec<Finding> {
        let found = |name, result: &std::result::Result<(), String>, good: &str, fix| Finding {
            name,
            good: result.is_ok(),
            seen: result.as_ref().err().cloned().unwrap_or_else(|| good.to_owned()),
            fix,
        };
        let is = |name, good: bool, yes: &str, no: &str, fix| Finding {
            name,
            good,
            seen: if good { yes } else { no }.to_owned(),
            fix,
        };
        let helper = self.fusermount.as_ref().map(|path| path.display().to_string());
        vec![
            is(
                "fuse in the kernel",
                self.fuse_in_kernel,
                "in /proc/filesystems",
                "not in /proc/filesystems",
                "sudo modprobe fuse",
            ),
            found(
                "/dev/fuse",
                &self.fuse,
                "opens for reading and writing",
                "in a container: run it with --device /dev/fuse (Kubernetes: a device plugin); on a host: sudo modprobe fuse",
            ),
            is(
                "root",
                self.admin,
                "CAP_SYS_ADMIN: mounts by itself",
                "not root: mounting goes through fusermount3",
                "sudo imgmount …, or the next line",
            ),
            is(
                "fusermount3",
                helper.is_some(),
                helper.as_deref().unwrap_or_default(),
                "not in PATH",
                "sudo apt install fuse3   (dnf install fuse3, apk add fuse3)",
            ),
            found(
                "user namespaces",
                &self.namespaces,
                "may be made",
                "sudo sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1",
            ),
            is(
                "allow_other",
                self.admin || self.allow_other,
                "permitted",
                "other users cannot see a mount of yours",
                "echo user_allow_other | sudo tee -a /etc/fuse.conf",
            ),
            is(
                "openat2",
                self.openat2,
                "extents and parents are opened beneath their directory",
                "not in this kernel: images of several files cannot be opened",
                "Linux 5.6 or later",
            ),
            is(
                "loop devices",
                self.loops,
                "the *.raw files of a mount can be loop-mounted",
                "no /dev/loop-control",
                "sudo modprobe loop   (only for mount -o loop on .imgmount/*.raw)",
            ),
            is(
                "open files",
                self.files >= 1024,
                &format!("{} allowed", self.files),
                &format!("only {} allowed", self.files),
                "ulimit -n 4096",
            ),
        ]
    }
}

/// CAP_SYS_ADMIN is bit 21 of the effective set (capabilities(7)).
fn has_cap_sys_admin() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & (1 << 21) != 0)
    })
}

fn opens(path: &str) -> std::result::Result<(), String> {
    let opened = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    opened.map(drop).map_err(|errno| std::io::Error::from(errno).to_string())
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The switches that forbid user namespaces: max_user_namespaces (namespaces(7)), Debian's unprivileged_userns_clone,
/// Ubuntu's AppArmor rule.
fn user_namespaces() -> std::result::Result<(), String> {
    let value = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if !Path::new("/proc/self/ns/user").exists() {
        return Err("not in this kernel".to_owned());
    }
    for (path, bad) in [
        ("/proc/sys/user/max_user_namespaces", 0),
        ("/proc/sys/kernel/unprivileged_userns_clone", 0),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1),
    ] {
        if value(path) == Some(bad) {
            return Err(format!("forbidden by {path} = {bad}"));
        }
    }
    Ok(())
}

/// Can a file be opened beneath a directory and nowhere else (openat2, Linux 5.6)?
fn beneath_works() -> bool {
    use rustix::fs::{CWD, ResolveFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, ".", flags, Mode::empty(), ResolveFlags::BENEATH).is_ok()
}
