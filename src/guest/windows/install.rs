//! Where on a volume a Windows is installed, and what else of Windows a volume may hold. Known by what is in it.

use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::{Node, Tree};
use crate::guest::role::{Purpose, Role};
use crate::guest::{Evidence, file};

/// Directories that setup makes: Windows, Windows NT and 2000, terminal server 4.0, what unattended installs use.
const USUAL: &[&str] = &["/Windows", "/WINNT", "/WINNT40", "/WTSRV", "/WIN", "/ReactOS"];
/// What an upgrade leaves of the system before.
const EARLIER: &str = "/Windows.old";
/// Without these it does not start.
const HIVES: &[&str] = &["/System32/config/SYSTEM", "/System32/config/SOFTWARE"];
/// One of these is a program of the system itself.
const PROGRAMS: &[&str] = &["/System32/ntoskrnl.exe", "/System32/cmd.exe"];

/// One installation.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    /// Its directory, as it is spelled on the volume: `/Windows`.
    pub(super) directory: Vec<u8>,
    pub(super) evidence: Vec<Evidence>,
}

/// The installations on a volume, in the usual directories and in those that the boot stores name.
///
/// # Errors
/// When none was found and a directory that cannot be read may hold one.
pub(super) fn installations(volume: &str, tree: &Tree, named: &[Vec<u8>]) -> Result<Vec<Installation>> {
    let mut found: Vec<(Node, Installation)> = Vec::new();
    let mut doubt = None;
    for directory in USUAL.iter().map(|name| name.as_bytes()).chain(named.iter().map(Vec::as_slice)) {
        match installation(volume, tree, directory) {
            Ok(Some((node, _))) if found.iter().any(|(known, _)| *known == node) => {}
            Ok(one) => found.extend(one),
            // A damaged directory is one; the others may be whole.
            Err(error) => doubt = doubt.or(Some(error)),
        }
    }
    match doubt {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found.into_iter().map(|(_, one)| one).collect()),
    }
}

/// The installation in a directory, and that directory.
fn installation(volume: &str, tree: &Tree, directory: &[u8]) -> Result<Option<(Node, Installation)>> {
    let Some(node) = tree.find(directory)? else { return Ok(None) };
    if tree.stat(node)?.kind != FileType::Dir {
        return Ok(None);
    }
    let evidence = evidence(volume, tree, directory)?;
    if evidence.is_empty() {
        return Ok(None);
    }
    Ok(Some((node, Installation { directory: spelled(tree, directory), evidence })))
}

/// What speaks for a system in a directory; nothing if it is none.
fn evidence(volume: &str, tree: &Tree, directory: &[u8]) -> Result<Vec<Evidence>> {
    let has = |name: &str| -> Result<Option<Evidence>> {
        let path = [directory, name.as_bytes()].concat();
        Ok(file::exists(tree, &path)?.then(|| Evidence::new("is there").on(volume).path(&path)))
    };
    let mut found = Vec::new();
    for name in HIVES {
        let Some(one) = has(name)? else { return Ok(Vec::new()) };
        found.push(one);
    }
    for name in PROGRAMS {
        found.extend(has(name)?);
    }
    if found.len() == HIVES.len() {
        found.clear();
    }
    Ok(found)
}

/// The system that an upgrade put aside, if there is one.
///
/// # Errors
/// As [`installations`].
pub(super) fn earlier(volume: &str, tree: &Tree) -> Result<Option<Vec<u8>>> {
    let directory = [EARLIER, "/Windows"].concat().into_bytes();
    let is_one = file::exists(tree, EARLIER)? && !evidence(volume, tree, &directory)?.is_empty();
    Ok(if is_one { Some(spelled(tree, EARLIER.as_bytes())) } else { None })
}

/// A path of one name as that name is spelled in the root; a longer one as it is, as is one in a root that is damaged.
fn spelled(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let name = path.strip_prefix(b"/").unwrap_or(path);
    let names = file::names(tree, "/").unwrap_or_default();
    let own = names
        .iter()
        .find(|own| *own == name)
        .or_else(|| names.iter().find(|own| own.eq_ignore_ascii_case(name)));
    [&b"/"[..], own.map_or(name, Vec::as_slice)].concat()
}

/// What marks a volume that is not a system's own: purpose, and what must all be there.
const MARKS: &[(Purpose, &[&str])] = &[
    (Purpose::Installer, &["/sources/install.wim", "/setup.exe"]),
    (Purpose::Installer, &["/sources/install.esd", "/setup.exe"]),
    (Purpose::Installer, &["/sources/install.swm", "/setup.exe"]),
    (Purpose::Installer, &["/sources/boot.wim", "/bootmgr"]),
    (Purpose::Boot, &["/bootmgr", "/Boot/BCD"]),
    (Purpose::Boot, &["/EFI/Microsoft/Boot/BCD"]),
    (Purpose::Boot, &["/ntldr", "/boot.ini"]),
    (Purpose::Recovery, &["/Recovery/WindowsRE/Winre.wim"]),
    (Purpose::Recovery, &["/Recovery/WindowsRE/ReAgent.xml"]),
    (Purpose::Recovery, &["/Sources/Recovery/Winre.wim"]),
];

