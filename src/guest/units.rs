//! Units of systemd for mounts and swap (systemd.mount(5), systemd.swap(5)) that are enabled in `/etc/systemd/system`, as
//! lines of an `fstab`.

use super::Guest;
use super::fact::Fact;
use super::file::{self, GuestFile, MAX_CONFIG};
use super::fstab::Line;
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::text::{Text, escape};
use std::collections::BTreeMap;

/// Where the administrator's units are, and the links that enable any.
const DIR: &str = "/etc/systemd/system";
/// Where units are, in the order in which they are looked for (systemd.unit(5), "Unit File Load Path").
const DIRS: [&str; 4] =
    [DIR, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// Units that are looked at; a guest has a handful.
const MAX_UNITS: usize = 512;

/// An enabled unit that mounts something or swaps on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its file's name: `srv-data.mount`.
    pub name: Text,
    /// What it does, as a line of an `fstab`.
    pub line: Line,
    /// Does `local-fs.target` or `swap.target` require it, so that the boot stops without it? One that is only wanted
    /// is waited for, and then left out.
    pub is_required: bool,
    /// Is it mounted when it is first used, not at boot?
    pub is_automatic: bool,
}

/// The enabled units of a guest that mount something or swap on it.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// In the order of their names.
    pub units: Vec<Unit>,
}

impl Fact for Units {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        Ok(Self { units: read(guest.facts())?.into_iter().collect::<Result<_>>()? })
    }
}

/// How a unit is asked for.
#[derive(Clone, Copy, Default)]
struct Asked {
    by_itself: bool,
    is_required: bool,
}

/// Every enabled unit of mounts and swap: one that, or whose automount, some target wants. A package's own unit that was
/// enabled leaves nothing in `/etc` but the link of the target.
///
/// # Errors
/// When a directory cannot be read; each unit's own error stands in its place.
pub(super) fn read(tree: &Tree) -> Result<Vec<Result<Unit>>> {
    let mut asked: BTreeMap<Vec<u8>, Asked> = BTreeMap::new();
    for dir in file::names(tree, DIR)? {
        let is_required = dir.ends_with(b".requires");
        if !is_required && !dir.ends_with(b".wants") {
            continue;
        }
        let is_early = dir.starts_with(b"local-fs.target.") || dir.starts_with(b"swap.target.");
        for name in file::names(tree, [DIR.as_bytes(), b"/", &dir].concat())? {
            let stem = name.strip_suffix(b".automount").map(|stem| [stem, b".mount"].concat());
            let by_itself = stem.is_none();
            let unit = stem.unwrap_or(name);
            if unit.ends_with(b".mount") || unit.ends_with(b".swap") {
                let known = asked.entry(unit).or_default();
                known.by_itself |= by_itself;
                known.is_required |= by_itself && is_required && is_early;
            }
        }
    }
    let mut found = Vec::new();
    for (name, asked) in asked.into_iter().take(MAX_UNITS) {
        let line = unit(tree, &name).map(|file| file.and_then(|file| parse(&file, &name)));
        let (is_required, is_automatic) = (asked.is_required, !asked.by_itself);
        let name = Text::new(name);
        found
            .extend(line.map(|line| Some(Unit { name, line: line?, is_required, is_automatic })).transpose());
    }
    Ok(found)
}

/// The file of a unit, in the first directory that has one.
fn unit(tree: &Tree, name: &[u8]) -> Result<Option<GuestFile>> {
    for dir in DIRS {
        let path = [dir.as_bytes(), b"/", name].concat();
        let Some(entry) = file::entry(tree, &path)? else { continue };
        // A link to /dev/null switches the unit off, and so does one that leads to nothing.
        let is_off = tree.stat(entry)?.kind == FileType::Symlink && tree.readlink(entry)? == b"/dev/null";
        return if is_off { Ok(None) } else { file::read(tree, &path, MAX_CONFIG) };
    }
    Ok(None)
}

/// The line that a unit stands for. Its name must be that of the place, or systemd refuses it.
fn parse(file: &GuestFile, name: &[u8]) -> Option<Line> {
    let swap = name.strip_suffix(b".swap");
    let stem = swap.or_else(|| name.strip_suffix(b".mount"))?;
    let (mut what, mut place, mut kind, mut options) = (None, None, b"auto".to_vec(), Vec::new());
    let mut section = Vec::new();
    for (_, text) in file.lines() {
        let text = text.trim_ascii();
        if text.starts_with(b"#") || text.starts_with(b";") {
            continue;
        }
        if text.starts_with(b"[") {
            section = text.to_vec();
            continue;
        }
        let Some(equals) = text
            .iter()
            .position(|byte| *byte == b'=')
            .filter(|_| section == b"[Mount]" || section == b"[Swap]")
        else {
            continue;
        };
        let (key, value) = text.split_at_checked(equals)?;
        let value = value.get(1..).unwrap_or_default().trim_ascii().to_vec();
        match key.trim_ascii() {
            b"What" => what = Some(value),
            b"Where" => place = Some(value),
            b"Type" if !value.is_empty() => kind = value,
            b"Options" => options = value,
            _ => {}
        }
    }
    let spec = what?;
    if swap.is_some() {
        kind = b"swap".to_vec();
    }
    let dir = if swap.is_some() { b"none".to_vec() } else { place? };
    (swap.is_some() || name_of(&dir) == stem).then(|| Line {
        options: options.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect(),
        evidence: file.evidence(format!("mounts {} on {}", escape(&spec), Text::new(dir.clone()))),
        spec,
        dir,
        kind,
    })
}

