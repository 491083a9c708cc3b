//! A disk whose every byte follows from its position, to be served in the test's own process: with a hole, a layer below,
//! and a place that cannot be read if it is wanted.

use super::served::Served;
use imgmount::block::{Below, BlockSource, Extent, Step, check_range};
use imgmount::error::{Error, ErrorKind, Result};
use imgmount::serve::nbd::{Export, Options};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

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
pub static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| (0..SIZE).map(byte).collect());

/// What the disk has there.
pub fn expected(offset: u64, len: u64) -> &'static [u8] {
    &CONTENT[offset as usize..][..len as usize]
}

/// The disk as our server sees it.
#[derive(Debug)]
pub struct Disk {
    /// It has a bad place.
    pub damaged: bool,
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

/// The exports of our server.
pub const EXPORTS: [&str; 3] = ["", "p1", "bad"];

/// What the exports are described as.
pub fn about(name: &str) -> String {
    format!("the {name} disk")
}

/// The exports.
pub fn exports() -> Vec<Export> {
    let export = |name: &str| Export {
        name: name.into(),
        about: about(name),
        source: Arc::new(Disk { damaged: name == "bad" }),
    };
    EXPORTS.map(export).into()
}

/// Served in this process.
pub fn serve(options: Options) -> Served {
    Served::start(exports(), options)
}
