//! Cases of everything else that a client may ask for, and of the end.

use crate::common::disk::{MIB, SIZE};
use crate::language::*;

/// See the specification's "Error values": EPERM is for what a read-only export refuses.
pub const QEMU_REFUSES: &str = "answers EINVAL, 'Export is read-only'";
/// See "Ordering of messages and writes": all outstanding requests are to be answered.
pub const QEMU_LEAVES: &str = "drops what is outstanding";
pub const QEMU_CACHES: &str = "caches up to 32 MiB";

pub const CASES: &[Case] = &[
    // ---- what would change the disk ----
    ours("a write is refused and its data read over", "NBD_CMD_WRITE", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        c.request(0, WRITE, 1, 0, 100_000);
        c.send(&vec![0x25; 100_000]);
        c.fails(1, EPERM);
        c.alive();
    }),
    ours("a write is refused with simple replies", "NBD_CMD_WRITE", QEMU_REFUSES, |c| {
        c.ready(Style::Simple);
        c.request(0, WRITE, 1, 0, 512);
        c.send(&[0x25; 512]);
        c.fails(1, EPERM);
        c.alive();
    }),
    ours("a write to the largest offset", "NBD_CMD_WRITE", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        c.request(FUA, WRITE, 2, u64::MAX, 512);
        c.send(&[0x25; 512]);
        c.fails(2, EPERM);
        c.alive();
    }),
    ours("a write whose data looks like requests", "NBD_CMD_WRITE", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        let data = compact(0, DISC, 0, 0, 0).repeat(100);
        c.request(0, WRITE, 1, 0, data.len() as u64);
        c.send(&data);
        c.fails(1, EPERM);
        c.alive();
    }),
    ours("the largest write", "NBD_CMD_WRITE", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        c.request(0, WRITE, 1, 0, 32 * MIB);
        c.send(&vec![0x25; 32 << 20]);
        c.fails(1, EPERM);
        c.alive();
    }),
    case("a write of a byte more than the largest ends the connection", "NBD_CMD_WRITE", |c| {
        c.ready(Style::Structured);
        c.request(0, WRITE, 1, 0, 32 * MIB + 1);
        c.closed_in_the_end();
    }),
    case("a write of 2^32-1 bytes ends the connection", "NBD_CMD_WRITE", |c| {
        c.ready(Style::Structured);
        c.request(0, WRITE, 1, 0, u32::MAX.into());
        c.closed_in_the_end();
    }),
    ours(
        "a read is answered before the data of the write behind it is there",
        "NBD_CMD_WRITE",
        QEMU_REFUSES,
        |c| {
            c.ready(Style::Structured);
            let (read, write) = (compact(0, READ, 1, 512, 4096), compact(0, WRITE, 2, 0, 1000));
            c.send(&[read, write].concat());
            c.content(1, 512, 4096);
            c.send(&[0x25; 1000]);
            c.fails(2, EPERM);
            c.alive();
        },
    ),
    case("half of a write and nothing more", "NBD_CMD_WRITE", |c| {
        c.ready(Style::Structured);
        c.request(0, WRITE, 1, 0, 1000);
        c.send(&[0x25; 500]);
        c.finish();
        c.closed_in_the_end();
    }),
    ours("a trim is refused", "NBD_CMD_TRIM", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        c.request_fails(0, TRIM, 0, 4096, EPERM);
        c.alive();
    }),
    ours("a trim of 2^32-1 bytes is refused", "NBD_CMD_TRIM", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        c.request_fails(0, TRIM, 0, u32::MAX.into(), EPERM);
        c.alive();
    }),
    ours("writing zeroes is refused, with each of its flags", "NBD_CMD_WRITE_ZEROES", QEMU_REFUSES, |c| {
        c.ready(Style::Structured);
        c.request_fails(0, WRITE_ZEROES, 0, 4096, EPERM);
        c.request_fails(NO_HOLE, WRITE_ZEROES, 0, 4096, EPERM);
        c.request_fails(FUA, WRITE_ZEROES, 0, 4096, EPERM);
        c.request_fails(FAST_ZERO, WRITE_ZEROES, 0, 4096, EPERM);
        c.alive();
    }),
    case("resizing is unknown", "NBD_CMD_RESIZE", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, RESIZE, 0, 4096, EINVAL);
        c.alive();
    }),
    // ---- the others ----
    case("a flush succeeds: nothing waits to be written", "NBD_CMD_FLUSH", |c| {
        c.ready(Style::Structured);
        c.request(0, FLUSH, 1, 0, 0);
        c.done(1);
        c.alive();
    }),
    case("a flush succeeds with simple replies", "NBD_CMD_FLUSH", |c| {
        c.ready(Style::Simple);
        c.request(0, FLUSH, 1, 0, 0);
        c.done(1);
        c.alive();
    }),
    case("a flush with an unknown flag is invalid", "NBD_CMD_FLUSH", |c| {
        c.ready(Style::Structured);
        c.request_fails(0x4000, FLUSH, 0, 0, EINVAL);
        c.alive();
    }),
    case("caching succeeds", "NBD_CMD_CACHE", |c| {
        c.ready(Style::Structured);
        c.request(0, CACHE, 1, 4096, 65536);
        c.done(1);
        c.alive();
    }),
    ours("caching of more than can be read at once", "NBD_CMD_CACHE", QEMU_CACHES, |c| {
        c.ready(Style::Structured);
        c.request(0, CACHE, 2, 0, SIZE);
        c.done(2);
        c.alive();
    }),
    case("caching past the end is invalid", "NBD_CMD_CACHE", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, CACHE, SIZE, 1, EINVAL);
        c.request_fails(0, CACHE, u64::MAX, 4096, EINVAL);
        c.alive();
    }),
    case("caching with a flag of another command is invalid", "NBD_CMD_CACHE", |c| {
        c.ready(Style::Structured);
        c.request_fails(DF, CACHE, 0, 4096, EINVAL);
        c.alive();
    }),
    case("the largest command number is unknown", "Request types", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, 0xffff, 0, 0, EINVAL);
        c.alive();
    }),
    case("an unknown command with simple replies", "Request types", |c| {
        c.ready(Style::Simple);
        c.request_fails(0, 99, 0, 512, EINVAL);
        c.alive();
    }),
    case("an unknown command far outside of the disk", "Request types", |c| {
        c.ready(Style::Structured);
        c.request_fails(0xffff, 0x7fff, u64::MAX, u32::MAX.into(), EINVAL);
        c.alive();
    }),
    case("errors say why in words", "NBD_REPLY_TYPE_ERROR", |c| {
        c.ready(Style::Structured);
        assert!(c.request_fails(0, READ, SIZE, 1, EINVAL).len() > 5);
        assert!(c.request_fails(0, 99, 0, 0, EINVAL).len() > 5);
    }),
    ours("an error without a place is a plain error chunk", "NBD_REPLY_TYPE_ERROR", "has other words", |c| {
        c.ready(Style::Structured);
        c.request(0, TRIM, 7, 0, 512);
        let chunk = c.chunk();
        assert_eq!((chunk.kind, chunk.cookie), (ERROR, 7));
        assert_eq!(chunk.payload[6..], *b"the export is read-only");
    }),
    // ---- the end ----
    case("a wrong request magic ends the connection", "Request message", |c| {
        c.ready(Style::Structured);
        c.send(&[0x11; 28]);
        c.closed_in_the_end();
    }),
    case("a wrong request magic ends the connection with simple replies", "Request message", |c| {
        c.ready(Style::Simple);
        c.send(&[0; 28]);
        c.closed_in_the_end();
    }),
    case("a reply instead of a request ends the connection", "Request message", |c| {
        c.ready(Style::Structured);
        c.send(&[&0x668e_33ef_u32.to_be_bytes()[..], &[0; 24]].concat());
        c.closed_in_the_end();
    }),
    case("half a request and nothing more", "Request message", |c| {
        c.ready(Style::Structured);
        c.send(&compact(0, READ, 1, 0, 512)[..14]);
        c.finish();
        c.closed();
    }),
    case("a client that leaves without a word", "NBD_CMD_DISC", |c| {
        c.ready(Style::Structured);
        c.finish();
        c.closed();
    }),
    case("a client that takes its leave", "NBD_CMD_DISC", |c| {
        c.ready(Style::Structured);
        c.request(0, DISC, 1, 0, 0);
        c.closed();
    }),
    case("a client that takes its leave with simple replies", "NBD_CMD_DISC", |c| {
        c.ready(Style::Simple);
        c.request(0, DISC, 1, 0, 0);
        c.closed();
    }),
    ours("what was asked before the leave is answered", "NBD_CMD_DISC", QEMU_LEAVES, |c| {
        c.ready(Style::Structured);
        let requests =
            [compact(0, READ, 1, 0, 4096), compact(0, READ, 2, 4096, 4096), compact(0, DISC, 3, 0, 0)];
        c.send(&requests.concat());
        let mut cookies = [c.chunk().cookie, c.chunk().cookie];
        cookies.sort_unstable();
        assert_eq!(cookies, [1, 2]);
        c.closed();
    }),
    case("what is sent after the leave is not looked at", "NBD_CMD_DISC", |c| {
        c.ready(Style::Structured);
        c.send(&[compact(0, DISC, 1, 0, 0), compact(0, READ, 2, 0, 4096)].concat());
        assert_eq!(c.closed_in_the_end(), b"");
    }),
    case("the leave with flags, offset and length is a leave", "NBD_CMD_DISC", |c| {
        c.ready(Style::Structured);
        c.request(0, DISC, 1, u64::MAX, u32::MAX.into());
        c.closed_in_the_end();
    }),
];
