//! `/etc/fstab`: what a guest mounts at boot, line by line, and which device each line means (fstab(5)).

use super::Device;
use super::evidence::Evidence;
use super::file::{self, GuestFile, MAX_CONFIG};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::text::{Text, escape};

/// The lines of an `fstab` that mean something.
#[derive(Clone, Debug, Default)]
pub struct Fstab {
    /// In the order in which they stand.
    pub lines: Vec<Line>,
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

impl Line {
    /// Has it this option?
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|given| given == option.as_bytes())
    }

    /// Does the boot stop when its device is not there? Not with `nofail`, `noauto` or an automount, and not for what
    /// has no device of this machine.
    #[must_use]
    pub fn is_needed_at_boot(&self) -> bool {
        self.is_local() && !["nofail", "noauto", "x-systemd.automount"].iter().any(|option| self.has(option))
    }

    /// Is it a swap area?
    #[must_use]
    pub fn is_swap(&self) -> bool {
        self.kind == b"swap"
    }

    /// Does it name a block device of the machine, not a kernel file system, the network or a bind mount?
    #[must_use]
    pub fn is_local(&self) -> bool {
        let network = ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "fuse.sshfs"];
        !matches!(self.spec(), Spec::NoDevice)
            && !network.iter().any(|kind| self.kind == kind.as_bytes())
            && !self.has("bind")
            && !self.has("rbind")
            && !self.has("_netdev")
    }

    /// What its first field means.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec::parse(&self.spec)
    }
}

/// A way to name a device, in `fstab` and as the kernel's `root=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `UUID=`, `/dev/disk/by-uuid/`.
    Uuid(String),
    /// `LABEL=`, `/dev/disk/by-label/`.
    Label(Vec<u8>),
    /// `PARTUUID=`, `/dev/disk/by-partuuid/`.
    PartUuid(String),
    /// `PARTLABEL=`, `/dev/disk/by-partlabel/`.
    PartLabel(Vec<u8>),
    /// `/dev/sda1`, `/dev/vdb2`, `/dev/nvme0n1p3`: a disk counted from 0 and a partition, 0 for the whole disk. The
    /// name is the kernel's and changes with the machine.
    Kernel {
        /// Which disk.
        disk: u32,
        /// Which partition of it; 0 is the disk.
        partition: u32,
    },
    /// Something that is made of devices, or a name given by udev, that cannot be resolved yet.
    Other(Vec<u8>),
    /// `proc`, `tmpfs`, `none`, a network path.
    NoDevice,
}

impl Spec {
    /// Reads one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let id = |text: Vec<u8>| String::from_utf8_lossy(&text).to_ascii_lowercase();
        let value = |tag: &[u8], dir: &[u8]| {
            text.strip_prefix(tag).map(unquote).or_else(|| text.strip_prefix(dir).map(unescape_udev))
        };
        if let Some(text) = value(b"UUID=", b"/dev/disk/by-uuid/") {
            return Self::Uuid(id(text));
        }
        if let Some(text) = value(b"LABEL=", b"/dev/disk/by-label/") {
            return Self::Label(text);
        }
        if let Some(text) = value(b"PARTUUID=", b"/dev/disk/by-partuuid/") {
            return Self::PartUuid(id(text));
        }
        if let Some(text) = value(b"PARTLABEL=", b"/dev/disk/by-partlabel/") {
            return Self::PartLabel(text);
        }
        let Some(name) = text.strip_prefix(b"/dev/") else { return Self::NoDevice };
        kernel_name(&id(name.to_vec())).unwrap_or_else(|| Self::Other(text.to_vec()))
    }
}

/// What a [`Spec`] means in one image.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    /// This device.
    Device(&'a Device),
    /// Nothing in this image.
    Absent,
    /// It cannot be said, and why.
    Unsure(String),
}

/// Looks a device up. What has no identity that we can read may be the one that is meant.
#[must_use]
pub fn resolve<'a>(spec: &Spec, devices: &'a [Device]) -> Found<'a> {
    let same = |text: &str, id: &Option<String>| id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(text));
    let find = |matches: &dyn Fn(&Device) -> bool| devices.iter().find(|device| matches(device));
    let found = match spec {
        Spec::Uuid(uuid) => find(&|device| same(uuid, &device.uuid)),
        Spec::Label(label) => find(&|device| !label.is_empty() && device.label.as_bytes() == label),
        Spec::PartUuid(uuid) => find(&|device| same(uuid, &device.part_uuid)),
        Spec::PartLabel(name) => find(&|device| !name.is_empty() && device.part_name.as_bytes() == name),
        Spec::Kernel { disk, partition } => find(&|device| {
            device.disk == *disk && device.part_number.unwrap_or(0) == *partition && device.is_of_the_disk()
        }),
        Spec::Other(_) | Spec::NoDevice => None,
    };
    if let Some(device) = found {
        return Found::Device(device);
    }
    match spec {
        // The kernel's own PARTUUID=…/PARTNROFF=1 counts from that partition.
        Spec::PartUuid(uuid) if uuid.contains('/') => {
            Found::Unsure(format!("{} is relative to a partition", escape(uuid.as_bytes())))
        }
        Spec::Uuid(_) | Spec::Label(_) => match find(&|device| device.may_hide_an_identity()) {
            Some(device) => Found::Unsure(format!(
                "{} holds {}, whose identity could not be read",
                device.volume,
                device.what()
            )),
            None => Found::Absent,
        },
        Spec::Other(name) => match find(&|device| device.is_made_of() || device.may_hide_an_identity()) {
            Some(device) => Found::Unsure(format!(
                "{} may be on {}, which holds {}",
                escape(name),
                device.volume,
                device.what()
            )),
            None if name.starts_with(b"/dev/disk/") => {
                Found::Unsure(format!("{} names a connection of the old machine", escape(name)))
            }
            None => Found::Absent,
        },
        _ => Found::Absent,
    }
}

