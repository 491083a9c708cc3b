//! GRUB 2's `grub.cfg`: every `menuentry` with its `linux` and `initrd` lines (GNU GRUB
//! Manual, "Writing full configuration files directly"). The words of each line are split as GRUB's shell does.
//! The script is not run: a condition counts as decided only where it compares what `grubenv` and the script itself
//! set, and what stands under any other may or may not hold.

use super::shell::{Branches, Environment, Values, words};
use super::{BootConfig, Entry, bls, without_device};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::{Evidence, excerpt};
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::text::escape;

const GRUB2: &[&str] = &["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
const ENVIRONMENT: &[&str] = &["/boot/grub/grubenv", "/boot/grub2/grubenv"];
/// Where systems of Red Hat mount the EFI system partition.
const ESP: &str = "/boot/efi/EFI";
/// Directories there that are looked at.
const MAX_SYSTEMS: usize = 32;
/// Menus in menus; GRUB itself sets no limit, generated files have one level.
const MAX_NESTING: usize = 16;
/// Values that `default` may have; a generated file has three.
const MAX_DEFAULTS: usize = 64;
/// Beside the menu: entries of the administrator's own, which it includes.
const CUSTOM: &str = "/custom.cfg";

pub(super) fn read(tree: &Tree) -> Result<Option<BootConfig>> {
    let environment = environment(tree)?;
    let file = match file::read_first(tree, GRUB2, MAX_CONFIG)? {
        Some(file) => Some(file),
        None => on_esp(tree, &environment)?,
    };
    let Some(file) = file else { return Ok(None) };
    let script = parse(&file, &environment, &mut |values| bls::of_grub(tree, values))?;
    let has_more = match file.path.rsplitn(2, |byte| *byte == b'/').nth(1) {
        Some(folder) => file::exists(tree, [folder, CUSTOM.as_bytes()].concat())?,
        None => false,
    };
    let (default, why) = script.chosen(has_more);
    let evidence = Some(file.evidence(why.clone()));
    Ok(Some(BootConfig { loader: "GRUB 2", entries: script.entries, default, why, evidence }))
}

/// The menu of a Red Hat system that boots by UEFI alone stands beside the loader. What stands there on others only
/// says where the menu is: it has no entries.
fn on_esp(tree: &Tree, environment: &Environment) -> Result<Option<GuestFile>> {
    for name in file::names(tree, ESP)?.into_iter().take(MAX_SYSTEMS) {
        let path = [ESP.as_bytes(), b"/", &name, b"/grub.cfg"].concat();
        if let Some(file) = file::read(tree, path, MAX_CONFIG)? {
            let mut wants_bls = false;
            let script = parse(&file, environment, &mut |_| {
                wants_bls = true;
                Ok(Vec::new())
            })?;
            if wants_bls || !script.entries.is_empty() {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

/// What a script says, as far as it is known without running it.
#[derive(Default)]
struct Script {
    entries: Vec<Entry>,
    /// Every entry and submenu by the names that `default` may call it.
    items: Vec<Item>,
    /// What `default` may hold in the end.
    defaults: Vec<Default>,
    values: Values,
}

/// A line of the menu or of a submenu.
struct Item {
    /// The number of the submenu that it is in; empty for the menu itself.
    menu: String,
    /// Its number there.
    index: u32,
    title: Vec<u8>,
    id: Vec<u8>,
    /// The entry that it is; a submenu is none.
    entry: Option<usize>,
}

/// A value that `default` may have.
struct Default {
    /// As written: `${saved_entry}`.
    written: Vec<u8>,
    /// `None` if only running the script would tell.
    value: Option<Vec<u8>>,
}

/// What an open brace belongs to.
enum Block {
    /// A menuentry, as an index into the entries.
    Entry(usize),
    /// A submenu, with its number.
    Submenu(String),
    /// A function, which nobody may call.
    Other,
}

/// Adds the entries of the Boot Loader Specification, for which the script's variables are needed.
type Bls<'a> = dyn FnMut(&Environment) -> Result<Vec<Entry>> + 'a;

fn parse(file: &GuestFile, environment: &Environment, bls: &mut Bls<'_>) -> Result<Script> {
    let mut script = Script { values: Values::of(environment), ..Script::default() };
    // Without any `set default` the first entry boots.
    script.defaults.push(Default { written: Vec::new(), value: Some(Vec::new()) });
    let mut open: Vec<Block> = Vec::new();
    let mut branches = Branches::default();
    // Entries and submenus seen so far in each open menu; the first is the top.
    let mut counts = vec![0_u32];
    for (line, text) in file.lines() {
        let all = words(text);
        for statement in all.split(|word| word == b";") {
            let Some((first, rest)) = branches.enter(statement, &script.values) else { continue };
            let is_outside = !open.iter().any(|block| matches!(block, Block::Entry(_) | Block::Other));
            match first.as_slice() {
                b"menuentry" | b"submenu" => {
                    let menu = menu(&open);
                    let Some(count) = counts.last_mut() else { continue };
                    let index = *count;
                    *count = count.saturating_add(1);
                    let opens = rest.last().is_some_and(|word| word == b"{");
                    let number = number(&menu, index);
                    let title = rest.first().cloned().unwrap_or_default();
                    let is_entry = first == b"menuentry";
                    script.items.push(Item {
                        menu,
                        index,
                        title: title.clone(),
                        id: id(rest),
                        entry: is_entry.then_some(script.entries.len()),
                    });
                    if is_entry {
                        script.entries.push(Entry {
                            title: excerpt(&title),
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
                b"function" if rest.last().is_some_and(|word| word == b"{") && open.len() < MAX_NESTING => {
                    open.push(Block::Other);
                }
                b"blscfg" if is_outside && branches.holds() != Some(false) => {
                    let menu = menu(&open);
                    for mut entry in bls(&script.values.known())? {
                        let Some(count) = counts.last_mut() else { continue };
                        entry.number = number(&menu, *count);
                        script.items.push(Item {
                            menu: menu.clone(),
                            index: *count,
                            title: entry.title.as_bytes().to_vec(),
                            id: entry.id.clone(),
                            entry: Some(script.entries.len()),
                        });
                        *count = count.saturating_add(1);
                        script.entries.push(entry);
                    }
                }
                b"set" if is_outside => {
                    for word in rest {
                        script.set(word, branches.holds());
                    }
                }
                command => {
                    let Some(Block::Entry(at)) = open.last() else { continue };
                    let Some(entry) = script.entries.get_mut(*at) else { continue };
                    let evidence = || file.evidence("boots this kernel").line(line, text);
                    fill(entry, command, rest, evidence);
                }
            }
        }
    }
    // Entries that boot no Linux (firmware set-up, memory tests, other systems) keep their numbers and stay.
    Ok(script)
}

/// Takes a command of an entry's body into the entry.
fn fill(entry: &mut Entry, command: &[u8], rest: &[Vec<u8>], evidence: impl Fn() -> Evidence) {
    let path = |words: &[Vec<u8>]| words.first().map(|path| without_device(path)).unwrap_or_default();
    match command {
        b"multiboot" | b"multiboot2" => {
            entry.hypervisor = plain(rest).first().map(|path| without_device(path));
        }
        // Under a hypervisor the kernel is the first module, its initramfs the next.
        b"module" | b"module2" if entry.hypervisor.is_some() => {
            let rest = plain(rest);
            if entry.kernel.is_empty() {
                entry.kernel = path(&rest);
                entry.args = rest.get(1..).unwrap_or_default().to_vec();
                entry.evidence = evidence();
            } else {
                entry.initrds.extend(rest.first().map(|path| without_device(path)));
            }
        }
        b"linux" | b"linux16" | b"linuxefi" => {
            entry.kernel = path(rest);
            entry.args = rest.get(1..).unwrap_or_default().to_vec();
            entry.evidence = evidence();
        }
        b"initrd" | b"initrd16" | b"initrdefi" => {
            entry.initrds = rest.iter().map(|path| without_device(path)).collect();
        }
        _ => {}
    }
}

/// Words without the options in front: `--nounzip`.
fn plain(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    words.iter().skip_while(|word| word.starts_with(b"--")).cloned().collect()
}

/// The number of the submenu that is open; empty for the menu itself.
fn menu(open: &[Block]) -> String {
    let inner = open.iter().rev().find_map(|block| match block {
        Block::Submenu(number) => Some(number.clone()),
        _ => None,
    });
    inner.unwrap_or_default()
}

fn number(menu: &str, index: u32) -> String {
    if menu.is_empty() { index.to_string() } else { format!("{menu}>{index}") }
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

/// `grubenv`: `KEY=value` lines, filled with `#` to 1024 bytes.
fn environment(tree: &Tree) -> Result<Environment> {
    let Some(file) = file::read_first(tree, ENVIRONMENT, MAX_CONFIG)? else { return Ok(Environment::new()) };
    let pair = |line: &[u8]| {
        let equals = line.iter().position(|byte| *byte == b'=').filter(|_| !line.starts_with(b"#"))?;
        let (key, value) = line.split_at_checked(equals)?;
        Some((key.to_vec(), value.get(1..)?.to_vec()))
    };
    Ok(file.lines().filter_map(|(_, line)| pair(line)).collect())
}

impl Script {
    /// `NAME=VALUE`, under a condition that holds, does not, or may.
    fn set(&mut self, word: &[u8], holds: Option<bool>) {
        let Some(equals) = word.iter().position(|byte| *byte == b'=') else { return };
        let Some((name, value)) = word.split_at_checked(equals) else { return };
        let written = value.get(1..).unwrap_or_default();
        if holds == Some(false) {
            return;
        }
        let value = self.values.expand(written);
        if name != b"default" {
            self.values.set(name, value.filter(|_| holds == Some(true)));
            return;
        }
        if holds == Some(true) {
            self.defaults.clear();
        }
        if self.defaults.len() < MAX_DEFAULTS {
            self.defaults.push(Default { written: written.to_vec(), value });
        }
    }

    /// The entry that boots if nobody chooses, and why. `has_more`: another file adds entries that are not read.
    fn chosen(&self, has_more: bool) -> (Option<usize>, String) {
        let untold = || (None, "only running the script would tell which entry is the default".to_owned());
        let Some(first) = self.first_in("") else { return (None, "the menu has no entries".to_owned()) };
        let mut found = Vec::new();
        for default in &self.defaults {
            let Some(value) = &default.value else { return untold() };
            let named = self.find(value);
            if named.is_none() && !value.is_empty() && has_more {
                return (None, format!("the default, '{}', may be an entry of {CUSTOM}", escape(value)));
            }
            found.push((default, value, named));
        }
        // Values that are possible must agree on the entry.
        let at = |named: &Option<usize>| named.unwrap_or(first);
        let Some((default, value, named)) = found.last() else { return untold() };
        if found.iter().any(|(_, _, other)| at(other) != at(named)) {
            return untold();
        }
        let shown = escape(value);
        let from = match () {
            () if contains(&default.written, b"next_entry") => {
                format!("grubenv asks for entry '{shown}' once")
            }
            () if contains(&default.written, b"saved_entry") => format!("grubenv saved entry '{shown}'"),
            () => format!("default is entry '{shown}'"),
        };
        let why = match named {
            Some(_) => from,
            None if value.is_empty() => "no default is set, so the first entry boots".to_owned(),
            // GNU GRUB, `grub-core/normal/menu.c`, `run_menu`.
            None => format!("{from}, which is not in the menu, so the first one boots"),
        };
        (Some(at(named)), why)
    }

    /// An entry by what `default` may hold: a number, an id, a title; those of the submenus around it before it, with `>`
    /// between them.
    fn find(&self, wanted: &[u8]) -> Option<usize> {
        let (mut menu, mut rest) = (String::new(), wanted);
        for depth in 0..=MAX_NESTING {
            let inside = || self.items.iter().filter(|item| item.menu == menu);
            let by_number = inside().find_map(|item| Some((item, is_number(item.index, rest)?)));
            let by = |name: fn(&Item) -> &[u8]| {
                inside().find_map(|item| Some((item, is_called(name(item), rest)?)))
            };
            let found = by_number.or_else(|| by(|item| &item.id)).or_else(|| by(|item| &item.title));
            let Some((item, inner)) = found else {
                // What is not in a submenu boots its first entry.
                return if depth == 0 { None } else { self.first_in(&menu) };
            };
            if item.entry.is_some() {
                return item.entry;
            }
            (menu, rest) = (number(&item.menu, item.index), inner);
        }
        None
    }

    /// The first entry of a menu, or of the submenu that comes first there.
    fn first_in(&self, menu: &str) -> Option<usize> {
        let mut menu = menu.to_owned();
        for _ in 0..=MAX_NESTING {
            let first = self.items.iter().find(|item| item.menu == menu)?;
            if first.entry.is_some() {
                return first.entry;
            }
            menu = number(&first.menu, first.index);
        }
        None
    }
}

/// Does `wanted` start with this number? What stands behind the `>` then.
fn is_number(index: u32, wanted: &[u8]) -> Option<&[u8]> {
    let end = wanted.iter().position(|byte| *byte == b'>').unwrap_or(wanted.len());
    let (number, rest) = wanted.split_at_checked(end)?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    (number == index).then(|| rest.strip_prefix(b">").unwrap_or(rest))
}

/// Does `wanted` start with this name? What stands behind the `>` then; one that is part of the name is doubled.
fn is_called<'w>(name: &[u8], wanted: &'w [u8]) -> Option<&'w [u8]> {
    if name.is_empty() {
        return None;
    }
    let mut wanted = wanted;
    for byte in name {
        wanted = wanted.strip_prefix(&[*byte])?;
        if *byte == b'>' {
            wanted = wanted.strip_prefix(b">")?;
        }
    }
    match wanted.strip_prefix(b">") {
        Some(rest) if !rest.starts_with(b">") => Some(rest),
        _ => wanted.is_empty().then_some(wanted),
    }
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
        let script = DEBIAN
            .replace("[ \"${next_entry}\" ]", "[ \"${grub_platform}\" = efi ]")
            .replace("default=\"${next_entry}\"", "default=\"2\"");
        let config = config(&[("/boot/grub/grub.cfg", &script)]);
        assert!(config.default.is_none(), "{}", config.why);
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

    /// Shaped as `grub2-mkconfig` 2.06 of Fedora 40 writes it.
    const FEDORA: &str = r#"
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if  [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  else
    decrement boot_counter
  fi
  save_env boot_counter
fi
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=UUID=f ro "
fi
insmod blscfg
blscfg
if [ "$grub_platform" = "efi" ]; then
	menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
		fwsetup
	}
fi
"#;

    fn fedora(environment: &str) -> BootConfig {
        config(&[
            ("/boot/grub2/grub.cfg", FEDORA),
            ("/boot/grub2/grubenv", environment),
            (
                "/boot/loader/entries/m-0-rescue.conf",
                "title R\nversion 0-rescue-m\nlinux /vmlinuz-0-rescue-m\n",
            ),
            (
                "/boot/loader/entries/m-4.18.0-80.el8.x86_64.conf",
                "title A\nversion 4.18.0-80.el8.x86_64\nlinux /vmlinuz-80\noptions $kernelopts\n",
            ),
            (
                "/boot/loader/entries/m-4.18.0-80.1.2.el8_0.x86_64.conf",
                "title B\nversion 4.18.0-80.1.2.el8_0.x86_64\nlinux /vmlinuz-80.1.2\noptions $kernelopts\n",
            ),
        ])
    }

    #[test]
    fn without_a_saved_entry_the_newest_one_boots() {
        // The rollback's `set default=1` stands under a counter that is not set, the firmware's entry behind blscfg.
        let config = fedora("# GRUB Environment Block\nboot_success=0\n");
        let entry = config.default_entry().unwrap();
        assert_eq!(entry.kernel, b"/vmlinuz-80.1.2", "{}", config.why);
        assert_eq!(entry.arg("root"), Some(&b"UUID=f"[..]));
        let numbers: Vec<&str> = config.entries.iter().map(|entry| entry.number.as_str()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3"]);
        assert_eq!(fedora("boot_counter=0\nboot_success=0\n").default, Some(1));
        assert_eq!(fedora("boot_counter=2\nboot_success=0\n").default, Some(0));
    }

    #[test]
    fn a_saved_entry_that_is_gone_boots_the_first() {
        assert_eq!(
            fedora("saved_entry=m-4.18.0-80.el8.x86_64\n").default_entry().unwrap().kernel,
            b"/vmlinuz-80"
        );
        let gone = fedora("saved_entry=m-4.18.0-79.el8.x86_64\n");
        assert_eq!(gone.default_entry().unwrap().kernel, b"/vmlinuz-80.1.2");
        assert!(gone.why.contains("not in the menu"), "{}", gone.why);
        let files =
            [("/boot/grub/grub.cfg", &*DEBIAN.replace("=\"0\"", "=\"mine\"")), ("/boot/grub/custom.cfg", "")];
        assert_eq!(config(&files).default, None);
        assert_eq!(config(&files[..1]).default, Some(0));
    }

    #[test]
    fn an_entry_in_a_submenu_is_named_by_its_path() {
        let default = |value: &str| {
            config(&[("/boot/grub/grub.cfg", &DEBIAN.replace("=\"0\"", &format!("=\"{value}\"")))]).default
        };
        for value in [
            "1>0",
            "1",
            "Advanced options",
            "Advanced options>Debian GNU/Linux, with Linux 5.10",
            "gnulinux-advanced-1>gnulinux-5.10",
            "1>7",
        ] {
            assert_eq!(default(value), Some(1), "{value}");
        }
        // GRUB does not look into submenus, so the first entry boots.
        assert_eq!(default("gnulinux-5.10"), Some(0));
        assert_eq!(default("Other"), Some(2));
    }
}
