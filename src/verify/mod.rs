//! Second opinions: the same bytes and files through readers that others wrote, and where they differ from ours.
//!
//! ```text
//! imgmount verify ──▶ one child process for each reader and subject (child.rs), with limits and a clock
//!                       ours    ─┐
//!                       theirs  ─┴▶ compare.rs ──▶ events, one line of JSON each, back to the parent
//! ```
//! A reader is one file here, with its library behind [`crate::confined::Confined`], and one line in [`READERS`].
//! Whatever a library does, panic, hang or die, is told as what the *other* reader did, and never as a difference.

use crate::error::Result;
use crate::fs::{FileType, Time};
use crate::source::gate::Given;
use crate::stack::{Options, Stack};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub mod child;
mod compare;

registry! {
    /// Every second opinion.
    pub const READERS: &[&Reader];
    mod qcow2_rs => READER;
    mod nbd => READER;
    mod ext4_view => READER;
    mod ntfs => READER;
}

/// The subject that is the whole disk; the others are volumes by their id.
pub const DISK: &str = "disk";

/// Time that one call into another reader may take. The largest is 4 MiB; one that takes so long will not return.
const PATIENCE: Duration = Duration::from_secs(30);

/// Another implementation.
pub struct Reader {
    /// Its crate's name.
    pub name: &'static str,
    /// What it reads, in words.
    pub about: &'static str,
    /// Bytes of the disk, or files.
    pub reads: Reads,
    /// What of an image it can be asked about: [`DISK`], or volumes.
    pub subjects: fn(&Stack) -> Vec<String>,
    /// Opens a subject with it.
    pub open: fn(&Subject<'_>) -> Result<Other>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.name)
    }
}

/// What a reader has an opinion on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The disk's bytes.
    Disk,
    /// A volume's files.
    Files,
}

/// What a reader is asked about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The image as we opened it.
    pub stack: &'a Stack,
    /// Where it was opened from.
    pub given: &'a Arc<Given>,
    /// How.
    pub options: &'a Options,
    /// [`DISK`] or a volume.
    pub name: &'a str,
}

/// An opened second opinion.
pub enum Other {
    /// On the disk's bytes.
    Disk(Box<dyn DiskReader>),
    /// On a volume's files.
    Files(Box<dyn FileReader>),
}

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk(_) => "Disk",
            Self::Files(_) => "Files",
        })
    }
}

/// Somebody else's way to a disk's bytes.
pub trait DiskReader {
    /// The disk's size in bytes.
    fn size(&self) -> u64;

    /// So many bytes from `offset` on, all of them.
    ///
    /// # Errors
    /// What the library says; `Internal` when it panicked or does not return.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>>;
}

/// Somebody else's way to a volume's files, by path.
pub trait FileReader {
    /// What it knows about a file, links not followed.
    ///
    /// # Errors
    /// As [`DiskReader::read`].
    fn look(&self, path: &[u8]) -> Result<Seen>;

    /// The names in a directory, without `.` and `..`.
    ///
    /// # Errors
    /// As [`DiskReader::read`].
    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Bytes of a regular file from `offset` on: `len` of them, fewer only at its end.
    ///
    /// # Errors
    /// As [`DiskReader::read`].
    fn read(&self, path: &[u8], offset: u64, len: usize) -> Result<Vec<u8>>;
}

/// What another reader says about a file; `None` where it cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: FileType,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner and group.
    pub owner: Option<(u32, u32)>,
    /// Last change of the content.
    pub mtime: Option<Time>,
    /// A link's target.
    pub target: Option<Vec<u8>>,
}

/// What came of comparing one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Both say the same.
    Agree,
    /// They say different things.
    Differ,
    /// The other reader cannot read it.
    OtherCannot,
    /// We cannot, the other can.
    WeCannot,
    /// We have no reader for it.
    OtherOnly,
}

impl Verdict {
    /// The words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::Differ => "DIFFER",
            Self::OtherCannot => "the other cannot read it",
            Self::WeCannot => "we cannot read it",
            Self::OtherOnly => "the other only",
        }
    }
}

/// One comparison: of a file, of a range of it, or of a range of the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What came of it.
    pub verdict: Verdict,
    /// The file, if it is about one. Not UTF-8: see `path_bytes`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The file's path in base64, where `path` is not the whole truth.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_bytes: Option<String>,
    /// First byte of the range, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<u64>,
    /// Bytes in the range.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length: Option<u64>,
    /// What differs, or why it cannot be read.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
}

/// What a child tells its parent, one line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It is at work: nothing else to say.
    Beat,
    /// Something was compared.
    Found(Finding),
    /// Everything was compared.
    End(Sums),
    /// Opening failed, or the other reader broke down; the rest was not compared.
    Failed {
        /// Why.
        reason: String,
    },
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Files, directories and links.
    pub files: u64,
    /// Bytes that both readers gave.
    pub bytes: u64,
    /// Findings left out because there were too many.
    pub more: u64,
}

/// Everything that `image` can be asked about, by reader.
#[must_use]
pub fn jobs(stack: &Stack) -> Vec<(&'static Reader, String)> {
    let jobs = READERS.iter().flat_map(|reader| {
        let subjects = (reader.subjects)(stack);
        subjects.into_iter().map(move |subject| (*reader, subject))
    });
    jobs.collect()
}

/// Volumes on which a file system of this kind stands, read by us or known by its signature.
fn volumes_with(stack: &Stack, fits: impl Fn(&str) -> bool) -> Vec<String> {
    use crate::fs::Content;
    let stands = |content: &&crate::stack::VolumeContent| match &content.content {
        Ok(Content::Files(fs)) => fits(fs.facts().kind),
        Ok(Content::Known(name)) => fits(name),
        _ => false,
    };
    stack.contents.iter().filter(stands).map(|content| content.volume.clone()).collect()
}

/// The bytes of the volume that a subject names.
fn volume(subject: &Subject<'_>) -> Result<Arc<dyn crate::block::BlockSource>> {
    let found = subject.stack.volume(subject.name).map(|volume| Arc::clone(&volume.source));
    found.ok_or_else(|| crate::error::Error::not_found(format!("volume {}", subject.name)))
}

/// An error in another reader's words.
fn theirs(error: impl fmt::Display) -> crate::error::Error {
    let text = crate::text::escape(error.to_string().as_bytes()).to_string();
    crate::error::Error::new(crate::error::ErrorKind::Unsupported, text)
}
