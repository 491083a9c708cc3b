//! The configuration of OpenSSH's server (sshd_config(5)): lines of a keyword and its arguments, of which the first counts,
//! with other files read where they are included. What stands in a `Match` block counts only for some logins and is kept
//! apart.

use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::guest::glob;
use crate::text::{Text, escape};

/// Where it is; distributions that keep `/etc` for the administrator ship it below `/usr`.
const PATHS: &[&str] = &["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"];
/// Files with the server's command line, the name of the variable, as the units and scripts of the distributions read them.
/// What stands there comes before any file.
const COMMAND_LINES: &[(&str, &str)] = &[
    ("/etc/sysconfig/sshd-permitrootlogin", "PERMITROOTLOGIN"),
    ("/etc/sysconfig/sshd", "OPTIONS"),
    ("/etc/sysconfig/ssh", "SSHD_OPTS"),
    ("/etc/default/ssh", "SSHD_OPTS"),
];
/// Files that include files that include files; OpenSSH stops there too.
const MAX_DEPTH: usize = 16;
/// Files that are read in all.
const MAX_FILES: usize = 256;
/// Settings that are kept in all.
const MAX_SETTINGS: usize = 16_384;

/// One line.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The keyword in lower case; of one that has two names the newer.
    pub key: String,
    /// Its arguments.
    pub values: Vec<Text>,
    /// Where it stands.
    pub evidence: Evidence,
}

impl Setting {
    /// The arguments as they are compared: in lower case.
    #[must_use]
    pub fn value(&self) -> String {
        let values: Vec<String> = self.values.iter().map(|value| canonical(&value.to_string())).collect();
        values.join(" ")
    }
}

/// A value with one spelling: `without-password` is the older name of `prohibit-password`.
pub(super) fn canonical(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        "true" => "yes".to_owned(),
        "false" => "no".to_owned(),
        "without-password" => "prohibit-password".to_owned(),
        other => other.to_owned(),
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Is there a file?
    pub exists: bool,
    /// What counts for every login, in the order in which it is read.
    pub settings: Vec<Setting>,
    /// What stands behind `Match all`: it comes before what does not.
    pub overriding: Vec<Setting>,
    /// What stands in other `Match` blocks.
    pub matched: Vec<Setting>,
}

/// For which logins a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Every,
    MatchAll,
    Some,
}

impl Config {
    /// The one that counts.
    #[must_use]
    pub fn first(&self, key: &str) -> Option<&Setting> {
        self.all(key).next()
    }

    /// Every one of a keyword whose lines add up: `AllowUsers`.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &Setting> {
        let key = newer(key);
        self.overriding.iter().chain(&self.settings).filter(move |setting| setting.key == key)
    }

    /// One in a `Match` block that says something else for some logins.
    #[must_use]
    pub fn exception(&self, key: &str) -> Option<&Setting> {
        let key = newer(key);
        self.matched.iter().find(|setting| setting.key == key)
    }
}

/// The keyword in lower case, by its newer name.
fn newer(key: &str) -> String {
    match key.to_ascii_lowercase().as_str() {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication".to_owned(),
        "dsaauthentication" => "pubkeyauthentication".to_owned(),
        other => other.to_owned(),
    }
}

/// Reads it.
///
/// # Errors
/// When a file is there but cannot be read, or there are more than any server has.
pub(super) fn read(tree: &Tree) -> Result<Config> {
    let mut reader = Reader { tree, found: Config::default(), files: 0 };
    for (path, variable) in COMMAND_LINES {
        if let Some(file) = file::read(tree, path, MAX_CONFIG)? {
            reader.command_line(&file, variable)?;
        }
    }
    if let Some(file) = file::read_first(tree, PATHS, MAX_CONFIG)? {
        reader.found.exists = true;
        reader.file(&file, Scope::Every, 0)?;
    }
    Ok(reader.found)
}

struct Reader<'a> {
    tree: &'a Tree,
    found: Config,
    files: usize,
}

