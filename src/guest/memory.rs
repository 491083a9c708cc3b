//! A file system in memory, for the tests of this layer: a list of paths with their content.

use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::fs::{DirEntry, FileSystem, FileType, FsFacts, Ino, Stat, Subvolume, Time};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

#[derive(Debug)]
enum Entry {
    Dir(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
    Link(Vec<u8>),
    /// Reading it fails.
    Bad,
}

#[derive(Debug)]
pub(crate) struct MemoryFs {
    entries: Vec<Entry>,
    /// Upper and lower case are the same, as on NTFS.
    ignores_case: bool,
}

impl MemoryFs {
    /// Text becomes a file; `-> target` a link; `!` a file that cannot be read; a path with `/` at its end a directory.
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        let mut fs = Self { entries: vec![Entry::Dir(BTreeMap::new())], ignores_case: false };
        for (path, content) in files {
            let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            let last = if path.ends_with('/') { None } else { parts.pop() };
            let mut at = 0;
            for part in parts {
                at = fs.child(at, part).unwrap_or_else(|| fs.add(at, part, Entry::Dir(BTreeMap::new())));
            }
            if let Some(name) = last {
                let entry = match content.strip_prefix(b"-> ") {
                    Some(target) => Entry::Link(target.to_vec()),
                    None if *content == b"!" => Entry::Bad,
                    None => Entry::File(content.to_vec()),
                };
                fs.add(at, name, entry);
            }
        }
        fs
    }

    /// As [`MemoryFs::new`], on which upper and lower case are the same.
    pub(crate) fn caseless(files: &[(&str, &[u8])]) -> Self {
        Self { ignores_case: true, ..Self::new(files) }
    }

    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        Tree::new("p1", Arc::new(Self::new(&files)))
    }

    fn child(&self, dir: u64, name: &str) -> Option<u64> {
        let Entry::Dir(names) = &self.entries[usize::try_from(dir).unwrap()] else {
            panic!("{name} is no directory")
        };
        names.get(name.as_bytes()).copied()
    }

    fn add(&mut self, dir: u64, name: &str, entry: Entry) -> u64 {
        let ino = u64::try_from(self.entries.len()).unwrap();
        self.entries.push(entry);
        let Entry::Dir(names) = &mut self.entries[usize::try_from(dir).unwrap()] else {
            panic!("no directory")
        };
        names.insert(name.as_bytes().to_vec(), ino);
        ino
    }

    fn entry(&self, ino: Ino) -> &Entry {
        &self.entries[usize::try_from(ino.0).unwrap()]
    }
}

impl FileSystem for MemoryFs {
    fn root(&self) -> Ino {
        Ino(0)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        match self.entry(dir) {
            Entry::Dir(names) if self.ignores_case => {
                let found = names.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
                Ok(found.map(|(_, ino)| Ino(*ino)))
            }
            Entry::Dir(names) => Ok(names.get(name).copied().map(Ino)),
            _ => Ok(None),
        }
    }

    fn ignores_case(&self) -> bool {
        self.ignores_case
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let (kind, size) = match self.entry(ino) {
            Entry::Dir(_) => (FileType::Dir, 0),
            Entry::File(bytes) => (FileType::File, bytes.len()),
            Entry::Link(target) => (FileType::Symlink, target.len()),
            Entry::Bad => (FileType::File, 1),
        };
        let time = Time::default();
        Ok(Stat {
            ino,
            kind,
            size: u64::try_from(size).unwrap(),
            blocks: 0,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            blksize: 4096,
        })
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if let Entry::Dir(names) = self.entry(dir) {
            for (next, (name, ino)) in (1..).zip(names).skip_while(|(next, _)| *next <= from) {
                if sink(DirEntry { ino: Ino(*ino), kind: None, name, next }).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        match self.entry(ino) {
            Entry::File(bytes) => {
                let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
                let count = rest.len().min(buf.len());
                buf[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            _ => Err(Error::unsupported("reading this")),
        }
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        match self.entry(ino) {
            Entry::Link(target) => Ok(target.clone()),
            _ => Err(Error::unsupported("no link")),
        }
    }

    fn facts(&self) -> FsFacts {
        FsFacts { kind: "memory", ..FsFacts::default() }
    }
}

/// A file system of several trees, as btrfs is; each is written as a [`MemoryFs`] of its own.
#[derive(Debug)]
pub(crate) struct Pool {
    trees: Vec<(Subvolume, Arc<MemoryFs>)>,
    /// What a mount without options shows.
    shown: usize,
}

/// A subvolume of a [`Pool`]: number, path, whether it is a snapshot, files.
pub(crate) type PoolTree<'a> = (u64, &'a str, bool, &'a [(&'a str, &'a str)]);

impl Pool {
    pub(crate) fn new(default: u64, trees: &[PoolTree<'_>]) -> Self {
        let tree = |(id, path, is_snapshot, files): &PoolTree<'_>| {
            let files: Vec<(&str, &[u8])> =
                files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
            let subvolume = Subvolume {
                id: *id,
                path: path.as_bytes().to_vec(),
                is_default: *id == default,
                is_read_only: false,
                parent: is_snapshot.then(|| "some".to_owned()),
            };
            (subvolume, Arc::new(MemoryFs::new(&files)))
        };
        let shown = trees.iter().position(|tree| tree.0 == default).unwrap();
        Self { trees: trees.iter().map(tree).collect(), shown }
    }

    fn shown(&self) -> &MemoryFs {
        &self.trees[self.shown].1
    }
}

impl FileSystem for Pool {
    fn root(&self) -> Ino {
        self.shown().root()
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        self.shown().lookup(dir, name)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        self.shown().stat(ino)
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.shown().readdir(dir, from, sink)
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.shown().read_at(ino, buf, offset)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.shown().readlink(ino)
    }

    fn facts(&self) -> FsFacts {
        FsFacts { kind: "btrfs", ..FsFacts::default() }
    }

    fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        Ok(self.trees.iter().map(|(subvolume, _)| subvolume.clone()).collect())
    }

    fn subvolume(&self, id: u64) -> Result<Arc<dyn FileSystem>> {
        let found = self.trees.iter().find(|(subvolume, _)| subvolume.id == id);
        let (_, tree) = found.ok_or_else(|| Error::not_found(format!("subvolume {id}")))?;
        Ok(Arc::<MemoryFs>::clone(tree))
    }
}