/// `sda1`, `vdb`, `xvda2`, `hda5`, `nvme0n1p1`, `mmcblk0p2`.
fn kernel_name(name: &str) -> Option<Spec> {
    for prefix in ["xvd", "sd", "vd", "hd"] {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = rest.strip_prefix(letters)?;
        if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        // a..z, aa..: base 26 without a zero, as the kernel names SCSI disks.
        let disk = letters.bytes().try_fold(0_u32, |disk, letter| {
            disk.checked_mul(26)?.checked_add(u32::from(letter.checked_sub(b'a')?))?.checked_add(1)
        })?;
        return Some(Spec::Kernel { disk: disk.checked_sub(1)?, partition: number(digits)? });
    }
    for (prefix, between) in [("nvme", Some("n1")), ("mmcblk", None)] {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let digits = rest.len().checked_sub(rest.trim_start_matches(|c: char| c.is_ascii_digit()).len())?;
        let (disk, rest) = rest.split_at_checked(digits)?;
        let rest = match between {
            Some(between) => rest.strip_prefix(between)?,
            None => rest,
        };
        let partition = if rest.is_empty() { Some(0) } else { number(rest.strip_prefix('p')?) };
        return Some(Spec::Kernel { disk: disk.parse().ok()?, partition: partition? });
    }
    None
}

fn number(digits: &str) -> Option<u32> {
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

fn unquote(value: &[u8]) -> Vec<u8> {
    let inner = |quote: u8| value.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    inner(b'"').or_else(|| inner(b'\'')).unwrap_or(value).to_vec()
}

/// udev writes bytes that do not fit into a path as `\x20`.
fn unescape_udev(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\').then(|| tail.strip_prefix(b"x")?.get(..2)).flatten();
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

/// `\040` and the like, as getmntent(3) reads them.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = if byte == b'\\' { tail.get(..3) } else { None };
        let code = code.and_then(|octal| u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

/// Reads `/etc/fstab`; one without lines when there is none.
///
/// # Errors
/// When it is there but cannot be read.
pub fn read(tree: &Tree) -> Result<Fstab> {
    Ok(file::read(tree, "/etc/fstab", MAX_CONFIG)?.map(|file| parse(&file)).unwrap_or_default())
}

fn parse(file: &GuestFile) -> Fstab {
    let mut lines = Vec::new();
    for (number, text) in file.lines() {
        let mut fields = text.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let Some(spec) = fields.next().filter(|spec| !spec.starts_with(b"#")) else { continue };
        let Some(dir) = fields.next() else { continue };
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
    Fstab { lines }
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
    }

    #[test]
    fn kernel_names_are_disk_and_partition() {
        let kernel = |disk, partition| Spec::Kernel { disk, partition };
        assert_eq!(Spec::parse(b"/dev/sda1"), kernel(0, 1));
        assert_eq!(Spec::parse(b"/dev/xvdb"), kernel(1, 0));
        assert_eq!(Spec::parse(b"/dev/sdaa3"), kernel(26, 3));
        assert_eq!(Spec::parse(b"/dev/nvme0n1p15"), kernel(0, 15));
        assert_eq!(Spec::parse(b"/dev/mmcblk1p2"), kernel(1, 2));
    }

    #[test]
    fn by_paths_are_tags() {
        assert_eq!(Spec::parse(b"/dev/disk/by-uuid/ABCD-1234"), Spec::Uuid("abcd-1234".to_owned()));
        assert_eq!(Spec::parse(br"/dev/disk/by-label/my\x20disk"), Spec::Label(b"my disk".to_vec()));
        assert_eq!(Spec::parse(b"UUID=\"x\""), Spec::Uuid("x".to_owned()));
    }

    #[test]
    fn what_is_no_device_is_not_needed() {
        let fstab = fstab("proc /proc proc\nserver:/x /x nfs\ntmpfs /tmp tmpfs\n/a /b none bind\n");
        assert!(fstab.lines.iter().all(|line| !line.is_needed_at_boot()));
    }
}
