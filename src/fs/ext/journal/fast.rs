//! Fast commits: short notes behind the log of what changed since its last transaction, where writing the changed blocks
//! would have taken longer.
//!
//! ```text
//! block   tag 2 │ length 2 │ value │ tag 2 │ …         numbers are little-endian here
//! commit  head (transaction) │ notes … │ tail (transaction, CRC-32C of everything since the tail before)
//! ```
//! Notes count up to the last sound tail, and only if they belong to the transaction that the log would go on with.
//!
//! Kernel documentation, `filesystems/ext4/journal.rst`, "Fast commits"; `ext4_fc_replay_scan` in `fs/ext4/fast_commit.c`.

use super::log::Log;
use crate::budget::Budget;
use crate::checksum::crc32c_on;
use crate::error::{Error, Result};
use crate::num::wide;
use crate::ondisk::{get_le16, get_le32};

/// All notes together; the kernel's area has 1 MiB unless someone asked for more.
const MAX_BYTES: u64 = 32 << 20;
/// All notes: each takes about 50 bytes of memory, and what it carries.
const MAX_NOTES: usize = 1 << 18;
/// Tag and length.
const HEAD: usize = 4;

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// These blocks of a file lie from `start` on; without it they are allocated and not written.
    Range { ino: u64, block: u64, blocks: u64, start: Option<u64> },
    /// These blocks of a file are not allocated any more.
    Hole { ino: u64, block: u64, blocks: u64 },
    /// A name for an inode that is new.
    Create(Name),
    /// A further name.
    Link(Name),
    /// A name is gone.
    Unlink(Name),
    /// An inode as it is now, but for the map of its blocks.
    Inode { ino: u64, raw: Vec<u8> },
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) dir: u64,
    pub(super) ino: u64,
    pub(super) name: Vec<u8>,
}

/// The notes of one block, or of all.
#[derive(Default)]
struct Reader {
    notes: Vec<Note>,
    /// How many of them count: up to the last sound tail. The others wait for one.
    sound: usize,
    sum: u32,
}

/// Does the reading go on with the next block?
#[derive(Debug, PartialEq, Eq)]
enum Next {
    On,
    End,
    /// Not a note, or a wrong checksum: what came before its last tail counts.
    Damage,
    /// More notes than are kept in memory.
    TooMany,
}

/// Notes that count, and whether there is damage instead of any.
pub(super) fn read(
    log: &Log<'_>,
    area: (u32, u32),
    transaction: u32,
    inode_size: u64,
    budget: &Budget,
) -> Result<(Vec<Note>, bool)> {
    let mut reader = Reader::default();
    let mut bytes = 0_u64;
    for number in area.0..area.1 {
        budget.step("fast commits")?;
        bytes = bytes.saturating_add(log.block_size());
        if bytes > MAX_BYTES {
            return Err(Error::limit(format!("fast commits of more than {MAX_BYTES} bytes")));
        }
        let block = log.block(number.into())?;
        // Without a head, nothing was committed here.
        if number == area.0 && get_le16(&block, 0) != Some(9) {
            break;
        }
        match reader.block(&block, transaction, inode_size) {
            Next::On => {}
            Next::End => break,
            Next::Damage => return Ok(reader.finish(true)),
            Next::TooMany => return Err(Error::limit(format!("more than {MAX_NOTES} fast commit records"))),
        }
    }
    Ok(reader.finish(false))
}

impl Reader {
    /// The notes that count, and whether there is damage instead of any.
    fn finish(mut self, is_damaged: bool) -> (Vec<Note>, bool) {
        self.notes.truncate(self.sound);
        (self.notes, is_damaged && self.sound == 0)
    }

    fn block(&mut self, block: &[u8], transaction: u32, inode_size: u64) -> Next {
        let mut at = 0_usize;
        while at.saturating_add(HEAD) <= block.len() {
            let rest = block.get(at..).unwrap_or_default();
            let (Some(tag), Some(len)) = (get_le16(rest, 0), get_le16(rest, 2)) else { return Next::Damage };
            let end = HEAD.saturating_add(len.into());
            let Some(value) = rest.get(HEAD..end) else { return Next::Damage };
            at = at.saturating_add(end);
            let word = |at| get_le32(value, at);
            match tag {
                // Padding, to the block's end.
                7 => {}
                8 => {
                    // The tail covers itself up to its checksum.
                    let sum = crc32c_on(self.sum, rest.get(..HEAD.saturating_add(4)).unwrap_or_default());
                    self.sum = 0;
                    if word(0) != Some(transaction) || word(4) != Some(sum) {
                        return if self.sound == 0 { Next::Damage } else { Next::End };
                    }
                    self.sound = self.notes.len();
                    continue;
                }
                9 => {
                    if word(0) != Some(0) {
                        return Next::Damage;
                    }
                    if word(4) != Some(transaction) {
                        return Next::End;
                    }
                }
                _ => match note(tag, value, inode_size) {
                    Some(_) if self.notes.len() >= MAX_NOTES => return Next::TooMany,
                    Some(note) => self.notes.push(note),
                    None => return Next::Damage,
                },
            }
            self.sum = crc32c_on(self.sum, rest.get(..end).unwrap_or_default());
        }
        Next::On
    }
}

