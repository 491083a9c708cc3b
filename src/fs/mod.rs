//! File systems, read by inode. A new one is one file or folder here and one line in [`FILESYSTEMS`].

use crate::block::{BlockSource, Probe, ProbeBytes, Run};
use crate::budget::Budget;
use crate::engine::Mapper;
use crate::error::{Error, ErrorKind, Result};
use crate::text::Text;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

mod chain;
mod codec;
pub mod identity;
mod lzo;
mod marks;
mod meta;
mod overlay;
mod runs;
mod signature;
pub mod tree;
mod unicode;

registry! {
    /// Every file system we read.
    pub const FILESYSTEMS: &[&FsKind];
    pub mod btrfs => KIND;
    pub mod erofs => KIND;
    pub mod ext => KIND;
    pub mod exfat => KIND;
    pub mod fat => KIND;
    // Discs of both kinds are read by the fuller half.
    pub mod udf => KIND;
    pub mod iso9660 => KIND;
    pub mod ntfs => KIND;
    pub mod squashfs => KIND;
    pub mod xfs => KIND;
}

/// A file's number in its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

impl FileType {
    /// The word in `find --jsonl`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Char => "char",
            Self::Block => "block",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }

    /// The letter in `ls -l`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Dir => 'd',
            Self::Symlink => 'l',
            Self::Char => 'c',
            Self::Block => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }
}

/// A time stamp: seconds since 1970 in UTC, may be negative, and nanoseconds forward from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What `stat` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileType,
    /// Length in bytes.
    pub size: u64,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// The twelve permission bits.
    pub mode: u16,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node: major, minor.
    pub rdev: (u32, u32),
    /// Last access.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Creation, where it is kept.
    pub btime: Option<Time>,
    /// Block size in bytes.
    pub blksize: u32,
}

impl Stat {
    /// Of a directory that is on no volume: everyone's to read, root's, of no time.
    #[must_use]
    pub const fn empty_dir(ino: Ino) -> Self {
        let time = Time { secs: 0, nanos: 0 };
        Self {
            ino,
            kind: FileType::Dir,
            size: 0,
            blocks: 0,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            blksize: 4096,
        }
    }
}

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The file's number.
    pub ino: Ino,
    /// Its type, if the directory says so.
    pub kind: Option<FileType>,
    /// The name's bytes, as stored. Never contains `/` or NUL; those entries are dropped by [`tree`].
    pub name: &'a [u8],
    /// Where to go on after this entry: pass it as `from`.
    pub next: u64,
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// With its prefix: `user.x`, `security.selinux`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A file system's own view of its health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Cleanly unmounted.
    #[default]
    Clean,
    /// Taken while mounted: a journal or log waits to be replayed.
    Dirty,
    /// It recorded errors.
    Errors,
}

impl State {
    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Dirty => "dirty",
            Self::Errors => "errors",
        }
    }
}

/// What a file system says about itself.
#[derive(Clone, Debug, Default)]
pub struct FsFacts {
    /// `ext4`, `xfs`; for the ext family the one the features make it.
    pub kind: &'static str,
    /// Volume label.
    pub label: Text,
    /// UUID as `blkid` spells it.
    pub uuid: Option<String>,
    /// Bytes in a block.
    pub block_size: u32,
    /// Size in bytes.
    pub size: u64,
    /// Free bytes, where they are written down. [`FileSystem::free`] counts where they are not.
    pub free: Option<u64>,
    /// Bytes of the free ones that only root may use.
    pub reserved: u64,
    /// Inodes, 0 where the notion does not fit.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// Its health.
    pub state: State,
    /// Feature names as its own tools spell them.
    pub features: Vec<String>,
    /// Where it was last mounted, if it remembers.
    pub last_mounted: Text,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// A file system. Keyed by inode; names are bytes; every method may be called from any thread.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// The root directory.
    fn root(&self) -> Ino;

