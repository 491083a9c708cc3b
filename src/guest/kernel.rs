//! The kernels of a guest and what they can drive: images in `/boot`, modules in `/lib/modules`, what is built in.

use super::evidence::Evidence;
use super::file::{self, GuestFile, MAX_CONFIG};
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::text::{Text, escape};
use std::collections::{BTreeMap, BTreeSet};

/// The longest `modules.dep` that is read; a full distribution kernel's has some 600 KiB.
const MAX_DEP: u64 = 16 << 20;

/// One kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as `uname -r` would print it.
    pub release: Text,
    /// Its image, if there is one.
    pub image: Option<Text>,
    /// Has it a directory in `/lib/modules`?
    pub has_modules: bool,
    /// Where it was seen.
    pub evidence: Evidence,
}

/// File names of kernel images, in front of the release.
const IMAGES: &[&[u8]] = &[b"vmlinuz-", b"vmlinux-", b"kernel-", b"Image-"];

/// The release in the name of a kernel image: `vmlinuz-6.1.0-50-cloud-amd64`.
#[must_use]
pub fn release_of(path: &[u8]) -> Option<&[u8]> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    IMAGES.iter().find_map(|prefix| name.strip_prefix(*prefix)).filter(|release| !release.is_empty())
}

/// Every kernel of a guest, sorted by release as text.
///
/// # Errors
/// When `/boot` or `/lib/modules` cannot be read.
pub fn read(tree: &Tree) -> Result<Vec<Kernel>> {
    let mut found: BTreeMap<Vec<u8>, Kernel> = BTreeMap::new();
    for name in file::names(tree, "/lib/modules")? {
        let path = [b"/lib/modules/", name.as_slice()].concat();
        let Some(node) = tree.find(&path)? else { continue };
        if tree.stat(node)?.kind != FileType::Dir
            || !file::exists(tree, [&path[..], b"/modules.dep"].concat())?
        {
            continue;
        }
        let evidence = Evidence::new("modules of a kernel").on(tree.volume(node)).path(&path);
        found.insert(
            name.clone(),
            Kernel { release: Text::new(name), image: None, has_modules: true, evidence },
        );
    }
    for name in file::names(tree, "/boot")? {
        let path = [b"/boot/", name.as_slice()].concat();
        let Some(release) = release_of(&name) else { continue };
        let Some(node) = tree.find(&path)? else { continue };
        let stat = tree.stat(node)?;
        if stat.kind != FileType::File || stat.size == 0 {
            continue;
        }
        let evidence = Evidence::new("image of a kernel").on(tree.volume(node)).path(&path);
        let kernel = found.entry(release.to_vec()).or_insert_with(|| Kernel {
            release: Text::from(release),
            image: None,
            has_modules: false,
            evidence: evidence.clone(),
        });
        if kernel.image.is_none() {
            (kernel.image, kernel.evidence) = (Some(Text::from(&path[..])), evidence);
        }
    }
    Ok(found.into_values().collect())
}

/// What one kernel has built in and can load.
#[derive(Clone, Debug, Default)]
pub struct Drivers {
    /// Modules that are files, with the modules each needs; names with `_`.
    pub loadable: BTreeMap<String, Vec<String>>,
    /// Modules that are part of the kernel's image.
    pub built_in: BTreeSet<String>,
    /// `CONFIG_*=y` of `/boot/config-RELEASE`, if it is there.
    pub config: Option<Config>,
    /// The files these were read from.
    pub evidence: Vec<Evidence>,
}

/// The options a kernel was built with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Options that are `y`.
    pub yes: BTreeSet<String>,
    /// The file.
    pub evidence: Evidence,
}

impl Drivers {
    /// Is this driver part of the kernel's image?
    #[must_use]
    pub fn has_built_in(&self, module: &str) -> bool {
        let option = format!("CONFIG_{}", module.to_ascii_uppercase());
        self.built_in.contains(module)
            || self.config.as_ref().is_some_and(|config| config.yes.contains(&option))
    }

    /// A module and all that it needs, without what is built in.
    #[must_use]
    pub fn closure(&self, module: &str) -> BTreeSet<String> {
        let mut needed = BTreeSet::new();
        let mut queue = vec![module.to_owned()];
        while let Some(name) = queue.pop() {
            if self.has_built_in(&name) || needed.contains(&name) {
                continue;
            }
            queue.extend(self.loadable.get(&name).cloned().unwrap_or_default());
            needed.insert(name);
        }
        needed
    }
}

