//! exFAT, as Linux mounts it.
//!
//! ```text
//! boot                      boot region: where what lies, under a checksum
//! super::chain              the FAT: cluster → next cluster, for what does not lie in a row
//! entry ─ upcase            rows of slots of 32 bytes; which letters are the same
//! ```
//! There are no inodes. A file's number is the place of its first slot on the volume in units of 32 bytes, times two; one
//! more where the directory lies in a row of clusters, for its slots may go on in the next cluster and the FAT has nothing
//! on that then. The root has 1. Owner and mode are what the kernel makes up: root, 0755, read-only files 0555.

use super::chain::{Link, Table, Width};
use super::meta::Meta;
use super::unicode::same_letters;
use super::{DirEntry, FileSystem, FileType, FsCx, FsFacts, FsKind, Ino, Stat, State, Time, runs};
use crate::block::{BlockSource, Place, Probe, Run};
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::{narrow, wide};
use crate::text::Text;
use boot::Boot;
use entry::{MOST_BEHIND, SLOT, Set, Stream, behind, is_secondary, kind};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use upcase::Upcase;

mod boot;
mod entry;
mod upcase;

/// exFAT.
pub const KIND: FsKind = FsKind { name: "exfat", claims, set: None, open };

/// The root directory's number.
const ROOT: u64 = 1;
/// The longest directory, in bytes, as the specification has it.
const MAX_DIR: u64 = 256 << 20;
/// Bytes of a directory looked at together.
const LOOK: u64 = 4096;
/// Clusters joined to one run for a map. Whoever wants more asks again.
const MAX_RUN: u64 = 65_536;
/// The longest allocation bitmap that is counted, in bytes: of 128 million clusters.
const COUNTED: u64 = 16 << 20;

fn claims(probe: &Probe<'_>) -> bool {
    probe.has(3, boot::NAME) && Boot::parse(probe.head, 0).is_ok()
}

fn open(devices: &[Arc<dyn BlockSource>], _cx: &FsCx<'_>) -> Result<Arc<dyn FileSystem>> {
    Ok(Arc::new(Exfat::open(super::only(devices)?)?))
}

/// What a number stands for.
enum Node {
    Root,
    File(Set, Stream),
}

impl Node {
    fn kind(&self) -> FileType {
        match self {
            Self::Root => FileType::Dir,
            Self::File(set, _) => set.kind(),
        }
    }
}

/// An exFAT file system.
pub struct Exfat {
    boot: Boot,
    table: Table,
    meta: Meta,
    /// Loaded when a name is first looked up. `None` inside: damaged, Unicode's own letters serve.
    upcase: OnceLock<Option<Upcase>>,
    /// Free clusters, counted when they are asked for first.
    counted: OnceLock<Option<u64>>,
}

impl fmt::Debug for Exfat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exfat({:?})", self.meta)
    }
}

/// A slot: its bytes, where it lies on the volume, and where in the directory the next one starts.
type SlotSink<'a> = dyn FnMut(&[u8; 32], u64, u64) -> ControlFlow<()> + 'a;

impl Exfat {
    /// Opens the file system on a volume.
    ///
    /// # Errors
    /// `Corrupt` when neither boot region is sound.
    pub fn open(volume: Arc<dyn BlockSource>) -> Result<Self> {
        let meta = Meta::new(volume);
        let boot = Boot::load(&meta)?;
        let table = Table::new("exfat", boot.fat, Width::ThirtyTwo, boot.end);
        Ok(Self { boot, table, meta, upcase: OnceLock::new(), counted: OnceLock::new() })
    }

