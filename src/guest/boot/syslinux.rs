//! The menu of syslinux and extlinux: `LABEL`, `LINUX` or `KERNEL`, `APPEND`, `INITRD`, `DEFAULT` lines; files that it
//! includes are read too (syslinux wiki, "Config").

use super::{BootConfig, Entry};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::text::{Text, escape};

/// Where extlinux and syslinux look, after the directory that they are installed in.
const FILES: &[&str] = &[
    "/boot/extlinux/extlinux.conf",
    "/boot/extlinux/syslinux.cfg",
    "/boot/syslinux/syslinux.cfg",
    "/boot/syslinux/extlinux.conf",
    "/boot/extlinux.conf",
    "/boot/syslinux.cfg",
    "/extlinux/extlinux.conf",
    "/extlinux.conf",
    "/syslinux/syslinux.cfg",
    "/syslinux.cfg",
];
/// Files that one menu is made of: as deep as syslinux nests includes.
const MAX_FILES: usize = 16;

pub(super) fn read(tree: &Tree) -> Result<Option<BootConfig>> {
    let Some(file) = file::read_first(tree, FILES, MAX_CONFIG)? else { return Ok(None) };
    let directory = file.path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default().to_vec();
    let mut menu = Menu { directory, ..Menu::default() };
    let evidence = file.clone();
    menu.read(tree, &file)?;
    let (default, why) = menu.chosen();
    Ok(Some(BootConfig {
        loader: "syslinux",
        entries: menu.entries,
        default,
        evidence: Some(evidence.evidence(why.clone())),
        why,
    }))
}

#[derive(Default)]
struct Menu {
    entries: Vec<Entry>,
    /// The directory of the first file, at which paths without a slash start.
    directory: Vec<u8>,
    /// `DEFAULT`, the last one.
    wanted: Vec<u8>,
    /// `MENU DEFAULT` inside of a label.
    marked: Option<usize>,
    files: usize,
}

impl Menu {
    fn read(&mut self, tree: &Tree, file: &GuestFile) -> Result<()> {
        self.files = self.files.saturating_add(1);
        for (line, text) in file.lines() {
            let text = text.trim_ascii();
            let (key, rest) = split(text);
            let key = key.to_ascii_lowercase();
            match key.as_slice() {
                b"include" if self.files < MAX_FILES => {
                    let path = self.path(split(rest).0);
                    if let Some(included) = file::read(tree, &path, MAX_CONFIG)? {
                        self.read(tree, &included)?;
                    }
                }
                b"default" => self.wanted = rest.to_vec(),
                b"label" => self.entries.push(Entry {
                    title: Text::from(rest),
                    id: rest.to_vec(),
                    number: self.entries.len().to_string(),
                    evidence: file.evidence("boot menu entry").line(line, text),
                    ..Entry::default()
                }),
                b"menu" => {
                    let (word, rest) = split(rest);
                    if word.eq_ignore_ascii_case(b"default") && !self.entries.is_empty() {
                        self.marked = self.entries.len().checked_sub(1);
                    }
                    if word.eq_ignore_ascii_case(b"label")
                        && let Some(entry) = self.entries.last_mut()
                    {
                        // A caret marks the key that chooses the entry.
                        entry.title =
                            Text::new(rest.iter().copied().filter(|byte| *byte != b'^').collect::<Vec<u8>>());
                    }
                }
                b"linux" | b"kernel" => {
                    let kernel = self.path(split(rest).0);
                    let is_module = kernel.ends_with(b".c32");
                    let Some(entry) = self.entries.last_mut().filter(|_| !is_module) else { continue };
                    entry.kernel = kernel;
                    entry.evidence = file.evidence("boots this kernel").line(line, text);
                }
                b"append" => self.append(rest),
                b"initrd" => {
                    let files: Vec<Vec<u8>> =
                        rest.split(|byte| *byte == b',').map(|path| self.path(path)).collect();
                    if let Some(entry) = self.entries.last_mut() {
                        entry.initrds = files;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The kernel's arguments, among them `initrd=FILE,FILE`.
    fn append(&mut self, rest: &[u8]) {
        let words: Vec<&[u8]> = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let named = words.iter().find_map(|word| word.strip_prefix(b"initrd="));
        let files =
            named.map(|files| files.split(|byte| *byte == b',').map(|path| self.path(path)).collect());
        let Some(entry) = self.entries.last_mut() else { return };
        entry.args = words.iter().map(|word| word.to_vec()).collect();
        if let Some(files) = files {
            entry.initrds = files;
        }
    }

    fn path(&self, named: &[u8]) -> Vec<u8> {
        let named = named.trim_ascii();
        if named.starts_with(b"/") {
            named.to_vec()
        } else {
            [self.directory.as_slice(), b"/", named].concat()
        }
    }

    fn chosen(&self) -> (Option<usize>, String) {
        if let Some(marked) = self.marked {
            return (Some(marked), "an entry is marked MENU DEFAULT".to_owned());
        }
        // With a menu, DEFAULT names the program that shows it, and the first entry is chosen.
        let is_program = self.wanted.ends_with(b".c32");
        if self.wanted.is_empty() || is_program {
            let first = (!self.entries.is_empty()).then_some(0);
            return (first, "no default is set, so the first entry boots".to_owned());
        }
        let name = split(&self.wanted).0;
        let at = self.entries.iter().position(|entry| entry.id == name || entry.id == self.wanted);
        (at, format!("default is entry '{}'", escape(&self.wanted)))
    }
}

/// The first word, and what follows it.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    (word, rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    fn config(files: &[(&str, &str)]) -> BootConfig {
        read(&MemoryFs::tree(files)).unwrap().unwrap()
    }

    #[test]
    fn the_default_of_extlinux_is_a_label() {
        // As Debian's extlinux-update writes it.
        let linux = "default l1\nlabel l0\n\tmenu label ^Debian, 5.10\n\tlinux /boot/vmlinuz-5.10\n\tappend initrd=/boot/initrd.img-5.10 root=/dev/sda1 ro\nlabel l1\n\tlinux /boot/vmlinuz-6.1\n\tinitrd /boot/initrd.img-6.1\n\tappend root=UUID=a-b ro quiet\n";
        let config = config(&[
            ("/boot/extlinux/extlinux.conf", "default vesamenu.c32\nprompt 0\ninclude linux.cfg\n"),
            ("/boot/extlinux/linux.cfg", linux),
        ]);
        let entry = config.default_entry().unwrap();
        assert_eq!(
            (entry.kernel.as_slice(), entry.arg("root")),
            (&b"/boot/vmlinuz-6.1"[..], Some(&b"UUID=a-b"[..]))
        );
        assert_eq!(entry.initrds, [b"/boot/initrd.img-6.1"]);
        assert_eq!(
            (config.entries[0].title.to_string().as_str(), config.entries[0].initrds.len()),
            ("Debian, 5.10", 1)
        );
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let config =
            config(&[("/boot/extlinux/extlinux.conf", "label a\nkernel vmlinuz\ninclude extlinux.conf\n")]);
        assert_eq!(config.entries[0].kernel, b"/boot/extlinux/vmlinuz");
        assert_eq!(config.entries.len(), MAX_FILES);
    }
}
