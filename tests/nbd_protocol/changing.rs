//! A disk that is written to while it is served.

use super::language::*;
use crate::common::served::Served;
use imgmount::block::{BlockSource, Extent};
use imgmount::error::Result;
use imgmount::serve::nbd::{Export, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A hole until it is written to, then ones.
#[derive(Debug, Default)]
struct Changing {
    written: AtomicBool,
}

impl BlockSource for Changing {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<()> {
        buf.fill(self.written.load(Ordering::SeqCst).into());
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        let hole = !self.written.load(Ordering::SeqCst);
        Ok(Extent { len: self.len() - offset, zero: hole, hole })
    }
}

#[test]
fn a_hole_is_not_remembered_for_the_life_of_a_connection() {
    for flags in [0, DF] {
        let disk = Arc::new(Changing::default());
        let source = Arc::<Changing>::clone(&disk);
        let export = Export { name: String::new(), about: String::new(), source };
        let server = Served::start(vec![export], Options::default());
        let mut client = Client::connect(&server.socket);
        client.ready(Style::Structured);
        client.request(flags, READ, 1, 0, 64 << 10);
        assert_eq!(client.chunks()[0].kind, OFFSET_HOLE);
        disk.written.store(true, Ordering::SeqCst);
        // It takes a moment to be noticed.
        std::thread::sleep(Duration::from_millis(200));
        client.request(flags, READ, 2, 128 << 10, 64 << 10);
        assert!(assemble(&client.chunks(), 128 << 10, 64 << 10).iter().all(|byte| *byte == 1));
    }
}