/// What a volume is for in a machine with Windows; `None` if nothing of Windows is on it.
///
/// # Errors
/// When it cannot be read.
pub(in crate::guest) fn role(tree: &Tree, volume: &str) -> Result<Option<Role>> {
    // Windows lives on file systems that do not tell upper from lower case; its media may be others.
    let lives = tree.fs(tree.root())?.ignores_case();
    if let Some(one) =
        lives.then(|| installations(volume, tree, &[])).transpose()?.into_iter().flatten().next()
    {
        let score = u32::try_from(one.evidence.len()).unwrap_or(u32::MAX);
        return Ok(Some(Role { purpose: Purpose::Windows, score, evidence: one.evidence }));
    }
    for (purpose, paths) in MARKS {
        let mut found = Vec::new();
        for path in *paths {
            if !file::exists(tree, path)? {
                break;
            }
            found.push(Evidence::new("is there").on(volume).path(path.as_bytes()));
        }
        if found.len() == paths.len() {
            return Ok(Some(Role { purpose: *purpose, score: 1, evidence: found }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;
    use std::sync::Arc;

    fn tree(paths: &[&str]) -> Tree {
        let files: Vec<(&str, &[u8])> = paths.iter().map(|path| (*path, b"x".as_slice())).collect();
        Tree::new("p1", Arc::new(MemoryFs::caseless(&files)))
    }

    fn purpose(paths: &[&str]) -> Option<Purpose> {
        role(&tree(paths), "p1").unwrap().map(|role| role.purpose)
    }

    /// The files of an installation in a directory.
    fn files(directory: &str) -> Vec<String> {
        let names = ["System32/config/SYSTEM", "System32/config/software", "System32/ntoskrnl.exe"];
        names.iter().map(|name| format!("{directory}/{name}")).collect()
    }

    #[test]
    fn a_volume_is_what_is_in_it() {
        assert_eq!(purpose(&["/BOOTMGR", "/boot/bcd"]), Some(Purpose::Boot));
        assert_eq!(purpose(&["/efi/microsoft/boot/BCD"]), Some(Purpose::Boot));
        assert_eq!(purpose(&["/ntldr", "/BOOT.INI"]), Some(Purpose::Boot));
        assert_eq!(purpose(&["/Recovery/WindowsRE/Winre.wim"]), Some(Purpose::Recovery));
        let medium = ["/sources/install.esd", "/setup.exe", "/bootmgr", "/boot/bcd"];
        assert_eq!(purpose(&medium), Some(Purpose::Installer));
        assert_eq!(purpose(&["/photos/1.jpg", "/bootmgr"]), None);
    }

    #[test]
    fn an_installation_needs_its_hives_and_a_program() {
        let all = files("/WINDOWS");
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(purpose(&names), Some(Purpose::Windows));
        assert_eq!(purpose(&names[..2]), None);
        assert_eq!(purpose(&names[1..]), None);
        // One that was put aside is not started; nobody boots a backup either.
        let old = files("/Windows.old/Windows");
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        assert_eq!(purpose(&old), None);
        assert_eq!(earlier("p1", &tree(&old)).unwrap().as_deref(), Some(&b"/Windows.old"[..]));
        assert_eq!(earlier("p1", &tree(&names)).unwrap(), None);
    }

    #[test]
    fn a_root_that_cannot_be_listed_still_has_its_system() {
        // More names than are looked at: listing them is an error, as of a damaged index.
        let others: Vec<String> = (0..=100_000).map(|number| format!("/{number}")).collect();
        let own = files("/WINDOWS");
        let tree = tree(&own.iter().chain(&others).map(String::as_str).collect::<Vec<_>>());
        assert!(file::names(&tree, "/").is_err());
        assert_eq!(installations("p1", &tree, &[]).unwrap().len(), 1);
    }

    #[test]
    fn several_installations_of_one_volume_are_all_found_once() {
        let (first, second, odd) = (files("/WINDOWS"), files("/WinNT"), files("/Odd"));
        let all: Vec<&str> = [&first, &second, &odd].into_iter().flatten().map(String::as_str).collect();
        let named = ["/windows", "/odd", "/nowhere"].map(|name| name.as_bytes().to_vec());
        let found = installations("p1", &tree(&all), &named).unwrap();
        let names: Vec<&[u8]> = found.iter().map(|one| one.directory.as_slice()).collect();
        assert_eq!(names, [&b"/WINDOWS"[..], b"/WinNT", b"/Odd"]);
    }
}