    /// The file called `name` in a directory. `.` and `..` need not be known.
    ///
    /// # Errors
    /// `NotFound` is `Ok(None)`; an error means that the directory could not be read.
    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>>;

    /// What is known about a file.
    ///
    /// # Errors
    /// `Corrupt` when its inode makes no sense.
    fn stat(&self, ino: Ino) -> Result<Stat>;

    /// Streams a directory into `sink`, starting at `from`: 0, or the `next` of an entry seen before. `.` and `..` are left out.
    ///
    /// # Errors
    /// When the directory cannot be read; entries before the damage have been handed over.
    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Reads a regular file at `offset`: fills `buf` but for the end of the file, and says how many bytes that were.
    ///
    /// # Errors
    /// When a byte in the range cannot be read. Never zeros in its place.
    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// The target of a symbolic link, as stored.
    ///
    /// # Errors
    /// When it is no link or cannot be read.
    fn readlink(&self, ino: Ino) -> Result<Vec<u8>>;

    /// Every extended attribute.
    ///
    /// # Errors
    /// When they cannot be read.
    fn xattrs(&self, _ino: Ino) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    /// The names of every extended attribute. One that cannot be read has a name all the same, where names stand elsewhere.
    ///
    /// # Errors
    /// When they cannot be read.
    fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        Ok(self.xattrs(ino)?.into_iter().map(|xattr| xattr.name).collect())
    }

    /// One extended attribute, by its name. A file system may have more than it lists: what every file has and nobody
    /// copies is had by name only.
    ///
    /// # Errors
    /// When it cannot be read.
    fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.xattrs(ino)?.into_iter().find(|xattr| xattr.name == name).map(|xattr| xattr.value))
    }

    /// May nobody change it, not even root (`chattr +i`)? `None` where the file system has no such mark.
    ///
    /// # Errors
    /// When the inode cannot be read.
    fn is_immutable(&self, _ino: Ino) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Where the byte at `offset` of a regular file lies on the volume (file 0 is the volume).
    ///
    /// # Errors
    /// `OutOfRange` at or past the end of the file.
    fn run_at(&self, _ino: Ino, _offset: u64) -> Result<Run> {
        Err(Error::unsupported("file map"))
    }

    /// What it says about itself: from what was read when it was opened, and little more.
    fn facts(&self) -> FsFacts;

    /// Free bytes, counted where nobody wrote them down, which may mean reading MiBs; `None` when they cannot be had.
    fn free(&self) -> Option<u64> {
        self.facts().free
    }

    /// Do names that differ in case only mean the same file?
    fn ignores_case(&self) -> bool {
        false
    }

    /// The trees that can be mounted alone, where the file system has such: btrfs's subvolumes. This object is one of them.
    ///
    /// # Errors
    /// When their list cannot be read.
    fn subvolumes(&self) -> Result<Vec<Subvolume>> {
        Ok(Vec::new())
    }

    /// One of [`FileSystem::subvolumes`] as a tree of its own, by its number.
    ///
    /// # Errors
    /// `NotFound` when there is none; when its root cannot be read.
    fn subvolume(&self, id: u64) -> Result<Arc<dyn FileSystem>> {
        Err(Error::not_found(format!("subvolume {id}")))
    }
}

/// A tree inside a file system that can be mounted alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Its number, as `subvolid=` takes it.
    pub id: u64,
    /// Its path from the top of the file system, without a leading `/`; empty for the top itself.
    pub path: Vec<u8>,
    /// A mount without options shows this one.
    pub is_default: bool,
    /// It cannot be written: most snapshots.
    pub is_read_only: bool,
    /// UUID of the one it was made from, if it is a snapshot.
    pub parent: Option<String>,
}

