//! The disk that the cases are about, served by us and by qemu-nbd: every byte of it is known.

use crate::common;
use imgmount::block::{Below, BlockSource, Extent, Step, check_range};
use imgmount::error::{Error, ErrorKind, Result};
use imgmount::serve::nbd::{Export, Listener, Options, Server, Stop};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const MIB: u64 = 1 << 20;
/// Of the disk.
pub const SIZE: u64 = 40 * MIB;
/// Nothing is stored here, in no layer.
pub const HOLE: Range<u64> = MIB..3 * MIB;
/// The layer below has this.
pub const BELOW: Range<u64> = 6 * MIB..8 * MIB;
/// This cannot be read, of the export `bad` only.
pub const BAD: Range<u64> = 5 * MIB..5 * MIB + 512;

fn byte(at: u64) -> u8 {
    if HOLE.contains(&at) { 0 } else { (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1 }
}

/// The whole disk.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| (0..SIZE).map(byte).collect());

/// What the disk has there.
pub fn expected(offset: u64, len: u64) -> &'static [u8] {
    &CONTENT[offset as usize..][..len as usize]
}

/// The disk as our server sees it.
#[derive(Debug)]
struct Disk {
    damaged: bool,
}

/// Where the stretch ends in which `offset` lies, given the places where something changes.
fn end(offset: u64, bounds: &[u64]) -> u64 {
    *bounds.iter().find(|bound| **bound > offset).unwrap()
}

impl BlockSource for Disk {
    fn len(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), SIZE)?;
        if self.damaged && offset < BAD.end && offset + buf.len() as u64 > BAD.start {
            return Err(Error::new(ErrorKind::Io, "sector\x1b[31m is gone"));
        }
        buf.copy_from_slice(expected(offset, buf.len() as u64));
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        let hole = HOLE.contains(&offset);
        Ok(Extent { len: end(offset, &[HOLE.start, HOLE.end, SIZE]) - offset, zero: hole, hole })
    }

    fn step(&self, offset: u64) -> Result<Step> {
        let len = end(offset, &[HOLE.start, HOLE.end, BELOW.start, BELOW.end, SIZE]) - offset;
        let below = if HOLE.contains(&offset) {
            Below::Hole
        } else if BELOW.contains(&offset) {
            Below::Parent(Arc::new(Ground), offset)
        } else {
            Below::Here
        };
        Ok(Step { len, below })
    }
}

/// The layer below.
#[derive(Debug)]
struct Ground;

impl BlockSource for Ground {
    fn len(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        Disk { damaged: false }.read_at(buf, offset)
    }
}

/// Our server, in this process.
pub struct Ours {
    socket: PathBuf,
    stop: Stop,
    thread: Option<JoinHandle<Result<()>>>,
    _dir: tempfile::TempDir,
}

/// The exports of our server. qemu-nbd has the first one only.
pub const EXPORTS: [&str; 3] = ["", "p1", "bad"];

/// What the exports are described as.
pub fn about(name: &str) -> String {
    format!("the {name} disk")
}

pub fn serve() -> Ours {
    let dir = common::tempdir();
    let socket = dir.path().join("s");
    let listener = Listener::Unix(UnixListener::bind(&socket).unwrap());
    let export = |name: &str| Export {
        name: name.into(),
        about: about(name),
        source: Arc::new(Disk { damaged: name == "bad" }),
    };
    let server = Server::new(EXPORTS.map(export).into(), Options::default()).unwrap();
    let stop = Stop::default();
    let told = stop.clone();
    let thread = std::thread::spawn(move || server.run(vec![listener], &told));
    Ours { socket, stop, thread: Some(thread), _dir: dir }
}

impl Ours {
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// qemu-nbd with the same disk: a QCOW2 image on a backing file.
pub struct QemuNbd {
    child: Child,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl QemuNbd {
    pub fn start() -> Self {
        let dir = common::tempdir();
        let (mut top, mut base) = (CONTENT.clone(), vec![0; SIZE as usize]);
        let below = BELOW.start as usize..BELOW.end as usize;
        base[below.clone()].swap_with_slice(&mut top[below]);
        std::fs::write(dir.path().join("top.raw"), top).unwrap();
        std::fs::write(dir.path().join("base.raw"), base).unwrap();
        let at = dir.path().display();
        // Converting drops what is zero; without data of its own the upper layer shows the lower one.
        common::sh(&format!(
            "cd {at}; for layer in top base; do qemu-img convert -f raw -O qcow2 $layer.raw $layer.qcow2; done
             qemu-img rebase -u -f qcow2 -b base.qcow2 -F qcow2 top.qcow2"
        ));
        let socket = dir.path().join("q");
        let child = Command::new("qemu-nbd")
            .args(["-r", "-t", "-A", "-e", "0", "-f", "qcow2", "-D", &about(""), "-k"])
            .arg(&socket)
            .arg(dir.path().join("top.qcow2"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "qemu-nbd did not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, socket, _dir: dir }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