    /// The run at `offset` of a stream, which lies in it; `want` bytes are of use.
    fn run(&self, stream: &Stream, offset: u64, want: u64) -> Result<Run> {
        let Some(left) = stream.valid.checked_sub(offset).filter(|left| *left > 0) else {
            return Ok(Run { len: stream.len.saturating_sub(offset), place: Place::Zero });
        };
        let cluster = self.boot.cluster;
        let (skip, inside) =
            (offset.checked_div(cluster).unwrap_or(0), offset.checked_rem(cluster).unwrap_or(0));
        let want = left.min(want);
        let (first, count) = if stream.in_row {
            let at = u32::try_from(skip).ok().and_then(|skip| stream.first.checked_add(skip));
            let at = at.filter(|at| self.table.holds(*at) && self.table.holds(stream.first));
            let at = at.ok_or_else(|| {
                Error::corrupt(At::new("exfat", "stream").index(stream.first.into())).because(format!(
                    "its cluster {skip} in a row would lie behind the last, {}",
                    self.boot.end
                ))
            })?;
            (at, u64::from(self.boot.end.saturating_sub(at)))
        } else {
            let clusters = inside.saturating_add(want).div_ceil(cluster).min(MAX_RUN);
            let found = self.table.run(&self.meta, stream.first, skip, clusters)?;
            (found.first, found.count)
        };
        let len = count.saturating_mul(cluster).saturating_sub(inside).min(left);
        let offset = self.boot.cluster_at(first).saturating_add(inside);
        Ok(Run { len, place: Place::Stored { file: 0, offset } })
    }

    fn read_stream(&self, stream: &Stream, buf: &mut [u8], offset: u64) -> Result<()> {
        runs::read(&**self.meta.volume(), buf, offset, |offset, want| self.run(stream, offset, want))
    }

    /// The cluster behind one of a directory.
    fn next_cluster(&self, cluster: u32, in_row: bool) -> Result<Option<u32>> {
        if in_row {
            return Ok(cluster.checked_add(1).filter(|next| self.table.holds(*next)));
        }
        match self.table.reader(&self.meta).link(cluster)? {
            Link::Next(next) => Ok(Some(next)),
            Link::End => Ok(None),
            Link::Broken(value) => Err(Error::corrupt(At::new("exfat", "FAT entry").index(cluster.into()))
                .because(format!("a directory leads to {value:#x}"))),
        }
    }

    /// Hands over every slot of a directory that starts at byte `from` or later, up to the one that marks the end; each
    /// with its place on the volume, and that of the next in the directory.
    fn slots(&self, dir: &Node, from: u64, sink: &mut SlotSink<'_>) -> Result<()> {
        let (mut cluster, len, in_row) = match dir {
            Node::Root => (self.boot.root, MAX_DIR, false),
            Node::File(_, stream) => (stream.first, stream.len, stream.in_row),
        };
        if len > MAX_DIR {
            let at = At::new("exfat", "directory").index(cluster.into());
            return Err(Error::corrupt(at).because(format!("{len} bytes, at most {MAX_DIR} are allowed")));
        }
        let mut base = 0_u64;
        while base < len {
            if !self.table.holds(cluster) {
                let at = At::new("exfat", "directory").index(cluster.into());
                return Err(Error::corrupt(at).because(format!("the last cluster is {}", self.boot.end)));
            }
            let end = base.saturating_add(self.boot.cluster).min(len);
            let start = self.boot.cluster_at(cluster);
            let mut skip = (from.saturating_sub(base) / LOOK).saturating_mul(LOOK);
            while base.saturating_add(skip) < end {
                let byte = start.saturating_add(skip);
                let here = base.saturating_add(skip);
                let bytes = self.meta.near(byte, LOOK.min(end.saturating_sub(here)))?;
                for (n, slot) in bytes.chunks_exact(32).enumerate() {
                    let at = wide(n).saturating_mul(SLOT);
                    let Some(slot) = slot.first_chunk() else { continue };
                    if here.saturating_add(at) < from {
                        continue;
                    }
                    let next = here.saturating_add(at).saturating_add(SLOT);
                    if slot.first() == Some(&kind::END)
                        || sink(slot, byte.saturating_add(at), next).is_break()
                    {
                        return Ok(());
                    }
                }
                skip = skip.saturating_add(LOOK);
            }
            base = base.saturating_add(self.boot.cluster);
            if base < len {
                let Some(next) = self.next_cluster(cluster, in_row)? else { return Ok(()) };
                cluster = next;
            }
        }
        Ok(())
    }

