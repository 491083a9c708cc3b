//! Ways to name a device, in `fstab`, `crypttab` and the kernel's `root=`. Which volume is meant, [`super::names`] says.
//!
//! ```text
//!   UUID=  LABEL=  PARTUUID=  PARTLABEL=  /dev/disk/by-…     what stands in superblocks and partition tables
//!   /dev/sda1  /dev/nvme0n1p3                                the kernel's count of disks: changes with the machine
//!   /dev/disk/by-id/ata-…-part1  …/by-path/pci-…             the old machine's hardware
//!   /dev/vg/root  /dev/mapper/vg-root  /dev/md0              what is made of volumes; names in crypttab and mdadm.conf
//! ```

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
    /// `/dev/disk/by-id/…-part1`, `/dev/disk/by-path/…`: a disk by its serial number or its connection.
    Hardware {
        /// The name without `-partN`.
        disk: Vec<u8>,
        /// Which partition of it; 0 is the disk.
        partition: u32,
    },
    /// Any other name below `/dev`: of something that is made of devices.
    Named(Vec<u8>),
    /// `/dev/root`: whatever the root is on.
    Root,
    /// `proc`, `tmpfs`, `none`, a network path; a floppy or a CD drive.
    NoDevice,
}

/// Drives whose medium is not part of the machine.
const REMOVABLE: &[&str] = &["fd", "sr", "scd", "cdrom", "cdrw", "dvd", "dvdrw", "floppy"];
/// Links of udev, below `/dev/disk/by-id/`, to something that is made of devices.
const MADE: &[&[u8]] = &[b"dm-", b"md-", b"lvm-"];

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
        if let Some(name) = value(b"ID=", b"/dev/disk/by-id/") {
            return if MADE.iter().any(|made| name.starts_with(made)) {
                Self::Named([b"/dev/disk/by-id/", name.as_slice()].concat())
            } else {
                hardware(&name)
            };
        }
        if let Some(name) = text.strip_prefix(b"/dev/disk/") {
            return hardware(name);
        }
        let Some(name) = text.strip_prefix(b"/dev/") else { return Self::NoDevice };
        if name == b"root" {
            return Self::Root;
        }
        let lower = id(name.to_vec());
        let drive = lower.trim_end_matches(|c: char| c.is_ascii_digit());
        if REMOVABLE.contains(&drive) {
            return Self::NoDevice;
        }
        kernel_name(&lower).unwrap_or_else(|| Self::Named(text.to_vec()))
    }
}

/// `scsi-0QEMU_DISK-part2`: the disk, and the partition.
fn hardware(name: &[u8]) -> Spec {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let at = name.len().saturating_sub(digits);
    let partition = || {
        let (disk, number) = name.split_at_checked(at)?;
        Some((disk.strip_suffix(b"-part")?, std::str::from_utf8(number).ok()?.parse().ok()?))
    };
    let (disk, partition) = partition().unwrap_or((name, 0));
    Spec::Hardware { disk: disk.to_vec(), partition }
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
        let code = code.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(Spec::parse(br"/dev/disk/by-label/a\x+1b"), Spec::Label(br"a\x+1b".to_vec()));
        assert_eq!(Spec::parse(b"UUID=\"x\""), Spec::Uuid("x".to_owned()));
    }

    #[test]
    fn a_drive_for_media_is_no_device_of_the_machine() {
        assert_eq!(Spec::parse(b"/dev/sr0"), Spec::NoDevice);
        assert_eq!(Spec::parse(b"/dev/cdrom"), Spec::NoDevice);
        assert_eq!(Spec::parse(b"/dev/fd0"), Spec::NoDevice);
    }
}
