//! What the kernel asks: each request handed to [`Door`], and its answer to the kernel.

use super::inodes::File;
use super::{DOTS, Detail, Door, FOR_EVER, Symlinks, Xattrs, attr, links, not_a};
use crate::counters::COUNTERS;
use crate::error::{At, Error};
use crate::fs::FsFacts;
use crate::num::{narrow, wide};
use fuser::{Errno, FopenFlags, Generation, INodeNo, InitFlags};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// Requests the kernel has under way at once, read-ahead above all.
const MAX_BACKGROUND: u16 = 64;
/// Longest name that Linux's own file systems have, in bytes; limits.h `NAME_MAX`.
const MAX_NAME: usize = 255;

thread_local! {
    /// Each thread's room for one read.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl fuser::Filesystem for Door {
    fn init(&mut self, _: &fuser::Request, config: &mut fuser::KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ];
        // An older kernel does without.
        for flag in wanted {
            let _ = config.add_capabilities(flag);
        }
        // A kernel before 5.1 would take ENOSYS for an error of the directory.
        self.skips_opendir = config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT).is_ok();
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        if let Some(promise) = self.promised_in(parent.0, name.as_bytes()) {
            return promise.keep(|attr| match attr {
                Ok(attr) => reply.entry(&FOR_EVER, &attr, Generation(0)),
                Err(errno) => reply.error(errno),
            });
        }
        match self.guarded(parent, "looking up a name", |dir| self.look_up(parent.0, dir, name.as_bytes())) {
            Ok(Some((attr, keep))) => reply.entry(&keep, &attr, Generation(0)),
            // Some file systems have longer names; where there is none, it is what ext4 says.
            Ok(None) if name.len() > MAX_NAME => reply.error(Errno::ENAMETOOLONG),
            // Number 0: there is no such name, and there will be none.
            Ok(None) => {
                let attr = attr::own(0, false, 0, 0, self.view.made, self.options.own);
                reply.entry(&FOR_EVER, &attr, Generation(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &fuser::Request, number: INodeNo, times: u64) {
        self.inodes.forget(number.0, times);
    }

    fn getattr(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: Option<fuser::FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        if let Some(promise) = self.promised(number.0) {
            return promise.keep(|attr| match attr {
                Ok(attr) => reply.attr(&FOR_EVER, &attr),
                Err(errno) => reply.error(errno),
            });
        }
        let attr = self.guarded(number, "reading its inode", |file| match file {
            File::Own(at) => self.own_attr(number.0, at),
            File::Guest(at, node) => {
                let stat = self.tree(at)?.stat(node)?;
                let parent = self.inodes.parent(number.0);
                Ok((self.guest_attr(number.0, parent, (at, node), &stat)?, FOR_EVER))
            }
        });
        match attr {
            Ok((attr, keep)) => reply.attr(&keep, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &fuser::Request, number: INodeNo, reply: fuser::ReplyData) {
        let target = self.guarded(number, "reading its target", |file| {
            let File::Guest(at, node) = file else { return Err(not_a("link")) };
            if self.options.symlinks == Symlinks::Raw {
                return links::whole(self.tree(at)?.readlink(node)?);
            }
            let target = self.tree(at)?.target(node)?;
            if links::is_plain(&target) {
                return links::whole(target);
            }
            let parent = self.inodes.parent(number.0).ok_or_else(|| not_a("link in its place"))?;
            self.shown(parent, at, &target)
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, _: fuser::OpenFlags, reply: fuser::ReplyOpen) {
        // Nothing to do, now and for every other file: the kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &fuser::Request, _: INodeNo, _: fuser::OpenFlags, reply: fuser::ReplyOpen) {
        if self.skips_opendir {
            return reply.error(Errno::ENOSYS);
        }
        let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(fuser::FileHandle(0), keep);
    }

    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: fuser::FileHandle,
        _: fuser::LockOwner,
        reply: fuser::ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &fuser::Request, _: INodeNo, _: fuser::AccessFlags, reply: fuser::ReplyEmpty) {
        // Whoever gets into the mount may read everything in it; writing is refused above us.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: u64,
        size: u32,
        _: fuser::OpenFlags,
        _: Option<fuser::LockOwner>,
        reply: fuser::ReplyData,
    ) {
        COUNTERS.requests.add(1);
        BUFFER.with_borrow_mut(|buffer| {
            let size = narrow(u64::from(size));
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let room = buffer.get_mut(..size).unwrap_or_default();
            let read = self.guarded(number, "reading", |file| {
                let len = match self.options.zeros {
                    false => self.read_into(file, room, offset)?,
                    true => self.read_with_zeros(file, room, offset)?,
                };
                room.get(..len).ok_or_else(|| {
                    Error::corrupt(At::new("fuse", "read")).because("more bytes than were asked for")
                })
            });
            match read {
                Ok(data) => {
                    COUNTERS.bytes_served.add(wide(data.len()));
                    reply.data(data);
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdir(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: u64,
        mut reply: fuser::ReplyDirectory,
    ) {
        let (mut any, mut bare) = (false, 0_u32);
        let listed = self.guarded(number, "listing", |dir| {
            self.list(number.0, dir, offset, Detail::Bare, &mut |line| {
                let full = reply.add(line.attr.ino, line.next, line.attr.kind, OsStr::from_bytes(line.name));
                any |= !full;
                bare = bare.saturating_add(u32::from(!full && line.attr.kind != fuser::FileType::Directory));
                // The kernel holds what readdirplus tells it of, but nothing of what readdir does.
                if !full && line.held {
                    self.inodes.forget(line.attr.ino.0, 1);
                }
                !full
            })
        });
        if bare > 0 {
            self.kept.told(number.0, bare);
        }
        match listed {
            Err(errno) if !any => reply.error(errno),
            _ => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: u64,
        mut reply: fuser::ReplyDirectoryPlus,
    ) {
        let (mut any, mut told) = (false, 0_u32);
        if offset == 0 {
            self.kept.begin(number.0);
        }
        let is_eager = self.eager.is_on();
        let listed = self.guarded(number, "listing", |dir| {
            // Behind a first page of nothing but the two dots the kernel goes on without attributes.
            let is_short = offset == 0
                && matches!(dir, File::Guest(..))
                && !is_eager
                && !(self.walks.is_on() && self.is_for_walks(dir).unwrap_or(false));
            self.list(number.0, dir, offset, Detail::Full, &mut |line| {
                let name = OsStr::from_bytes(line.name);
                let full = reply.add(line.attr.ino, line.next, name, &line.keep, &line.attr, Generation(0));
                any |= !full;
                told = told.saturating_add(u32::from(!full && line.held));
                !(full || is_short && line.next == DOTS)
            })
        });
        if is_eager { &self.eager } else { &self.walks }.told(told);
        match listed {
            // What came before the damage is worth showing; the next page starts at it and tells.
            Err(errno) if !any => reply.error(errno),
            _ => reply.ok(),
        }
    }

    fn statfs(&self, _: &fuser::Request, number: INodeNo, reply: fuser::ReplyStatfs) {
        let found = self.uncounted(number, "telling its size", |file| {
            let File::Guest(tree, node) = file else { return Ok(None) };
            let mount = self.tree(tree)?.mounts().get(node.fs);
            let facts = self.facts.get(tree).and_then(|facts| facts.get(node.fs));
            Ok(mount.zip(facts).map(|(mount, facts)| (facts, mount.fs.free())))
        });
        let found = match found {
            Ok(found) => found,
            Err(errno) => return reply.error(errno),
        };
        let unknown = FsFacts::default();
        let (facts, free) = found.unwrap_or((&unknown, None));
        let block = facts.block_size.max(512);
        let blocks = |bytes: u64| bytes.checked_div(u64::from(block)).unwrap_or(0);
        let (size, free) = (blocks(facts.size), blocks(free.unwrap_or(0)));
        reply.statfs(size, free, free, facts.inodes, facts.free_inodes, block, 255, block);
    }

    fn getxattr(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: fuser::ReplyXattr,
    ) {
        let found = self.guarded(number, "reading its attributes", |file| {
            if !self.options.xattrs.shows(name.as_bytes()) {
                return Ok(None);
            }
            match file {
                File::Guest(tree, node) => self.tree(tree)?.xattr(node, name.as_bytes()),
                File::Own(_) => Ok(None),
            }
        });
        match found {
            Ok(Some(value)) => Self::reply_sized(reply, &value, size),
            Ok(None) if Xattrs::is_a_name(name.as_bytes()) => reply.error(Errno::NO_XATTR),
            Ok(None) => reply.error(Errno::EOPNOTSUPP),
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, _: &fuser::Request, number: INodeNo, size: u32, reply: fuser::ReplyXattr) {
        let names = self.guarded(number, "reading its attributes", |file| {
            let mut names = Vec::new();
            for name in self.xattr_names(file)? {
                if !name.contains(&0) {
                    names.extend_from_slice(&name);
                    names.push(0);
                }
            }
            Ok(names)
        });
        match names {
            Ok(names) => Self::reply_sized(reply, &names, size),
            Err(errno) => reply.error(errno),
        }
    }

    fn lseek(
        &self,
        _: &fuser::Request,
        number: INodeNo,
        _: fuser::FileHandle,
        offset: i64,
        whence: i32,
        reply: fuser::ReplyLseek,
    ) {
        // lseek(2): SEEK_DATA is 3, SEEK_HOLE 4; the kernel answers the others itself.
        let hole = match whence {
            3 => false,
            4 => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.guarded(number, "looking for holes", |file| self.seek(file, offset, hole)) {
            Ok(Some(found)) => match i64::try_from(found) {
                Ok(found) => reply.offset(found),
                Err(_) => reply.error(Errno::EOVERFLOW),
            },
            Ok(None) => reply.error(Errno::ENXIO),
            Err(errno) => reply.error(errno),
        }
    }
}
