//! GRUB 2's `grub.cfg`: every `menuentry` with its `linux` and `initrd` lines (GNU GRUB
//! Manual, "Writing full configuration files directly"). The words of each line are split as GRUB's shell does;
//! variables are not expanded, conditions not decided.

use super::{BootConfig, Entry, bls, without_device};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::excerpt;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::text::escape;
use std::collections::BTreeMap;

const GRUB2: &[&str] = &["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
const ENVIRONMENT: &[&str] = &["/boot/grub/grubenv", "/boot/grub2/grubenv"];
/// Where systems of Red Hat mount the EFI system partition.
const ESP: &str = "/boot/efi/EFI";
/// Directories there that are looked at.
const MAX_SYSTEMS: usize = 32;
/// Menus in menus; GRUB itself sets no limit, generated files have one level.
const MAX_NESTING: usize = 16;

pub(super) fn read(tree: &Tree) -> Result<Option<BootConfig>> {
    let file = match file::read_first(tree, GRUB2, MAX_CONFIG)? {
        Some(file) => Some(file),
        None => on_esp(tree)?,
    };
    let Some(file) = file else { return Ok(None) };
    let environment = environment(tree)?;
    let mut script = parse(&file);
    if script.wants_bls {
        let before = script.entries.len();
        script.entries.extend(bls::read(tree, bls::DIR, &environment, &script.variables)?);
        for (index, entry) in script.entries.iter_mut().enumerate().skip(before) {
            entry.number = index.to_string();
        }
    }
    let (default, why) = default(&script, &environment);
    let evidence = Some(file.evidence(why.clone()));
    Ok(Some(BootConfig { loader: "GRUB 2", entries: script.entries, default, why, evidence }))
}

/// The menu of a Red Hat system that boots by UEFI alone stands beside the loader. What stands there on others only
/// says where the menu is: it has no entries.
fn on_esp(tree: &Tree) -> Result<Option<GuestFile>> {
    for name in file::names(tree, ESP)?.into_iter().take(MAX_SYSTEMS) {
        let path = [ESP.as_bytes(), b"/", &name, b"/grub.cfg"].concat();
        if let Some(file) = file::read(tree, path, MAX_CONFIG)? {
            let script = parse(&file);
            if script.wants_bls || !script.entries.is_empty() {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

#[derive(Default)]
struct Script {
    entries: Vec<Entry>,
    /// `set default=`, every one, in order.
    defaults: Vec<Vec<u8>>,
    /// Every other `set NAME=VALUE`; the last wins.
    variables: BTreeMap<Vec<u8>, Vec<u8>>,
    wants_bls: bool,
}

/// What an open brace belongs to.
enum Block {
    /// A menuentry, as an index into the entries.
    Entry(usize),
    /// A submenu, with its number.
    Submenu(String),
    /// A function, of no interest.
    Other,
}

fn parse(file: &GuestFile) -> Script {
    let mut script = Script::default();
    let mut open: Vec<Block> = Vec::new();
    // Entries and submenus seen so far in each open menu; the first is the top.
    let mut counts = vec![0_u32];
    for (line, text) in file.lines() {
        let words = words(text);
        let Some((first, rest)) = words.split_first() else { continue };
        match first.as_slice() {
            b"menuentry" | b"submenu" => {
                let number = number(&open, counts.last().copied().unwrap_or(0));
                if let Some(count) = counts.last_mut() {
                    *count = count.saturating_add(1);
                }
                let opens = words.last().is_some_and(|word| word == b"{");
                if first == b"menuentry" {
                    script.entries.push(Entry {
                        title: rest.first().map(|title| excerpt(title)).unwrap_or_default(),
                        id: id(rest),
                        number,
                        evidence: file.evidence("boot menu entry").line(line, text),
                        ..Entry::default()
                    });
                    if opens && open.len() < MAX_NESTING {
                        open.push(Block::Entry(script.entries.len().saturating_sub(1)));
                    }
                } else if opens && open.len() < MAX_NESTING {
                    open.push(Block::Submenu(number));
                    counts.push(0);
                }
            }
            b"}" => {
                if let Some(Block::Submenu(_)) = open.pop() {
                    counts.pop();
                }
            }
            b"function" if words.last().is_some_and(|word| word == b"{") && open.len() < MAX_NESTING => {
                open.push(Block::Other);
            }
            b"blscfg" => script.wants_bls = true,
            b"set" => {
                for word in rest {
                    let Some(equals) = word.iter().position(|byte| *byte == b'=') else { continue };
                    let Some((name, value)) = word.split_at_checked(equals) else { continue };
                    let value = value.get(1..).unwrap_or_default().to_vec();
                    if name == b"default" {
                        script.defaults.push(value);
                    } else {
                        script.variables.insert(name.to_vec(), value);
                    }
                }
            }
            command => {
                let Some(Block::Entry(at)) = open.last() else { continue };
                let Some(entry) = script.entries.get_mut(*at) else { continue };
                if matches!(command, b"multiboot" | b"multiboot2") {
                    entry.hypervisor = plain(rest).first().map(|path| without_device(path));
                } else if matches!(command, b"module" | b"module2") && entry.hypervisor.is_some() {
                    // Under a hypervisor the kernel is the first module, its initramfs the next.
                    let rest = plain(rest);
                    if entry.kernel.is_empty() {
                        entry.kernel = rest.first().map(|path| without_device(path)).unwrap_or_default();
                        entry.args = rest.get(1..).unwrap_or_default().to_vec();
                        entry.evidence = file.evidence("boots this kernel").line(line, text);
                    } else {
                        entry.initrds.extend(rest.first().map(|path| without_device(path)));
                    }
                } else if matches!(command, b"linux" | b"linux16" | b"linuxefi") {
                    entry.kernel = rest.first().map(|path| without_device(path)).unwrap_or_default();
                    entry.args = rest.get(1..).unwrap_or_default().to_vec();
                    entry.evidence = file.evidence("boots this kernel").line(line, text);
                } else if matches!(command, b"initrd" | b"initrd16" | b"initrdefi") {
                    entry.initrds = rest.iter().map(|path| without_device(path)).collect();
                }
            }
        }
    }
    // Entries that boot no Linux (firmware set-up, memory tests, other systems) keep their numbers and stay.
    script
}

/// Words without the options in front: `--nounzip`.
fn plain(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    words.iter().skip_while(|word| word.starts_with(b"--")).cloned().collect()
}

fn number(open: &[Block], count: u32) -> String {
    let outer = open.iter().rev().find_map(|block| match block {
        Block::Submenu(number) => Some(number),
        _ => None,
    });
    outer.map_or_else(|| count.to_string(), |outer| format!("{outer}>{count}"))
}

/// `--id NAME`, or what Debian and Red Hat write instead: `$menuentry_id_option NAME`.
fn id(words: &[Vec<u8>]) -> Vec<u8> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(id) = word.strip_prefix(b"--id=") {
            return id.to_vec();
        }
        if word == b"--id" || word == b"$menuentry_id_option" || word == b"${menuentry_id_option}" {
            return words.next().cloned().unwrap_or_default();
        }
    }
    Vec::new()
}

/// The words of a line; quotes and backslashes as in GRUB's shell; a `#` at the start of a word begins a comment.
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(b'"') | None, b'\\') => word.get_or_insert_default().extend(bytes.next()),
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b'#') if word.is_none() => break,
            (None, b' ' | b'\t' | b';') => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// `grubenv`: `KEY=value` lines, filled with `#` to 1024 bytes.
pub(super) type Environment = BTreeMap<Vec<u8>, Vec<u8>>;

fn environment(tree: &Tree) -> Result<Environment> {
    let Some(file) = file::read_first(tree, ENVIRONMENT, MAX_CONFIG)? else { return Ok(Environment::new()) };
    let pair = |line: &[u8]| {
        let equals = line.iter().position(|byte| *byte == b'=').filter(|_| !line.starts_with(b"#"))?;
        let (key, value) = line.split_at_checked(equals)?;
        Some((key.to_vec(), value.get(1..)?.to_vec()))
    };
    Ok(file.lines().filter_map(|(_, line)| pair(line)).collect())
}

fn default(script: &Script, environment: &Environment) -> (Option<usize>, String) {
    let saved = |name: &[u8]| environment.get(name).filter(|value| !value.is_empty());
    if let Some(next) = saved(b"next_entry")
        && let Some(at) = find(&script.entries, next)
    {
        return (Some(at), format!("grubenv asks for entry '{}' once", escape(next)));
    }
    // A value that is no variable wins; among several, the last one that is set outside a condition cannot be told
    // apart, so they must agree on the entry.
    let literal: Vec<&Vec<u8>> = script.defaults.iter().filter(|value| !value.contains(&b'$')).collect();
    let wants_saved = script.defaults.iter().any(|value| contains(value, b"saved_entry"));
    if wants_saved && let Some(entry) = saved(b"saved_entry") {
        return match find(&script.entries, entry) {
            Some(at) => (Some(at), format!("grubenv saved entry '{}'", escape(entry))),
            None => (None, format!("grubenv saved entry '{}', which is not in the menu", escape(entry))),
        };
    }
    let found: Vec<Option<usize>> = literal.iter().map(|value| find(&script.entries, value)).collect();
    match found.as_slice() {
        [] if script.entries.is_empty() => (None, "the menu has no entries".to_owned()),
        [] => (Some(0), "no default is set, so the first entry boots".to_owned()),
        [Some(first), rest @ ..] if rest.iter().all(|other| *other == Some(*first)) => (
            Some(*first),
            format!("default is entry '{}'", escape(literal.first().map_or(b"", |value| value.as_slice()))),
        ),
        [None, ..] if script.entries.is_empty() => (None, "the menu has no entries".to_owned()),
        _ => (None, "only running the script would tell which entry is the default".to_owned()),
    }
}

/// An entry by what `default` may hold: a number, an id, a title, or such names with `>` between them.
fn find(entries: &[Entry], wanted: &[u8]) -> Option<usize> {
    let last = wanted.rsplit(|byte| *byte == b'>').next().unwrap_or(wanted);
    let by = |matches: &dyn Fn(&Entry) -> bool| entries.iter().position(matches);
    by(&|entry| entry.number.as_bytes() == wanted)
        .or_else(|| by(&|entry| !entry.id.is_empty() && entry.id == last))
        .or_else(|| by(&|entry| !entry.title.is_empty() && entry.title.as_bytes() == last))
        // A number that names a submenu boots that submenu's first entry.
        .or_else(|| {
            by(&|entry| {
                entry.number.as_bytes().strip_prefix(wanted).is_some_and(|rest| rest.starts_with(b">"))
            })
        })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    /// Shaped as `grub-mkconfig` 2.06 of Debian 12 writes it.
    const DEBIAN: &str = r#"
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="0"
fi
function load_video {
  insmod all_video
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	linux	/boot/vmlinuz-6.1.0-50-cloud-amd64 root=UUID=a-b ro  quiet
	initrd	/boot/initrd.img-6.1.0-50-cloud-amd64
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian GNU/Linux, with Linux 5.10' $menuentry_id_option 'gnulinux-5.10' {
		linux	/boot/vmlinuz-5.10 root=/dev/sda1 ro
	}
}
menuentry 'Other' {
	chainloader +1
}
"#;

    fn config(files: &[(&str, &str)]) -> BootConfig {
        read(&MemoryFs::tree(files)).unwrap().unwrap()
    }

    #[test]
    fn the_default_of_a_generated_file_is_its_first_entry() {
        let config = config(&[("/boot/grub/grub.cfg", DEBIAN)]);
        let entry = config.default_entry().unwrap();
        assert_eq!(entry.kernel, b"/boot/vmlinuz-6.1.0-50-cloud-amd64");
        assert_eq!(entry.initrds, [b"/boot/initrd.img-6.1.0-50-cloud-amd64"]);
        assert_eq!(entry.arg("root"), Some(&b"UUID=a-b"[..]));
        assert_eq!(entry.evidence.line, Some(17));
        assert!(entry.has_arg("quiet"));
    }

    #[test]
    fn entries_are_numbered_as_grub_numbers_them() {
        let config = config(&[("/boot/grub/grub.cfg", DEBIAN)]);
        let numbers: Vec<&str> = config.entries.iter().map(|entry| entry.number.as_str()).collect();
        assert_eq!(numbers, ["0", "1>0", "2"]);
    }

    #[test]
    fn a_saved_entry_is_found_by_its_id() {
        let script = DEBIAN.replace("default=\"0\"", "default=\"${saved_entry}\"");
        let config = config(&[
            ("/boot/grub/grub.cfg", &script),
            (
                "/boot/grub/grubenv",
                "# GRUB Environment Block\nsaved_entry=gnulinux-advanced-1>gnulinux-5.10\n####",
            ),
        ]);
        assert_eq!(config.default, Some(1));
    }

    #[test]
    fn two_defaults_that_disagree_are_not_resolved() {
        let script = DEBIAN.replace("${next_entry}\"\n", "2\"\n");
        let config = config(&[("/boot/grub/grub.cfg", &script)]);
        assert!(config.default.is_none(), "{}", config.why);
    }

    #[test]
    fn quotes_and_comments_are_those_of_a_shell() {
        assert_eq!(words(b"a 'b c' \"d e\"f # g"), [&b"a"[..], b"b c", b"d ef"]);
    }

    #[test]
    fn boot_loader_entries_come_from_their_directory() {
        let config = config(&[
            (
                "/boot/grub2/grub.cfg",
                "set default=\"${saved_entry}\"\nset kernelopts=\"root=UUID=x ro\"\nblscfg\n",
            ),
            ("/boot/grub2/grubenv", "saved_entry=id-4.18.0-80\n"),
            (
                "/boot/loader/entries/id-4.18.0-80.conf",
                "title A\nversion 4.18.0-80\nlinux /vmlinuz-4.18.0-80\ninitrd /initramfs-4.18.0-80.img $tuned_initrd\noptions $kernelopts quiet\n",
            ),
            (
                "/boot/loader/entries/id-4.18.0-240.conf",
                "title B\nversion 4.18.0-240\nlinux /vmlinuz-4.18.0-240\noptions root=/dev/vda1\n",
            ),
        ]);
        let entry = config.default_entry().unwrap();
        assert_eq!(entry.kernel, b"/vmlinuz-4.18.0-80");
        assert_eq!(entry.initrds, [b"/initramfs-4.18.0-80.img"]);
        assert_eq!(entry.arg("root"), Some(&b"UUID=x"[..]));
        assert_eq!(config.entries[0].kernel, b"/vmlinuz-4.18.0-240");
    }
}