impl Reader<'_> {
    /// Options of a command line: `OPTIONS="-oPermitRootLogin=yes -p 22"`.
    fn command_line(&mut self, file: &GuestFile, variable: &str) -> Result<()> {
        for (number, line) in file.lines() {
            let Some(rest) = line.trim_ascii().strip_prefix(variable.as_bytes()) else { continue };
            let Some(value) = rest.strip_prefix(b"=") else { continue };
            let value = value.trim_ascii();
            let bare =
                [b'"', b'\''].iter().find_map(|quote| value.strip_prefix(&[*quote])?.strip_suffix(&[*quote]));
            let mut words =
                bare.unwrap_or(value).split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let evidence = file.evidence("command line of sshd").line(number, line);
            while let Some(word) = words.next() {
                let mut argument = |flag: &[u8]| match word.strip_prefix(flag) {
                    Some(b"") => words.next().map(<[u8]>::to_vec),
                    rest => rest.map(<[u8]>::to_vec),
                };
                if let Some(option) = argument(b"-o") {
                    self.setting(&option, &evidence)?;
                } else if let Some(port) = argument(b"-p") {
                    self.setting(&[b"Port ", port.as_slice()].concat(), &evidence)?;
                } else if let Some(other) = argument(b"-f") {
                    let error = Error::unsupported(format!("sshd is started with {}", escape(&other)));
                    return Err(error.context(escape(&file.path)));
                }
            }
        }
        Ok(())
    }

    /// The lines of a file; a `Match` holds until the next one, or until the file ends.
    fn file(&mut self, file: &GuestFile, outer: Scope, depth: usize) -> Result<()> {
        self.files = self.files.saturating_add(1);
        if self.files > MAX_FILES || depth > MAX_DEPTH {
            let error = Error::limit(format!("more than {MAX_FILES} files, or {MAX_DEPTH} in each other"));
            return Err(error.context(escape(&file.path)));
        }
        let mut scope = outer;
        for (number, line) in file.lines() {
            let evidence = file.evidence("configuration of sshd").line(number, line);
            let Some((key, values)) = words(line) else { continue };
            match key.as_str() {
                "match" => {
                    let is_all = matches!(values.as_slice(), [only] if only.eq_ignore_ascii_case(b"all"));
                    scope = if is_all && outer != Scope::Some { Scope::MatchAll } else { Scope::Some };
                }
                "include" => {
                    for pattern in &values {
                        self.include(pattern, scope, depth)?;
                    }
                }
                _ => self.keep(&key, values, &evidence, scope)?,
            }
        }
        Ok(())
    }

    /// The files that a pattern names, by name. A relative one is in `/etc/ssh`.
    fn include(&mut self, pattern: &[u8], scope: Scope, depth: usize) -> Result<()> {
        let full = match pattern.starts_with(b"/") {
            true => pattern.to_vec(),
            false => [b"/etc/ssh/", pattern].concat(),
        };
        for path in glob::expand(self.tree, &full)? {
            if let Some(file) = file::read(self.tree, &path, MAX_CONFIG)? {
                self.file(&file, scope, depth.saturating_add(1))?;
            }
        }
        Ok(())
    }

    fn setting(&mut self, line: &[u8], evidence: &Evidence) -> Result<()> {
        match words(line) {
            Some((key, values)) => self.keep(&key, values, evidence, Scope::Every),
            None => Ok(()),
        }
    }

    fn keep(&mut self, key: &str, values: Vec<Vec<u8>>, evidence: &Evidence, scope: Scope) -> Result<()> {
        let list = match scope {
            Scope::Every => &mut self.found.settings,
            Scope::MatchAll => &mut self.found.overriding,
            Scope::Some => &mut self.found.matched,
        };
        if list.len() >= MAX_SETTINGS {
            return Err(Error::limit(format!("more than {MAX_SETTINGS} settings of sshd")));
        }
        let values = values.into_iter().map(Text::new).collect();
        list.push(Setting { key: newer(key), values, evidence: evidence.clone() });
        Ok(())
    }
}