/// The name of the unit for a path, as `systemd-escape --path` spells it.
fn name_of(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let mut name = Vec::new();
    for (at, byte) in parts.join(&b'/').into_iter().enumerate() {
        match byte {
            b'/' => name.push(b'-'),
            b'.' if at == 0 => name.extend(br"\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(byte),
            other => name.extend(format!("\\x{other:02x}").bytes()),
        }
    }
    if name.is_empty() { b"-".to_vec() } else { name }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::*;

    const DATA: &str =
        "[Unit]\nDescription=x\n[Mount]\nWhat=LABEL=data\nWhere=/srv/my data\nOptions=ro,subvol=x\n";

    fn units(files: &[(&str, &str)]) -> Vec<Line> {
        read(&MemoryFs::tree(files)).unwrap().into_iter().map(|unit| unit.unwrap().line).collect()
    }

    /// systemd.unit(5), "Requires=", "Wants=": who only wants a unit goes on without it.
    #[test]
    fn what_is_required_is_not_what_is_wanted() {
        let swap = "[Swap]\nWhat=UUID=x\n";
        let found = read(&MemoryFs::tree(&[
            (&format!("{DIR}/swap.target.requires/a.swap"), swap),
            (&format!("{DIR}/multi-user.target.wants/b.swap"), swap),
            (&format!("{DIR}/a.swap"), swap),
            (&format!("{DIR}/b.swap"), swap),
        ]));
        let found: Vec<_> = found
            .unwrap()
            .into_iter()
            .map(Result::unwrap)
            .map(|unit| (unit.is_required, unit.line.is_swap()))
            .collect();
        assert_eq!(found, [(true, true), (false, true)]);
    }

    #[test]
    fn an_enabled_unit_is_a_line() {
        let name = r"srv-my\x20data.mount";
        let lines = units(&[
            (&format!("{DIR}/{name}"), DATA),
            (&format!("{DIR}/local-fs.target.wants/{name}"), &format!("-> {DIR}/{name}")),
        ]);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (lines[0].spec.as_slice(), lines[0].dir.as_slice()),
            (&b"LABEL=data"[..], &b"/srv/my data"[..])
        );
        assert!(lines[0].has("ro") && lines[0].kind == b"auto");
        assert_eq!(lines[0].place(), r"/etc/systemd/system/srv-my\\x20data.mount");
    }

    #[test]
    fn a_unit_that_nothing_wants_or_that_is_misnamed_is_none() {
        let unwanted = format!("{DIR}/srv-data.mount");
        let misnamed = format!("{DIR}/srv.mount");
        let wants = format!("{DIR}/x.target.wants/srv.mount");
        assert!(units(&[(&unwanted, DATA), (&misnamed, DATA), (&wants, DATA)]).is_empty());
    }

    /// systemd.unit(5): `systemctl enable` of a package's unit makes a link, and `mask` one to `/dev/null`.
    #[test]
    fn a_packages_unit_is_one_if_it_is_enabled_and_not_masked() {
        let name = r"srv-my\x20data.mount";
        let (unit, wants) =
            (format!("/usr/lib/systemd/system/{name}"), format!("{DIR}/local-fs.target.wants/{name}"));
        let link = format!("-> {unit}");
        assert_eq!(units(&[(&unit, DATA), (&wants, &link)]).len(), 1);
        assert!(units(&[(&unit, DATA)]).is_empty());
        let mask = format!("{DIR}/{name}");
        assert!(units(&[(&unit, DATA), (&wants, &link), (&mask, "-> /dev/null")]).is_empty());
    }

    /// Expected values: `systemd-escape --path` of systemd 252.
    #[test]
    fn names_are_those_of_systemd_escape() {
        assert_eq!(name_of(b"/"), b"-");
        assert_eq!(name_of(b"/var//lib/docker-x/"), br"var-lib-docker\x2dx");
        assert_eq!(name_of(b"/.snapshots/a.b"), br"\x2esnapshots-a.b");
    }
}
