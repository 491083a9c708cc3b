//! Disk image formats. A new one is one file here and one line in [`FORMATS`].
//!
//! A driver writes a [`crate::block::Layout`]: where each run of the virtual disk lies. It reads tables, never
//! guest data. Its name is its identity everywhere: in `--format`, in reports, in the file's name.

use crate::block::{BlockSource, Probe, ProbeBytes};
use crate::budget::{Budget, Limits};
use crate::engine::Mapper;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Gate, Locator};
use std::fmt;
use std::sync::Arc;

pub mod raw;

/// Every format. `raw` stands last: it has no signature and takes what nobody else claims.
pub const FORMATS: &[&Format] = &[&raw::FORMAT];

/// How sure a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Nothing speaks against it (raw).
    Fallback,
    /// A signature stands where it must.
    Signature,
}

/// A disk image format.
pub struct Format {
    /// Value of `--format` and of reports.
    pub name: &'static str,
    /// Other names that users know it by (`vpc` for `vhd`).
    pub aliases: &'static [&'static str],
    /// One line for `man imgmount-formats`.
    pub about: &'static str,
    /// Looks at the first and last bytes; does no I/O.
    pub probe: fn(&Probe<'_>) -> Option<Confidence>,
    /// Opens an image.
    pub open: fn(Arc<dyn BlockSource>, &OpenCx<'_>) -> Result<Opened>,
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name)
    }
}

/// What opening an image may use.
#[derive(Clone, Copy, Debug)]
pub struct OpenCx<'a> {
    /// The only way to a second file.
    pub gate: &'a dyn Gate,
    /// Where the image itself lies.
    pub locator: &'a Locator,
    /// What opening may cost.
    pub budget: &'a Budget,
    /// Makes a source of a layout.
    pub mapper: &'a Mapper,
    /// How many images name each other above this one.
    pub depth: u8,
}

/// Images that may name each other in a row; the gate's chain limit binds first for layers.
const MAX_DEPTH: u8 = 33;

/// An opened image.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The virtual disk.
    pub disk: Arc<dyn BlockSource>,
    /// [`Format::name`].
    pub format: &'static str,
    /// The format's own word for the variant: `streamOptimized`, `dynamic`.
    pub subformat: Option<String>,
    /// What `info` prints about the container, in order: name and value, both safe to show.
    pub facts: Vec<(&'static str, String)>,
    /// This image and those below it, the top first.
    pub layers: Vec<Layer>,
    /// What is odd about it without keeping us from reading it.
    pub warnings: Vec<String>,
}

/// One image of a chain.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its file, escaped.
    pub name: String,
    /// [`Format::name`].
    pub format: &'static str,
    /// Its own virtual size in bytes.
    pub size: u64,
    /// Its content alone with what is below it.
    pub disk: Arc<dyn BlockSource>,
}

impl Opened {
    /// An image without parents.
    #[must_use]
    pub fn single(disk: Arc<dyn BlockSource>, format: &'static str, cx: &OpenCx<'_>) -> Self {
        let layer = Layer { name: cx.locator.to_string(), format, size: disk.len(), disk: Arc::clone(&disk) };
        Self { disk, format, subformat: None, facts: Vec::new(), layers: vec![layer], warnings: Vec::new() }
    }
}

/// Finds a format by the name a user gave.
///
/// # Errors
/// `Usage` with the list of names.
pub fn by_name(name: &str) -> Result<&'static Format> {
    let lower = name.to_ascii_lowercase();
    let found =
        FORMATS.iter().find(|format| format.name == lower || format.aliases.contains(&lower.as_str()));
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        Error::new(ErrorKind::Usage, format!("no format '{}'", crate::text::escape(name.as_bytes())))
            .help(format!("one of: {}", names.join(", ")))
    })
}

/// The one format whose signature the source carries; `raw` when there is none.
///
/// # Errors
/// `Ambiguous` when several claim it; what reading reports.
pub fn detect(source: &dyn BlockSource, name: &str) -> Result<&'static Format> {
    let bytes = ProbeBytes::read(source, name)?;
    let claims = |wanted| -> Vec<&'static Format> {
        FORMATS.iter().copied().filter(|format| (format.probe)(&bytes.view()) == Some(wanted)).collect()
    };
    match claims(Confidence::Signature).as_slice() {
        [one] => Ok(one),
        [] => match not_a_disk(&bytes.view()) {
            Some(what) => {
                let error = Error::new(ErrorKind::NotAnImage, format!("is {what}, not a disk image"));
                Err(error.help("to take its bytes for a disk all the same: --format raw"))
            }
            None => claims(Confidence::Fallback)
                .into_iter()
                .next()
                .ok_or_else(|| Error::new(ErrorKind::NotAnImage, "not a disk image")),
        },
        several => {
            let names: Vec<&str> = several.iter().map(|format| format.name).collect();
            let error = Error::new(
                ErrorKind::Ambiguous,
                format!("looks like several formats at once: {}", names.join(" and ")),
            );
            Err(error.help(format!("say which it is: --format {}", names.join(" or --format "))))
        }
    }
}

/// What people upload in place of a disk: offset, magic, what it is. Asked only when no format fits.
const NOT_DISKS: &[(usize, &[u8], &str)] = &[
    (0, b"\x1f\x8b\x08", "a gzip file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"!<arch>\n", "a Debian package or ar archive"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"MZ", "a Windows program"),
    (0, b"%PDF-", "a PDF document"),
];

/// Bytes of a file looked at to call it text.
const TEXT: usize = 4096;

/// What the file is, if it is known to be no disk. A boot signature speaks for a disk whatever stands in front.
fn not_a_disk(probe: &Probe<'_>) -> Option<&'static str> {
    if probe.has(510, &[0x55, 0xaa]) {
        return None;
    }
    let known = NOT_DISKS.iter().find(|(at, magic, _)| probe.has(*at, magic)).map(|(_, _, what)| *what);
    let start = probe.head.get(..TEXT).unwrap_or(probe.head);
    let is_text = |start: &[u8]| {
        let utf8 = start.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
        // The last character may be cut.
        utf8.saturating_add(3) >= start.len()
            && start.iter().all(|byte| *byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
    };
    known.or_else(|| is_text(start).then_some("a text file"))
}

/// Opens an image whose format is known or, with `None`, found out.
///
/// # Errors
/// As [`detect`] and the driver.
pub fn open(source: Arc<dyn BlockSource>, format: Option<&str>, cx: &OpenCx<'_>) -> Result<Opened> {
    if cx.depth > MAX_DEPTH {
        return Err(Error::limit(format!("more than {MAX_DEPTH} images name each other")));
    }
    if source.is_empty() {
        return Err(Error::new(ErrorKind::NotAnImage, "is empty (0 bytes), not a disk image"));
    }
    let format = match format {
        Some(name) => by_name(name)?,
        None => detect(&*source, &cx.locator.file_name())?,
    };
    (format.open)(source, cx)
}

/// A budget for opening one image.
#[must_use]
pub fn open_budget() -> Budget {
    Budget::new(Limits::OPEN)
}
