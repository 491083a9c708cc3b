//! Where in the guest's tree a path of Windows leads: `\SystemRoot\System32\drivers\x.sys`, `"C:\Program Files\x\y.exe" run`.

use super::Windows;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::file;
use crate::text::defuse;

/// What stands for the directory of the system.
const SYSTEM_ROOT: &[&str] = &["\\systemroot\\", "%systemroot%\\", "%windir%\\"];
/// What stands for the drive of the system.
const SYSTEM_DRIVE: &[&str] = &["%systemdrive%\\"];
/// Directories that variables name; a Windows in another language shows other names, and has these.
const PLACES: &[(&str, &str)] = &[
    ("%programfiles%\\", "/Program Files/"),
    ("%programfiles(x86)%\\", "/Program Files (x86)/"),
    ("%programdata%\\", "/ProgramData/"),
];

impl Windows {
    /// The path in the guest's tree. One that names neither drive nor variable is meant from the system's directory on,
    /// as those of drivers are.
    ///
    /// # Errors
    /// When it lies on a drive that is not in this image, or is named by a variable that only the running system knows.
    pub fn locate(&self, tree: &Tree, path: &str) -> Result<Vec<u8>> {
        let path = path.trim().trim_start_matches("\\??\\").trim_start_matches("\\\\?\\");
        let below = |names: &[&str]| names.iter().find_map(|name| strip(path, name));
        let slashes = |rest: &str| rest.replace('\\', "/").into_bytes();
        if let Some(rest) = below(SYSTEM_ROOT) {
            return Ok([self.directory.as_slice(), b"/", &slashes(rest)].concat());
        }
        if let Some(rest) = below(SYSTEM_DRIVE) {
            return Ok([b"/", slashes(rest).as_slice()].concat());
        }
        for (name, place) in PLACES {
            if let Some(rest) = strip(path, name) {
                return Ok([place.as_bytes(), &slashes(rest)].concat());
            }
        }
        if let Some((letter, rest)) = drive_of(path) {
            let own = |drive: &&super::Drive| drive.letter.eq_ignore_ascii_case(&letter);
            let drive = self.drives.iter().find(own);
            if drive.is_some_and(|drive| drive.volume == self.volume) {
                return Ok([b"/", slashes(rest).as_slice()].concat());
            }
            if !tree.has_drive(&format!("{letter}:")) {
                let what = format!("drive {letter}:, where {} is, is not in this image", defuse(path));
                return Err(Error::new(crate::error::ErrorKind::NotFound, what));
            }
            return Ok([format!("/{letter}:/").as_bytes(), &slashes(rest)].concat());
        }
        if path.starts_with('%') {
            return Err(Error::unsupported(format!("the path {}", defuse(path))));
        }
        Ok(match path.strip_prefix('\\') {
            Some(rest) => [b"/", slashes(rest).as_slice()].concat(),
            None => [self.directory.as_slice(), b"/", &slashes(path)].concat(),
        })
    }

    /// Is the file there that a path of Windows names?
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn has_file(&self, tree: &Tree, path: &str) -> Result<bool> {
        file::exists(tree, self.locate(tree, path)?)
    }
}

/// What follows a prefix, in whatever case that is.
fn strip<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `C:\x`: the letter, and the path from the drive's root on.
fn drive_of(path: &str) -> Option<(char, &str)> {
    let (head, rest) = path.split_at_checked(3)?;
    let [letter, b':', b'\\' | b'/'] = head.as_bytes() else { return None };
    letter.is_ascii_alphabetic().then(|| (char::from(letter.to_ascii_uppercase()), rest))
}

/// The program of a command line: what is in quotes, or goes up to `.exe`, or the first word.
#[must_use]
pub fn program(line: &str) -> &str {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix('"') {
        return rest.split('"').next().unwrap_or(rest);
    }
    let lower = line.to_ascii_lowercase();
    let end =
        [".exe", ".sys"].iter().filter_map(|end| Some(lower.find(end)?.saturating_add(end.len()))).min();
    end.and_then(|end| line.get(..end)).unwrap_or_else(|| line.split(' ').next().unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_its_command_line() {
        assert_eq!(program(r#""C:\Program Files\a b.exe" -x "C:\c.exe""#), r"C:\Program Files\a b.exe");
        assert_eq!(program(r"C:\Program Files\a\b.exe -d --retry"), r"C:\Program Files\a\b.exe");
        assert_eq!(program(r"System32\drivers\viostor.sys"), r"System32\drivers\viostor.sys");
        assert_eq!(program("rundll32 x"), "rundll32");
        assert_eq!(program("\""), "");
    }

    #[test]
    fn a_drive_is_a_letter_a_colon_and_a_slash() {
        assert_eq!(drive_of(r"c:\x\y"), Some(('C', r"x\y")));
        assert_eq!((drive_of("c:x"), drive_of(r"\x"), drive_of("é:\\")), (None, None, None));
        assert_eq!(strip(r"\SYSTEMROOT\x", "\\systemroot\\"), Some("x"));
        assert_eq!(strip("é", "%windir%\\"), None);
    }
}
