//! What each volume of a disk is for, and which could not be looked into: the ground for saying that a system is not
//! there at all.

use crate::fs::Content;
use crate::guest::Evidence;
use crate::guest::role::{Role, role};
use crate::stack::Stack;
use crate::volume::TableKind;

/// The volumes, looked through.
#[derive(Debug, Default)]
pub struct Survey {
    /// Every file system that was read.
    pub roles: Vec<(String, Role)>,
    /// Volumes with a signature of something that holds no Linux or Windows system: swap, FAT, an ISO 9660 medium.
    pub others: Vec<(String, &'static str)>,
    /// Volumes that may hold a system and were not read, one sentence each.
    pub unread: Vec<String>,
    /// The disk has no partition table and starts with nothing that we know.
    pub is_no_disk: bool,
    /// The disk, or every partition on it, is all zero where a signature would stand.
    pub is_blank: bool,
}

/// What never holds the root of a system that a cloud could import.
const NO_ROOT: &[&str] = &["swap", "vfat", "exfat", "iso9660"];
/// Partition types that are meant to hold no file system: BIOS boot (GRUB's core image), PReP, Microsoft reserved.
const RAW_TYPES: &[&str] = &[
    "21686148-6449-6e6f-744e-656564454649",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae",
    "0x41",
];

impl Survey {
    /// Looks through every volume of a disk.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        let mut found =
            Self { is_blank: stack.devices.iter().all(|device| device.is_blank), ..Self::default() };
        for content in &stack.contents {
            let volume = &content.volume;
            match &content.content {
                Err(error) => found.unread.push(format!("{volume} could not be read: {}", error.chain())),
                Ok(Content::Files(fs)) => match role(volume, fs) {
                    Ok(role) => found.roles.push((volume.clone(), role)),
                    Err(error) => {
                        found.unread.push(format!("{volume} could not be read: {}", error.chain()));
                    }
                },
                Ok(Content::Member(_)) => {}
                Ok(Content::Known(kind)) if NO_ROOT.contains(kind) => {
                    found.others.push((volume.clone(), kind));
                }
                Ok(Content::Known(kind)) => {
                    found.unread.push(format!("{volume} holds {kind}, which is not read yet"));
                }
                Ok(Content::Unknown) => found.unknown(stack, volume),
            }
        }
        if stack.discovery.table.kind == TableKind::None && !stack.discovery.warnings.is_empty() {
            found.unread.extend(stack.discovery.warnings.iter().cloned());
        }
        found
    }

    fn unknown(&mut self, stack: &Stack, volume: &str) {
        if volume == "disk" {
            self.is_no_disk = true;
            return;
        }
        let device = stack.devices.iter().find(|device| device.volume == volume);
        let partition = stack.volume(volume).and_then(|volume| volume.partition.as_ref());
        let is_raw = partition.is_some_and(|partition| RAW_TYPES.contains(&partition.type_code.as_str()));
        if !is_raw && !device.is_some_and(|device| device.is_blank) {
            self.unread.push(format!("{volume} holds something unknown"));
        }
    }

    /// One line of evidence for each volume.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        let roles = self.roles.iter().map(|(volume, role)| {
            role.evidence
                .first()
                .cloned()
                .unwrap_or_else(|| Evidence::new(format!("{:?}", role.purpose)).on(volume))
        });
        let others =
            self.others.iter().map(|(volume, kind)| Evidence::new(format!("holds {kind}")).on(volume));
        roles.chain(others).collect()
    }
}
