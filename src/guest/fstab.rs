//! `/etc/fstab`: what a guest mounts at boot, line by line (fstab(5)). Enabled `.mount` units of systemd count as lines.

use super::evidence::Evidence;
use super::file::{self, GuestFile, MAX_CONFIG};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::text::{Text, escape};

/// Lines that are read; the longest real file seen has some forty.
const MAX_LINES: usize = 4096;
/// Types of file systems that are not on a device of this machine.
const NETWORK: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "fuse.sshfs"];
/// Types that show files in another way than they are stored.
const LAYERED: &[&str] =
    &["overlay", "overlayfs", "aufs", "unionfs", "ecryptfs", "fuse.mergerfs", "mergerfs"];

/// The lines of an `fstab` that mean something.
#[derive(Clone, Debug, Default)]
pub struct Fstab {
    /// In the order in which they stand.
    pub lines: Vec<Line>,
}

impl Fstab {
    /// The line of the root.
    #[must_use]
    pub fn root(&self) -> Option<&Line> {
        self.roots().next()
    }

    fn roots(&self) -> impl Iterator<Item = &Line> {
        self.lines
            .iter()
            .filter(|line| line.dir.starts_with(b"/") && trim(&line.dir).is_empty() && !line.is_swap())
    }

    /// A complaint if there are two lines of the root that differ.
    #[must_use]
    pub fn second_root(&self) -> Option<String> {
        let first = self.root()?;
        let other =
            self.roots().find(|line| line.spec != first.spec || line.subvolume() != first.subvolume())?;
        let spec = escape(&other.spec);
        Some(format!("{}: a second /, {spec}; {} names another", other.place(), first.place()))
    }
}

/// One line: two to six fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is mounted, as written but unescaped.
    pub spec: Vec<u8>,
    /// Where, as written but unescaped.
    pub dir: Vec<u8>,
    /// The file system's type; `auto` when it is not given.
    pub kind: Vec<u8>,
    /// The options, one by one.
    pub options: Vec<Vec<u8>>,
    /// Where the line stands.
    pub evidence: Evidence,
}

/// The part of a file system of several that a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `subvol=`: by its path, without a slash in front.
    Path(Vec<u8>),
    /// `subvolid=`.
    Id(u64),
}

/// The number of the top of a btrfs, `BTRFS_FS_TREE_OBJECTID`.
const TOP: u64 = 5;

impl Line {
    /// Has it this option?
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option.as_bytes())
    }

    /// The value of an option; of one that is given twice, the last.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&[u8]> {
        let value = |given: &'_ [u8]| -> Option<usize> {
            given.strip_prefix(option.as_bytes())?.strip_prefix(b"=").map(<[u8]>::len)
        };
        let (given, len) = self.options.iter().rev().find_map(|given| Some((given, value(given)?)))?;
        given.get(given.len().checked_sub(len)?..)
    }

    /// Does the boot stop when its device is not there? Not with `nofail`, `noauto` or an automount, not where the device
    /// waits for the network, and not for what has no device of this machine.
    #[must_use]
    pub fn is_needed_at_boot(&self) -> bool {
        const LATER: &[&str] = &["nofail", "noauto", "x-systemd.automount", "_netdev"];
        self.is_local() && !LATER.iter().any(|option| self.has(option))
    }

    /// Is it a swap area?
    #[must_use]
    pub fn is_swap(&self) -> bool {
        self.kind == b"swap"
    }

    /// Does it name a block device, not a kernel file system, a server's files or a bind mount? One that is reached by
    /// the network (`_netdev`) is a block device too, and may have been a disk of the image.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !matches!(self.spec(), Spec::NoDevice)
            && !NETWORK.iter().any(|kind| self.kind == kind.as_bytes())
            && self.binds().is_none()
    }

    /// Is it a bind mount, and if so, does it take along what is mounted below?
    #[must_use]
    pub fn binds(&self) -> Option<bool> {
        let deep = self.has("rbind");
        (deep || self.has("bind")).then_some(deep)
    }

    /// Does it show what lies there in another way than it is stored?
    #[must_use]
    pub fn is_layered(&self) -> bool {
        LAYERED.iter().any(|kind| self.kind == kind.as_bytes())
    }

    /// The subvolume that is meant; `None` for the default one.
    #[must_use]
    pub fn subvolume(&self) -> Option<Wanted> {
        subvolume(|option| self.value(option))
    }

    /// What its first field means.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec::parse(&self.spec)
    }

    /// The line for people: `/etc/fstab line 3`.
    #[must_use]
    pub fn place(&self) -> String {
        let path = self.evidence.path.clone().unwrap_or_default();
        match self.evidence.line {
            Some(line) => format!("{path} line {line}"),
            None => path.to_string(),
        }
    }
}

