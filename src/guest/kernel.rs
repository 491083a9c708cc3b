//! The kernels of a guest and what they can drive: images in `/boot`, modules in `/lib/modules`, what is built in.

use super::evidence::Evidence;
use super::file::{self, GuestFile, MAX_CONFIG};
use super::{Fact, Guest};
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::{Node, Tree};
use crate::text::{Text, escape};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest `modules.dep` that is read; a full distribution kernel's has some 600 KiB.
const MAX_DEP: u64 = 4 << 20;
/// Kernels whose drivers are kept.
const MAX_KEPT: usize = 8;

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
    /// Was `modules.dep` read? Without it, what is not in `loadable` may be there all the same.
    pub lists_loadable: bool,
    /// Was `modules.builtin` read?
    pub lists_built_in: bool,
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
    /// Was anything read that tells what this kernel can drive?
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.lists_loadable || self.knows_built_in()
    }

    /// Was anything read that tells what is part of the kernel's image?
    #[must_use]
    pub const fn knows_built_in(&self) -> bool {
        self.lists_built_in || self.config.is_some()
    }

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
        let mut queue = vec![module];
        while let Some(name) = queue.pop() {
            if needed.contains(name) || self.has_built_in(name) {
                continue;
            }
            needed.insert(name.to_owned());
            let more = self.loadable.get(name).into_iter().flatten().map(String::as_str);
            queue.extend(more.filter(|name| !needed.contains(*name)));
        }
        needed
    }
}

/// The drivers of each kernel that was asked for: several rules ask for the same, and the lists are long.
#[derive(Debug, Default)]
pub struct EveryDriver {
    known: Mutex<BTreeMap<Vec<u8>, Arc<Drivers>>>,
}

impl EveryDriver {
    /// Of the kernel of this release.
    ///
    /// # Errors
    /// As [`drivers`].
    pub fn of(&self, tree: &Tree, release: &[u8]) -> Result<Arc<Drivers>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(drivers) = known.get(release) {
            return Ok(Arc::clone(drivers));
        }
        let drivers = Arc::new(drivers(tree, release)?);
        // A guest has a handful of kernels; a crafted one shall not have us keep the lists of thousands.
        if known.len() < MAX_KEPT {
            known.insert(release.to_vec(), Arc::clone(&drivers));
        }
        Ok(drivers)
    }
}

impl Fact for EveryDriver {
    fn read(_: &Guest) -> Result<Self> {
        Ok(Self::default())
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
        (found.loadable, found.lists_loadable) = (dependencies(&file), true);
        found.evidence.push(file.evidence(format!("{} loadable modules", found.loadable.len())));
    }
    if let Some(file) = file::read(tree, path("modules.builtin"), MAX_DEP)? {
        found.built_in = file.lines().filter_map(|(_, line)| module_name(line)).collect();
        found.lists_built_in = true;
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

/// Magic of a bzImage's header at byte 0x202, and where the header's `kernel_version` stands (Linux x86 boot protocol,
/// "The Real-Mode Kernel Header").
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const KERNEL_VERSION: usize = 0x20e;
/// What `kernel_version` counts from, in bytes.
const VERSION_BASE: u64 = 0x200;
/// The longest release that is read; `uname` has room for 64 bytes.
const MAX_RELEASE: usize = 128;

/// The release in the header of a bzImage; `None` when the file is none or has no release that could be a file's name.
///
/// # Errors
/// When the file cannot be read.
pub fn release_inside(tree: &Tree, node: Node) -> Result<Option<Vec<u8>>> {
    let mut head = [0; 0x210];
    let read = tree.read_at(node, &mut head, 0)?;
    let head = head.get(..read).unwrap_or_default();
    let Some(rest) = head.get(MAGIC.0..).filter(|rest| rest.starts_with(MAGIC.1)) else { return Ok(None) };
    let offset = rest.get(KERNEL_VERSION.saturating_sub(MAGIC.0)..).and_then(|rest| rest.first_chunk());
    let offset = offset.map_or(0, |bytes| u16::from_le_bytes(*bytes));
    if offset == 0 {
        return Ok(None);
    }
    let mut text = [0; MAX_RELEASE];
    let read = tree.read_at(node, &mut text, VERSION_BASE.saturating_add(u64::from(offset)))?;
    let text = text.get(..read).unwrap_or_default();
    // "6.1.0-9-amd64 (build@host) #1 SMP …" and a zero byte.
    let Some(end) = text.iter().position(|byte| matches!(byte, b' ' | 0)) else { return Ok(None) };
    let release = text.get(..end).unwrap_or_default();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+-~".contains(byte);
    let is_name = release.first().is_some_and(u8::is_ascii_digit) && release.iter().all(fits);
    Ok(is_name.then(|| release.to_vec()))
}

/// The name of the module in a path like `kernel/drivers/block/virtio_blk.ko.xz`, with `_` for `-`, as the kernel
/// itself makes no difference between the two. Every such name is printable ASCII; anything else names no module.
#[must_use]
pub fn module_name(path: &[u8]) -> Option<String> {
    let name = path.rsplit(|byte| *byte == b'/').next()?.trim_ascii_end();
    let packed: [&[u8]; 5] = [b".xz", b".zst", b".gz", b".lz4", b".bz2"];
    let name = packed.iter().find_map(|suffix| name.strip_suffix(*suffix)).unwrap_or(name);
    let name = name.strip_suffix(b".ko").filter(|name| !name.is_empty() && name.len() <= 255)?;
    let is_plain = name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\');
    Some(std::str::from_utf8(name).ok().filter(|_| is_plain)?.replace('-', "_"))
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
    fn a_name_that_a_terminal_would_obey_is_no_module() {
        for name in [&b"virtio\x1b[2J.ko"[..], b"virtio\\x1b.ko", "virtio\u{202e}.ko".as_bytes(), b"a b.ko"] {
            assert_eq!(module_name(name), None);
        }
        assert_eq!(module_name(&[vec![b'a'; 256], b".ko".to_vec()].concat()), None);
    }

    #[test]
    fn the_release_is_in_the_header_of_a_bzimage() {
        // Linux x86 boot protocol: with kernel_version 0x1c00 the string starts at byte 0x1e00.
        let mut image = vec![0; 0x2000];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x1c00_u16.to_le_bytes());
        image[0x1e00..0x1e18].copy_from_slice(b"6.6.1-arch1-1 (x@y) #1\0\0");
        let inside = |image: &[u8]| {
            let tree = Tree::new("p1", Arc::new(MemoryFs::new(&[("/vmlinuz-linux", image)])));
            release_inside(&tree, tree.find(b"/vmlinuz-linux").unwrap().unwrap()).unwrap()
        };
        assert_eq!(inside(&image).as_deref(), Some(&b"6.6.1-arch1-1"[..]));
        image[0x1e01] = b'/';
        assert_eq!(inside(&image), None);
        assert_eq!((inside(&image[..0x20f]), inside(b"kernel")), (None, None));
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
