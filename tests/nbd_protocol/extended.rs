//! Cases of extended headers: 64-bit lengths, payload behind any request, a choice of contexts.

use crate::common::disk::{HOLE, MIB, SIZE, expected};
use crate::language::*;
use crate::reading::pipeline;
use crate::requests::{QEMU_CACHES, QEMU_LEAVES, QEMU_REFUSES};

pub const CASES: &[Case] = &[
    // ---- headers ----
    case("extended: a read", "Extended reply chunk message", |c| {
        c.ready(Style::Extended);
        c.reads(0, 12345, 70_001);
    }),
    case("extended: every chunk repeats the request's offset", "Extended reply chunk message", |c| {
        c.ready(Style::Extended);
        // The word `chunks` checks the offset of each.
        c.request(0, READ, 9, HOLE.start - 4096, 2 * MIB + 8192);
        let chunks = c.chunks();
        assert!(chunks.iter().any(|chunk| chunk.kind == OFFSET_HOLE));
        assert!(
            assemble(&chunks, HOLE.start - 4096, 2 * MIB + 8192)
                == expected(HOLE.start - 4096, 2 * MIB + 8192)
        );
    }),
    case("extended: the largest read", "NBD_CMD_READ", |c| {
        c.ready(Style::Extended);
        c.reads(0, 8 * MIB, 32 * MIB);
    }),
    case("extended: one chunk if fragments are unwanted", "NBD_CMD_FLAG_DF", |c| {
        c.ready(Style::Extended);
        c.request(DF, READ, 9, 0, 4 * MIB);
        let chunks = c.chunks();
        assert_eq!(chunks.iter().filter(|chunk| chunk.kind != NONE).count(), 1);
        assert!(assemble(&chunks, 0, 4 * MIB) == expected(0, 4 * MIB));
    }),
    case("extended: a read of nothing", "NBD_CMD_READ", |c| {
        c.ready(Style::Extended);
        c.request(0, READ, 3, 512, 0);
        c.done(3);
        c.alive();
    }),
    case("extended: a read of a byte more than 32 MiB", "NBD_CMD_READ", |c| {
        c.ready(Style::Extended);
        c.request_fails(0, READ, 0, (32 << 20) + 1, EINVAL);
        c.alive();
    }),
    case("extended: reads of 2^32 bytes and more", "NBD_CMD_READ", |c| {
        c.ready(Style::Extended);
        c.request_fails(0, READ, 0, 1 << 32, EINVAL);
        c.request_fails(0, READ, 0, (1 << 32) + 512, EINVAL);
        c.request_fails(0, READ, 0, 1 << 63, EINVAL);
        c.request_fails(0, READ, 0, u64::MAX, EINVAL);
        c.alive();
    }),
    case("extended: offset and length overflow together", "NBD_CMD_READ", |c| {
        c.ready(Style::Extended);
        c.request_fails(0, READ, 1, u64::MAX, EINVAL);
        c.request_fails(0, READ, u64::MAX, u64::MAX, EINVAL);
        c.request_fails(0, READ, u64::MAX - 511, 512, EINVAL);
        c.alive();
    }),
    case("extended: no simple reply to what succeeds without data", "Extended reply chunk message", |c| {
        c.ready(Style::Extended);
        c.request(0, FLUSH, 1, 0, 0);
        c.done(1);
        c.request(0, CACHE, 2, 0, 4096);
        c.done(2);
    }),
    case("extended: requests in single bytes", "Extended request message", |c| {
        c.ready(Style::Extended);
        let request = c.encode(0, READ, 5, 4096, 16);
        c.drip(&request);
        c.content(5, 4096, 16);
    }),
    case("extended: ten thousand requests at once", "Ordering of messages and writes", |c| {
        c.ready(Style::Extended);
        pipeline(c, 10_000);
    }),
    case("extended: a compact request ends the connection", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.send(&[&compact(0, READ, 1, 0, 512)[..], &[0; 4]].concat());
        c.closed_in_the_end();
    }),
    case("an extended request ends a connection of structured replies", "Compact request message", |c| {
        c.ready(Style::Structured);
        c.send(&extended(0, READ, 1, 0, 512));
        c.closed_in_the_end();
    }),
    case("an extended request ends a connection of simple replies", "Compact request message", |c| {
        c.ready(Style::Simple);
        c.send(&extended(0, READ, 1, 0, 512));
        c.closed_in_the_end();
    }),
    case("extended: half a request and nothing more", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.send(&extended(0, READ, 1, 0, 512)[..28]);
        c.finish();
        c.closed();
    }),
    ours("extended: what was asked before the leave is answered", "NBD_CMD_DISC", QEMU_LEAVES, |c| {
        c.ready(Style::Extended);
        let requests = [c.encode(0, READ, 1, 4096, 64), c.encode(0, DISC, 2, 0, 0)].concat();
        c.send(&requests);
        c.content(1, 4096, 64);
        c.closed();
    }),
    // ---- commands ----
    ours("extended: a write is refused and its data read over", "NBD_CMD_WRITE", QEMU_REFUSES, |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, WRITE, &[0x25; 100_000], EPERM);
    }),
    ours(
        "extended: a write that does not announce its data has it all the same",
        "NBD_CMD_FLAG_PAYLOAD_LEN",
        QEMU_REFUSES,
        |c| {
            c.ready(Style::Extended);
            c.payload_fails(0, WRITE, &[0x25; 512], EPERM);
        },
    ),
    case("extended: writes of more than 32 MiB end the connection", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.request(PAYLOAD, WRITE, 1, 0, (32 << 20) + 1);
        c.closed_in_the_end();
    }),
    case("extended: a write of 2^64-1 bytes ends the connection", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.request(PAYLOAD, WRITE, 1, 0, u64::MAX);
        c.closed_in_the_end();
    }),
    ours("extended: trims and zeroes of 2^64-1 bytes are refused", "NBD_CMD_TRIM", QEMU_REFUSES, |c| {
        c.ready(Style::Extended);
        c.request_fails(0, TRIM, 0, u64::MAX, EPERM);
        c.request_fails(0, WRITE_ZEROES, 0, u64::MAX, EPERM);
        c.alive();
    }),
    ours("extended: caching of everything", "NBD_CMD_CACHE", QEMU_CACHES, |c| {
        c.ready(Style::Extended);
        c.request(0, CACHE, 1, 0, SIZE);
        c.done(1);
        c.alive();
    }),
    case("extended: caching of 2^63 bytes is invalid", "NBD_CMD_CACHE", |c| {
        c.ready(Style::Extended);
        c.request_fails(0, CACHE, 0, 1 << 63, EINVAL);
        c.request_fails(0, CACHE, 4096, u64::MAX, EINVAL);
        c.alive();
    }),
    case("extended: payload of a read is read over and invalid", "NBD_CMD_FLAG_PAYLOAD_LEN", |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, READ, &[0x25; 512], EINVAL);
    }),
    case("extended: payload that looks like requests is read over", "NBD_CMD_FLAG_PAYLOAD_LEN", |c| {
        c.ready(Style::Extended);
        let requests = extended(0, READ, 77, 0, 16).repeat(300);
        c.payload_fails(PAYLOAD, READ, &requests, EINVAL);
    }),
    case("extended: payload of a cache or flush is read over and invalid", "NBD_CMD_FLAG_PAYLOAD_LEN", |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, CACHE, &[0; 4096], EINVAL);
        c.payload_fails(PAYLOAD, FLUSH, &[0; 4096], EINVAL);
    }),
    case(
        "extended: payload of an unknown command is read over and invalid",
        "NBD_CMD_FLAG_PAYLOAD_LEN",
        |c| {
            c.ready(Style::Extended);
            c.payload_fails(PAYLOAD, 99, &[0; 4096], EINVAL);
        },
    ),
    case("extended: a payload of 32 MiB is read over", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, READ, &vec![0; 32 << 20], EINVAL);
    }),
    case("extended: a payload of more than 32 MiB ends the connection", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.request(PAYLOAD, READ, 1, 0, (32 << 20) + 1);
        c.closed_in_the_end();
    }),
    case("extended: half a payload and nothing more", "Extended request message", |c| {
        c.ready(Style::Extended);
        c.request(PAYLOAD, STATUS, 1, 0, 12);
        c.send(&[0; 6]);
        c.finish();
        c.closed_in_the_end();
    }),
    // ---- block status ----
    case("extended: the status of everything", "NBD_REPLY_TYPE_BLOCK_STATUS_EXT", |c| {
        c.ready_with(EXTENDED, ALLOCATION);
        let status = c.status(0, ALLOCATION, 0, SIZE);
        assert_eq!(status, [(MIB, 0), (2 * MIB, 3), (37 * MIB, 0)]);
    }),
    case("extended: the status of one extent", "NBD_CMD_FLAG_REQ_ONE", |c| {
        c.ready_with(EXTENDED, ALLOCATION);
        assert_eq!(c.status(REQ_ONE, ALLOCATION, MIB + 1, MIB), [(MIB, 3)]);
    }),
    case("extended: two contexts answer in a chunk each", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        c.request(0, STATUS, 1, 0, 2 * MIB);
        let all = c.statuses();
        assert_eq!(all[ALLOCATION], [(MIB, 0), (MIB, 3)]);
        assert_eq!(all[DEPTH], [(MIB, 1), (MIB, 0)]);
    }),
    case("extended: the status of more than there is", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        c.request_fails(0, STATUS, 0, SIZE + 1, EINVAL);
        c.request_fails(0, STATUS, 0, 1 << 63, EINVAL);
        c.request_fails(0, STATUS, 0, u64::MAX, EINVAL);
        c.request_fails(0, STATUS, u64::MAX, u64::MAX, EINVAL);
        c.alive();
    }),
    case("extended: the status of nothing is invalid", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        c.request_fails(0, STATUS, 0, 0, EINVAL);
        c.alive();
    }),
    case("extended: a context is chosen", "NBD_FLAG_BLOCK_STATUS_PAYLOAD", |c| {
        c.ready(Style::Extended);
        for (context, flags) in [(ALLOCATION, 3), (DEPTH, 0)] {
            let payload = choice(4096, &[c.id(context)]);
            c.request(PAYLOAD, STATUS, 1, MIB, payload.len() as u64);
            c.send(&payload);
            let all = c.statuses();
            assert_eq!(all.into_iter().collect::<Vec<_>>(), [(context.to_owned(), vec![(4096, flags)])]);
        }
    }),
    case("extended: both contexts are chosen, the last one first", "NBD_FLAG_BLOCK_STATUS_PAYLOAD", |c| {
        c.ready(Style::Extended);
        let payload = choice(4096, &[c.id(DEPTH), c.id(ALLOCATION)]);
        c.request(PAYLOAD, STATUS, 1, MIB, payload.len() as u64);
        c.send(&payload);
        assert_eq!(c.statuses().len(), 2);
        c.alive();
    }),
    case("extended: a choice for one extent", "NBD_CMD_FLAG_REQ_ONE", |c| {
        c.ready(Style::Extended);
        let payload = choice(SIZE, &[c.id(ALLOCATION)]);
        c.request(PAYLOAD | REQ_ONE, STATUS, 1, 0, payload.len() as u64);
        c.send(&payload);
        assert_eq!(c.statuses()[ALLOCATION], [(MIB, 0)]);
    }),
    case("extended: a choice in single bytes", "NBD_FLAG_BLOCK_STATUS_PAYLOAD", |c| {
        c.ready(Style::Extended);
        let payload = choice(4096, &[c.id(DEPTH)]);
        let header = c.encode(PAYLOAD, STATUS, 1, 0, payload.len() as u64);
        c.drip(&[header, payload].concat());
        assert_eq!(c.statuses()[DEPTH], [(4096, 1)]);
    }),
    case("extended: choices and reads at once", "NBD_FLAG_BLOCK_STATUS_PAYLOAD", |c| {
        c.ready(Style::Extended);
        let payload = choice(4096, &[c.id(DEPTH)]);
        let header = c.encode(PAYLOAD, STATUS, 1, 0, payload.len() as u64);
        let read = c.encode(0, READ, 1, 0, 0);
        let round = [header, payload, read].concat();
        c.send(&round.repeat(50));
        let chunks: Vec<_> = (0..100).map(|_| c.chunk()).collect();
        assert_eq!(chunks.iter().filter(|chunk| chunk.kind == NONE).count(), 50);
        c.alive();
    }),
    case("extended: an unknown context is chosen", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        let id = c.id(ALLOCATION);
        c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[0x4242]), EINVAL);
        c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[id, u32::MAX]), EINVAL);
    }),
    case("extended: a context that was not agreed on is chosen", "NBD_CMD_BLOCK_STATUS", |c| {
        c.hello();
        c.agree(EXTENDED);
        c.select("", &[ALLOCATION, DEPTH]);
        let depth = c.id(DEPTH);
        c.select("", &[ALLOCATION]);
        c.enter();
        c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[depth]), EINVAL);
    }),
    case("extended: a context is chosen twice", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        let id = c.id(ALLOCATION);
        c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[id, id]), EINVAL);
    }),
    case("extended: no context is chosen", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[]), EINVAL);
    }),
    case("extended: a choice of a thousand contexts", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        let id = c.id(ALLOCATION);
        c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[id; 1000]), EINVAL);
    }),
    case("extended: a choice that is no whole number", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, STATUS, &[0; 7], EINVAL);
        c.payload_fails(PAYLOAD, STATUS, &[0; 10], EINVAL);
        c.payload_fails(PAYLOAD, STATUS, &[0; 1], EINVAL);
    }),
    case("extended: a choice of 32 MiB is read over", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        c.payload_fails(PAYLOAD, STATUS, &vec![0; 32 << 20], EINVAL);
    }),
    case("extended: a choice for more than there is", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        let id = c.id(ALLOCATION);
        c.payload_fails(PAYLOAD, STATUS, &choice(SIZE + 1, &[id]), EINVAL);
        c.payload_fails(PAYLOAD, STATUS, &choice(u64::MAX, &[id]), EINVAL);
    }),
    case("extended: a choice for no bytes", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Extended);
        let id = c.id(ALLOCATION);
        c.payload_fails(PAYLOAD, STATUS, &choice(0, &[id]), EINVAL);
    }),
    ours(
        "extended: a choice where no context was agreed on",
        "NBD_CMD_BLOCK_STATUS",
        "10.0.2 aborts: an assertion fails in nbd_co_block_status_payload_read",
        |c| {
            c.hello();
            c.agree(EXTENDED);
            c.enter();
            c.payload_fails(PAYLOAD, STATUS, &choice(4096, &[1]), EINVAL);
        },
    ),
    case("extended: a payload of no bytes", "NBD_CMD_FLAG_PAYLOAD_LEN", |c| {
        c.ready(Style::Extended);
        c.request_fails(PAYLOAD, STATUS, 0, 0, EINVAL);
        c.request_fails(PAYLOAD, READ, 0, 0, EINVAL);
        c.alive();
    }),
];
