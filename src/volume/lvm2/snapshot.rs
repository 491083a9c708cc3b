//! A thick snapshot: the chunks of its origin that have changed since, kept in a store of its own.
//!
//! ```text
//! chunk 0 header │ chunk 1 table: old chunk, new chunk; … │ data chunks │ table │ data chunks …
//! ```
//! Device-mapper's persistent exception store, Linux 6.18, `drivers/md/dm-snap-persistent.c`: a table of exceptions fills one
//! chunk, the data chunks that it can name follow, then the next table. An entry whose new chunk is 0 is the end.

use crate::block::{BlockSource, Layout, Place, Run};
use crate::budget::{Budget, Limits};
use crate::engine::Mapper;
use crate::error::{At, Error, Result};
use crate::num::wide;
use crate::ondisk::{get_le32, get_le64};
use std::sync::{Arc, OnceLock};

/// "SnAp".
const MAGIC: u32 = 0x7041_6e53;
/// Chunks have 4 KiB to 512 KiB in lvcreate; the kernel takes more.
const CHUNKS: std::ops::RangeInclusive<u64> = 512..=16 << 20;
/// Bytes in an entry.
const ENTRY: u64 = 16;
/// Exceptions of one snapshot: 64 MiB of them.
const MAX_EXCEPTIONS: usize = 4 << 20;

/// The origin seen through a store.
#[derive(Debug)]
struct Snapshot {
    /// The store.
    files: [Arc<dyn BlockSource>; 1],
    origin: Arc<dyn BlockSource>,
    chunk: u64,
    size: u64,
    /// Old chunk and new chunk, by the old one; read when the first byte is.
    exceptions: OnceLock<Result<Vec<(u64, u64)>>>,
}

fn bad(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("lvm2", "snapshot store")).because(why)
}

/// What is seen through the store: `size` bytes.
///
/// # Errors
/// `Corrupt` when the store has no header; `Unsupported` for one of another version.
pub(super) fn open(
    origin: Arc<dyn BlockSource>,
    store: Arc<dyn BlockSource>,
    size: u64,
    mapper: &Mapper,
) -> Result<Arc<dyn BlockSource>> {
    let mut header = [0; 16];
    store.read_at(&mut header, 0)?;
    let field = |at: usize| get_le32(&header, at).unwrap_or(0);
    if field(0) != MAGIC {
        return Err(bad("no header: it was never activated"));
    }
    if field(4) == 0 {
        return Err(bad(
            "it is marked as invalid: it was full, or could not be written, and has lost what it kept",
        ));
    }
    if field(8) != 1 {
        return Err(Error::unsupported(format!("a snapshot store of version {}", field(8))));
    }
    let chunk = u64::from(field(12)).saturating_mul(512);
    if !CHUNKS.contains(&chunk) || !chunk.is_power_of_two() {
        return Err(bad(format!("chunks of {chunk} bytes")));
    }
    Ok(mapper.map(Snapshot { files: [store], origin, chunk, size, exceptions: OnceLock::new() }))
}

impl Snapshot {
    fn exceptions(&self) -> Result<&[(u64, u64)]> {
        match self.exceptions.get_or_init(|| self.load()) {
            Ok(exceptions) => Ok(exceptions),
            Err(error) => Err(error.clone()),
        }
    }

    fn load(&self) -> Result<Vec<(u64, u64)>> {
        let [store] = &self.files;
        let budget = Budget::new(Limits::LISTING);
        let mut found = Vec::new();
        let mut table = budget.buffer("snapshot table", self.chunk, *CHUNKS.end())?;
        let in_table = self.chunk.checked_div(ENTRY).unwrap_or(0);
        let mut at = 1_u64;
        loop {
            let start =
                at.checked_mul(self.chunk).filter(|start| start.saturating_add(self.chunk) <= store.len());
            // A store that is full to its end has no entry that says so.
            let Some(start) = start else { break };
            store.read_at(&mut table, start)?;
            let mut is_last = false;
            for entry in table.as_chunks::<16>().0 {
                budget.step("snapshot exceptions")?;
                let (old, new) = (get_le64(entry, 0).unwrap_or(0), get_le64(entry, 8).unwrap_or(0));
                if new == 0 {
                    is_last = true;
                    break;
                }
                if new
                    .checked_add(1)
                    .and_then(|end| end.checked_mul(self.chunk))
                    .is_none_or(|end| end > store.len())
                {
                    return Err(bad(format!(
                        "chunk {old} is kept in chunk {new}, which is not in the store"
                    )));
                }
                if found.len() >= MAX_EXCEPTIONS {
                    return Err(Error::limit(format!(
                        "lvm2: a snapshot of more than {MAX_EXCEPTIONS} chunks"
                    )));
                }
                found.push((old, new));
            }
            if is_last {
                break;
            }
            at = at.saturating_add(in_table).saturating_add(1);
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl Layout for Snapshot {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let exceptions = self.exceptions()?;
        let number = offset.checked_div(self.chunk).unwrap_or(0);
        let skip = offset.checked_rem(self.chunk).unwrap_or(0);
        let at = exceptions.partition_point(|(old, _)| *old < number);
        let rest = exceptions.get(at..).unwrap_or_default();
        match rest.first() {
            Some((old, new)) if *old == number => {
                let start = new.saturating_mul(self.chunk);
                // Chunks that were changed one after the other are kept one behind the other.
                let follows = rest.iter().zip(0..).take_while(|((old, kept), more)| {
                    old.checked_sub(number) == Some(*more) && kept.checked_sub(*new) == Some(*more)
                });
                let len = wide(follows.take(256).count()).saturating_mul(self.chunk).saturating_sub(skip);
                Ok(Run { len, place: Place::Stored { file: 0, offset: start.saturating_add(skip) } })
            }
            next => {
                let until = next.map_or(self.size, |(old, _)| old.saturating_mul(self.chunk));
                Ok(Run { len: until.saturating_sub(offset), place: Place::Parent })
            }
        }
    }

    fn parent(&self) -> Option<&Arc<dyn BlockSource>> {
        Some(&self.origin)
    }

    fn unit_size(&self) -> u32 {
        u32::try_from(self.chunk).unwrap_or(u32::MAX)
    }
}
