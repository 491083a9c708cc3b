//! The words of mount(8) and fstab, said in ours: `SRC DIR -sfnv -o view=all,noexec,idle-exit=5m`.
//!
//! Every long option can be spelled `-o name=value`. Called as `mount.imgmount` we are the helper of mount(8), whose flags
//! come after the positional words and mean other things than ours.

use crate::cli::Exit;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// The names by which mount(8) calls its helper for the types `imgmount` and `fuse.imgmount`.
const HELPERS: &[&str] = &["mount.imgmount", "mount.fuse.imgmount"];

/// Are we the helper of mount(8)?
pub(in crate::cli) fn is_helper(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| HELPERS.iter().any(|helper| name == *helper))
}

/// An exit code in the terms of mount(8): 1 for what was asked, 2 for a fault of ours, 32 for a mount that failed.
pub(in crate::cli) const fn mount_code(exit: Exit) -> u8 {
    match exit.0 {
        0 => 0,
        2 => 1,
        70 => 2,
        _ => 32,
    }
}

/// The words as clap is to read them. What cannot be understood is left as it is, for the complaint to name it.
pub(in crate::cli) fn translate(words: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    if is_helper(words.first()) {
        return helper(&words, command);
    }
    let verb = words.get(1).and_then(|word| command.find_subcommand(word));
    if verb.is_some_and(|verb| verb.get_name() != "mount") {
        return words;
    }
    let mut said = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            said.push(word);
            said.extend(words);
            break;
        }
        match bytes.strip_prefix(b"-o") {
            Some([]) => match words.next() {
                Some(list) => said.extend(options(&list, command, Caller::Person)),
                None => said.push(word),
            },
            Some(list) => said.extend(options(OsStr::from_bytes(list), command, Caller::Person)),
            None => {
                let has_value = takes_value(bytes, command);
                said.push(word);
                if has_value {
                    said.extend(words.next());
                }
            }
        }
    }
    said
}

/// Does this option stand before its value, as in `--owner me`?
fn takes_value(word: &[u8], command: &clap::Command) -> bool {
    let Ok(word) = std::str::from_utf8(word) else { return false };
    let mut known = command.get_arguments();
    let arg = match (word.strip_prefix("--"), word.strip_prefix('-').map(|short| short.chars())) {
        (Some(long), _) => known.find(|arg| arg.get_long() == Some(long)),
        (None, Some(mut short)) => {
            let (first, rest) = (short.next(), short.next());
            known.find(|arg| rest.is_none() && first.is_some() && arg.get_short() == first)
        }
        (None, None) => None,
    };
    arg.is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

/// `mount.imgmount SRC DIR [-sfnv] [-N namespace] [-o options] [-t type]`, mount(8), "EXTERNAL HELPERS".
fn helper(words: &[OsString], command: &clap::Command) -> Vec<OsString> {
    let (mut places, mut said) = (Vec::new(), vec!["imgmount".into(), "mount".into(), "--helper".into()]);
    let mut is_quiet = true;
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let flags = match word.as_bytes() {
            [b'-', b'-', ..] => {
                said.push(word.clone());
                continue;
            }
            [b'-', flags @ ..] if !flags.is_empty() => flags,
            _ => {
                places.push(word.clone());
                continue;
            }
        };
        let mut rest = flags;
        while let [flag, tail @ ..] = rest {
            rest = tail;
            match flag {
                b's' => said.push("--sloppy".into()),
                b'f' => said.push("--fake".into()),
                // There is no mtab of ours to write.
                b'n' => {}
                b'v' => {
                    is_quiet = false;
                    said.push("-v".into());
                }
                b'o' | b't' | b'N' => {
                    let attached = (!tail.is_empty()).then(|| OsString::from_vec(tail.to_vec()));
                    let value = attached.or_else(|| words.next().cloned()).unwrap_or_default();
                    match flag {
                        b'o' => said.extend(options(&value, command, Caller::Mount)),
                        b'N' => said.push("-N".into()),
                        _ => {}
                    }
                    rest = &[];
                }
                other => said.push(OsString::from_vec(vec![b'-', *other])),
            }
        }
    }
    let places = places.into_iter().map(|place| match place.as_bytes() {
        [b'-', ..] => [OsStr::new("./"), &place].into_iter().collect(),
        _ => place,
    });
    said.into_iter().chain(is_quiet.then(|| "-q".into())).chain(places).collect()
}

/// Who wrote a list of options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Person,
    /// mount(8), which says `rw` of every mount that is not asked to be read-only.
    Mount,
}