/// Opens a file system from its devices.
pub type Open = fn(&[Arc<dyn BlockSource>], &FsCx<'_>) -> Result<Arc<dyn FileSystem>>;

/// What a device says of the file system that it is one of several devices of.
pub type SetOf = fn(&Probe<'_>) -> Option<SetMember>;

/// A device of a file system that may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetMember {
    /// The identity that all of them share.
    pub set: [u8; 16],
    /// Which of them it is. Two that say the same are copies of each other: a snapshot beside its origin.
    pub device: u64,
    /// How far it has come: of copies, those that have come equally far belong together.
    pub commit: u64,
}

/// A kind of file system.
pub struct FsKind {
    /// Its name; the ext family is one kind.
    pub name: &'static str,
    /// Does the volume carry its signature?
    pub claims: fn(&Probe<'_>) -> bool,
    /// Where one file system may have several devices: which one this is, of which.
    pub set: Option<SetOf>,
    /// Opens it, from all of its devices that are there.
    pub open: Open,
}

/// The device of a kind that has one.
fn only(devices: &[Arc<dyn BlockSource>]) -> Result<Arc<dyn BlockSource>> {
    devices.first().cloned().ok_or_else(|| Error::new(ErrorKind::Internal, "a file system without a device"))
}

impl fmt::Debug for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FsKind({})", self.name)
    }
}

/// What opening may use.
#[derive(Clone, Copy, Debug)]
pub struct FsCx<'a> {
    /// What it may cost.
    pub budget: &'a Budget,
    /// Gives access to the process's cache, for what is stored packed.
    pub mapper: &'a Mapper,
    /// What to do with a journal that waits.
    pub journal: Journal,
    /// A device of it is there more than once: what is read is one of several copies of the file system.
    pub is_one_of_copies: bool,
    /// List the file system's own files too (`--show-meta`): those of NTFS. By name they are always had.
    pub shows_meta: bool,
}

/// What to do with a journal, or log, that was not played back when the image was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// Show what the kernel would show after mounting: it is played back in memory.
    #[default]
    Replay,
    /// Show what lies on the disk.
    Ignore,
}

/// What stands on a volume.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file system we read.
    Files(Arc<dyn FileSystem>),
    /// A further device of the file system that is shown on another volume: its number among those given.
    Member(usize),
    /// Something with a signature that we know by name only: `swap`, `xfs`, `crypto_LUKS`, ...
    Known(&'static str),
    /// No signature we know.
    Unknown,
}

/// Looks at a volume and opens what stands on it.
///
/// # Errors
/// When its signature is there but it cannot be opened.
pub fn detect(volume: &Arc<dyn BlockSource>, cx: &FsCx<'_>) -> Result<Content> {
    detect_all(std::slice::from_ref(volume), &|_| *cx).pop().unwrap_or(Ok(Content::Unknown))
}

/// What a look at a volume's first bytes says.
enum Seen {
    Kind(&'static FsKind, Option<SetMember>),
    Other(Content),
}

/// Looks at every volume and opens what stands on them: one content for each, in their order. Volumes that belong to one
/// file system are opened together; where there are copies of its devices, the newest of each, then the next newest of
/// each. `cx` makes a context for the file system on the volume of that number.
pub fn detect_all<'a>(
    volumes: &[Arc<dyn BlockSource>],
    cx: &dyn Fn(usize) -> FsCx<'a>,
) -> Vec<Result<Content>> {
    let seen: Vec<Result<Seen>> = volumes.iter().map(look).collect();
    let member_of = |at: usize| match seen.get(at) {
        Some(Ok(Seen::Kind(kind, Some(member)))) => Some((kind.name, *member)),
        _ => None,
    };
    let members: Vec<_> = (0..volumes.len()).filter_map(|at| Some((at, member_of(at)?))).collect();
    // Its set, and how many copies of the same device come before it.
    let place_of = |at: usize| {
        let (kind, own) = member_of(at)?;
        let is_copy = |other: &SetMember| other.set == own.set && other.device == own.device;
        let before = members.iter().filter(|(n, (name, other))| {
            let is_newer = other.commit > own.commit || (other.commit == own.commit && *n < at);
            *name == kind && is_copy(other) && is_newer
        });
        Some((kind, own.set, before.count()))
    };
    let places: Vec<Option<(&str, [u8; 16], usize)>> = (0..volumes.len()).map(place_of).collect();
    let mut contents = Vec::new();
    for (at, seen) in seen.iter().enumerate() {
        let kind = match seen {
            Ok(Seen::Kind(kind, _)) => *kind,
            Ok(Seen::Other(content)) => {
                contents.push(Ok(content.clone()));
                continue;
            }
            Err(error) => {
                contents.push(Err(error.clone()));
                continue;
            }
        };
        let place = |at: usize| places.get(at).copied().flatten();
        let own = place(at);
        let is_with = |other: usize| other == at || (own.is_some() && place(other) == own);
        let first = (0..volumes.len()).find(|other| is_with(*other)).unwrap_or(at);
        if first != at {
            contents.push(Ok(Content::Member(first)));
            continue;
        }
        let devices: Vec<Arc<dyn BlockSource>> = volumes
            .iter()
            .enumerate()
            .filter(|(other, _)| is_with(*other))
            .map(|(_, v)| Arc::clone(v))
            .collect();
        let is_other_copy = |(kind, set, n): &(&str, [u8; 16], usize)| {
            own.is_some_and(|own| (*kind, *set) == (own.0, own.1) && *n != own.2)
        };
        let is_one_of_copies = places.iter().flatten().any(is_other_copy);
        let cx = FsCx { is_one_of_copies, ..cx(at) };
        contents.push((kind.open)(&devices, &cx).map(Content::Files));
    }
    contents
}

