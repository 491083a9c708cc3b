//! The menu of systemd-boot: `loader.conf`, entries of the Boot Loader Specification, and unified kernel images, on the EFI
//! system partition and the extended boot partition (uapi-group.org: UAPI.1, UAPI.5; `loader.conf(5)`).

use super::{BootConfig, Entry, bls};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::pe::{self, Section};
use crate::num::narrow;
use crate::text::{Text, escape};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Where the partitions are mounted.
const PLACES: &[&str] = &["/boot", "/efi", "/boot/efi"];
/// Unified kernel images that are looked at; a system keeps two or three.
const MAX_IMAGES: usize = 32;
/// The longest section of text in one.
const MAX_TEXT: u64 = 64 << 10;

pub(super) fn read(tree: &Tree) -> Result<Option<BootConfig>> {
    let (mut settings, mut entries) = (None, Vec::new());
    for place in PLACES {
        if settings.is_none() {
            settings = file::read(tree, format!("{place}/loader/loader.conf"), MAX_CONFIG)?;
        }
        for mut entry in
            bls::read(tree, &format!("{place}/loader/entries"), &BTreeMap::new(), &BTreeMap::new())?
        {
            // Paths start at the partition that the entry is on.
            let full = |path: &[u8]| [place.as_bytes(), path].concat();
            entry.kernel = full(&entry.kernel);
            entry.initrds = entry.initrds.iter().map(|path| full(path)).collect();
            entries.push(entry);
        }
        for name in file::names(tree, format!("{place}/EFI/Linux"))?.into_iter().take(MAX_IMAGES) {
            if name.to_ascii_lowercase().ends_with(b".efi") {
                let path = [place.as_bytes(), b"/EFI/Linux/", &name].concat();
                entries.extend(unified(tree, &path)?);
            }
        }
    }
    let Some(evidence) = settings.as_ref().map(|file| file.evidence("the menu's settings")) else {
        // Entries without the loader's settings are those of another loader; images are started by any.
        entries.retain(|entry| entry.kernel.ends_with(b".efi") || entry.kernel.ends_with(b".EFI"));
        return Ok((!entries.is_empty()).then(|| menu(entries, &[], None)));
    };
    let mut wanted = Vec::new();
    for (_, line) in settings.iter().flat_map(|file| file.lines()) {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.next() == Some(b"default") {
            wanted = words.next().unwrap_or_default().to_vec();
        }
    }
    Ok(Some(menu(entries, &wanted, Some(evidence))))
}

fn menu(mut entries: Vec<Entry>, wanted: &[u8], evidence: Option<crate::guest::Evidence>) -> BootConfig {
    // The newest first, as the loader sorts them.
    entries.sort_by(|a, b| match bls::compare(&b.id, &a.id) {
        Ordering::Equal => b.kernel.cmp(&a.kernel),
        order => order,
    });
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.number = index.to_string();
    }
    let (default, why) = if wanted.starts_with(b"@") {
        (None, "the firmware remembers which entry was the last".to_owned())
    } else if wanted.is_empty() {
        let first = (!entries.is_empty()).then_some(0);
        (first, "no default is set, so the newest entry boots".to_owned())
    } else {
        let at = entries.iter().position(|entry| matches(wanted, &entry.id));
        (at, format!("default is entry '{}'", escape(wanted)))
    };
    BootConfig { loader: "systemd-boot", entries, default, why, evidence }
}

/// A pattern with `*`, against an entry's id with or without its ending.
fn matches(pattern: &[u8], id: &[u8]) -> bool {
    let pattern = pattern.strip_suffix(b".conf").or_else(|| pattern.strip_suffix(b".efi")).unwrap_or(pattern);
    let id = id.strip_suffix(b".efi").unwrap_or(id);
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| id.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        if part.is_empty() {
            continue;
        }
        let Some(at) = rest.windows(part.len()).position(|window| window == part) else { return false };
        rest = rest.get(at.saturating_add(part.len())..).unwrap_or_default();
    }
    true
}

/// A kernel with its arguments and its initramfs in one program; `None` when it is none.
fn unified(tree: &Tree, path: &[u8]) -> Result<Option<Entry>> {
    let Some(node) = tree.find(path)? else { return Ok(None) };
    let Some(program) = pe::Program::read(tree, node)? else { return Ok(None) };
    let text = |section: Section| -> Result<Vec<u8>> {
        let mut bytes = vec![0; narrow(section.size.min(MAX_TEXT))];
        let read = tree.read_at(node, &mut bytes, section.offset)?;
        bytes.truncate(read);
        while bytes.last().is_some_and(|byte| matches!(byte, 0 | b'\n')) {
            bytes.pop();
        }
        Ok(bytes)
    };
    if program.section(b".linux").is_none() {
        return Ok(None);
    }
    let arguments = program.section(b".cmdline").map_or_else(|| Ok(Vec::new()), text)?;
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let evidence = crate::guest::Evidence::new("boots this kernel").on(tree.volume(node)).path(path);
    Ok(Some(Entry {
        title: Text::from(name),
        id: name.to_vec(),
        kernel: path.to_vec(),
        args: arguments
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec)
            .collect(),
        initrds: program.section(b".initrd").map(|_| path.to_vec()).into_iter().collect(),
        evidence,
        ..Entry::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    const ENTRIES: &[(&str, &str)] = &[
        (
            "/boot/loader/entries/arch.conf",
            "title Arch\nlinux /vmlinuz-linux\ninitrd /amd-ucode.img\ninitrd /initramfs-linux.img\noptions root=PARTUUID=a rw\n",
        ),
        (
            "/boot/loader/entries/arch-lts.conf",
            "title LTS\nlinux /vmlinuz-linux-lts\noptions root=PARTUUID=a\n",
        ),
    ];

    fn config(settings: &str) -> BootConfig {
        let files = [ENTRIES, &[("/boot/loader/loader.conf", settings)]].concat();
        read(&MemoryFs::tree(&files)).unwrap().unwrap()
    }

    #[test]
    fn loader_conf_names_the_default_by_a_pattern() {
        let config = config("timeout 3\ndefault arch.conf\n");
        let entry = config.default_entry().unwrap();
        assert_eq!(entry.kernel, b"/boot/vmlinuz-linux");
        assert_eq!(entry.initrds, [&b"/boot/amd-ucode.img"[..], b"/boot/initramfs-linux.img"]);
        assert_eq!(self::config("default *lts*\n").default_entry().unwrap().id, b"arch-lts");
        assert!(self::config("default @saved\n").default.is_none());
    }

    #[test]
    fn entries_without_loader_conf_belong_to_another_loader() {
        assert!(read(&MemoryFs::tree(ENTRIES)).unwrap().is_none());
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(
            matches(b"arch*", b"arch-lts")
                && matches(b"*-lts.conf", b"arch-lts")
                && matches(b"a*c*s", b"arch-lts")
        );
        assert!(!matches(b"arch", b"arch-lts") && !matches(b"b*", b"arch"));
    }
}