/// The words of a LIST, each as an option of ours, or as `-o WORD`.
fn options(list: &OsStr, command: &clap::Command, caller: Caller) -> Vec<OsString> {
    let words = split(list.as_bytes());
    let has = |name: &[u8]| words.contains(&name);
    // mount.fuse3, which calls us for the type fuse.imgmount, adds these two to a list that says rw of every mount.
    let says_rw_always = caller == Caller::Mount || has(b"dev") && has(b"suid");
    let mut said = Vec::new();
    for word in words.iter().filter(|word| !(says_rw_always && **word == b"rw")) {
        match long(word, command) {
            Some(option) => said.push(option),
            None => said.extend(["-o".into(), OsString::from_vec(word.to_vec())]),
        }
    }
    said
}

/// `name` or `name=value` as a long option, if there is one. Words with an underline are taken for it, too.
fn long(word: &[u8], command: &clap::Command) -> Option<OsString> {
    let equals = word.iter().position(|byte| *byte == b'=');
    let (name, value) = match equals.and_then(|at| word.split_at_checked(at)) {
        Some((name, value)) => (name, value.get(1..)),
        None => (word, None),
    };
    let name = std::str::from_utf8(name).ok()?.replace('_', "-");
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name.as_str()))?;
    let takes = arg.get_action().takes_values();
    let may_lack = arg.is_require_equals_set();
    if arg.is_hide_set()
        || matches!(name.as_str(), "help" | "version")
        || takes != value.is_some() && !may_lack
    {
        return None;
    }
    let mut option = format!("--{name}").into_bytes();
    if let Some(value) = value {
        option.push(b'=');
        option.extend_from_slice(unquoted(value));
    }
    Some(OsString::from_vec(option))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// The words between the commas; a comma in double quotes is none, as mount(8) has it.
pub(super) fn split(list: &[u8]) -> Vec<&[u8]> {
    let mut in_quotes = false;
    let parts = list.split(|byte| {
        in_quotes ^= *byte == b'"';
        *byte == b',' && !in_quotes
    });
    parts.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from).collect();
        let said = translate(words, &crate::cli::command());
        said.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_helper_takes_flags_behind_the_places() {
        let words = ["/sbin/mount.imgmount", "/img/a.vmdk", "/mnt", "-sn", "-o", "rw,view=all,exec,nofail"];
        let expected = "imgmount mount --helper --sloppy --view=all -o exec -o nofail -q /img/a.vmdk /mnt";
        assert_eq!(said(&words).join(" "), expected);
        let words = ["mount.fuse.imgmount", "-", "/mnt", "-v", "-f", "-t", "fuse.imgmount", "-orw"];
        assert_eq!(said(&words).join(" "), "imgmount mount --helper -v --fake ./- /mnt");
    }

    #[test]
    fn long_options_are_spelled_in_the_list() {
        let words =
            ["imgmount", "a.img", "/mnt", "-o", "ro,idle_exit=5m,owner,owner=1:2,mkdir,spool,spool=/tmp"];
        let expected =
            "imgmount a.img /mnt -o ro --idle-exit=5m -o owner --owner=1:2 --mkdir --spool --spool=/tmp";
        assert_eq!(said(&words).join(" "), expected);
    }

    #[test]
    fn a_comma_in_quotes_is_part_of_a_value() {
        let words = ["imgmount", "-o", "key=\"disk:file:/a,b\",x-a=\"1,2\"", "a.img", "/mnt"];
        assert_eq!(said(&words).join(" "), "imgmount --key=disk:file:/a,b -o x-a=\"1,2\" a.img /mnt");
    }

    #[test]
    fn rw_stays_where_a_person_wrote_it() {
        assert_eq!(said(&["imgmount", "a", "/m", "-o", "rw"]).join(" "), "imgmount a /m -o rw");
        let by_mount_fuse = said(&["imgmount", "a", "/m", "-o", "rw,view=all,dev,suid"]).join(" ");
        assert_eq!(by_mount_fuse, "imgmount a /m --view=all -o dev -o suid");
    }

    #[test]
    fn other_verbs_values_and_commands_are_left_alone() {
        for line in [
            "imgmount ls -o view=all",
            "imgmount a /m -- sort -o view=all",
            "imgmount --pid-file -ofile a /m",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(said(&words), words);
        }
    }

    #[test]
    fn codes_are_those_of_mount() {
        assert_eq!([0, 2, 3, 4, 5, 70].map(|code| mount_code(Exit(code))), [0, 1, 32, 32, 32, 2]);
    }
}