/// A keyword in lower case and its arguments: `Key value`, `Key=value`, `"in quotes"`; `#` begins a comment.
fn words(line: &[u8]) -> Option<(String, Vec<Vec<u8>>)> {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=').unwrap_or(line.len());
    let (key, rest) = line.split_at_checked(end)?;
    if key.is_empty() || key.starts_with(b"#") {
        return None;
    }
    let key = std::str::from_utf8(key).ok()?.to_ascii_lowercase();
    let rest = rest.trim_ascii_start();
    let mut rest = rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii_start();
    let mut values = Vec::new();
    while let Some(first) = rest.first().filter(|first| **first != b'#') {
        let is_quoted = *first == b'"';
        let text = if is_quoted { rest.get(1..).unwrap_or_default() } else { rest };
        let end =
            text.iter().position(|byte| if is_quoted { *byte == b'"' } else { byte.is_ascii_whitespace() });
        let (value, after) = text.split_at_checked(end.unwrap_or(text.len()))?;
        values.push(value.to_vec());
        rest = if is_quoted { after.get(1..).unwrap_or_default() } else { after }.trim_ascii_start();
    }
    Some((key, values))
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    fn config(files: &[(&str, &str)]) -> Config {
        read(&MemoryFs::tree(files)).unwrap()
    }

    fn value(config: &Config, key: &str) -> Option<String> {
        config.first(key).map(Setting::value)
    }

    /// Expected values: `sshd -T` of OpenSSH 9.2p1 with the same files.
    #[test]
    fn the_first_value_counts_and_includes_stand_where_they_are() {
        let found = config(&[
            (
                "/etc/ssh/sshd_config",
                "# x\npermitrootlogin=no\nPermitRootLogin yes\nInclude sshd_config.d/*.conf\nUseDNS   \"no\" # x\n\
                 PasswordAuthentication no\nMatch User bob\n  PasswordAuthentication yes\n  Include m.conf\n\
                 GSSAPIAuthentication yes\n",
            ),
            (
                "/etc/ssh/sshd_config.d/10.conf",
                "PasswordAuthentication yes\nMatch User eve\n MaxAuthTries 2\n",
            ),
            ("/etc/ssh/sshd_config.d/20.conf", "MaxAuthTries 3\n"),
            ("/etc/ssh/sshd_config.d/30.txt", "MaxAuthTries 4\n"),
            ("/etc/ssh/m.conf", "MaxStartups 9\n"),
        ]);
        assert_eq!(value(&found, "PermitRootLogin").unwrap(), "no");
        assert_eq!(value(&found, "usedns").unwrap(), "no");
        let password = found.first("PasswordAuthentication").unwrap();
        assert_eq!((password.value().as_str(), password.evidence.line), ("yes", Some(1)));
        assert_eq!(value(&found, "MaxAuthTries").unwrap(), "3");
        assert_eq!((value(&found, "GSSAPIAuthentication"), value(&found, "MaxStartups")), (None, None));
        assert_eq!(found.exception("PasswordAuthentication").unwrap().evidence.line, Some(8));
    }

    /// Expected value: `sshd -T` of OpenSSH 9.2p1.
    #[test]
    fn what_stands_behind_match_all_comes_first() {
        let text = "MaxAuthTries 3\nMatch User a\nMaxAuthTries 5\nMatch all\nMaxAuthTries 4\n";
        assert_eq!(value(&config(&[("/etc/ssh/sshd_config", text)]), "MaxAuthTries").unwrap(), "4");
    }

    #[test]
    fn the_command_line_comes_first() {
        let found = config(&[
            ("/etc/ssh/sshd_config", "PermitRootLogin no\nPort 22\n"),
            (
                "/etc/sysconfig/sshd",
                "# OPTIONS=\"-oUseDNS=no\"\nOPTIONS=\"-u0 -oPermitRootLogin=yes -p 2222 -o UsePAM=no\"\n",
            ),
        ]);
        assert_eq!(value(&found, "permitrootlogin").unwrap(), "yes");
        assert_eq!(
            (value(&found, "Port").unwrap(), value(&found, "UsePAM").unwrap()),
            ("2222".into(), "no".into())
        );
        assert_eq!(value(&found, "UseDNS"), None);
    }

    #[test]
    fn another_file_on_the_command_line_is_not_guessed() {
        let files = [("/etc/default/ssh", "SSHD_OPTS='-f /etc/ssh/other'\n"), ("/etc/ssh/sshd_config", "")];
        assert!(read(&MemoryFs::tree(&files)).is_err());
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let files = [("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config\n")];
        assert!(read(&MemoryFs::tree(&files)).is_err());
    }

    #[test]
    fn an_unread_file_that_is_included_is_an_error() {
        let files = [("/etc/ssh/sshd_config", "Include a.conf\nUseDNS no\n"), ("/etc/ssh/a.conf", "!")];
        assert!(read(&MemoryFs::tree(&files)).is_err());
    }

    #[test]
    fn older_names_are_the_same() {
        let found = config(&[(
            "/etc/ssh/sshd_config",
            "ChallengeResponseAuthentication no\nPermitRootLogin without-password\n",
        )]);
        assert_eq!(value(&found, "KbdInteractiveAuthentication").unwrap(), "no");
        assert_eq!(value(&found, "PermitRootLogin").unwrap(), "prohibit-password");
    }
}
