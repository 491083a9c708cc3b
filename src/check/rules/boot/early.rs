//! The drivers that a kernel has before it sees its disk: what is built into it, and what its initramfs loads.

use super::entry::variable;
use crate::check::{Evidence, Words, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::guest::initramfs::End;
use crate::guest::kernel::Drivers;
use crate::text::escape;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The drivers of one kernel.
#[derive(Debug)]
pub(super) struct Early {
    /// What the guest's files say of this kernel.
    pub(super) drivers: Arc<Drivers>,
    /// Modules out of its initramfs; of those that were asked for.
    loaded: BTreeSet<String>,
    /// Is an initramfs loaded?
    has_initramfs: bool,
    /// The initramfs files that were read.
    pub(super) evidence: Vec<Evidence>,
}

impl Early {
    /// What a kernel has of these modules and all that they need, if it is started with these initramfs files.
    ///
    /// # Errors
    /// When nothing says what the kernel can drive, or one of the files is not there or cannot be read.
    pub(super) fn of(guest: &Guest, release: &[u8], initrds: &[Vec<u8>], modules: &[&str]) -> Result<Self> {
        let drivers = guest.drivers(release)?;
        if !drivers.is_known() {
            return Err(Error::unsupported(format!(
                "nothing in the guest says what kernel {} can drive: no modules.dep, modules.builtin or config of it",
                escape(release)
            )));
        }
        let wanted: BTreeSet<String> = modules.iter().flat_map(|name| drivers.closure(name)).collect();
        let mut early = Self {
            drivers,
            loaded: BTreeSet::new(),
            has_initramfs: !initrds.is_empty(),
            evidence: Vec::new(),
        };
        for named in initrds {
            let rest: BTreeSet<String> = wanted.difference(&early.loaded).cloned().collect();
            if rest.is_empty() {
                break;
            }
            let Some(file) = guest.boot_file(named)? else { return Err(not_there(named)) };
            let listing = guest.initramfs(&file, &rest)?;
            let virtio: Vec<&String> =
                listing.modules.iter().filter(|name| name.contains("virtio")).collect();
            let is_cut = matches!(listing.end, End::CutShort);
            early.evidence.push(file.evidence(format!(
                "{}, {} entries {}; of virtio: {}",
                listing.packing.join(" + "),
                listing.entries,
                if is_cut { "read until found" } else { "read to its end" },
                if virtio.is_empty() { "nothing".to_owned() } else { list(&virtio) }
            )));
            early.loaded.extend(rest.into_iter().filter(|module| listing.loads(module)));
        }
        Ok(early)
    }

    /// What this module and all that it needs lack; nothing if it is there.
    pub(super) fn lacks(&self, module: &str) -> BTreeSet<String> {
        self.drivers.closure(module).difference(&self.loaded).cloned().collect()
    }

    /// Is it part of the kernel itself?
    pub(super) fn is_built_in(&self, module: &str) -> bool {
        self.drivers.has_built_in(module)
    }

    /// That these are missing, as a phrase.
    pub(super) fn missing(&self, modules: &BTreeSet<String>) -> Words {
        let modules = list(&modules.iter().collect::<Vec<_>>());
        if self.has_initramfs {
            words!("the initramfs lacks {modules}", "initramfs 缺少 {modules}")
        } else {
            words!(
                "no initramfs is loaded, and the kernel lacks {modules}",
                "没有加载 initramfs，且内核未内置 {modules}"
            )
        }
    }
}

/// Names that are listed; a driver needs a handful of others.
const SHOWN: usize = 16;

/// Names of modules, which come out of the image.
pub(super) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let shown = names.iter().take(SHOWN).map(|name| escape(name.as_ref().as_bytes()).to_string());
    let mut shown: Vec<String> = shown.collect();
    if names.len() > SHOWN {
        shown.push(format!("… ({})", names.len()));
    }
    shown.join(", ")
}

/// A file of the menu that is needed to decide.
pub(super) fn not_there(path: &[u8]) -> Error {
    if path.contains(&b'$') {
        return variable(path);
    }
    Error::new(ErrorKind::NotFound, format!("{}, which the boot menu starts, is not there", escape(path)))
}
