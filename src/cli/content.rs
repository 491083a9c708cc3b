//! The content of a guest's regular file in pieces: stored bytes, and holes that need no reading.

use crate::block::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::fs::tree::{Node, Tree};
use crate::num::{narrow, wide};
use sha2::{Digest as _, Sha256};

/// Bytes read at once: large enough for one backing read per extent, small enough for the processor's cache.
const CHUNK: u64 = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A piece of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// Bytes as they are stored.
    Data(&'a [u8]),
    /// So many zeros, not stored.
    Hole(u64),
}

/// Hands a regular file over from its first byte to its last.
///
/// # Errors
/// When a byte cannot be read: the pieces before it have been handed over. What `sink` returns.
pub(super) fn pieces(tree: &Tree, node: Node, sink: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<()> {
    let stat = tree.stat(node)?;
    if stat.kind != FileType::File {
        return Err(not_regular(stat.kind));
    }
    let fs = tree.fs(node)?;
    let mut buf = vec![0; narrow(CHUNK.min(stat.size))];
    let mut at = 0;
    let mut mapped = true;
    while at < stat.size {
        let left = stat.size.saturating_sub(at);
        let want = match data_from(&mut mapped, at, left, |offset| fs.run_at(node.ino, offset)) {
            Ahead::Hole(len) => {
                sink(Piece::Hole(len))?;
                at = at.saturating_add(len);
                continue;
            }
            Ahead::Data(len) => len,
        };
        let Some(part) = buf.get_mut(..narrow(want)) else { break };
        let read = tree.read_at(node, part, at)?;
        if read == 0 {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("ends at byte {at}, but its inode says {}", stat.size),
            ));
        }
        sink(Piece::Data(part.get(..read).unwrap_or_default()))?;
        at = at.saturating_add(wide(read));
    }
    Ok(())
}

/// What lies ahead, in bytes.
enum Ahead {
    Hole(u64),
    Data(u64),
}

/// Looks at runs until a hole or enough data. A file system without maps is asked once and then read plainly; an error
/// in the map is left to the read at that place, which tells it with the bytes before it delivered.
fn data_from(
    mapped: &mut bool,
    at: u64,
    left: u64,
    run_at: impl Fn(u64) -> Result<crate::block::Run>,
) -> Ahead {
    let most = CHUNK.min(left);
    let mut data = 0_u64;
    while *mapped && data < most {
        match run_at(at.saturating_add(data)) {
            Ok(run) if matches!(run.place, Place::Hole | Place::Zero) => {
                if data == 0 {
                    return Ahead::Hole(run.len.clamp(1, left));
                }
                break;
            }
            Ok(run) => data = data.saturating_add(run.len.max(1)),
            Err(error) => {
                *mapped = error.kind() != ErrorKind::Unsupported;
                break;
            }
        }
    }
    Ahead::Data(if data == 0 { most } else { data.min(most) })
}

/// The refusal of something that has no content of its own.
pub(super) fn not_regular(kind: FileType) -> Error {
    let what = match kind {
        FileType::Dir => "is a directory",
        FileType::Symlink => "is a symbolic link",
        FileType::File => "is a regular file",
        FileType::Char => "is a character device",
        FileType::Block => "is a block device",
        FileType::Fifo => "is a FIFO",
        FileType::Socket => "is a socket",
    };
    Error::new(ErrorKind::NotFound, format!("{what}, not a regular file"))
}

/// Calls `write` with so many zeros.
///
/// # Errors
/// What `write` returns.
pub(super) fn zeros(mut len: u64, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    while len > 0 {
        let part = ZEROS.get(..narrow(len.min(wide(ZEROS.len())))).unwrap_or(&ZEROS);
        write(part)?;
        len = len.saturating_sub(wide(part.len()));
    }
    Ok(())
}

/// The SHA-256 sum of a regular file, in hexadecimal.
///
/// # Errors
/// When a byte cannot be read.
pub(super) fn sha256(tree: &Tree, node: Node) -> Result<String> {
    let mut hash = Sha256::new();
    pieces(tree, node, &mut |piece| match piece {
        Piece::Data(bytes) => {
            hash.update(bytes);
            Ok(())
        }
        Piece::Hole(len) => zeros(len, &mut |part| {
            hash.update(part);
            Ok(())
        }),
    })?;
    Ok(hex(&hash.finalize()))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
