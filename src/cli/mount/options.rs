//! What the mount's options mean.

use super::spoken;
use crate::error::{Error, ErrorKind, Result};
use crate::serve::fuse;
use crate::text::escape;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt as _;

/// `-o`, understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) exec: bool,
    pub(super) allow_other: bool,
    pub(super) nonempty: bool,
    /// The kernel is to judge by the guest's own modes who may read what.
    pub(super) default_permissions: bool,
}

/// Options of fstab that say nothing to us: what we always do, or what mount(8) and systemd act on themselves.
const IGNORED: &[&str] = &[
    "ro",
    "defaults",
    "nofail",
    "_netdev",
    "user",
    "users",
    "owner",
    "group",
    "auto",
    "noauto",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "noexec",
    "nouser",
    "nogroup",
    "noowner",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "sync",
    "async",
    "dirsync",
    "silent",
    "loud",
    "mand",
    "nomand",
    "loop",
];
/// The same, as the start of a word.
const IGNORED_STARTS: &[&str] =
    &["x-", "X-", "comment=", "user=", "uhelper=", "helper=", "subtype=", "fsname="];

impl Flags {
    /// Reads the lists of `-o`. What is unknown is passed over if `is_sloppy`.
    ///
    /// # Errors
    /// `Usage` for `rw` and for what is unknown.
    pub(super) fn parse(lists: &[String], is_sloppy: bool) -> Result<Self> {
        let mut flags = Self::default();
        let words = lists.iter().flat_map(|list| spoken::split(list.as_bytes()));
        for word in words.map(String::from_utf8_lossy) {
            match word.as_ref() {
                "exec" => flags.exec = true,
                "noexec" => flags.exec = false,
                "allow_other" => flags.allow_other = true,
                "nonempty" => flags.nonempty = true,
                "default_permissions" => flags.default_permissions = true,
                "rw" => {
                    let error = Error::new(ErrorKind::Usage, "-o rw: imgmount never writes to an image");
                    return Err(error.help("write ro, or nothing; to change files, copy them: imgmount cp"));
                }
                word if IGNORED.contains(&word) => {}
                word if IGNORED_STARTS.iter().any(|start| word.starts_with(start)) => {}
                word if is_sloppy => tracing::info!("-o {}: unknown, passed over", escape(word.as_bytes())),
                word => return Err(unknown(word)),
            }
        }
        Ok(flags)
    }
}

fn unknown(word: &str) -> Error {
    let variable = std::env::var_os(spoken::OPTIONS).unwrap_or_default();
    let is_there = spoken::split(variable.as_bytes()).contains(&word.as_bytes());
    let place = if is_there { spoken::OPTIONS } else { "-o" };
    let error = Error::new(ErrorKind::Usage, format!("{place} {}: unknown", escape(word.as_bytes())));
    let name = word.split('=').next().unwrap_or_default();
    error.help(match name {
        "uid" | "gid" | "umask" | "fmask" | "dmask" => "whose the files seem to be: owner=UID:GID, or owner=me".to_owned(),
        "offset" | "sizelimit" => "a partition's files alone: volume=p1, or whatever imgmount info calls it".to_owned(),
        "remount" | "bind" | "move" => "unmount it, and mount it anew: imgmount unmount DIR".to_owned(),
        "allow_root" => "allow_other lets root in, and others where their modes allow it".to_owned(),
        _ => format!(
            "known are exec, noexec, allow_other, default_permissions, nonempty, and the options of 'imgmount mount \
             --help', as NAME or NAME=VALUE: {}; what fstab says to others, as ro, nofail, _netdev and x-*, is accepted",
            spoken::names(&crate::cli::command()).join(", ")
        ),
    })
}

/// `--on-error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnError {
    /// An error (EIO), for what cannot be read must not look as if it were read
    #[default]
    Eio,
    /// Zeros in place of what cannot be read, counted in .imgmount/stats and named in .imgmount/errors
    Zero,
}

/// `--owner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Who {
    /// The guest's numbers.
    Guest,
    /// The user who mounts.
    Me,
    /// These.
    Ids(u32, u32),
}

/// Reads `--owner`.
pub(super) fn owner(text: &str) -> std::result::Result<Who, String> {
    let ids = || {
        let (uid, gid) = text.split_once(':')?;
        Some(Who::Ids(uid.parse().ok()?, gid.parse().ok()?))
    };
    match text {
        "guest" => Ok(Who::Guest),
        "me" => Ok(Who::Me),
        _ => ids().ok_or_else(|| format!("'{text}' is no owner; write guest, me or 1000:1000")),
    }
}

impl Who {
    /// For the user and group who mount.
    pub(super) const fn for_user(self, (uid, gid): (u32, u32)) -> fuse::Owner {
        match self {
            Self::Guest => fuse::Owner::Guest,
            Self::Me => fuse::Owner::All { uid, gid },
            Self::Ids(uid, gid) => fuse::Owner::All { uid, gid },
        }
    }
}

/// `--symlinks`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(super) enum Links {
    /// So that following one stays in the mount
    #[default]
    Relative,
    /// As stored: absolute ones lead into this host's own files
    Raw,
}

impl From<Links> for fuse::Symlinks {
    fn from(links: Links) -> Self {
        match links {
            Links::Relative => Self::Relative,
            Links::Raw => Self::Raw,
        }
    }
}

/// `--xattrs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(super) enum Attributes {
    /// user.*, POSIX ACLs, security.capability
    #[default]
    Safe,
    /// All, security.selinux and trusted.* included
    All,
    /// None
    Off,
}

impl From<Attributes> for fuse::Xattrs {
    fn from(attributes: Attributes) -> Self {
        match attributes {
            Attributes::Safe => Self::Safe,
            Attributes::All => Self::All,
            Attributes::Off => Self::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Flags> {
        Flags::parse(&[list.to_owned()], false)
    }

    #[test]
    fn a_line_of_fstab_is_accepted() {
        let flags = parse("ro,nofail,_netdev,user,x-systemd.automount,dev,suid,exec").unwrap();
        assert_eq!(flags, Flags { exec: true, ..Flags::default() });
    }

    #[test]
    fn rw_is_refused_by_name() {
        assert!(parse("rw").unwrap_err().to_string().contains("never writes"));
        assert_eq!(parse("ro,bogus").unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn an_unknown_word_is_refused_with_those_that_there_are() {
        let error = parse("ro,vieuw=all").unwrap_err();
        let help = error.help_text().unwrap();
        assert_eq!(error.to_string(), "-o vieuw=all: unknown");
        assert!(
            ["exec", "nonempty", "view", "idle-exit", "key"].iter().all(|word| help.contains(word)),
            "{help}"
        );
        assert!(!help.contains("sloppy"), "{help}");
    }

    #[test]
    fn a_sloppy_mount_passes_over_what_is_unknown() {
        let flags = Flags::parse(&["bogus,exec".to_owned(), "x-a=\"1,rw\"".to_owned()], true).unwrap();
        assert_eq!(flags, Flags { exec: true, ..Flags::default() });
        assert!(Flags::parse(&["bogus,rw".to_owned()], true).is_err(), "but not over that");
    }

    #[test]
    fn an_owner_is_a_word_or_two_numbers() {
        assert_eq!(owner("1000:100"), Ok(Who::Ids(1000, 100)));
        assert_eq!((owner("me"), owner("guest")), (Ok(Who::Me), Ok(Who::Guest)));
        assert!(owner("1000").is_err() && owner("a:b").is_err() && owner("-1:0").is_err());
    }
}
