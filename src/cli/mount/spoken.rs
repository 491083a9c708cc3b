//! The words of mount(8) and fstab, said in ours: `SRC DIR -sfnv -o view=all,noexec,idle-exit=5m`.
//!
//! Every long option can be spelled `-o name=value`. Called as `mount.imgmount` we are the helper of mount(8), whose flags
//! come after the positional words and mean other things than ours.
//!
//! A list may stand in the environment, too, where the command has none. Then it is as if it had been typed, but for the
//! options that were.

use crate::cli::Exit;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// The names by which mount(8) calls its helper for the types `imgmount` and `fuse.imgmount`.
const HELPERS: &[&str] = &["mount.imgmount", "mount.fuse.imgmount"];

/// The variable for a list of `-o`.
pub(in crate::cli) const OPTIONS: &str = "IMGMOUNT_OPTIONS";

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

/// The words as clap is to read them, with the verb, if there is one, in front. What cannot be understood is left as it is,
/// for the complaint to name it. `variable` is what [`OPTIONS`] says.
pub(in crate::cli) fn translate(
    words: Vec<OsString>,
    variable: Option<OsString>,
    command: &clap::Command,
) -> Vec<OsString> {
    let is_helper = is_helper(words.first());
    let verb = words.get(1).filter(|_| !is_helper).and_then(|word| command.find_subcommand(word));
    if verb.is_some_and(|verb| verb.get_name() != "mount") {
        return words;
    }
    // Behind the program's name, and the verb's.
    let at = if is_helper || verb.is_some() { 2 } else { 1 };
    let (mut said, is_listed) = if is_helper { helper(&words, command) } else { typed(words, command) };
    let variable = variable.filter(|list| !list.is_empty());
    if let Some(list) = variable {
        let listed = if is_listed { Vec::new() } else { from_environment(&list, &said, command) };
        // With an -o in front of it, clap does not look into the variable.
        said.splice(at..at, ["-o".into(), OsString::new()].into_iter().chain(listed));
    }
    said
}

/// The words of a list in the environment, without the options that were `said` already.
fn from_environment(list: &OsStr, said: &[OsString], command: &clap::Command) -> Vec<OsString> {
    let ours = said.iter().take_while(|word| *word != "--");
    let is_said = |option: &[u8]| {
        let name = option.split(|byte| *byte == b'=').next().unwrap_or_default();
        let is_name =
            |word: &[u8]| word.strip_prefix(name).is_some_and(|rest| matches!(rest, [] | [b'=', ..]));
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_long().is_some_and(|long| name.strip_prefix(b"--") == Some(long.as_bytes())));
        let short = arg.and_then(clap::Arg::get_short).and_then(|short| u8::try_from(short).ok());
        let is_short = |word: &[u8]| match (short, word) {
            (_, [b'-', b'-', ..]) | (None, _) => false,
            (Some(short), [b'-', flags @ ..]) => flags.contains(&short),
            _ => false,
        };
        ours.clone().map(|word| word.as_bytes()).any(|word| is_name(word) || is_short(word))
    };
    let words = options(list, command, Caller::Person);
    words
        .into_iter()
        .filter(|word| !(word.as_bytes().starts_with(b"--") && is_said(word.as_bytes())))
        .collect()
}

/// What a person typed, and whether there was a list of options in it.
fn typed(words: Vec<OsString>, command: &clap::Command) -> (Vec<OsString>, bool) {
    let mut said = Vec::with_capacity(words.len());
    let mut is_listed = false;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            said.push(word);
            said.extend(words);
            break;
        }
        let list = bytes.strip_prefix(b"-o");
        is_listed |= list.is_some();
        match list {
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
    (said, is_listed)
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

/// `mount.imgmount SRC DIR [-sfnv] [-N namespace] [-o options] [-t type]`, mount(8), "EXTERNAL HELPERS"; and whether its
/// options say more than the `rw` that mount(8) says of itself.
fn helper(words: &[OsString], command: &clap::Command) -> (Vec<OsString>, bool) {
    let (mut places, mut said) = (Vec::new(), vec!["imgmount".into(), "mount".into(), "--helper".into()]);
    let (mut is_quiet, mut is_listed) = (true, false);
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
                        b'o' => {
                            let words = options(&value, command, Caller::Mount);
                            is_listed |= !words.is_empty();
                            said.extend(words);
                        }
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
    (said.into_iter().chain(is_quiet.then(|| "-q".into())).chain(places).collect(), is_listed)
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

/// The words that stand for options of `command`, for who mistyped one.
pub(super) fn names(command: &clap::Command) -> Vec<&str> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let names = shown.filter_map(clap::Arg::get_long).filter(|name| !matches!(*name, "help" | "version"));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names
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

    fn said_in(variable: Option<&str>, words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from).collect();
        let said = translate(words, variable.map(OsString::from), &crate::cli::command());
        said.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    fn said(words: &[&str]) -> Vec<String> {
        said_in(None, words)
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
    fn a_list_in_the_environment_stands_for_one_that_is_not_typed() {
        let said = |list, line: &str| said_in(Some(list), &line.split(' ').collect::<Vec<_>>()).join(" ");
        let list = "view=all,exec,key=\"disk:file:/a,b\",foreground";
        let whole = "-o  --view=all -o exec --key=disk:file:/a,b --foreground";
        assert_eq!(said(list, "imgmount a /m"), format!("imgmount {whole} a /m"));
        assert_eq!(said(list, "imgmount mount a /m"), format!("imgmount mount {whole} a /m"));
        assert_eq!(said(list, "imgmount a /m -o mkdir"), "imgmount -o  a /m --mkdir", "one is typed");
        assert_eq!(
            said(list, "imgmount a --view disk -qf -- cmd --key=x"),
            "imgmount -o  -o exec --key=disk:file:/a,b a --view disk -qf -- cmd --key=x"
        );
        let helper = "imgmount mount -o  --mkdir --helper -q a /m";
        assert_eq!(said("mkdir", "mount.imgmount a /m -o rw"), helper);
        assert_eq!(said("mkdir", "imgmount unmount /m"), "imgmount unmount /m");
        assert_eq!(said("", "imgmount a /m"), "imgmount a /m");
    }

    #[test]
    fn codes_are_those_of_mount() {
        assert_eq!([0, 2, 3, 4, 5, 70].map(|code| mount_code(Exit(code))), [0, 1, 32, 32, 32, 2]);
    }
}
