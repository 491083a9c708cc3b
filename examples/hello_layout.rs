//! A disk image format of our own, whole: the module `hello` below. To make it one of imgmount's, put its content into
//! `src/image/hello.rs` (with `crate` for `imgmount`) and the line `pub mod hello => FORMAT;` into the list of
//! `src/image/mod.rs`. Reads, holes, cache, NBD, FUSE, `info`, `map` and the checks then come of themselves.
//!
//! `cargo run --example hello_layout`
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "an example talks, and slices what it made itself"
)]

mod hello {
    //! hello: `HELLODSK`, the size of a unit, the number of units; then for each unit the byte where it lies, 0 for a hole.

    use imgmount::block::{BlockSource, Layout, Place, Probe, Run};
    use imgmount::error::{At, Error, Result};
    use imgmount::image::{Confidence, Format, OpenCx, Opened};
    use imgmount::ondisk::{le64, read_table};
    use std::sync::Arc;

    /// The format.
    pub(super) const FORMAT: Format =
        Format { name: "hello", aliases: &[], about: "a toy, to show what a format takes", probe, open };

    /// Largest table that is read, in bytes.
    const MAX_TABLE: u64 = 64 << 20;

    fn probe(probe: &Probe<'_>) -> Option<Confidence> {
        probe.has(0, b"HELLODSK").then_some(Confidence::Signature)
    }

    fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
        let at = At::new("hello", "header").byte(8);
        let header = read_table(&*source, 8, 16, 16, at.clone(), cx.budget)?;
        let (unit, units) = (le64(&header, 0, &at)?, le64(&header, 8, &at)?);
        if !(512..=1 << 20).contains(&unit) || !unit.is_power_of_two() || units.checked_mul(unit).is_none() {
            return Err(Error::corrupt(at).because(format!("{units} units of {unit} bytes")));
        }
        let at = At::new("hello", "table").byte(24);
        let table = read_table(&*source, 24, units.saturating_mul(8), MAX_TABLE, at, cx.budget)?;
        Ok(Opened::single(cx.mapper.map(Hello { files: [source], unit, units, table }), FORMAT.name, cx))
    }

    #[derive(Debug)]
    struct Hello {
        files: [Arc<dyn BlockSource>; 1],
        unit: u64,
        units: u64,
        table: Vec<u8>,
    }

    impl Layout for Hello {
        fn size(&self) -> u64 {
            self.unit.saturating_mul(self.units)
        }

        fn files(&self) -> &[Arc<dyn BlockSource>] {
            &self.files
        }

        fn run_at(&self, offset: u64) -> Result<Run> {
            let (unit, skip) = (offset.div_euclid(self.unit), offset.rem_euclid(self.unit));
            let at = At::new("hello", "table").index(unit);
            let entry = usize::try_from(unit).unwrap_or(usize::MAX).saturating_mul(8);
            let place = match le64(&self.table, entry, &at)? {
                0 => Place::Hole,
                start => Place::Stored { file: 0, offset: start.saturating_add(skip) },
            };
            Ok(Run { len: self.unit.saturating_sub(skip), place })
        }
    }
}

use imgmount::budget::{Budget, Limits};
use imgmount::cache::Cache;
use imgmount::engine::Mapper;
use imgmount::error::{Error, Result};
use imgmount::image::OpenCx;
use imgmount::keys::Keys;
use imgmount::locator::{Found, Gate, Locator, Reference};
use imgmount::source::memory::Memory;
use std::sync::Arc;

/// A gate that lets nothing through: this format names no other files.
#[derive(Debug)]
struct Closed;

impl Gate for Closed {
    fn open(&self, _from: &Locator, _named: &[u8], _why: Reference) -> Result<Found> {
        Err(Error::unsupported("a second file"))
    }
}

fn main() -> Result<()> {
    // Three units of 512 bytes; the second is a hole, the third lies before the first.
    let mut image = b"HELLODSK".to_vec();
    for number in [512_u64, 3, 1024, 0, 512] {
        image.extend_from_slice(&number.to_le_bytes());
    }
    image.resize(512, 0);
    image.extend_from_slice(&[b'c'; 512]);
    image.extend_from_slice(&[b'a'; 512]);

    let locator = Locator::parse("hello.img".as_ref());
    let (budget, mapper) = (Budget::new(Limits::OPEN), Mapper::new(Arc::new(Cache::new(1 << 20))));
    let cx = OpenCx {
        gate: &Closed,
        locator: &locator,
        budget: &budget,
        mapper: &mapper,
        keys: &Keys::default(),
        member: None,
        spool: None,
        in_archive: false,
        depth: 0,
    };
    let opened = (hello::FORMAT.open)(Arc::new(Memory::new(image, "hello.img")), &cx)?;

    let mut bytes = vec![1; 1536];
    opened.disk.read_at(&mut bytes, 0)?;
    assert_eq!((bytes[0], bytes[512], bytes[1535]), (b'a', 0, b'c'));
    println!("a disk of {} bytes; from byte 512 on: {:?}", opened.disk.len(), opened.disk.extent(512)?);
    Ok(())
}
