//! A volume: what all parts of the reader share.

use super::attribute::{Body, kind};
use super::boot::Boot;
use super::file::{File, Mapping};
use super::logfile::{self, Log};
use super::mft::{self, Mft};
use super::packed::Cached;
use super::record::{Record, Reference};
use super::upcase::Upcase;
use crate::block::{BlockSource, Run};
use crate::error::{Error, Result};
use crate::fs::FsCx;
use crate::fs::meta::Meta;
use crate::num::wide;
use lru::LruCache;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Records of files kept, and of their further pieces.
const KEPT: NonZeroUsize = NonZeroUsize::new(512).expect("512 is not zero");

/// The volume and what was read of it.
pub(super) struct Volume {
    /// What the boot sector says.
    pub(super) boot: Boot,
    /// The volume below.
    pub(super) meta: Meta,
    /// Where records lie.
    pub(super) mft: Mft,
    /// What was unpacked.
    pub(super) packed: Cached,
    /// What became of the log.
    pub(super) log: logfile::Outcome,
    /// List the file system's own files?
    pub(super) shows_meta: bool,
    /// Loaded when a name is first looked up.
    upcase: OnceLock<Upcase>,
    files: Mutex<Files>,
    records: Mutex<LruCache<u64, Arc<Record>>>,
}

/// The files read last; what one takes is counted in records.
struct Files {
    kept: LruCache<u64, Arc<File>>,
    records: usize,
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Volume({:?})", self.meta)
    }
}

impl Volume {
    /// Opens a volume, and plays its log back if it must be.
    ///
    /// # Errors
    /// `Corrupt` when there is no sound boot sector, or no MFT where it says.
    pub(super) fn open(volume: &Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let as_it_lies = Self::load(Arc::clone(volume), cx)?;
        let mut log = as_it_lies.look_at_log(volume, cx);
        let Some(overlay) = log.replayed.take() else { return Ok(Self { log, ..as_it_lies }) };
        // An MFT in many pieces is not held twice.
        drop(as_it_lies);
        Ok(Self { log, ..Self::load(Arc::new(overlay), cx)? })
    }

    /// What becomes of the log. Where it cannot be read, that is its state.
    fn look_at_log(&self, volume: &Arc<dyn BlockSource>, cx: &FsCx<'_>) -> logfile::Outcome {
        let log = self.file(mft::LOGFILE).and_then(|file| {
            let data = file.need(kind::DATA, &[], "$DATA")?;
            let read = |buf: &mut [u8], at: u64| {
                let len = self.read_attribute(&file, data, buf, at)?;
                if len < buf.len() {
                    Err(Error::out_of_range(at, wide(buf.len()), data.size()))
                } else {
                    Ok(())
                }
            };
            let log = Log { len: data.size(), read: &read };
            Ok(logfile::Outcome::of(&log, volume, &self.boot, cx.budget, cx.journal))
        });
        log.unwrap_or_else(|error| logfile::Outcome::unread(&error))
    }

    fn load(volume: Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Self> {
        let boot = Boot::load(&*volume)?;
        let meta = Meta::new(volume);
        let mft = Mft::open(&meta, &boot)?;
        let mut volume = Self {
            boot,
            meta,
            mft,
            packed: Cached::new(cx.mapper),
            log: logfile::Outcome::default(),
            shows_meta: cx.shows_meta,
            upcase: OnceLock::new(),
            files: Mutex::new(Files { kept: LruCache::unbounded(), records: 0 }),
            records: Mutex::new(LruCache::new(KEPT)),
        };
        match volume.grow_mft(cx) {
            // What can be found is shown; `Mft::lost` says what cannot.
            Err(error) if mft::is_damage(&error) && volume.mft.lost(&volume.boot).is_some() => {}
            other => other?,
        }
        Ok(volume)
    }

    /// Reads where the rest of the MFT lies, each piece of which may stand in a record that the piece before says the
    /// place of.
    fn grow_mft(&mut self, cx: &FsCx<'_>) -> Result<()> {
        let file = File::load(self, mft::MFT)?;
        let data = file.need(kind::DATA, &[], "$DATA")?;
        let Body::NonResident(body) = &data.body else { return Ok(()) };
        for piece in &body.rest {
            cx.budget.step("ntfs: pieces of the MFT")?;
            if piece.first != self.mft.end() {
                return Err(Error::corrupt(file.at()).because(format!("has no cluster {}", self.mft.end())));
            }
            let runs = Mapping::new(self, &file, data, body).piece_at(piece.first)?;
            self.mft.grow(runs)?;
        }
        Ok(())
    }

    /// Reads a record.
    ///
    /// # Errors
    /// As [`Mft::record`].
    pub(super) fn read_record(&self, number: u64) -> Result<Record> {
        self.mft.record(&self.meta, &self.boot, number)
    }

    /// As [`Volume::read_record`], of those that are wanted again soon.
    ///
    /// # Errors
    /// As [`Mft::record`].
    pub(super) fn kept_record(&self, number: u64) -> Result<Arc<Record>> {
        if let Some(record) = self.records.lock().unwrap_or_else(PoisonError::into_inner).get(&number) {
            return Ok(Arc::clone(record));
        }
        let record = Arc::new(self.read_record(number)?);
        self.records.lock().unwrap_or_else(PoisonError::into_inner).put(number, Arc::clone(&record));
        Ok(record)
    }

    /// The file of a record.
    ///
    /// # Errors
    /// As [`File::load`].
    pub(super) fn file(&self, number: u64) -> Result<Arc<File>> {
        if let Some(file) = self.files.lock().unwrap_or_else(PoisonError::into_inner).kept.get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::load(self, number)?);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.records = files.records.saturating_add(file.records);
        if let Some(old) = files.kept.put(number, Arc::clone(&file)) {
            files.records = files.records.saturating_sub(old.records);
        }
        while files.records > KEPT.get() && files.kept.len() > 1 {
            let Some((_, oldest)) = files.kept.pop_lru() else { break };
            files.records = files.records.saturating_sub(oldest.records);
        }
        Ok(file)
    }

    /// The file that a directory, or an index, refers to.
    ///
    /// # Errors
    /// As [`Volume::file`]; `Corrupt` when its record has been used again since.
    pub(super) fn referred(&self, reference: Reference) -> Result<Arc<File>> {
        let file = self.file(reference.number())?;
        if reference.sequence() != 0 && reference.sequence() != file.sequence {
            return Err(Error::corrupt(file.at()).because(format!(
                "is use {} of the record, the reference is to use {}",
                file.sequence,
                reference.sequence()
            )));
        }
        Ok(file)
    }

    /// What letters are the same.
    pub(super) fn upcase(&self) -> &Upcase {
        self.upcase.get_or_init(|| Upcase::load(self))
    }

    /// Where a resident value lies: at byte `at` of record `number`, as far as it is stored there as it is.
    ///
    /// # Errors
    /// As [`Mft::record`].
    pub(super) fn run_in_record(&self, number: u64, at: u64, len: u64) -> Result<Run> {
        self.mft.run(&self.boot, number, at, len)
    }
}
