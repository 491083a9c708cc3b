//! dpkg's database: `/var/lib/dpkg/status`, stanzas of fields as in deb-control(5), and the files of `status.d` that
//! images without dpkg have.

use super::{Package, Packages};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile};
use crate::text::Text;

const STATUS: &str = "/var/lib/dpkg/status";
const STATUS_D: &str = "/var/lib/dpkg/status.d";
/// The longest database that is read; a desktop's has 5 MiB.
const MAX: u64 = 64 << 20;

pub(super) fn read(tree: &Tree) -> Result<Option<Packages>> {
    let mut found = Packages { manager: Some("dpkg"), installed: Vec::new() };
    let status = file::read(tree, STATUS, MAX)?;
    let has_status = status.is_some();
    if let Some(file) = status {
        parse(&file, true, &mut found.installed);
    }
    let names = file::names(tree, STATUS_D)?;
    for name in names.iter().filter(|name| !name.ends_with(b".md5sums")) {
        if let Some(file) = file::read(tree, [STATUS_D.as_bytes(), b"/", name].concat(), MAX)? {
            parse(&file, false, &mut found.installed);
        }
    }
    Ok((has_status || !names.is_empty()).then_some(found))
}

/// Adds every installed package. A stanza of `status.d` needs no `Status` field: that it stands there says it.
fn parse(file: &GuestFile, needs_status: bool, found: &mut Vec<Package>) {
    let new = || Package {
        name: Text::default(),
        version: Text::default(),
        arch: Text::default(),
        evidence: file.evidence("installed package"),
    };
    let mut package = new();
    let mut installed = !needs_status;
    let mut finish = |package: &mut Package, installed: &mut bool| {
        let done = std::mem::replace(package, new());
        if std::mem::replace(installed, !needs_status) && !done.name.is_empty() {
            found.push(done);
        }
    };
    for (number, line) in file.lines() {
        if line.trim_ascii().is_empty() {
            finish(&mut package, &mut installed);
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
            b"Architecture" => package.arch = Text::from(value),
            // Want, flag, state: "install ok installed". "deinstall ok config-files" is not installed.
            b"Status" if needs_status => {
                let words: Vec<&[u8]> = value.split(u8::is_ascii_whitespace).collect();
                installed = matches!(words.as_slice(), [_, b"ok", b"installed"]);
            }
            _ => {}
        }
    }
    finish(&mut package, &mut installed);
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
    fn an_rpm_database_is_not_an_empty_list() {
        assert!(super::super::read(&MemoryFs::tree(&[("/var/lib/rpm/rpmdb.sqlite", "SQLite")])).is_err());
    }

    #[test]
    fn no_database_is_none() {
        assert!(super::super::read(&MemoryFs::tree(&[("/etc/hosts", "")])).unwrap().manager.is_none());
    }
}
