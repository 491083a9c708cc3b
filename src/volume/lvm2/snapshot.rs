//! A thick snapshot: the chunks of its origin that have changed since, kept in a store of its own.
//!
//! ```text
//! chunk 0 header │ chunk 1 table: old chunk, new chunk; … │ data chunks │ table │ data chunks …
//! ```
//! Device-mapper's persistent exception store, Linux 6.18, `drivers/md/dm-snap-persistent.c`: a table of exceptions fills one
//! chunk, the data chunks that it can name follow, then the next table. An entry whose new chunk is 0 is the end.

use crate::block::{BlockSource, Layout, Place, Run};
use crate::budget::Kept;
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::{get_le32, get_le64};
use crate::volume::VolCx;
use std::sync::{Arc, OnceLock};

/// "SnAp".
const MAGIC: u32 = 0x7041_6e53;
/// Chunks have 4 KiB to 512 KiB in lvcreate; the kernel takes more.
const CHUNKS: std::ops::RangeInclusive<u64> = 512..=16 << 20;
/// Bytes in an entry.
const ENTRY: u64 = 16;
/// Bytes of a table read at a time.
const PIECE: u64 = 64 << 10;

/// The origin seen through a store.
#[derive(Debug)]
struct Snapshot {
    /// The store.
    files: [Arc<dyn BlockSource>; 1],
    origin: Arc<dyn BlockSource>,
    chunk: u64,
    size: u64,
    /// Its name in errors: `vg0/snap`.
    id: String,
    /// What the exceptions may take, of which all snapshots of a machine have one.
    kept: Kept,
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
    id: String,
    cx: &VolCx<'_>,
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
    let (kept, exceptions) = (cx.budget.kept(), OnceLock::new());
    Ok(cx.mapper.map(Snapshot { files: [store], origin, chunk, size, id, kept, exceptions }))
}

impl Snapshot {
    fn exceptions(&self) -> Result<&[(u64, u64)]> {
        match self.exceptions.get_or_init(|| self.load()) {
            Ok(exceptions) => Ok(exceptions),
            Err(error) => Err(error.clone()),
        }
    }

    fn load(&self) -> Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        let in_table = self.chunk.checked_div(ENTRY).unwrap_or(0);
        let mut at = 1_u64;
        while self.table(at, &mut found)? {
            at = at.saturating_add(in_table).saturating_add(1);
        }
        found.sort_unstable();
        found.shrink_to_fit();
        Ok(found)
    }

    /// Takes over the exceptions of the table in chunk `at`. May another one follow?
    fn table(&self, at: u64, found: &mut Vec<(u64, u64)>) -> Result<bool> {
        let [store] = &self.files;
        // A store that is full to its end has no entry that says so.
        let start = at.checked_mul(self.chunk);
        let fits = |start: &u64| start.checked_add(self.chunk).is_some_and(|end| end <= store.len());
        let Some(start) = start.filter(fits) else { return Ok(false) };
        let mut piece = vec![0; narrow(self.chunk.min(PIECE))];
        let mut done = 0;
        while done < self.chunk {
            // Chunks are powers of two, as pieces are.
            store.read_at(&mut piece, start.saturating_add(done))?;
            for entry in piece.as_chunks::<16>().0 {
                let (old, new) = (get_le64(entry, 0).unwrap_or(0), get_le64(entry, 8).unwrap_or(0));
                if new == 0 {
                    return Ok(false);
                }
                let end = new.checked_add(1).and_then(|end| end.checked_mul(self.chunk));
                if end.is_none_or(|end| end > store.len()) {
                    return Err(bad(format!(
                        "chunk {old} is kept in chunk {new}, which is not in the store"
                    )));
                }
                self.kept.take("exceptions of snapshots", ENTRY).map_err(|error| error.context(&self.id))?;
                found.push((old, new));
            }
            done = done.saturating_add(wide(piece.len()));
        }
        Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Bytes;
    use crate::budget::{Budget, Limits};
    use crate::engine::Mapper;
    use crate::error::ErrorKind;
    use crate::keys::Keys;

    #[test]
    fn all_snapshots_of_a_machine_share_what_their_tables_may_take() {
        // One table of 2^20 exceptions fills a chunk of 16 MiB: four of them are 64 MiB.
        let mut store = vec![0; 32 << 20];
        for (at, field) in [MAGIC, 1, 1, 32 << 10].iter().enumerate() {
            store[at * 4..][..4].copy_from_slice(&u32::to_le_bytes(*field));
        }
        for (number, entry) in (0_u64..).zip(store[16 << 20..].as_chunks_mut::<16>().0) {
            entry[..8].copy_from_slice(&number.to_le_bytes());
            entry[8] = 1;
        }
        let store: Arc<dyn BlockSource> = Arc::new(Bytes(store));
        let origin: Arc<dyn BlockSource> = Arc::new(Bytes(vec![1; 4096]));
        let (budget, mapper, keys) =
            (Budget::new(Limits::OPEN), Mapper::new(Arc::default()), Keys::default());
        let cx = VolCx { budget: &budget, mapper: &mapper, keys: &keys };
        let snapshots: Vec<_> = (0..5)
            .map(|number| {
                open(Arc::clone(&origin), Arc::clone(&store), 4096, format!("vg/s{number}"), &cx).unwrap()
            })
            .collect();
        for snapshot in &snapshots[..4] {
            let mut byte = [9];
            snapshot.read_at(&mut byte, 0).unwrap();
            assert_eq!(byte, [0]);
        }
        for _ in 0..2 {
            let error = snapshots[4].read_at(&mut [0], 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert!(error.chain().contains("vg/s4"), "{}", error.chain());
        }
    }
}