    /// Hands over every file of a directory: its number, its slots, and where to go on.
    fn sets(
        &self,
        dir: &Node,
        from: u64,
        sink: &mut dyn FnMut(Ino, &Set, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let in_row = matches!(dir, Node::File(_, stream) if stream.in_row);
        let mut open: Option<(Ino, Set)> = None;
        self.slots(dir, from, &mut |slot, byte, next| {
            if slot.first() == Some(&kind::FILE) && (2..=MOST_BEHIND).contains(&behind(slot)) {
                let mut set = Set::default();
                set.push(*slot);
                open = Some((Ino((byte / SLOT) << 1 | u64::from(in_row)), set));
                return ControlFlow::Continue(());
            }
            // A set that is cut short by another entry is none.
            let Some((ino, mut set)) = open.take().filter(|_| is_secondary(slot)) else {
                return ControlFlow::Continue(());
            };
            set.push(*slot);
            if set.is_whole() {
                return sink(ino, &set, next);
            }
            open = Some((ino, set));
            ControlFlow::Continue(())
        })
    }

    /// What a number stands for.
    ///
    /// # Errors
    /// `Corrupt` when there is no file, or its sum is wrong.
    fn node(&self, ino: Ino) -> Result<Node> {
        if ino == Ino(ROOT) {
            return Ok(Node::Root);
        }
        let (mut byte, in_row) = ((ino.0 >> 1).saturating_mul(SLOT), ino.0 & 1 != 0);
        let at = At::new("exfat", "directory entry").index(ino.0).byte(byte);
        let bad = |why: String| Error::corrupt(at.clone()).because(why);
        let skip = byte
            .checked_sub(self.boot.heap)
            .ok_or_else(|| bad("lies in front of the clusters".to_owned()))?;
        let cluster = u32::try_from(skip.checked_div(self.boot.cluster).unwrap_or(0)).ok();
        let cluster =
            cluster.and_then(|n| n.checked_add(super::chain::FIRST)).filter(|c| self.table.holds(*c));
        let mut cluster = cluster.ok_or_else(|| bad("lies behind the last cluster".to_owned()))?;
        let mut set = Set::default();
        loop {
            let slot = self.meta.near(byte, SLOT).map_err(|error| error.at(at.clone()))?;
            let Some(slot) = slot.first_chunk() else { return Err(bad("half a slot".to_owned())) };
            let is_first = slot.first() == Some(&kind::FILE) && (2..=MOST_BEHIND).contains(&behind(slot));
            let fits = if set.is_empty() { is_first } else { is_secondary(slot) };
            if !fits {
                return Err(bad("no file is there".to_owned()));
            }
            set.push(*slot);
            if set.is_whole() {
                break;
            }
            byte = byte.saturating_add(SLOT);
            if byte >= self.boot.cluster_at(cluster).saturating_add(self.boot.cluster) {
                let next = self.next_cluster(cluster, in_row)?;
                cluster = next.ok_or_else(|| bad("the directory ends in it".to_owned()))?;
                byte = self.boot.cluster_at(cluster);
            }
        }
        if let Some(damage) = set.damage() {
            return Err(bad(damage));
        }
        let stream = set.stream().ok_or_else(|| bad("its second slot is no stream".to_owned()))?;
        Ok(Node::File(set, stream))
    }

    fn directory(&self, ino: Ino) -> Result<Node> {
        let node = self.node(ino)?;
        match node.kind() {
            FileType::Dir => Ok(node),
            _ => Err(Error::not_found(format!("inode {ino} is a file, not a directory; its entries"))),
        }
    }

    fn file(&self, ino: Ino) -> Result<Stream> {
        match self.node(ino)? {
            Node::File(set, stream) if set.kind() == FileType::File => Ok(stream),
            _ => {
                Err(Error::new(ErrorKind::Denied, format!("inode {ino} is a directory, not a regular file")))
            }
        }
    }

    /// The first slot of a kind in the root directory. A root that cannot be read has none; its own error comes when it
    /// is listed.
    fn in_root(&self, wanted: impl Fn(&[u8; 32]) -> bool) -> Option<[u8; 32]> {
        let mut found = None;
        let look = &mut |slot: &[u8; 32], _, _| {
            if !wanted(slot) {
                return ControlFlow::Continue(());
            }
            found = Some(*slot);
            ControlFlow::Break(())
        };
        self.slots(&Node::Root, 0, look).ok()?;
        found
    }

    fn upcase(&self) -> Option<&Upcase> {
        let load = || {
            let slot = self.in_root(|slot| slot.first() == Some(&kind::UPCASE))?;
            self.load_upcase(&slot).ok()
        };
        self.upcase.get_or_init(load).as_ref()
    }

    fn label(&self) -> Vec<u8> {
        let Some(slot) = self.in_root(|slot| slot.first() == Some(&kind::LABEL)) else { return Vec::new() };
        let units = usize::from(behind(&slot)).min(11);
        let text = slot.get(2..).unwrap_or_default();
        super::unicode::utf8(super::unicode::units_le(text).take(units))
    }

    /// Free clusters, by the bitmap in use; `None` when it cannot be read or is too long to be counted.
    fn count_free(&self) -> Option<u64> {
        let second = u8::from(self.boot.second_fat);
        let bitmap = |slot: &[u8; 32]| slot.first() == Some(&kind::BITMAP) && behind(slot) & 1 == second;
        let stream = Stream::table(&self.in_root(bitmap)?);
        let clusters = self.table.clusters();
        let len = clusters.div_ceil(8);
        if stream.len < len || len > COUNTED {
            return None;
        }
        let mut used = 0_u64;
        let mut at = 0;
        let mut bytes = vec![0; narrow(len.min(1 << 20))];
        while at < len {
            let part = bytes.get_mut(..narrow(len.saturating_sub(at).min(1 << 20)))?;
            self.read_stream(&stream, part, at).ok()?;
            at = at.saturating_add(wide(part.len()));
            if at == len
                && let (Some(last), rest @ 1..) = (part.last_mut(), clusters % 8)
            {
                // Bits behind the last cluster mean nothing.
                *last &= 0xff_u8 >> 8_u64.saturating_sub(rest);
            }
            used = part.iter().fold(used, |sum, byte| sum.saturating_add(byte.count_ones().into()));
        }
        clusters.checked_sub(used)
    }

    fn warnings(&self, state: State) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is: bool, what: &str| {
            if is {
                warnings.push(what.to_owned());
            }
        };
        warn(state == State::Dirty, "was not unmounted: the image was taken while it was in use");
        warn(state == State::Errors, "failures of the medium were recorded on this file system");
        warn(self.boot.by_backup, "the boot region is damaged; its copy was read");
        warn(
            self.upcase().is_none(),
            "the up-case table is damaged; letters are compared as Unicode has them",
        );
        let volume = self.meta.volume().len();
        if self.boot.size > volume {
            warnings.push(format!(
                "the file system has {} bytes, its volume only {volume}: its end is missing",
                self.boot.size
            ));
        }
        warnings
    }
}

