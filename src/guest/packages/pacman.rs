//! pacman's database: a directory a package in `/var/lib/pacman/local`, in each `desc` with `%FIELD%` lines, each followed
//! by its values, and `files` with its paths (libalpm, "be_local").

use super::{MAX_LISTS, Owner, Package, Packages, spend};
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile};
use crate::text::Text;

const LOCAL: &str = "/var/lib/pacman/local";
/// The longest description that is read; they have some 2 KiB.
const MAX_DESC: u64 = 256 << 10;
/// The longest list of files that is read.
const MAX: u64 = 16 << 20;
/// Packages at most.
const MAX_PACKAGES: usize = 50_000;

pub(super) fn read(tree: &Tree) -> Result<Option<Packages>> {
    if !file::exists(tree, LOCAL)? {
        return Ok(None);
    }
    let names = file::names(tree, LOCAL)?;
    if names.len() > MAX_PACKAGES {
        return Err(Error::limit(format!("{LOCAL}: more than {MAX_PACKAGES} packages")));
    }
    let mut found = Packages::of("pacman");
    // Besides the packages there is a file ALPM_DB_VERSION.
    for name in names {
        let path = [LOCAL.as_bytes(), b"/", &name, b"/desc"].concat();
        let Some(file) = file::read(tree, path, MAX_DESC)? else { continue };
        let field =
            |wanted: &[u8]| Text::from(values(&file, wanted).next().map_or(&b""[..], |(_, value)| value));
        let Some((line, text)) = values(&file, b"NAME").next() else { continue };
        let package = Package {
            name: Text::from(text),
            version: field(b"VERSION"),
            arch: field(b"ARCH"),
            maker: field(b"PACKAGER"),
            evidence: file.evidence("installed package").line(line, text),
        };
        found.add(package, true)?;
    }
    Ok(Some(found))
}

/// The package that brought a file, of those that `wanted` names.
pub(super) fn owner(
    tree: &Tree,
    packages: &Packages,
    path: &[u8],
    wanted: &dyn Fn(&Text) -> bool,
) -> Result<Option<Owner>> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut left = MAX_LISTS;
    for package in packages.installed.iter().filter(|package| wanted(&package.name)) {
        let (name, version) = (package.name.as_bytes(), package.version.as_bytes());
        let files = [LOCAL.as_bytes(), b"/", name, b"-", version, b"/files"].concat();
        let Some(files) = file::read(tree, files, MAX)? else { continue };
        spend(&mut left, &files)?;
        if values(&files, b"FILES").any(|(_, file)| file == path) {
            return Ok(Some(Owner { package: package.clone(), digest: None }));
        }
    }
    Ok(None)
}

/// The values of a field, with their lines: up to an empty one.
fn values<'a>(file: &'a GuestFile, field: &[u8]) -> impl Iterator<Item = (u64, &'a [u8])> {
    let title = [b"%", field, b"%"].concat();
    file.lines().skip_while(move |(_, line)| *line != title).skip(1).take_while(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn a_directory_is_a_package() {
        let tree = MemoryFs::tree(&[
            ("/var/lib/pacman/local/ALPM_DB_VERSION", "9\n"),
            (
                "/var/lib/pacman/local/linux-6.6.7.arch1-1/desc",
                "%NAME%\nlinux\n\n%VERSION%\n6.6.7.arch1-1\n\n%DESC%\nx\n\n%ARCH%\nx86_64\n",
            ),
            (
                "/var/lib/pacman/local/linux-6.6.7.arch1-1/files",
                "%FILES%\nusr/\nusr/lib/modules/6.6.7-arch1-1/vmlinuz\n",
            ),
        ]);
        let packages = read(&tree).unwrap().unwrap();
        let linux = packages.get("linux").unwrap();
        assert_eq!(
            (linux.version.to_string(), linux.arch.to_string()),
            ("6.6.7.arch1-1".into(), "x86_64".into())
        );
        let owner = |path: &str| owner(&tree, &packages, path.as_bytes(), &|_| true).unwrap();
        assert!(
            owner("/usr/lib/modules/6.6.7-arch1-1/vmlinuz").is_some() && owner("/boot/vmlinuz").is_none()
        );
    }
}
