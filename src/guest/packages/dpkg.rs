//! dpkg's database: `/var/lib/dpkg/status`, stanzas of fields as in deb-control(5), and the files of `status.d` that
//! images without dpkg have.

use super::{MAX_LISTS, Owner, Package, Packages, spend};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile};
use crate::text::Text;

const STATUS: &str = "/var/lib/dpkg/status";
/// Before the name of a list of files.
const INFO: &[u8] = b"/var/lib/dpkg/info/";
const STATUS_D: &str = "/var/lib/dpkg/status.d";
/// The longest database that is read; a desktop's has 5 MiB.
const MAX: u64 = 64 << 20;

pub(super) fn read(tree: &Tree) -> Result<Option<Packages>> {
    let mut found = Packages::of("dpkg");
    let status = file::read(tree, STATUS, MAX)?;
    let has_status = status.is_some();
    if let Some(file) = status {
        parse(&file, true, &mut found)?;
    }
    let names = file::names(tree, STATUS_D)?;
    for name in names.iter().filter(|name| !name.ends_with(b".md5sums")) {
        if let Some(file) = file::read(tree, [STATUS_D.as_bytes(), b"/", name].concat(), MAX)? {
            parse(&file, false, &mut found)?;
        }
    }
    Ok((has_status || !names.is_empty()).then_some(found))
}

/// The package that brought a file, of those that `wanted` names: `info/NAME.list` has its paths, and the field
/// `Conffiles` of the status the sums of those that are configuration.
pub(super) fn owner(
    tree: &Tree,
    packages: &Packages,
    path: &[u8],
    wanted: &dyn Fn(&Text) -> bool,
) -> Result<Option<Owner>> {
    let mut left = MAX_LISTS;
    for package in packages.installed.iter().filter(|package| wanted(&package.name)) {
        let (name, arch) = (package.name.as_bytes(), package.arch.as_bytes());
        // Of what may be installed for several machines at once, the machine is in the name.
        let names = [[INFO, name, b".list"].concat(), [INFO, name, b":", arch, b".list"].concat()];
        for list in names {
            let Some(list) = file::read(tree, list, MAX)? else { continue };
            spend(&mut left, &list)?;
            if list.lines().any(|(_, line)| line == path) {
                let digest = digest(tree, name, path)?;
                return Ok(Some(Owner { package: package.clone(), digest }));
            }
        }
    }
    Ok(None)
}

/// The MD5 sum with which a package brought a configuration file.
fn digest(tree: &Tree, package: &[u8], path: &[u8]) -> Result<Option<String>> {
    let Some(status) = file::read(tree, STATUS, MAX)? else { return Ok(None) };
    let (mut here, mut open) = (false, false);
    for (_, line) in status.lines() {
        if let Some(name) = line.strip_prefix(b"Package:") {
            here = name.trim_ascii() == package;
        }
        open = if line.starts_with(b" ") { open } else { line.starts_with(b"Conffiles:") };
        if here && open {
            let mut words = line.trim_ascii().split(u8::is_ascii_whitespace);
            if words.next() == Some(path) {
                return Ok(words.next().map(|sum| String::from_utf8_lossy(sum).into_owned()));
            }
        }
    }
    Ok(None)
}

/// What became of a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Installed,
    /// Begun and not ended: nobody knows whether its files are there.
    Unfinished,
    Gone,
}

impl State {
    /// Want, flag, state: "install ok installed". "deinstall ok config-files" is not installed. What only waits for a
    /// trigger is.
    fn of(status: &[u8]) -> Self {
        let words: Vec<&[u8]> = status.split(u8::is_ascii_whitespace).collect();
        match words.as_slice() {
            [_, b"ok", b"installed" | b"triggers-pending" | b"triggers-awaited"] => Self::Installed,
            [_, b"reinstreq", _] | [_, _, b"half-installed" | b"half-configured" | b"unpacked"] => {
                Self::Unfinished
            }
            _ => Self::Gone,
        }
    }
}