/// The subvolume that options of btrfs mean; `value` gives an option's value.
pub(super) fn subvolume<'a>(value: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Wanted> {
    if let Some(path) = value("subvol") {
        return Some(Wanted::Path(trim(path).to_vec()));
    }
    let text = std::str::from_utf8(value("subvolid")?).ok()?;
    let id = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    // 0 means the top to the kernel's driver.
    Some(Wanted::Id(if id == 0 { TOP } else { id }))
}

/// A path without slashes at its ends.
pub(super) fn trim(path: &[u8]) -> &[u8] {
    let start = path.iter().take_while(|byte| **byte == b'/').count();
    let path = path.get(start..).unwrap_or_default();
    let end = path.iter().rev().take_while(|byte| **byte == b'/').count();
    path.get(..path.len().saturating_sub(end)).unwrap_or_default()
}

/// `\040` and the like, as getmntent(3) reads them.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = if byte == b'\\' { tail.get(..3) } else { None };
        let code = code.filter(|octal| octal.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        let code = code.and_then(|octal| u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

/// Reads `/etc/fstab`; one without lines when there is none.
///
/// # Errors
/// When it is there but cannot be read, or has more lines than any guest mounts.
pub fn read(tree: &Tree) -> Result<Fstab> {
    file::read(tree, "/etc/fstab", MAX_CONFIG)?.map_or_else(|| Ok(Fstab::default()), |file| parse(&file))
}

fn parse(file: &GuestFile) -> Result<Fstab> {
    let mut lines = Vec::new();
    for (number, text) in file.lines() {
        let mut fields = text.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let Some(spec) = fields.next().filter(|spec| !spec.starts_with(b"#")) else { continue };
        let Some(dir) = fields.next() else { continue };
        if lines.len() >= MAX_LINES {
            return Err(Error::limit(format!("/etc/fstab: more than {MAX_LINES} lines")));
        }
        let kind = fields.next().unwrap_or(b"auto");
        let options = fields.next().unwrap_or(b"defaults").split(|byte| *byte == b',');
        lines.push(Line {
            spec: unescape(spec),
            dir: unescape(dir),
            kind: kind.to_vec(),
            options: options.map(<[u8]>::to_vec).collect(),
            evidence: file
                .evidence(format!("mounts {} on {}", escape(spec), Text::new(unescape(dir))))
                .line(number, text),
        });
    }
    Ok(Fstab { lines })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    fn fstab(text: &str) -> Fstab {
        read(&MemoryFs::tree(&[("/etc/fstab", text)])).unwrap()
    }

    #[test]
    fn two_fields_are_enough_and_comments_are_none() {
        let fstab = fstab("# x\n\n  LABEL=a /a\n/dev/vdb\t/b\text4\tdefaults,nofail\t0\t2\n");
        assert_eq!(fstab.lines.len(), 2);
        assert_eq!(fstab.lines[0].kind, b"auto");
        assert_eq!(fstab.lines[1].evidence.line, Some(4));
        assert!(fstab.lines[1].has("nofail") && !fstab.lines[1].is_needed_at_boot());
    }

    #[test]
    fn octal_escapes_are_undone() {
        // findmnt --fstab shows the same: "/mnt/my disk"
        assert_eq!(fstab(r"UUID=x /mnt/my\040disk ext4").lines[0].dir, b"/mnt/my disk");
    }

    #[test]
    fn a_backslash_that_is_no_escape_stays() {
        assert_eq!(unescape(br"a\9b\04"), br"a\9b\04");
        assert_eq!(unescape(br"a\+40b"), br"a\+40b");
    }

    #[test]
    fn a_subvolume_is_named_with_or_without_a_slash_or_by_its_number() {
        let of = |options: &str| fstab(&format!("UUID=x / btrfs {options}\n")).lines[0].subvolume();
        assert_eq!(of("rw,subvol=@home"), Some(Wanted::Path(b"@home".to_vec())));
        assert_eq!(of("subvol=/a/b/"), Some(Wanted::Path(b"a/b".to_vec())));
        assert_eq!(of("subvolid=257,noatime"), Some(Wanted::Id(257)));
        assert_eq!(of("subvolid=0"), Some(Wanted::Id(5)));
        assert_eq!(of("compress=zstd"), None);
    }

    #[test]
    fn a_device_behind_the_network_is_a_device_that_the_boot_does_not_wait_for() {
        let line = &fstab("UUID=x /x ext4 _netdev\n").lines[0];
        assert!(line.is_local() && !line.is_needed_at_boot());
    }

    #[test]
    fn what_is_no_device_is_not_needed() {
        let fstab = fstab("proc /proc proc\nserver:/x /x nfs\ntmpfs /tmp tmpfs\n/a /b none bind\n");
        assert!(fstab.lines.iter().all(|line| !line.is_needed_at_boot()));
    }
}