impl FileSystem for Exfat {
    fn root(&self) -> Ino {
        Ino(ROOT)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let dots = name.iter().rev().take_while(|byte| **byte == b'.').count();
        // The kernel takes no notice of dots at the end.
        let short = name.get(..name.len().saturating_sub(dots)).unwrap_or_default();
        let units: Option<Vec<u16>> = str::from_utf8(short).ok().map(|text| text.encode_utf16().collect());
        let upcase = self.upcase();
        let is_similar = |set: &Set| match (upcase, &units) {
            (Some(upcase), Some(units)) => upcase.same(&set.units(), units),
            _ => same_letters(&set.name(), short),
        };
        let (mut exact, mut similar) = (None, None);
        self.sets(&self.directory(dir)?, 0, &mut |ino, set, _| {
            if set.name() == name {
                exact = Some(ino);
                return ControlFlow::Break(());
            }
            if similar.is_none() && is_similar(set) {
                similar = Some(ino);
            }
            ControlFlow::Continue(())
        })?;
        Ok(exact.or(similar))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        let kind = node.kind();
        let mut nlink = 1;
        if kind == FileType::Dir {
            nlink = 2;
            self.sets(&node, 0, &mut |_, set, _| {
                nlink = u32::saturating_add(nlink, u32::from(set.kind() == FileType::Dir));
                ControlFlow::Continue(())
            })?;
        }
        let (size, mode, [mtime, atime, btime]) = match &node {
            Node::Root => {
                let most = MAX_DIR.div_ceil(self.boot.cluster);
                let clusters = self.table.length(&self.meta, self.boot.root, most)?;
                (clusters.saturating_mul(self.boot.cluster), 0o755, [Time::default(); 3])
            }
            Node::File(set, stream) => {
                let mode = if set.is_read_only() && kind == FileType::File { 0o555 } else { 0o755 };
                (stream.len, mode, [set.modified(), set.accessed(), set.created()])
            }
        };
        Ok(Stat {
            ino,
            kind,
            size,
            blocks: size.div_ceil(self.boot.cluster).saturating_mul(self.boot.cluster / 512),
            mode,
            nlink,
            uid: 0,
            gid: 0,
            rdev: (0, 0),
            atime,
            mtime,
            ctime: mtime,
            btime: Some(btime).filter(|_| matches!(node, Node::File(..))),
            blksize: u32::try_from(self.boot.cluster).unwrap_or(u32::MAX),
        })
    }

