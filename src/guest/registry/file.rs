//! The bytes of a hive or of a log: a file of the guest, wherever they come from.

use super::hive::{Hive, Logs};
use super::name;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::tree::{Node, Tree};
use crate::fs::{FileSystem, FileType, Ino};
use crate::guest::file::names;
use crate::num::wide;
use crate::text::escape;
use std::fmt;
use std::sync::Arc;

/// Bytes at offsets.
pub trait Bytes: Send + Sync + fmt::Debug {
    /// How many there are.
    fn len(&self) -> u64;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// When a byte of it cannot be read, or lies past the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Are there none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bytes for Vec<u8> {
    fn len(&self) -> u64 {
        wide(Self::len(self))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buf.len())?))
            .ok_or_else(|| Error::out_of_range(offset, wide(buf.len()), wide(Self::len(self))))?;
        buf.copy_from_slice(found);
        Ok(())
    }
}

/// A file of a guest's tree.
pub struct File {
    fs: Arc<dyn FileSystem>,
    ino: Ino,
    len: u64,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?}, {} bytes)", self.ino, self.len)
    }
}

impl File {
    /// The regular file at a node.
    ///
    /// # Errors
    /// When it is none or cannot be read.
    pub fn new(tree: &Tree, node: Node) -> Result<Self> {
        let stat = tree.stat(node)?;
        if stat.kind != FileType::File {
            let what = format!("is a {} where a file is expected", stat.kind.name());
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok(Self { fs: Arc::clone(tree.fs(node)?), ino: node.ino, len: stat.size })
    }
}

impl Bytes for File {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let read = self.fs.read_at(self.ino, buf, offset)?;
        if read < buf.len() {
            return Err(Error::corrupt(At::new("registry", "file").byte(offset))
                .because(format!("{read} bytes where {} are expected", buf.len())));
        }
        Ok(())
    }
}

/// The hive at a path of a guest, with the logs beside it; `None` when there is none. Upper and lower case in the path are
/// the same, whatever its file system thinks of them.
///
/// # Errors
/// When it is there but cannot be read, or is no hive. A bad log is a warning of the hive.
pub fn load(tree: &Tree, path: &[u8]) -> Result<Option<Hive>> {
    let open = || -> Result<Option<Hive>> {
        let Some(Found { node, dir, name }) = find(tree, path)? else { return Ok(None) };
        let primary = Arc::new(File::new(tree, node)?);
        let mut missed = Vec::new();
        let mut log = |ending: &str| -> Option<Arc<dyn Bytes>> {
            let log = child(tree, &dir, &[name.as_slice(), ending.as_bytes()].concat());
            match log.and_then(|found| found.map(|(node, _)| File::new(tree, node)).transpose()) {
                Ok(found) => found.map(|file| -> Arc<dyn Bytes> { Arc::new(file) }),
                Err(error) => {
                    missed.push(format!("its log {ending} cannot be read: {}", error.chain()));
                    None
                }
            }
        };
        let logs = Logs { log: log(".LOG"), log1: log(".LOG1"), log2: log(".LOG2") };
        Hive::open_with(primary, &logs, missed).map(Some)
    };
    open().map_err(|error| error.context(escape(path)))
}

/// A file, with its directory's path and its name as they are spelled on the disk.
struct Found {
    node: Node,
    dir: Vec<u8>,
    name: Vec<u8>,
}

fn find(tree: &Tree, path: &[u8]) -> Result<Option<Found>> {
    let mut found: Option<Found> = None;
    let mut dir = Vec::new();
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if let Some(above) = found.take() {
            dir.push(b'/');
            dir.extend_from_slice(&above.name);
        }
        let Some((node, name)) = child(tree, &dir, part)? else { return Ok(None) };
        found = Some(Found { node, dir: dir.clone(), name });
    }
    Ok(found)
}

/// What is called `name` in the directory at `dir`, and its name there.
fn child(tree: &Tree, dir: &[u8], name: &[u8]) -> Result<Option<(Node, Vec<u8>)>> {
    let path = |name: &[u8]| [dir, b"/", name].concat();
    if let Some(node) = tree.find(&path(name))? {
        return Ok(Some((node, name.to_vec())));
    }
    let Some(top) = tree.find(&path(b""))? else { return Ok(None) };
    if tree.fs(top)?.ignores_case() {
        return Ok(None);
    }
    let similar = names(tree, path(b""))?.into_iter().find(|other| name::is_same(other, name));
    let Some(similar) = similar else { return Ok(None) };
    Ok(tree.find(&path(&similar))?.map(|node| (node, similar)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::memory::MemoryFs;

    #[test]
    fn a_path_is_found_in_any_case_and_its_spelling_kept() {
        let tree = MemoryFs::tree(&[
            ("/WINDOWS/system32/config/SYSTEM", "x"),
            ("/WINDOWS/system32/config/system.log1", "y"),
        ]);
        let found = find(&tree, b"/Windows/System32/config/system").unwrap().unwrap();
        assert_eq!(
            (found.dir.as_slice(), found.name.as_slice()),
            (&b"/WINDOWS/system32/config"[..], &b"SYSTEM"[..])
        );
        assert!(child(&tree, &found.dir, b"SYSTEM.LOG1").unwrap().is_some());
        assert!(load(&tree, b"/Windows/System32/config/SOFTWARE").unwrap().is_none());
        let error = load(&tree, b"/Windows/System32/config/SYSTEM").unwrap_err();
        assert!(error.chain().starts_with("/Windows/System32/config/SYSTEM: "), "{error}");
    }
}
