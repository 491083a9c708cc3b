//! The menu of systemd-boot: `loader.conf`, entries of the Boot Loader Specification, and unified kernel images, on the EFI
//! system partition and the extended boot partition (uapi-group.org: UAPI.1, UAPI.5; `loader.conf(5)`).

use super::bls::{self, Sorted};
use super::{BootConfig, Entry};
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
        for mut sorted in bls::read(tree, &format!("{place}/loader/entries"), &BTreeMap::new())? {
            // Paths start at the partition that the entry is on.
            let full = |path: &[u8]| [place.as_bytes(), path].concat();
            let entry = &mut sorted.entry;
            entry.kernel = full(&entry.kernel);
            entry.initrds = entry.initrds.iter().map(|path| full(path)).collect();
            // The loader knows it by the whole name of its file.
            entry.id.extend_from_slice(b".conf");
            entries.push(sorted);
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
        let is_image = |path: &[u8]| path.ends_with(b".efi") || path.ends_with(b".EFI");
        entries.retain(|sorted: &Sorted| is_image(&sorted.entry.kernel));
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

fn menu(mut sorted: Vec<Sorted>, wanted: &[u8], evidence: Option<crate::guest::Evidence>) -> BootConfig {
    sorted.sort_by(order);
    let mut entries: Vec<Entry> = sorted.into_iter().map(|sorted| sorted.entry).collect();
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

/// The order of the loader's menu: those with a key by that and by the machine, the newest first; then the others.
fn order(a: &Sorted, b: &Sorted) -> Ordering {
    let by_name = || bls::compare(&b.entry.id, &a.entry.id).then_with(|| b.entry.kernel.cmp(&a.entry.kernel));
    match (a.sort_key.is_empty(), b.sort_key.is_empty()) {
        (false, true) => Ordering::Less,
        (true, false) => Ordering::Greater,
        (true, true) => by_name(),
        (false, false) => (&a.sort_key, &a.machine_id)
            .cmp(&(&b.sort_key, &b.machine_id))
            .then_with(|| bls::compare(&b.version, &a.version))
            .then_with(by_name),
    }
}

/// A pattern with `*`, against an entry's id with or without its ending.
fn matches(pattern: &[u8], id: &[u8]) -> bool {
    let pattern = pattern.strip_suffix(b".conf").or_else(|| pattern.strip_suffix(b".efi")).unwrap_or(pattern);
    let id = id.strip_suffix(b".conf").or_else(|| id.strip_suffix(b".efi")).unwrap_or(id);
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
fn unified(tree: &Tree, path: &[u8]) -> Result<Option<Sorted>> {
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
    let entry = Entry {
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
    };
    let system = program.section(b".osrel").map_or_else(|| Ok(Vec::new()), text)?;
    let value = |keys: &[&[u8]]| {
        let of = |key: &&[u8]| {
            let line = system
                .split(|byte| *byte == b'\n')
                .find_map(|line| line.strip_prefix(*key)?.strip_prefix(b"="));
            line.map(|value| value.iter().copied().filter(|byte| !b"\"'".contains(byte)).collect::<Vec<u8>>())
        };
        keys.iter().find_map(of).unwrap_or_default()
    };
    Ok(Some(Sorted {
        entry,
        sort_key: value(&[b"IMAGE_ID", b"ID"]),
        machine_id: Vec::new(),
        version: value(&[b"IMAGE_VERSION", b"VERSION", b"VERSION_ID", b"BUILD_ID"]),
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
        assert_eq!(self::config("default *lts*\n").default_entry().unwrap().id, b"arch-lts.conf");
        assert!(self::config("default @saved\n").default.is_none());
    }

    #[test]
    fn entries_without_loader_conf_belong_to_another_loader() {
        assert!(read(&MemoryFs::tree(ENTRIES)).unwrap().is_none());
    }

    #[test]
    fn without_a_default_the_newest_by_the_sort_key_boots() {
        let entry = |name: &str, more: &str| {
            (format!("/boot/loader/entries/{name}.conf"), format!("linux /{name}\n{more}"))
        };
        let default = |entries: &[(String, String)]| {
            let mut files: Vec<(&str, &str)> =
                entries.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            files.push(("/boot/loader/loader.conf", "timeout 3\n"));
            read(&MemoryFs::tree(&files)).unwrap().unwrap().default_entry().unwrap().id.clone()
        };
        // systemd.strverscmp: '-' is before '.', so the fallback of Arch is not the first.
        assert_eq!(default(&[entry("arch", ""), entry("arch-fallback", "")]), b"arch.conf");
        assert_eq!(default(&[entry("m-6.9.9", ""), entry("m-6.10.1", "")]), b"m-6.10.1.conf");
        let keyed = |version: &str| format!("sort-key fedora\nversion {version}\n");
        assert_eq!(
            default(&[entry("z", ""), entry("b", &keyed("6.9")), entry("a", &keyed("6.10"))]),
            b"a.conf"
        );
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
