//! What can go wrong, and where: one error type for every layer.
//!
//! ```text
//! Error ── kind      what a caller decides on (exit code, errno, verdict)
//!       ├─ at        layer + structure + index + byte: where in the container
//!       ├─ message   one line for people, already free of control characters
//!       ├─ help      the next step, if we know one
//!       └─ source    the error below (an `io::Error`, say)
//! ```
//!
//! An error is cheap to clone, because one failed read is told to every reader that waited for it.

use std::fmt;
use std::sync::Arc;

/// The result of everything in this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble it is. Callers match on this; people read the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source failed to give a byte: a disk error, a dropped connection.
    Io,
    /// The source cannot be reached at all: no such file, permission, HTTP status, time-out.
    Source,
    /// A structure contradicts its specification.
    Corrupt,
    /// The file is none of the formats we know, or is not a disk image at all.
    NotAnImage,
    /// Sound as far as we can see, but uses something we do not read.
    Unsupported,
    /// Several formats claim the same bytes.
    Ambiguous,
    /// An offset past the end of what holds it.
    OutOfRange,
    /// The path, volume or export that was asked for is not there.
    NotFound,
    /// The image names another file and may not have it.
    ExternalRef,
    /// Not allowed: a write, a special file.
    Denied,
    /// Locked without its key.
    Encrypted,
    /// A bound of ours was hit: bytes, steps, depth or time.
    Limit,
    /// The source changed while it was open. Permanent.
    Changed,
    /// This host lacks something: `/dev/fuse`, a port, a permission.
    Host,
    /// The command line makes no sense.
    Usage,
    /// Our own fault.
    Internal,
}

impl ErrorKind {
    /// Every kind with its word in machine output.
    const NAMES: &[(Self, &'static str)] = &[
        (Self::Io, "io"),
        (Self::Source, "source"),
        (Self::Corrupt, "corrupt"),
        (Self::NotAnImage, "not-an-image"),
        (Self::Unsupported, "unsupported"),
        (Self::Ambiguous, "ambiguous"),
        (Self::OutOfRange, "out-of-range"),
        (Self::NotFound, "not-found"),
        (Self::ExternalRef, "external-ref"),
        (Self::Denied, "denied"),
        (Self::Encrypted, "encrypted"),
        (Self::Limit, "limit"),
        (Self::Changed, "changed"),
        (Self::Host, "host"),
        (Self::Usage, "usage"),
        (Self::Internal, "internal"),
    ];

    /// The word in machine output.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("internal", |(_, name)| name)
    }

    /// The kind of a word; an unknown word is `Internal`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::NAMES.iter().find(|(_, word)| *word == name).map_or(Self::Internal, |(kind, _)| *kind)
    }
}

/// Where in the stack of structures an error lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    layer: &'static str,
    structure: &'static str,
    index: Option<u64>,
    byte: Option<u64>,
}

impl At {
    /// A structure of a layer, both named as their specification does: `At::new("vmdk", "grain table")`.
    #[must_use]
    pub const fn new(layer: &'static str, structure: &'static str) -> Self {
        Self { layer, structure, index: None, byte: None }
    }

    /// Which one, if the structure is one of many.
    #[must_use]
    pub const fn index(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    /// The byte in the container where the structure starts.
    #[must_use]
    pub const fn byte(mut self, byte: u64) -> Self {
        self.byte = Some(byte);
        self
    }

    /// The layer's name, as in `--format` or `info`.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layer, self.structure)?;
        if let Some(index) = self.index {
            write!(f, " {index}")?;
        }
        if let Some(byte) = self.byte {
            write!(f, " at byte {byte:#x}")?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    at: Option<At>,
    message: String,
    help: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// One thing that went wrong. See the module's picture.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

impl Error {
    /// An error of `kind`. `message` is shown as it is: bytes of an image go through [`crate::text`] first.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, at: None, message: message.into(), help: None, source: None }))
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// A structure that contradicts its specification; say how with [`Error::because`].
    #[must_use]
    pub fn corrupt(at: At) -> Self {
        Self::new(ErrorKind::Corrupt, "").at(at)
    }

    /// Something we do not read, by the specification's own name for it.
    #[must_use]
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{} is not supported", what.into()))
    }

    /// A read of `len` bytes at `offset` from something that has `size`.
    #[must_use]
    pub fn out_of_range(offset: u64, len: u64, size: u64) -> Self {
        let end = u128::from(offset).saturating_add(u128::from(len));
        Self::new(
            ErrorKind::OutOfRange,
            format!("bytes {offset:#x}..{end:#x} of something {size:#x} bytes long"),
        )
    }

    /// A path, volume or name that is not there.
    #[must_use]
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what}: no such file, directory or volume"))
    }

    /// A bound that was hit, named with its value.
    #[must_use]
    pub fn limit(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, what)
    }

    /// An I/O error with what was being done.
    #[must_use]
    pub fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).caused_by(source)
    }

    /// The error of ours that came up through a [`std::io::Read`], or one of the reader's own with what was being done.
    #[must_use]
    pub fn of_reader(doing: impl Into<String>, error: std::io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|other| Self::io(doing, other))
    }

    /// As an error that a [`std::io::Read`] reports; [`Error::of_reader`] is the way back.
    #[must_use]
    pub fn into_io(self) -> std::io::Error {
        std::io::Error::other(self)
    }

    /// Says where.
    #[must_use]
    pub fn at(self, at: At) -> Self {
        self.edit(|e| e.at = Some(at))
    }

    /// Says why, in words; replaces what was said before.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        self.edit(|e| {
            let why = why.into();
            e.message = if e.message.is_empty() { why } else { format!("{}: {why}", e.message) };
        })
    }

    /// Puts the subject in front, as in `disk.vmdk: …`.
    #[must_use]
    pub fn context(self, subject: impl fmt::Display) -> Self {
        self.edit(|e| {
            let at = e.at.take().map(|at| format!("{at}: ")).unwrap_or_default();
            e.message = format!("{subject}: {at}{}", e.message);
        })
    }

    /// The next step, shown on a `help:` line of its own.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        self.edit(|e| e.help = Some(help.into()))
    }

    /// Changes the kind, where a layer knows better what the trouble means.
    #[must_use]
    pub fn with_kind(self, kind: ErrorKind) -> Self {
        self.edit(|e| e.kind = kind)
    }

    /// Keeps the error from below.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.edit(|e| e.source = Some(Arc::new(source)))
    }

    /// The kind, for decisions.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The place, if one was given.
    #[must_use]
    pub fn place(&self) -> Option<&At> {
        self.0.at.as_ref()
    }

    /// The next step, if one was given.
    #[must_use]
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The line for people with its causes, as reporters print it: `a: b: c`.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut below = std::error::Error::source(self);
        while let Some(error) = below {
            let text = error.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            below = error.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.at, self.0.message.as_str()) {
            (Some(at), "") => write!(f, "{at}"),
            (Some(at), message) => write!(f, "{at}: {message}"),
            (None, message) => f.write_str(message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.0.kind, self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| -> &(dyn std::error::Error + 'static) { e })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrupt_names_structure_index_and_byte() {
        let error = Error::corrupt(At::new("vmdk", "grain table").index(17).byte(0x400))
            .because("entry 42 points past the end");
        assert_eq!(error.to_string(), "vmdk: grain table 17 at byte 0x400: entry 42 points past the end");
    }

    #[test]
    fn context_goes_in_front_of_the_place() {
        let error = Error::corrupt(At::new("qcow2", "header")).because("bad").context("disk.qcow2");
        assert_eq!(error.to_string(), "disk.qcow2: qcow2: header: bad");
    }
}
