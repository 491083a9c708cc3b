//! Keys, from the command line and from a person: read by the first process, tried where something is locked, and asked
//! for on the terminal where none was given.
//!
//! A key itself never stands on a command line, in the environment that we hand on, or in anything that is printed.

use super::{Common, out, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::{Key, Keys, Secret};
use crate::locator::Locator;
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// The longest key file. All keys together must fit into one message to the process that parses.
const MAX_KEY: u64 = 512 << 10;
/// How often a person is asked, as by `cryptsetup`.
const TRIES: u32 = 3;

/// Reads every key that the options name.
///
/// # Errors
/// `Usage` for an option that makes no sense, without showing it: a key may stand there by mistake; `Source` for a file
/// that cannot be read.
pub fn resolve(common: &Common) -> Result<Keys> {
    let mut keys = Vec::new();
    for option in &common.key {
        keys.push(named(option)?);
    }
    if let Some(number) = common.key_fd {
        let path = format!("/proc/self/fd/{number}");
        let secret = read(&path, &format!("--key-fd {number}"))?;
        keys.push(Key { volume: "*".to_owned(), secret, is_file: true });
    }
    Ok(keys.into_iter().collect())
}

/// `VOL:file:FILE` or `VOL:env:VARIABLE`.
fn named(option: &str) -> Result<Key> {
    let usage = |what: &str| {
        Error::new(ErrorKind::Usage, format!("--key: {what}"))
            .help("write VOL:file:FILE or VOL:env:VARIABLE, as in disk:file:key.txt; VOL is disk, a volume, or * for whatever is locked")
    };
    let split =
        |kind: &str| option.split_once(kind).filter(|(volume, rest)| !volume.is_empty() && !rest.is_empty());
    // The first of the two words counts: the rest of it may hold the other.
    let (file, env) = (split(":file:"), split(":env:"));
    let first = match (file, env) {
        (Some(file), Some(env)) if env.0.len() < file.0.len() => (None, Some(env)),
        (Some(file), _) => (Some(file), None),
        (None, env) => (None, env),
    };
    match first {
        (Some((volume, path)), _) => {
            let shown = Locator::Path(path.into()).to_string();
            Ok(Key { volume: volume.to_owned(), secret: read(path, &shown)?, is_file: true })
        }
        (None, Some((volume, variable))) => {
            let value = std::env::var_os(variable);
            let value = value.ok_or_else(|| usage("the environment has no variable of that name"))?;
            Ok(Key { volume: volume.to_owned(), secret: Secret::new(value.into_vec()), is_file: false })
        }
        (None, None) => Err(usage("neither a file nor a variable is named")),
    }
}

/// A key file's content, as it is.
fn read(path: &str, shown: &str) -> Result<Secret> {
    let failed = |error| Error::new(ErrorKind::Source, shown).caused_by(error);
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(crate::num::narrow(MAX_KEY.saturating_add(1))));
    File::open(path)
        .map_err(failed)?
        .take(MAX_KEY.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if crate::num::wide(bytes.len()) > MAX_KEY {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{shown}: a key has at most {} KiB", MAX_KEY >> 10),
        ));
    }
    if bytes.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("{shown}: is empty, not a key")));
    }
    Ok(Secret::new(bytes.to_vec()))
}

/// Opens something with the keys that were given; where none was and it is locked, a person at the terminal is asked.
///
/// # Errors
/// What `open` says at last.
pub fn with_keys<T>(image: &OsStr, common: &Common, open: impl FnMut(&Arc<Keys>) -> Result<T>) -> Result<T> {
    with_keys_of(&plan::shown(image), common, open)
}

/// As [`with_keys`], of something that is called so.
///
/// # Errors
/// What `open` says at last.
pub fn with_keys_of<T>(
    shown: &str,
    common: &Common,
    mut open: impl FnMut(&Arc<Keys>) -> Result<T>,
) -> Result<T> {
    let mut result = open(&common.keys);
    if !common.keys.is_empty() {
        return result;
    }
    for tried in 0..TRIES {
        let locked = matches!(&result, Err(error) if error.kind() == ErrorKind::Encrypted);
        if !locked {
            break;
        }
        if tried > 0 {
            out::say(common, "imgmount: that key does not fit");
        }
        let Some(secret) = ask(shown)? else { break };
        let mut keys = Keys::default();
        keys.add("*", secret);
        result = open(&Arc::new(keys));
    }
    result
}

/// Asks for a passphrase if a person sits at the terminal: `None` if not, or if nothing was typed.
fn ask(shown: &str) -> Result<Option<Secret>> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !isatty(&stdin) || !isatty(&stderr) {
        return Ok(None);
    }
    // Of several images that are opened at once, one asks at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(quiet) = Quiet::new(stdin.as_fd()) else { return Ok(None) };
    drop(write!(stderr, "passphrase for {shown}: "));
    let line = line(stdin.as_fd());
    drop(quiet);
    drop(writeln!(stderr));
    let Some(line) = line? else {
        // The terminal is itself again: now Ctrl-C may do what it does everywhere.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
        return Err(Error::new(ErrorKind::Usage, "interrupted"));
    };
    Ok((!line.is_empty()).then(|| Secret::new(line.to_vec())))
}

/// The terminal without echo and without keys that end us, until this is dropped: nobody's terminal stays dumb.
struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: BorrowedFd<'a>) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        (now.special_codes[SpecialCodeIndex::VMIN], now.special_codes[SpecialCodeIndex::VTIME]) = (1, 0);
        tcsetattr(terminal, OptionalActions::Flush, &now)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Reads a line, key by key, and does what a terminal would: takes a character back, or the whole line.
///
/// `None` when it was interrupted.
fn line(terminal: BorrowedFd<'_>) -> Result<Option<Zeroizing<Vec<u8>>>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const QUIT: u8 = 0x1c;
    let failed = |errno: Errno| Error::new(ErrorKind::Host, "the terminal cannot be read").caused_by(errno);
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    loop {
        let mut byte = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(terminal, &mut byte)).map_err(failed)? {
            0 => return Ok(Some(line)),
            _ => match byte {
                [b'\r' | b'\n' | END] => return Ok(Some(line)),
                [INTERRUPT | QUIT] => return Ok(None),
                [0x08 | 0x7f] => {
                    // All bytes of a character of UTF-8.
                    while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                }
                [0x15] => line.clear(),
                [byte] => line.push(byte),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a:env:b");
        std::fs::write(&path, b"secret\n").unwrap();
        let key = named(&format!("vg0/root:file:{}", path.display())).unwrap();
        assert_eq!(
            (key.volume.as_str(), key.secret.bytes(), key.is_file),
            ("vg0/root", b"secret\n".as_slice(), true)
        );
    }

    #[test]
    fn what_is_no_key_option_is_not_shown() {
        for option in ["hunter2", "disk:hunter2", ":file:hunter2", "disk:env:", "disk:env:hunter2_hunter2"] {
            let error = named(option).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(!format!("{error:?}{:?}", error.help_text()).contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = named("*:file:/nowhere/key").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.to_string().contains("/nowhere/key"));
    }

    #[test]
    fn an_empty_or_endless_key_file_is_refused() {
        assert_eq!(named("*:file:/dev/null").unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(named("*:file:/dev/zero").unwrap_err().kind(), ErrorKind::Usage);
    }
}
