//! Which images are checked: those of the command line, and those that `--from` names. A list has one on each line; a
//! folder is looked through.

use super::super::plan;
use crate::error::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::io::BufReader;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Images of one list; a longer one is no list of images.
const MAX_NAMES: usize = 10_000_000;
/// Folders within folders.
const MAX_DEPTH: usize = 32;

/// An image to check.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) image: OsString,
    /// What tells its state from others, where that is known without opening it.
    pub(super) version: Option<String>,
}

impl Name {
    fn new(image: OsString) -> Self {
        let version = version(&image);
        Self { image, version }
    }
}

/// Length and time of change of the file; of an image of several files, of the one that names the others.
fn version(image: &OsStr) -> Option<String> {
    let (archive, _) = plan::split_member(image);
    let facts = std::fs::metadata(&archive).ok().filter(std::fs::Metadata::is_file)?;
    let changed = facts.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{}-{}.{:09}", facts.len(), changed.as_secs(), changed.subsec_nanos()))
}

/// All images.
pub(super) fn all(typed: &[OsString], from: &[OsString], glob: Option<&str>) -> Result<Vec<Name>> {
    let mut found: Vec<Name> = typed.iter().cloned().map(Name::new).collect();
    for place in from {
        let named = named(place)?;
        let fits = |name: &Name| glob.is_none_or(|glob| fits(glob, &name.image));
        found.extend(named.into_iter().filter(fits));
    }
    if found.is_empty() {
        let what =
            if glob.is_some() { "--from: nothing there fits --glob" } else { "--from: no images there" };
        return Err(Error::new(ErrorKind::Source, what));
    }
    Ok(found)
}

fn named(place: &OsStr) -> Result<Vec<Name>> {
    let shown = plan::shown(place);
    let failed = |error| Error::new(ErrorKind::Source, format!("--from {shown}")).caused_by(error);
    if place == "-" {
        return list(BufReader::new(std::io::stdin().lock()), &shown);
    }
    if place.as_bytes().starts_with(b"s3://") {
        let error = Error::unsupported(format!("--from {shown}: the list of a bucket"));
        return Err(error.help(
            "aws s3api list-objects-v2 --bucket B --prefix P --query 'Contents[].[Key]' --output text | sed 's,^,s3://B/,' | imgmount check --from -",
        ));
    }
    let path = Path::new(place);
    if path.is_dir() {
        let mut found = Vec::new();
        walk(path, MAX_DEPTH, &mut found).map_err(failed)?;
        found.sort();
        return Ok(found.into_iter().map(|path| Name::new(path.into_os_string())).collect());
    }
    list(BufReader::new(std::fs::File::open(path).map_err(failed)?), &shown)
}

/// One image a line; empty lines and those that begin with `#` are none.
fn list(from: impl std::io::BufRead, shown: &str) -> Result<Vec<Name>> {
    let (mut found, mut is_long) = (Vec::new(), false);
    super::resume::each_line(from, |line| {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        is_long |= found.len() >= MAX_NAMES;
        if !is_long {
            found.push(Name::new(OsString::from_vec(line.to_vec())));
        }
    })
    .map_err(|error| Error::new(ErrorKind::Source, format!("--from {shown}")).caused_by(error))?;
    if is_long {
        return Err(Error::new(ErrorKind::Limit, format!("--from {shown}: more than {MAX_NAMES} lines")));
    }
    Ok(found)
}

/// The files below a folder; links are not followed.
fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() && found.len() < MAX_NAMES {
            found.push(entry.path());
        } else if kind.is_dir() && depth > 0 {
            walk(&entry.path(), depth.saturating_sub(1), found)?;
        }
    }
    Ok(())
}

/// Does a name fit a pattern? One with a slash is for the whole name, one without for its last part.
fn fits(pattern: &str, name: &OsStr) -> bool {
    let name = name.as_bytes();
    let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    matches(pattern.as_bytes(), if pattern.contains('/') { name } else { last })
}

/// `*` for any text, `?` for any byte, `[a-z]` and `[!a-z]` for one of several.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when what follows the last star does not fit: after one more byte of the name.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern.split_first(), name.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                star = Some((rest, name));
                pattern = rest;
                continue;
            }
            (Some((b'?', rest)), Some((_, more))) => Some((rest, more)),
            (Some((b'[', rest)), Some((byte, more))) => match class(rest, *byte) {
                Some((true, rest)) => Some((rest, more)),
                Some((false, _)) => None,
                None => (*byte == b'[').then_some((rest, more)),
            },
            (Some((one, rest)), Some((byte, more))) => (one == byte).then_some((rest, more)),
            _ => None,
        };
        match (step, star) {
            (Some((rest, more)), _) => (pattern, name) = (rest, more),
            (None, Some((rest, from))) => {
                let Some((_, from)) = from.split_first() else { return false };
                star = Some((rest, from));
                (pattern, name) = (rest, from);
            }
            (None, None) => return false,
        }
    }
}

/// Is a byte in the class that begins here, and what follows the class? `None` if it does not end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, body) = match pattern.split_first()? {
        (b'!' | b'^', rest) => (true, rest),
        _ => (false, pattern),
    };
    // A bracket in first place is one of the bytes.
    let end = body.iter().skip(1).position(|byte| *byte == b']')?.saturating_add(1);
    let (mut set, rest) = body.split_at_checked(end)?;
    let mut is_in = false;
    while let Some((first, more)) = set.split_first() {
        if let [b'-', last, more @ ..] = more {
            is_in |= (*first..=*last).contains(&byte);
            set = more;
        } else {
            is_in |= *first == byte;
            set = more;
        }
    }
    Some((is_in != negated, rest.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_shell() {
        // As Python's fnmatch.fnmatchcase answers.
        for (pattern, name, fits) in [
            ("*.vmdk", "a/b.vmdk", true),
            ("*.vmdk", "b.vmdk.gz", false),
            ("web??.*", "web01.qcow2", true),
            ("[a-c]*[!0-9].raw", "b1x.raw", true),
            ("[a-c]*[!0-9].raw", "b11.raw", false),
            ("a*b*c", "aXbXbXc", true),
            ("a/*.raw", "a/b/c.raw", true),
            ("[", "[", true),
            ("[]]x", "]x", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(super::fits(pattern, name.as_ref()), fits, "{pattern} {name}");
        }
        let many = "a".repeat(2000);
        assert!(!matches(format!("{}b", "*a".repeat(50)).as_bytes(), many.as_bytes()));
    }

    #[test]
    fn a_list_has_comments() {
        let found = list("# a\n\n x.raw \r\nhttp://h/y#z\n".as_bytes(), "x").unwrap();
        let names: Vec<&OsStr> = found.iter().map(|name| name.image.as_os_str()).collect();
        assert_eq!(names, ["x.raw", "http://h/y#z"]);
    }
}