/// Adds every installed package. A stanza of `status.d` needs no `Status` field: that it stands there says it.
fn parse(file: &GuestFile, needs_status: bool, found: &mut Packages) -> Result<()> {
    let new = || Package {
        name: Text::default(),
        version: Text::default(),
        arch: Text::default(),
        maker: Text::default(),
        evidence: file.evidence("installed package"),
    };
    let mut package = new();
    let usual = if needs_status { State::Gone } else { State::Installed };
    let mut state = usual;
    let mut finish = |package: &mut Package, state: &mut State| {
        let done = std::mem::replace(package, new());
        let state = std::mem::replace(state, usual);
        if done.name.is_empty() || state == State::Gone {
            return Ok(());
        }
        found.add(done, state == State::Installed)
    };
    for (number, line) in file.lines() {
        if line.trim_ascii().is_empty() {
            finish(&mut package, &mut state)?;
            continue;
        }
        // A line that starts with white space goes on with the field before it.
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let Some((field, value)) = line.split_at_checked(colon) else { continue };
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match field {
            b"Package" => {
                package.name = Text::from(value);
                package.evidence = file.evidence("installed package").line(number, line);
            }
            b"Version" => package.version = Text::from(value),
            b"Maintainer" => package.maker = Text::from(value),
            b"Architecture" => package.arch = Text::from(value),
            b"Status" if needs_status => state = State::of(value),
            _ => {}
        }
    }
    finish(&mut package, &mut state)
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let text = "Package: a\nStatus: install ok installed\nVersion: 1\nDescription: x\n Package: not\n\n\
                    Package: b\nStatus: deinstall ok config-files\n\nPackage: c\nStatus: hold ok installed\n";
        let packages = read(&MemoryFs::tree(&[(STATUS, text)])).unwrap().unwrap();
        let names: Vec<String> = packages.installed.iter().map(|package| package.name.to_string()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(packages.get("a").unwrap().evidence.line, Some(1));
    }

    #[test]
    fn what_was_begun_and_not_ended_is_neither() {
        let text = "Package: a\nStatus: install ok half-configured\n\nPackage: b\nStatus: install reinstreq half-installed\n\n\
                    Package: c\nStatus: install ok triggers-pending\n\nPackage: d\nStatus: install ok not-installed\n";
        let packages = read(&MemoryFs::tree(&[(STATUS, text)])).unwrap().unwrap();
        let names =
            |list: &[Package]| list.iter().map(|package| package.name.to_string()).collect::<String>();
        assert_eq!((names(&packages.installed), names(&packages.unfinished)), ("c".into(), "ab".into()));
    }

    #[test]
    fn a_configuration_file_has_the_sum_it_came_with() {
        let tree = MemoryFs::tree(&[
            (
                STATUS,
                "Package: base-files\nStatus: install ok installed\nConffiles:\n /etc/issue 0123\n /etc/x 45\nVersion: 1\n",
            ),
            ("/var/lib/dpkg/info/base-files.list", "/.\n/etc\n/etc/issue\n"),
        ]);
        let owner = owner(&tree, &read(&tree).unwrap().unwrap(), b"/etc/issue", &|_| true).unwrap().unwrap();
        assert_eq!(
            (owner.package.name.to_string(), owner.digest.as_deref()),
            ("base-files".into(), Some("0123"))
        );
    }

    #[test]
    fn status_d_needs_no_status() {
        let packages =
            read(&MemoryFs::tree(&[("/var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\n")]));
        assert!(packages.unwrap().unwrap().get("base-files").is_some());
    }

    #[test]
    fn an_unreadable_database_is_an_error_not_an_empty_list() {
        assert!(super::super::read(&MemoryFs::tree(&[(STATUS, "!")])).is_err());
    }

    #[test]
    fn no_database_is_none() {
        assert!(super::super::read(&MemoryFs::tree(&[("/etc/hosts", "")])).unwrap().manager.is_none());
    }
}