/// What the kernel of this release can drive.
///
/// # Errors
/// When one of its files is there but cannot be read.
pub fn drivers(tree: &Tree, release: &[u8]) -> Result<Drivers> {
    let mut found = Drivers::default();
    let path = |name: &str| [b"/lib/modules/", release, b"/", name.as_bytes()].concat();
    if let Some(file) = file::read(tree, path("modules.dep"), MAX_DEP)? {
        found.loadable = dependencies(&file);
        found.evidence.push(file.evidence(format!("{} loadable modules", found.loadable.len())));
    }
    if let Some(file) = file::read(tree, path("modules.builtin"), MAX_DEP)? {
        found.built_in = file.lines().filter_map(|(_, line)| module_name(line)).collect();
        found.evidence.push(file.evidence(format!("{} modules built in", found.built_in.len())));
    }
    let configs = [[b"/boot/config-", release].concat(), path("config")];
    for path in configs {
        let Some(file) = file::read(tree, path, MAX_CONFIG)? else { continue };
        let evidence = file.evidence(format!("options of kernel {}", escape(release)));
        let yes = file.lines().filter_map(|(_, line)| line.strip_suffix(b"=y"));
        let yes = yes.filter_map(|option| std::str::from_utf8(option).ok()).map(str::to_owned).collect();
        found.config = Some(Config { yes, evidence });
        break;
    }
    Ok(found)
}

/// `modules.dep` (depmod(8)): `path: path path`. Weak dependencies are not in it.
fn dependencies(file: &GuestFile) -> BTreeMap<String, Vec<String>> {
    let line = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (module, needs) = line.split_at_checked(colon)?;
        let needs = needs.get(1..)?.split(u8::is_ascii_whitespace).filter_map(module_name).collect();
        Some((module_name(module)?, needs))
    };
    file.lines().filter_map(|(_, text)| line(text)).collect()
}

/// The name of the module in a path like `kernel/drivers/block/virtio_blk.ko.xz`, with `_` for `-`, as the kernel
/// itself makes no difference between the two.
#[must_use]
pub fn module_name(path: &[u8]) -> Option<String> {
    let name = path.rsplit(|byte| *byte == b'/').next()?.trim_ascii_end();
    let packed: [&[u8]; 5] = [b".xz", b".zst", b".gz", b".lz4", b".bz2"];
    let name = packed.iter().find_map(|suffix| name.strip_suffix(*suffix)).unwrap_or(name);
    let name = name.strip_suffix(b".ko").filter(|name| !name.is_empty() && name.len() <= 255)?;
    Some(std::str::from_utf8(name).ok()?.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn module_names_are_exact_and_packing_falls_off() {
        assert_eq!(module_name(b"kernel/drivers/block/virtio-blk.ko.xz").as_deref(), Some("virtio_blk"));
        assert_eq!(module_name(b"nd_virtio.ko").as_deref(), Some("nd_virtio"));
        assert_eq!(module_name(b"virtio_blk.ko.sig"), None);
        assert_eq!(module_name(b".ko"), None);
    }

    #[test]
    fn dependencies_are_followed_and_built_in_ones_left_out() {
        let tree = MemoryFs::tree(&[
            (
                "/lib/modules/6.1/modules.dep",
                "k/virtio_blk.ko: k/virtio_ring.ko k/virtio.ko\nk/virtio_ring.ko: k/virtio.ko\nk/virtio.ko:\n",
            ),
            ("/lib/modules/6.1/modules.builtin", "kernel/drivers/virtio/virtio.ko\n"),
        ]);
        let drivers = drivers(&tree, b"6.1").unwrap();
        let needed: Vec<String> = drivers.closure("virtio_blk").into_iter().collect();
        assert_eq!(needed, ["virtio_blk", "virtio_ring"]);
    }

    #[test]
    fn an_option_y_is_built_in_and_m_is_not() {
        let tree = MemoryFs::tree(&[("/boot/config-6.1", "CONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=m\n")]);
        let drivers = drivers(&tree, b"6.1").unwrap();
        assert!(drivers.has_built_in("virtio_blk") && !drivers.has_built_in("virtio_net"));
    }

    #[test]
    fn a_kernel_is_its_image_and_its_modules() {
        let tree = MemoryFs::tree(&[
            ("/boot/vmlinuz-6.1", "MZ"),
            ("/boot/vmlinuz-5.10", ""),
            ("/lib/modules/6.1/modules.dep", ""),
            ("/lib/modules/leftover/x", ""),
        ]);
        let kernels = read(&tree).unwrap();
        assert_eq!(kernels.len(), 1);
        assert!(kernels[0].has_modules && kernels[0].image.is_some());
    }
}
