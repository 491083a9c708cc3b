//! Cases of reading, with simple and with structured replies; what extended headers change is in `extended`.

use crate::common::disk::{BAD, HOLE, MIB, SIZE, expected};
use crate::language::*;

/// Many requests as fast as they can be sent; each is answered once, with its own bytes.
pub fn pipeline(c: &mut Client, count: u64) {
    let place = |cookie: u64| 8 * MIB + (cookie * 7919) % (30 * MIB);
    let requests: Vec<u8> =
        (0..count).flat_map(|cookie| c.encode(0, READ, cookie, place(cookie), 16)).collect();
    let sender = c.send_beside(requests);
    let mut seen = vec![false; count as usize];
    for _ in 0..count {
        let chunk = c.chunk();
        assert!(chunk.last && !std::mem::replace(&mut seen[chunk.cookie as usize], true));
        let at = place(chunk.cookie);
        assert_eq!(assemble(&[chunk], at, 16), expected(at, 16));
    }
    sender.join().unwrap();
}

pub const CASES: &[Case] = &[
    case("a read across a hole", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request(0, READ, 9, HOLE.start - 4096, 2 * MIB + 8192);
        let chunks = c.chunks();
        assert!(chunks.iter().any(|chunk| chunk.kind == OFFSET_HOLE), "the hole is not sent");
        assert!(
            assemble(&chunks, HOLE.start - 4096, 2 * MIB + 8192)
                == expected(HOLE.start - 4096, 2 * MIB + 8192)
        );
    }),
    case("a read inside a hole sends no zeros", "NBD_REPLY_TYPE_OFFSET_HOLE", |c| {
        c.ready(Style::Structured);
        c.request(0, READ, 9, MIB, MIB);
        let chunks = c.chunks();
        assert!(chunks.iter().all(|chunk| chunk.kind != OFFSET_DATA), "{chunks:?}");
        assert!(assemble(&chunks, MIB, MIB) == expected(MIB, MIB));
    }),
    case("the largest read", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.reads(0, 6 * MIB, 32 * MIB);
    }),
    case("the largest simple read", "NBD_CMD_READ", |c| {
        c.ready(Style::Simple);
        c.reads(0, 6 * MIB, 32 * MIB);
    }),
    case("a simple read across a hole", "NBD_CMD_READ", |c| {
        c.ready(Style::Simple);
        c.reads(0, HOLE.start - 4096, 2 * MIB + 8192);
    }),
    case("one chunk across a hole if fragments are unwanted", "NBD_CMD_FLAG_DF", |c| {
        c.ready(Style::Structured);
        c.request(DF, READ, 9, HOLE.start - 4096, 2 * MIB + 8192);
        let chunks = c.chunks();
        assert_eq!(chunks.iter().filter(|chunk| chunk.kind != NONE).count(), 1);
        assert!(
            assemble(&chunks, HOLE.start - 4096, 2 * MIB + 8192)
                == expected(HOLE.start - 4096, 2 * MIB + 8192)
        );
    }),
    case("one chunk inside a hole if fragments are unwanted", "NBD_CMD_FLAG_DF", |c| {
        c.ready(Style::Structured);
        c.request(DF, READ, 9, MIB, MIB);
        let chunks = c.chunks();
        assert_eq!(chunks.iter().filter(|chunk| chunk.kind != NONE).count(), 1);
        assert!(assemble(&chunks, MIB, MIB) == expected(MIB, MIB));
    }),
    case("one chunk of 32 MiB if fragments are unwanted", "NBD_CMD_FLAG_DF", |c| {
        c.ready(Style::Structured);
        c.request(DF, READ, 9, 8 * MIB, 32 * MIB);
        let chunks = c.chunks();
        assert_eq!(chunks.iter().filter(|chunk| chunk.kind == OFFSET_DATA).count(), 1);
        assert!(assemble(&chunks, 8 * MIB, 32 * MIB) == expected(8 * MIB, 32 * MIB));
    }),
    case("DF without structured replies is invalid", "NBD_CMD_FLAG_DF", |c| {
        c.ready(Style::Simple);
        c.request_fails(DF, READ, 0, 512, EINVAL);
        c.alive();
    }),
    case("a byte at an odd place", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.reads(0, 12345, 1);
    }),
    case("odd bytes across the end of a hole", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.reads(0, HOLE.end - 1, 70_001);
    }),
    case("the first and the last byte", "NBD_CMD_READ", |c| {
        c.ready(Style::Simple);
        c.reads(0, 0, 1);
        c.reads(0, SIZE - 1, 1);
    }),
    case("a read of nothing", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request(0, READ, 3, 512, 0);
        c.done(3);
        c.alive();
    }),
    case("a simple read of nothing", "NBD_CMD_READ", |c| {
        c.ready(Style::Simple);
        c.request(0, READ, 3, 512, 0);
        c.done(3);
        c.alive();
    }),
    case("a read of nothing at the end", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request(0, READ, 3, SIZE, 0);
        c.done(3);
        c.alive();
    }),
    case("a read of nothing past the end is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, READ, SIZE + 1, 0, EINVAL);
        c.alive();
    }),
    case("a read over the end by one byte is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, READ, SIZE - 1, 2, EINVAL);
        c.request_fails(0, READ, SIZE, 1, EINVAL);
        c.alive();
    }),
    case("a read at the largest offset is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, READ, u64::MAX, 1, EINVAL);
        c.alive();
    }),
    case("a read whose end overflows is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, READ, u64::MAX - 4, 512, EINVAL);
        c.alive();
    }),
    case("a read of 2^32-1 bytes is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, READ, 0, u32::MAX.into(), EINVAL);
        c.alive();
    }),
    case("a read of a byte more than 32 MiB is invalid", "NBD_INFO_BLOCK_SIZE", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, READ, 0, (32 << 20) + 1, EINVAL);
        c.alive();
    }),
    case("simple reads that leave the disk are invalid without data", "NBD_CMD_READ", |c| {
        c.ready(Style::Simple);
        c.request_fails(0, READ, SIZE - 1, 2, EINVAL);
        c.request_fails(0, READ, u64::MAX, u32::MAX.into(), EINVAL);
        c.request_fails(0, READ, 0, (32 << 20) + 1, EINVAL);
        c.alive();
    }),
    case("a read with an unknown flag is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(0x8000, READ, 0, 512, EINVAL);
        c.alive();
    }),
    case("a read with a flag of another command is invalid", "NBD_CMD_READ", |c| {
        c.ready(Style::Structured);
        c.request_fails(REQ_ONE, READ, 0, 512, EINVAL);
        c.request_fails(NO_HOLE, READ, 0, 512, EINVAL);
        c.alive();
    }),
    ours(
        "a bad sector fails its read with place and text",
        "NBD_REPLY_TYPE_ERROR_OFFSET",
        "has no bad disk",
        |c| {
            c.hello();
            c.agree(STRUCTURED);
            c.enter_export("bad");
            let start = BAD.start - MIB;
            c.request(0, READ, 1, start, 2 * MIB);
            let chunks = c.chunks();
            let (error, before) = chunks.split_last().unwrap();
            assert_eq!((error.kind, be32(&error.payload)), (ERROR_OFFSET, EIO));
            let len = usize::from(be16(&error.payload[4..]));
            assert_eq!(error.payload[6..6 + len], *b"sector\\x1b[31m is gone");
            let at = be64(&error.payload[6 + len..]);
            assert!((start..BAD.end).contains(&at), "{at:#x}");
            assert!(assemble(before, start, at - start) == expected(start, at - start));
            c.alive();
        },
    ),
    ours(
        "a bad sector fails simple reads of every size without data",
        "NBD_CMD_READ",
        "has no bad disk",
        |c| {
            c.hello();
            c.enter_export("bad");
            c.request_fails(0, READ, BAD.start, 512, EIO);
            c.request_fails(0, READ, 3 * MIB, 30 << 20, EIO);
            c.reads(0, BAD.end, 512);
        },
    ),
    case("cookies come back as they are", "Request message", |c| {
        c.ready(Style::Structured);
        for cookie in [0, u64::MAX, 0x0102_0304_0506_0708] {
            c.request(0, READ, cookie, 4096, 16);
            c.content(cookie, 4096, 16);
        }
    }),
    case("one cookie for two requests at once", "Request message", |c| {
        c.ready(Style::Structured);
        let both = [compact(0, READ, 5, 4096, 16), compact(0, READ, 5, 4096, 16)].concat();
        c.send(&both);
        c.content(5, 4096, 16);
        c.content(5, 4096, 16);
    }),
    case("requests in single bytes", "Request message", |c| {
        c.ready(Style::Structured);
        c.drip(&compact(0, READ, 5, 4096, 16));
        c.content(5, 4096, 16);
    }),
    case("a request that is cut between two writes", "Request message", |c| {
        c.ready(Style::Structured);
        let two = [compact(0, READ, 5, 4096, 16), compact(0, READ, 6, 9999, 16)].concat();
        c.send(&two[..40]);
        c.content(5, 4096, 16);
        c.send(&two[40..]);
        c.content(6, 9999, 16);
    }),
    case("ten thousand requests at once", "Ordering of messages and writes", |c| {
        c.ready(Style::Structured);
        pipeline(c, 10_000);
    }),
];
