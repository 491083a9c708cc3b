//! What the mount's options mean.

use crate::error::{Error, ErrorKind, Result};
use crate::serve::fuse;
use crate::text::escape;
use serde::{Deserialize, Serialize};

/// `-o`, understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) exec: bool,
    pub(super) allow_other: bool,
    pub(super) nonempty: bool,
}

/// Options of fstab that say nothing to us: what we always do, or what mount(8) and systemd act on themselves.
const IGNORED: &[&str] = &[
    "ro", "defaults", "nofail", "_netdev", "user", "users", "owner", "group", "auto", "noauto", "dev",
    "nodev", "suid", "nosuid", "noexec", "noatime", "relatime", "async", "loop",
];

impl Flags {
    /// Reads the words of `-o`.
    ///
    /// # Errors
    /// `Usage` for `rw` and for what is unknown.
    pub(super) fn parse(words: &[String]) -> Result<Self> {
        let mut flags = Self::default();
        for word in words.iter().filter(|word| !word.is_empty()) {
            match word.as_str() {
                "exec" => flags.exec = true,
                "noexec" => flags.exec = false,
                "allow_other" => flags.allow_other = true,
                "nonempty" => flags.nonempty = true,
                "rw" => {
                    let error = Error::new(ErrorKind::Usage, "-o rw: imgmount never writes to an image");
                    return Err(error.help("leave it out; to change files, copy them: imgmount cp"));
                }
                word if IGNORED.contains(&word) || word.starts_with("x-") || word.starts_with("comment=") => {
                }
                word => {
                    let error =
                        Error::new(ErrorKind::Usage, format!("-o {}: unknown", escape(word.as_bytes())));
                    let known = format!(
                        "known are exec, allow_other, nonempty; accepted are {}, x-*",
                        IGNORED.join(", ")
                    );
                    return Err(error.help(known));
                }
            }
        }
        Ok(flags)
    }
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
        Flags::parse(&list.split(',').map(str::to_owned).collect::<Vec<_>>())
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
    fn an_owner_is_a_word_or_two_numbers() {
        assert_eq!(owner("1000:100"), Ok(Who::Ids(1000, 100)));
        assert_eq!((owner("me"), owner("guest")), (Ok(Who::Me), Ok(Who::Guest)));
        assert!(owner("1000").is_err() && owner("a:b").is_err() && owner("-1:0").is_err());
    }
}
