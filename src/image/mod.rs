//! Disk image formats. A new one is one file here and one line in [`FORMATS`].
//!
//! A driver writes a [`crate::block::Layout`]: where each run of the virtual disk lies. It reads tables, never
//! guest data. Its name is its identity everywhere: in `--format`, in reports, in the file's name.

use crate::block::{BlockSource, Probe, ProbeBytes};
use crate::budget::{Budget, Limits};
use crate::engine::Mapper;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Keys;
use crate::locator::{Gate, Locator, Spooler};
use std::fmt;
use std::sync::Arc;

pub use layer::Layer;

mod backing;
mod checkpoint;
mod ciphered;
mod clusters;
mod foreign;
mod layer;
mod pages;
mod parent;
mod segments;
mod unpack;
mod wrapper;
mod xml;

registry! {
    /// Every format. `raw` stands last: it has no signature and takes what nobody else claims.
    pub const FORMATS: &[&Format];
    pub mod qcow2 => FORMAT;
    pub mod qcow => FORMAT;
    pub mod qed => FORMAT;
    pub mod vmdk => FORMAT;
    pub mod vhd => FORMAT;
    pub mod vhdx => FORMAT;
    pub mod vdi => FORMAT;
    pub mod ova => FORMAT;
    pub mod ovf => FORMAT;
    pub mod tar => FORMAT;
    pub mod luks => FORMAT;
    pub mod zvhd => FORMAT;
    pub mod gzip => FORMAT;
    pub mod xz => FORMAT;
    pub mod zstd => FORMAT;
    pub mod bzip2 => FORMAT;
    pub mod ewf => FORMAT;
    pub mod dmg => FORMAT;
    pub mod sparseimage => FORMAT;
    pub mod parallels => FORMAT;
    pub mod split => FORMAT;
    pub mod raw => FORMAT;
}

/// How sure a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Nothing speaks against it (raw).
    Fallback,
    /// A signature stands where it must.
    Signature,
    /// The name says so, whatever the bytes are: a segment of a split image. Asked first.
    Name,
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
    /// What opens a locked image; its volume is called `disk`.
    pub keys: &'a Keys,
    /// Which member of an archive is wanted, `disk2.vmdk` of `x.ova//disk2.vmdk`.
    pub member: Option<&'a str>,
    /// Where a stream that cannot be read at any offset may be unpacked to, if anywhere.
    pub spool: Option<&'a dyn Spooler>,
    /// How many images name each other above this one.
    pub depth: u8,
    /// It lies in an archive or beside a description of a machine, in a wrapper perhaps: no further one is opened.
    pub in_archive: bool,
}

impl<'a> OpenCx<'a> {
    /// For an image that this one names or contains, which lies at `locator`. A wanted member was meant for this one.
    #[must_use]
    pub fn below<'b>(&self, locator: &'b Locator) -> OpenCx<'b>
    where
        'a: 'b,
    {
        OpenCx { locator, member: None, depth: self.depth.saturating_add(1), ..*self }
    }
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
    /// This image and those below it, the top first; then its snapshots.
    pub layers: Vec<Layer>,
    /// What it is called in the archive or the description that it came from, safe to show.
    pub member: Option<String>,
    /// Further disks of the same machine, in its own order: those of an OVA.
    pub others: Vec<Self>,
    /// Sums that the container itself states, for `hash --verify`.
    pub sums: Vec<StoredSum>,
    /// What is odd about it without keeping us from reading it.
    pub warnings: Vec<String>,
}

/// A sum that a container states of some of its bytes.
#[derive(Clone, Debug)]
pub struct StoredSum {
    /// What it is of, safe to show: `disk`, a member's name.
    pub of: String,
    /// `md5`, `sha1`, `sha256` or `sha512`.
    pub algorithm: &'static str,
    /// The sum as the container states it, in lower-case hexadecimal digits.
    pub stated: String,
    /// The bytes it is of, from first to last.
    pub bytes: Arc<dyn BlockSource>,
}

impl Opened {
    /// An image without parents.
    #[must_use]
    pub fn single(disk: Arc<dyn BlockSource>, format: &'static str, cx: &OpenCx<'_>) -> Self {
        let layer = Layer::file(cx.locator, format, Arc::clone(&disk));
        Self {
            disk,
            format,
            subformat: None,
            facts: Vec::new(),
            layers: vec![layer],
            member: None,
            others: Vec::new(),
            sums: Vec::new(),
            warnings: Vec::new(),
        }
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
/// `Ambiguous` when several claim it; `NotAnImage` or `Unsupported` when it is known to be something else than a raw
/// disk; what reading reports.
pub fn detect(source: &dyn BlockSource, name: &str) -> Result<&'static Format> {
    let bytes = ProbeBytes::read(source, name)?;
    match claims(&bytes, Confidence::Name).first() {
        Some(by_name) => Ok(by_name),
        None => by_content(&bytes),
    }
}

/// As [`detect`], but by the bytes alone; the name is still shown.
fn detect_by_content(source: &dyn BlockSource, name: &str) -> Result<&'static Format> {
    by_content(&ProbeBytes::read(source, name)?)
}

fn by_content(bytes: &ProbeBytes) -> Result<&'static Format> {
    match claims(bytes, Confidence::Signature).as_slice() {
        [one] => Ok(one),
        [] => match (foreign::refuse(&bytes.view()), claims(bytes, Confidence::Fallback).first()) {
            (None, Some(fallback)) => Ok(fallback),
            (refused, _) => {
                Err(refused.unwrap_or_else(|| Error::new(ErrorKind::NotAnImage, "not a disk image")))
            }
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

fn claims(bytes: &ProbeBytes, wanted: Confidence) -> Vec<&'static Format> {
    FORMATS.iter().copied().filter(|format| (format.probe)(&bytes.view()) == Some(wanted)).collect()
}

/// Is it an image by its end, so that what it begins with may be the signature of its contents?
fn has_trailer(probe: &Probe<'_>) -> bool {
    dmg::is_dmg(probe) || vhd::is_fixed(probe)
}

/// The formats whose signature the source carries: for an image that names another without its format.
fn signed(source: &dyn BlockSource, name: &str) -> Result<Vec<&'static Format>> {
    Ok(claims(&ProbeBytes::read(source, name)?, Confidence::Signature))
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
    let opened = (format.open)(source, cx)?;
    match cx.member {
        Some(member) if opened.member.is_none() => {
            let name = crate::text::escape(member.as_bytes());
            Err(Error::new(ErrorKind::NotFound, format!("no member '{name}': {} is no archive", format.name))
                .help("name the image alone; IMAGE//MEMBER picks a disk of an OVA, an OVF or a tar archive"))
        }
        _ => Ok(opened),
    }
}

/// A budget for opening one image.
#[must_use]
pub fn open_budget() -> Budget {
    Budget::new(Limits::OPEN)
}