    fn readdir(
        &self,
        dir: Ino,
        from: u64,
        sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.sets(&self.directory(dir)?, from, &mut |ino, set, next| {
            sink(DirEntry { ino, kind: Some(set.kind()), name: &set.name(), next })
        })
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let stream = self.file(ino)?;
        let len = narrow(stream.len.saturating_sub(offset)).min(buf.len());
        self.read_stream(&stream, buf.get_mut(..len).unwrap_or_default(), offset)?;
        Ok(len)
    }

    fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Denied, format!("inode {ino} is no symbolic link; exFAT has none")))
    }

    fn run_at(&self, ino: Ino, offset: u64) -> Result<Run> {
        let stream = self.file(ino)?;
        if offset >= stream.len {
            return Err(Error::out_of_range(offset, 1, stream.len));
        }
        self.run(&stream, offset, u64::MAX)
    }

    fn facts(&self) -> FsFacts {
        let state = match (self.boot.has_failed, self.boot.is_dirty) {
            (true, _) => State::Errors,
            (false, true) => State::Dirty,
            (false, false) => State::Clean,
        };
        let [major, minor] = self.boot.revision;
        let mut features = vec![format!("{major}.{minor}")];
        if self.boot.fats == 2 {
            features.push("TexFAT".to_owned());
        }
        FsFacts {
            kind: "exfat",
            label: Text::new(self.label()),
            uuid: Some(self.boot.uuid()),
            block_size: u32::try_from(self.boot.sector).unwrap_or(u32::MAX),
            size: self.boot.size,
            state,
            features,
            warnings: self.warnings(state),
            ..FsFacts::default()
        }
    }

    fn free(&self) -> Option<u64> {
        let counted = *self.counted.get_or_init(|| self.count_free());
        Some(counted?.saturating_mul(self.boot.cluster))
    }

    fn ignores_case(&self) -> bool {
        true
    }
}
