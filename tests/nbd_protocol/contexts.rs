//! Cases of metadata contexts: listing and selecting them, and asking for the status of blocks.

use crate::common::disk::{BELOW, HOLE, MIB, SIZE};
use crate::language::*;

/// Whole MiB of the disk with their flags.
fn mib(extents: &[(u64, u64)]) -> Vec<(u64, u64)> {
    extents.iter().map(|(len, flags)| (len * MIB, *flags)).collect()
}

pub const CASES: &[Case] = &[
    // ---- LIST_META_CONTEXT ----
    ours(
        "contexts are not listed before there are chunks",
        "NBD_OPT_LIST_META_CONTEXT",
        "lists them, which the specification allows",
        |c| {
            c.hello();
            c.refused(LIST_META, &meta("", &[]), ERR_INVALID);
            c.enter();
        },
    ),
    case("no query lists everything", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.listed(&[]), [ALLOCATION, DEPTH]);
    }),
    case("no query lists everything with extended headers", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(EXTENDED);
        assert_eq!(c.listed(&[]), [ALLOCATION, DEPTH]);
    }),
    case("a name space lists what is in it", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.listed(&["base:"]), [ALLOCATION]);
        assert_eq!(c.listed(&["qemu:"]), [DEPTH]);
        assert_eq!(c.listed(&["qemu:", "base:"]), [ALLOCATION, DEPTH]);
    }),
    case("a name lists itself, once", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.listed(&[ALLOCATION, ALLOCATION, "base:"]), [ALLOCATION]);
        assert_eq!(c.listed(&[DEPTH]), [DEPTH]);
    }),
    case("unknown names list nothing", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert!(c.listed(&["x-nobody:", "x-nobody:x", "base:nothing", "qemu:dirty-bitmap:x"]).is_empty());
    }),
    case("what only looks like a name space lists nothing", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert!(c.listed(&["base", "", ":", "bas:", "base:allocation:"]).is_empty());
    }),
    case("names are compared with their case", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert!(c.listed(&["BASE:", "Base:Allocation"]).is_empty());
    }),
    case("a listed context has no number yet", "NBD_REP_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        let listed = c.ask(LIST_META, &meta("", &[ALLOCATION]));
        assert_eq!(listed, [(REP_META, [&[0; 4], ALLOCATION.as_bytes()].concat())]);
    }),
    case("contexts of an export that is not there", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.refused(LIST_META, &meta("nope", &[]), ERR_UNKNOWN);
        c.enter();
    }),
    case("listing selects nothing", "NBD_OPT_LIST_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.listed(&[ALLOCATION]);
        c.enter();
        c.request_fails(0, STATUS, 0, 512, EINVAL);
    }),
    // ---- SET_META_CONTEXT ----
    case("contexts are not selected before there are chunks", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.refused(SET_META, &meta("", &[ALLOCATION]), ERR_INVALID);
        c.enter();
    }),
    case("a context is selected by its name", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.select("", &[ALLOCATION]), [ALLOCATION]);
    }),
    case("two contexts have two numbers", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.select("", &[ALLOCATION, DEPTH]), [ALLOCATION, DEPTH]);
        assert_ne!(c.id(ALLOCATION), c.id(DEPTH));
    }),
    case("a name space selects nothing", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert!(c.select("", &["base:", "qemu:"]).is_empty());
    }),
    case("no query selects nothing", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert!(c.select("", &[]).is_empty());
    }),
    case("unknown contexts are passed over", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.select("", &["x:y", ALLOCATION, "z", ""]), [ALLOCATION]);
    }),
    case("a context that is asked for twice is selected once", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.select("", &[ALLOCATION, ALLOCATION]), [ALLOCATION]);
    }),
    case("five hundred unknown contexts are passed over", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert!(c.select("", &["a:b"; 500]).is_empty());
        c.enter();
    }),
    ours(
        "five thousand contexts are too many",
        "NBD_REP_ERR_TOO_BIG",
        "reads options of up to 32 MiB",
        |c| {
            c.hello();
            c.agree(STRUCTURED);
            c.refused(SET_META, &meta("", &["a:b"; 5000]), ERR_TOO_BIG);
            c.enter();
        },
    ),
    case("a selection replaces the one before", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.select("", &[ALLOCATION]);
        c.select("", &[DEPTH]);
        c.enter();
        c.request(0, STATUS, 1, 0, 512);
        assert_eq!(c.statuses().into_keys().collect::<Vec<_>>(), [DEPTH]);
    }),
    case("a selection of nothing replaces the one before", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.select("", &[ALLOCATION]);
        c.select("", &["x:y"]);
        c.enter();
        c.request_fails(0, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
    case("a selection that fails replaces the one before", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.select("", &[ALLOCATION]);
        c.refused(SET_META, &meta("nope", &[ALLOCATION]), ERR_UNKNOWN);
        c.enter();
        c.request_fails(0, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
    ours("a context of another export does not count", "NBD_OPT_SET_META_CONTEXT", "has one export", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.select("p1", &[ALLOCATION]);
        c.enter();
        c.request_fails(0, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
    case("a selection outlives the step to extended headers", "NBD_OPT_EXTENDED_HEADERS", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.select("", &[ALLOCATION]);
        c.agree(EXTENDED);
        c.enter();
        assert_eq!(c.status(0, ALLOCATION, 0, 512), [(512, 0)]);
    }),
    case("a selection whose count lies upwards is invalid", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.refused(SET_META, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], ERR_INVALID);
        c.enter();
    }),
    ours(
        "a selection whose count lies downwards is invalid",
        "NBD_OPT_SET_META_CONTEXT",
        "passes over the rest",
        |c| {
            c.hello();
            c.agree(STRUCTURED);
            c.refused(SET_META, &[0, 0, 0, 0, 0, 0, 0, 0, 1], ERR_INVALID);
            c.enter();
        },
    ),
    case("a selection with a query of 4 GiB is invalid", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.refused(SET_META, &[0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], ERR_INVALID);
        c.enter();
    }),
    case("a selection without data is invalid", "NBD_OPT_SET_META_CONTEXT", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.refused(SET_META, &[], ERR_INVALID);
        c.enter();
    }),
    // ---- BLOCK_STATUS ----
    case("the status of an unaligned range covers exactly it", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready_with(STRUCTURED, ALLOCATION);
        let status = c.status(0, ALLOCATION, HOLE.start - 100, 2 * MIB + 107);
        assert_eq!(status, [(100, 0), (2 * MIB, 3), (7, 0)]);
    }),
    case("the status of everything", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready_with(STRUCTURED, ALLOCATION);
        assert_eq!(c.status(0, ALLOCATION, 0, SIZE), mib(&[(1, 0), (2, 3), (37, 0)]));
    }),
    case("the status of one extent", "NBD_CMD_FLAG_REQ_ONE", |c| {
        c.ready_with(STRUCTURED, ALLOCATION);
        assert_eq!(c.status(REQ_ONE, ALLOCATION, MIB, 39 * MIB), mib(&[(2, 3)]));
        assert_eq!(c.status(REQ_ONE, ALLOCATION, MIB, 512), [(512, 3)]);
    }),
    case("the status of the last byte", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready_with(STRUCTURED, ALLOCATION);
        assert_eq!(c.status(0, ALLOCATION, SIZE - 1, 1), [(1, 0)]);
    }),
    case("the depth of everything: 0 in no layer, 1 here, 2 below", "qemu:allocation-depth", |c| {
        c.ready_with(STRUCTURED, DEPTH);
        let status = c.status(0, DEPTH, 0, SIZE);
        assert_eq!(status, mib(&[(1, 1), (2, 0), (3, 1), (2, 2), (32, 1)]));
    }),
    case("the depth of one extent", "NBD_CMD_FLAG_REQ_ONE", |c| {
        c.ready_with(STRUCTURED, DEPTH);
        assert_eq!(c.status(REQ_ONE, DEPTH, BELOW.start + 512, 4 * MIB), [(2 * MIB - 512, 2)]);
    }),
    case("two contexts answer in a chunk each, the last of which is the end", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Structured);
        c.request(0, STATUS, 1, 0, 4 * MIB);
        let all = c.statuses();
        assert_eq!(all[ALLOCATION], mib(&[(1, 0), (2, 3), (1, 0)]));
        assert_eq!(all[DEPTH], mib(&[(1, 1), (2, 0), (1, 1)]));
        c.alive();
    }),
    case("the status past the end is invalid", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, STATUS, 0, u32::MAX.into(), EINVAL);
        c.request_fails(0, STATUS, SIZE - 512, 513, EINVAL);
        c.request_fails(0, STATUS, u64::MAX, u32::MAX.into(), EINVAL);
        c.alive();
    }),
    case("the status of nothing is invalid", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Structured);
        c.request_fails(0, STATUS, 0, 0, EINVAL);
        c.alive();
    }),
    case("the status without a context is invalid", "NBD_CMD_BLOCK_STATUS", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.enter();
        c.request_fails(0, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
    case("the status with simple replies is invalid", "NBD_CMD_BLOCK_STATUS", |c| {
        c.ready(Style::Simple);
        c.request_fails(0, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
    case("the status without fragments is invalid", "NBD_CMD_FLAG_DF", |c| {
        c.ready(Style::Structured);
        c.request_fails(DF, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
    case("a compact request has no payload to announce", "NBD_CMD_FLAG_PAYLOAD_LEN", |c| {
        c.ready(Style::Structured);
        c.request_fails(PAYLOAD, STATUS, 0, 512, EINVAL);
        c.alive();
    }),
];
