//! apk's database: one file of stanzas, a letter and a value a line (apk-tools, "apk-v2", installed database): `P:` name,
//! `V:` version, `A:` machine, `m:` maintainer, `F:` a directory, and after it `R:` a file in it with its sum `Z:`.

use super::{Owner, Package, Packages};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile};
use crate::text::Text;

/// Alpine since 3.22 has it below `/usr`.
const PATHS: &[&str] = &["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
/// The longest database that is read; Alpine's own with a desktop has some 10 MiB.
const MAX: u64 = 64 << 20;

pub(super) fn read(tree: &Tree) -> Result<Option<Packages>> {
    let Some(file) = file::read_first(tree, PATHS, MAX)? else { return Ok(None) };
    let (mut found, mut full) = (Packages::of("apk"), Ok(()));
    walk(&file, &mut |package, line| {
        if line.is_none() && !package.name.is_empty() && full.is_ok() {
            full = found.add(package.clone(), true);
        }
    });
    full.map(|()| Some(found))
}

/// The package that brought a file, of those that `wanted` names.
pub(super) fn owner(tree: &Tree, path: &[u8], wanted: &dyn Fn(&Text) -> bool) -> Result<Option<Owner>> {
    let Some(file) = file::read_first(tree, PATHS, MAX)? else { return Ok(None) };
    let (mut dir, mut is_here, mut found) = (Vec::new(), false, None);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    walk(&file, &mut |package, line| match line {
        None if std::mem::take(&mut is_here) && wanted(&package.name) => {
            found.get_or_insert(Owner { package: package.clone(), digest: None });
        }
        Some((b'F', value)) => dir = value.to_vec(),
        Some((b'R', value)) => is_here |= [&dir, &b"/"[..], value].concat() == path,
        _ => {}
    });
    Ok(found)
}

/// A letter and its value.
type Line<'a> = (u8, &'a [u8]);

/// Shows each line with the package so far, and each whole package with no line.
fn walk(file: &GuestFile, sink: &mut dyn FnMut(&Package, Option<Line<'_>>)) {
    let new = || Package {
        name: Text::default(),
        version: Text::default(),
        arch: Text::default(),
        maker: Text::default(),
        evidence: file.evidence("installed package"),
    };
    let mut package = new();
    for (number, line) in file.lines() {
        let [letter, b':', value @ ..] = line else {
            if line.is_empty() {
                sink(&package, None);
                package = new();
            }
            continue;
        };
        match letter {
            b'P' => {
                package.name = Text::from(value);
                package.evidence = file.evidence("installed package").line(number, line);
            }
            b'V' => package.version = Text::from(value),
            b'A' => package.arch = Text::from(value),
            b'm' => package.maker = Text::from(value),
            _ => sink(&package, Some((*letter, value))),
        }
    }
    sink(&package, None);
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    const INSTALLED: &str = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nm:A <a@alpinelinux.org>\nF:lib\nR:ld-musl-x86_64.so.1\n\
                             a:0:0:755\nZ:Q1x=\n\nC:Q1def=\nP:linux-virt\nV:6.6.7-r0\nA:x86_64\nF:boot\nR:vmlinuz-virt\n";

    #[test]
    fn a_stanza_is_a_package() {
        for path in PATHS {
            let packages = read(&MemoryFs::tree(&[(path, INSTALLED)])).unwrap().unwrap();
            let virt = packages.get("linux-virt").unwrap();
            assert_eq!((virt.version.to_string(), virt.evidence.line), ("6.6.7-r0".to_owned(), Some(12)));
            assert_eq!(packages.installed.len(), 2);
        }
    }

    #[test]
    fn a_file_belongs_to_the_stanza_it_stands_in() {
        let tree = MemoryFs::tree(&[(PATHS[0], INSTALLED)]);
        let owner = |path: &str| owner(&tree, path.as_bytes(), &|_| true).unwrap();
        assert_eq!(owner("/boot/vmlinuz-virt").unwrap().package.name, Text::from("linux-virt"));
        assert!(owner("/lib/vmlinuz-virt").is_none());
    }
}
