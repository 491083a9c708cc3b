//! What a firmware would start from the disk, followed step by step as far as files: each [`Chain`] ends at a boot loader
//! that is whole, at the place where it breaks, or where nobody can follow it by looking.
//!
//! ```text
//! BIOS   first sector ── GRUB 2, GRUB legacy ──→ core image, wherever the sector points ──→ menu
//!                    └── Windows, syslinux, … ──→ active partition's first sector ──→ bootmgr, ldlinux.sys
//! UEFI   EFI system partition ──→ \EFI\BOOT\BOOTX64.EFI, \EFI\debian\shimx64.efi ──→ menu
//! ```

use super::{Evidence, Words};
use crate::error::Error;

mod bios;
mod esp;
mod grub;
mod partition;
mod sector;

pub(super) use bios::Bios;
pub(super) use esp::{EfiFile, Esp, Uefi, removable_name};

/// The way from the firmware to a boot loader.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// What was followed, in order.
    pub(super) steps: Vec<Evidence>,
    /// Where it ends.
    pub(super) end: End,
}

/// Where the way ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// At a boot loader that is there; its name.
    Loader(&'static str),
    /// Here, and the machine stops.
    Broken(Broken),
    /// At something that cannot be followed by looking.
    Unknown(Error),
}

/// A way that leads nowhere.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// What is wrong, as a sentence.
    pub(super) why: Words,
    /// What to do, if more than installing the boot loader anew.
    pub(super) fix: Option<Words>,
}

impl End {
    fn broken(why: Words) -> Self {
        Self::Broken(Broken { why, fix: None })
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(Error::unsupported(why))
    }
}
