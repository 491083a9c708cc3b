//! Reads an image at the library's own level and says how fast: `read IMAGE seq|rand SECONDS [BLOCK [FORMAT]]`.
//!
//! `seq` reads the disk from its start in pieces of 1 MiB, `rand` reads 4 KiB at a stride that is coprime to any size, as
//! `qemu-img bench -S` does; each again and again until the time is over. One line: bytes, operations, seconds, CPU seconds.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::as_conversions,
    reason = "a bench ends where something is wrong"
)]

use imgmount::locator::Locator;
use imgmount::source::gate::Given;
use imgmount::stack::{Options, open_image};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A prime, so that every block of any disk comes up.
const STRIDE: u64 = 663_617_551;

fn main() {
    let args: Vec<String> = std::env::args().filter(|arg| arg != "--bench").collect();
    let [_, image, how, seconds] =
        args.get(..4).and_then(|four| <&[String; 4]>::try_from(four).ok()).unwrap();
    let random = how == "rand";
    let block: u64 = args.get(4).map_or(if random { 4096 } else { 1 << 20 }, |block| block.parse().unwrap());
    let given = Given::open(Locator::parse(image.as_ref()), &[".".into()]).unwrap();
    let options = Options { format: args.get(5).cloned(), ..Options::default() };
    let disk = open_image(Arc::new(given), &options).unwrap().disk;
    let until = Duration::from_secs_f64(seconds.parse().unwrap());
    let mut buf = vec![0; usize::try_from(block).unwrap()];
    let blocks = disk.len() / block;
    let read = |buf: &mut [u8], n: u64| {
        let at = if random { (n * STRIDE) % blocks } else { n % blocks };
        disk.read_at(buf, at * block).unwrap();
    };
    // Warm: the tables, the page cache, the pool.
    (0..8).for_each(|n| read(&mut buf, n));
    let (start, mut operations) = (Instant::now(), 0);
    let before = cpu();
    // Sequential reads end with the disk: the cache must not make a second round cheaper than qemu's.
    while start.elapsed() < until && (random || operations + 8 < blocks) {
        read(&mut buf, operations + 8);
        operations += 1;
    }
    let wall = start.elapsed().as_secs_f64();
    println!("{} {operations} {wall:.6} {:.6}", operations * block, cpu() - before);
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