fn look(volume: &Arc<dyn BlockSource>) -> Result<Seen> {
    let bytes = ProbeBytes::read(&**volume, "")?;
    let probe = bytes.view();
    if let Some(name) = signature::find_first(&probe) {
        return Ok(Seen::Other(Content::Known(name)));
    }
    Ok(match FILESYSTEMS.iter().find(|kind| (kind.claims)(&probe)) {
        Some(kind) => Seen::Kind(kind, kind.set.and_then(|set| set(&probe))),
        None => {
            let name = known(&probe).or_else(|| signature::find(&probe));
            let name = name.map_or_else(|| signature::find_far(&**volume), |name| Ok(Some(name)))?;
            match name {
                Some(name) => Seen::Other(Content::Known(name)),
                // Only where nothing else stands: what was made over an old ext may have left much of it.
                None if ext::has_lost_its_superblock(&probe) => Seen::Kind(&ext::KIND, None),
                None if ntfs::has_lost_its_boot_sector(&probe) => Seen::Kind(&ntfs::KIND, None),
                None => Seen::Other(Content::Unknown),
            }
        }
    })
}

/// Signatures that have a name but no reader yet: offset, magic, `blkid`'s word.
const KNOWN: &[(usize, &[u8], &str)] = &[
    (3, b"-FVE-FS-", "BitLocker"),
    (0, b"LUKS\xba\xbe", "crypto_LUKS"),
    // The second copy of a LUKS2 header, whose first was overwritten.
    (0x4000, b"SKUL\xba\xbe\0\x02", "crypto_LUKS"),
    (0x8000, b"SKUL\xba\xbe\0\x02", "crypto_LUKS"),
    (0x10000, b"SKUL\xba\xbe\0\x02", "crypto_LUKS"),
    (0, b"LABELONE", "LVM2_member"),
    (512, b"LABELONE", "LVM2_member"),
    (1024, b"LABELONE", "LVM2_member"),
    (1536, b"LABELONE", "LVM2_member"),
    (0, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "linux_raid_member"),
    (4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "linux_raid_member"),
    (4086, b"SWAPSPACE2", "swap"),
    (4086, b"SWAP-SPACE", "swap"),
    (0, b"hsqs", "squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"),
    (1024, b"\x10\x20\xf5\xf2", "f2fs"),
];

fn known(probe: &Probe<'_>) -> Option<&'static str> {
    KNOWN.iter().find(|(at, magic, _)| probe.has(*at, magic)).map(|(_, _, name)| *name)
}
