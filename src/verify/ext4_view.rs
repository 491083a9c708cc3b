//! ext4-view: another reader of ext2, ext3 and ext4, which goes by paths. It replays a journal where there is one to
//! replay, so on a dirty file system a difference may mean that it stands a few seconds later in time.

use super::{FileReader, Other, PATIENCE, Reader, Reads, Seen, Subject, theirs, volume, volumes_with};
use crate::block::BlockSource;
use crate::confined::Confined;
use crate::error::Result;
use crate::fs::{FileType, Time};
use crate::num::wide;
use crate::stack::Stack;
use ext4_view::{Ext4, Ext4Read, File, PathBuf};
use std::sync::Arc;

/// The reader.
pub(super) const READER: Reader =
    Reader { name: "ext4-view", about: "files of ext2, ext3 and ext4", reads: Reads::Files, subjects, open };

fn subjects(stack: &Stack) -> Vec<String> {
    volumes_with(stack, |kind| kind.starts_with("ext") && kind != "exfat")
}

/// The volume, as it wants to read it.
struct Volume(Arc<dyn BlockSource>);

impl Ext4Read for Volume {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        self.0.read_at(dst, start_byte).map_err(|error| error.chain().into())
    }
}

/// The reader's state: the file system, and the file read last, because opening one resolves its path again.
struct State {
    fs: Ext4,
    open: Option<(Vec<u8>, File)>,
}

struct Files(Confined<State>);

fn open(subject: &Subject<'_>) -> Result<Other> {
    let source = Volume(volume(subject)?);
    let reader = Confined::new("ext4-view", move || {
        Ok(State { fs: Ext4::load(Box::new(source)).map_err(theirs)?, open: None })
    })?;
    Ok(Other::Files(Box::new(Files(reader))))
}

fn path_of(path: &[u8]) -> Result<PathBuf> {
    PathBuf::try_from(path.to_vec()).map_err(theirs)
}

const fn kind_of(kind: ext4_view::FileType) -> FileType {
    match kind {
        ext4_view::FileType::Regular => FileType::File,
        ext4_view::FileType::Directory => FileType::Dir,
        ext4_view::FileType::Symlink => FileType::Symlink,
        ext4_view::FileType::CharacterDevice => FileType::Char,
        ext4_view::FileType::BlockDevice => FileType::Block,
        ext4_view::FileType::Fifo => FileType::Fifo,
        ext4_view::FileType::Socket => FileType::Socket,
    }
}

impl FileReader for Files {
    fn look(&self, path: &[u8]) -> Result<Seen> {
        let path = path_of(path)?;
        self.0.run_within(PATIENCE, move |state| {
            let facts = state.fs.symlink_metadata(&path).map_err(theirs)?;
            let target = match facts.is_symlink() {
                true => Some(state.fs.read_link(&path).map_err(theirs)?.as_ref().to_vec()),
                false => None,
            };
            let mtime = facts.modified();
            Ok(Seen {
                kind: kind_of(facts.file_type()),
                size: Some(facts.len()),
                mode: Some(facts.mode()),
                owner: Some((facts.uid(), facts.gid())),
                mtime: Some(Time { secs: mtime.seconds(), nanos: mtime.nanoseconds() }),
                target,
            })
        })
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>> {
        let dir = path_of(dir)?;
        self.0.run_within(PATIENCE, move |state| {
            let mut names = Vec::new();
            for entry in state.fs.read_dir(&dir).map_err(theirs)? {
                let entry = entry.map_err(theirs)?;
                let name: Vec<u8> = entry.file_name().as_ref().to_vec();
                if name != b"." && name != b".." {
                    names.push(name);
                }
            }
            Ok(names)
        })
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> Result<Vec<u8>> {
        let key = path.to_vec();
        let path = path_of(path)?;
        self.0.run_within(PATIENCE, move |state| {
            let (_, file) = match &mut state.open {
                Some((name, file)) if *name == key && file.position() == offset => {
                    return read(file, len);
                }
                slot => {
                    let mut file = state.fs.open(&path).map_err(theirs)?;
                    file.seek_to(offset).map_err(theirs)?;
                    slot.insert((key, file))
                }
            };
            read(file, len)
        })
    }
}

/// It gives at most a block at a time.
fn read(file: &mut File, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0_usize;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_bytes(rest).map_err(theirs)? {
            0 => break,
            read => done = done.saturating_add(read),
        }
    }
    bytes.truncate(done);
    debug_assert!(wide(done) <= wide(len));
    Ok(bytes)
}