/// `None`: not a note, or one of a length that it cannot have.
fn note(tag: u16, value: &[u8], inode_size: u64) -> Option<Note> {
    let word = |at| get_le32(value, at).map(u64::from);
    let ino = word(0)?;
    Some(match tag {
        1 if value.len() == 16 => {
            // An extent as in the tree: block, length, place; over 32768 the length is that much less, and not written.
            let (len, high) = (get_le16(value, 8)?, get_le16(value, 10)?);
            let start = u64::from(high) << 32 | word(12)?;
            let (blocks, start) = match len.checked_sub(32768) {
                Some(unwritten @ 1..) => (unwritten, None),
                _ => (len, Some(start)),
            };
            Note::Range { ino, block: word(4)?, blocks: blocks.into(), start }
        }
        2 if value.len() == 12 => Note::Hole { ino, block: word(4)?, blocks: word(8)? },
        3..=5 if (9..=263).contains(&value.len()) => {
            let name = Name { dir: ino, ino: word(4)?, name: value.get(8..)?.to_vec() };
            match tag {
                3 => Note::Create(name),
                4 => Note::Link(name),
                _ => Note::Unlink(name),
            }
        }
        6 => {
            let raw = value.get(4..)?;
            let fits = raw.len() >= 128 && wide(raw.len()) <= inode_size;
            fits.then(|| Note::Inode { ino, raw: raw.to_vec() })?
        }
        _ => return None,
    })
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests count bytes by hand")]
mod tests {
    use super::*;

    fn tagged(tag: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).unwrap();
        [&tag.to_le_bytes(), &len.to_le_bytes(), value].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A block as the kernel fills it: the tail reaches to its end.
    fn commit(transaction: u32, notes: &[Vec<u8>]) -> Vec<u8> {
        let mut block = tagged(9, &words(&[0, transaction]));
        block.extend(notes.iter().flatten());
        let rest = 1024_usize.checked_sub(block.len() + HEAD).unwrap();
        block.extend(8_u16.to_le_bytes());
        block.extend(u16::try_from(rest).unwrap().to_le_bytes());
        block.extend(transaction.to_le_bytes());
        let sum = crc32c_on(0, &block);
        block.extend(sum.to_le_bytes());
        block.resize(1024, 0);
        block
    }

    #[test]
    fn notes_count_up_to_the_last_sound_tail() {
        let unlink = tagged(5, &[words(&[2, 12]), b"name".to_vec()].concat());
        let hole = tagged(2, &words(&[12, 3, 4]));
        let mut reader = Reader::default();
        assert_eq!(reader.block(&commit(7, &[unlink, hole]), 7, 256), Next::On);
        assert_eq!(
            reader.notes,
            [
                Note::Unlink(Name { dir: 2, ino: 12, name: b"name".to_vec() }),
                Note::Hole { ino: 12, block: 3, blocks: 4 }
            ]
        );
        // The next block belongs to another transaction; one with a torn tail counts as little.
        assert_eq!(reader.block(&commit(8, &[]), 7, 256), Next::End);
        let mut torn = commit(7, &[tagged(2, &words(&[12, 9, 9]))]);
        torn[20] ^= 1;
        assert_eq!(reader.block(&torn, 7, 256), Next::End);
        assert_eq!((reader.sound, reader.notes.len()), (2, 3));
        assert_eq!(reader.finish(true).0.len(), 2);
    }

    #[test]
    fn more_notes_than_memory_should_hold_are_refused() {
        let hole = tagged(2, &words(&[12, 3, 4]));
        let block = hole.repeat(4096);
        let mut reader = Reader::default();
        for _ in 0..64 {
            assert_eq!(reader.block(&block, 7, 256), Next::On);
        }
        assert_eq!((reader.notes.len(), reader.block(&block, 7, 256)), (MAX_NOTES, Next::TooMany));
    }

    #[test]
    fn a_range_is_written_or_not() {
        let range = |len: u32| note(1, &words(&[12, 5, len, 99]), 256);
        let expected = |blocks, start| Some(Note::Range { ino: 12, block: 5, blocks, start });
        assert_eq!(range(3), expected(3, Some(99)));
        assert_eq!(range(32768 + 3), expected(3, None));
        assert_eq!(range(1 << 16 | 32768), expected(32768, Some(1 << 32 | 99)));
    }

    #[test]
    fn lengths_that_no_note_has_are_damage() {
        for (tag, len) in [(1, 15), (2, 16), (3, 8), (4, 264), (6, 131), (6, 261), (0, 8), (10, 8)] {
            assert_eq!(note(tag, &vec![0; len], 256), None, "{tag} of {len} bytes");
        }
    }
}
