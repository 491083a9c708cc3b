//! Cases of the handshake: greeting, flags, options that say how to go on and which export.

use crate::common::disk::{EXPORTS, SIZE, about};
use crate::language::*;

const QEMU_READS: &str = "reads options of up to 32 MiB";

pub const CASES: &[Case] = &[
    // ---- greeting and flags ----
    case("the greeting is fixed newstyle without zeroes", "Newstyle negotiation", |c| c.greeting()),
    case("flags in single bytes", "Newstyle negotiation", |c| {
        c.greeting();
        c.drip(&3_u32.to_be_bytes());
        c.enter();
    }),
    case("flags and options in one write before the greeting is read", "Newstyle negotiation", |c| {
        c.send(&[&3_u32.to_be_bytes()[..], b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0"].concat());
        c.greeting();
        assert_eq!(c.answer(GO).0, REP_INFO);
    }),
    case("an unknown client flag ends the connection", "Client flags", |c| {
        c.flags(1 << 2 | 3);
        c.closed();
    }),
    case("all client flags end the connection", "Client flags", |c| {
        c.flags(u32::MAX);
        c.closed();
    }),
    case("an option before the flags is taken for flags and ends the connection", "Client flags", |c| {
        c.greeting();
        c.option_header(LIST, 0);
        c.closed();
    }),
    case("a client that leaves before its flags is let go", "Client flags", |c| {
        c.greeting();
        c.finish();
        c.closed();
    }),
    case("half of the flags and nothing more", "Client flags", |c| {
        c.greeting();
        c.send(&[0, 0]);
        c.finish();
        c.closed();
    }),
    case("without fixed newstyle there is EXPORT_NAME only", "Fixed newstyle negotiation", |c| {
        c.flags(0);
        c.option(LIST, &[]);
        c.closed();
    }),
    case("without fixed newstyle GO ends the connection", "Fixed newstyle negotiation", |c| {
        c.flags(2);
        c.option(GO, &go("", &[]));
        c.closed();
    }),
    case("no zeroes can be asked for without fixed newstyle", "NBD_FLAG_C_NO_ZEROES", |c| {
        c.flags(2);
        c.option(EXPORT_NAME, b"");
        assert_eq!(be64(&c.receive(10)), SIZE);
        c.alive();
    }),
    case("fixed newstyle with zeroes", "NBD_FLAG_C_NO_ZEROES", |c| {
        c.flags(1);
        c.option(EXPORT_NAME, b"");
        c.receive(134);
        c.alive();
    }),
    // ---- the frame of options ----
    case("a wrong option magic ends the connection", "NBD_OPT_*", |c| {
        c.hello();
        c.send(b"IHAVEOPS\0\0\0\x03\0\0\0\0");
        c.closed();
    }),
    case("the magic of option replies is no option's", "NBD_OPT_*", |c| {
        c.hello();
        c.send(&[&0x0003_e889_0455_65a9_u64.to_be_bytes()[..], b"\0\0\0\x03\0\0\0\0"].concat());
        c.closed();
    }),
    case("a request instead of an option ends the connection", "NBD_OPT_*", |c| {
        c.hello();
        c.send(&compact(0, READ, 1, 0, 512));
        c.closed_in_the_end();
    }),
    case("half an option header and nothing more", "NBD_OPT_*", |c| {
        c.hello();
        c.send(b"IHAVEOPT\0\0");
        c.finish();
        c.closed();
    }),
    case("half of an option's data and nothing more", "NBD_OPT_*", |c| {
        c.hello();
        c.option_header(GO, 100);
        c.send(&[0; 50]);
        c.finish();
        c.closed();
    }),
    case("options in single bytes", "NBD_OPT_*", |c| {
        c.hello();
        c.drip(&[&b"IHAVEOPT\0\0\0\x06\0\0\0\x06"[..], &go("", &[])].concat());
        while c.answer(INFO).0 == REP_INFO {}
        c.enter();
    }),
    case("three options in one write are answered in order", "NBD_OPT_*", |c| {
        c.hello();
        c.send(b"IHAVEOPT\0\0\0\x63\0\0\0\0IHAVEOPT\0\0\0\x62\0\0\0\0IHAVEOPT\0\0\0\x61\0\0\0\0");
        assert_eq!([c.answer(99).0, c.answer(98).0, c.answer(97).0], [ERR_UNSUP; 3]);
        c.enter();
    }),
    case("option 0 is unsupported", "NBD_REP_ERR_UNSUP", |c| {
        c.hello();
        c.refused(0, &[], ERR_UNSUP);
        c.enter();
    }),
    case("the withdrawn PEEK_EXPORT is unsupported", "NBD_OPT_PEEK_EXPORT", |c| {
        c.hello();
        c.refused(4, b"peek", ERR_UNSUP);
        c.enter();
    }),
    case("the option after the last known one is unsupported", "NBD_REP_ERR_UNSUP", |c| {
        c.hello();
        c.refused(12, &[], ERR_UNSUP);
        c.enter();
    }),
    case("the largest option number is unsupported", "NBD_REP_ERR_UNSUP", |c| {
        c.hello();
        c.refused(u32::MAX, &[], ERR_UNSUP);
        c.enter();
    }),
    case("a number that looks like an error reply is unsupported", "NBD_REP_ERR_UNSUP", |c| {
        c.hello();
        c.refused(ERR_INVALID, &[], ERR_UNSUP);
        c.enter();
    }),
    case("the data of an unknown option is read over", "NBD_REP_ERR_UNSUP", |c| {
        c.hello();
        c.refused(0x4242, &[0x41; 4096], ERR_UNSUP);
        c.enter();
    }),
    case("refusals say why in words", "NBD_REP_ERR_*", |c| {
        c.hello();
        assert!(c.refused(99, &[], ERR_UNSUP).len() > 10);
        assert!(c.refused(GO, &go("nope", &[]), ERR_UNKNOWN).len() > 10);
    }),
    ours("an option of 64 KiB is too big and read over", "NBD_REP_ERR_TOO_BIG", QEMU_READS, |c| {
        c.hello();
        c.refused(99, &vec![0x41; 65536], ERR_TOO_BIG);
        c.enter();
    }),
    ours("the longest option that is read over", "NBD_REP_ERR_TOO_BIG", QEMU_READS, |c| {
        c.hello();
        c.refused(GO, &vec![0x41; 1 << 20], ERR_TOO_BIG);
        c.enter();
    }),
    ours("an option of 4 GiB ends the connection", "NBD_REP_ERR_TOO_BIG", "hangs up without a word", |c| {
        c.hello();
        c.option_header(GO, u32::MAX);
        assert_eq!(c.answer(GO).0, ERR_TOO_BIG);
        c.closed();
    }),
    ours("one option more than 32 and 32 for each export", "NBD_OPT_*", "has no limit but its 10 s", |c| {
        c.hello();
        (0..32 * (EXPORTS.len() + 1)).for_each(|_| drop(c.refused(99, &[], ERR_UNSUP)));
        c.closed();
    }),
    // ---- ABORT, LIST, STARTTLS ----
    case("ABORT is acknowledged and ends the connection", "NBD_OPT_ABORT", |c| {
        c.hello();
        c.ask(ABORT, &[]);
        c.closed();
    }),
    case("nothing is answered after ABORT", "NBD_OPT_ABORT", |c| {
        c.hello();
        c.send(b"IHAVEOPT\0\0\0\x02\0\0\0\0IHAVEOPT\0\0\0\x03\0\0\0\0");
        assert_eq!(c.answer(ABORT), (ACK, vec![]));
        c.closed();
    }),
    case("LIST begins with the default export and its description", "NBD_OPT_LIST", |c| {
        c.hello();
        let listed = c.ask(LIST, &[]);
        assert_eq!(listed[0], (REP_SERVER, [string(""), about("").into_bytes()].concat()));
    }),
    ours("LIST names every export", "NBD_OPT_LIST", "has one export", |c| {
        c.hello();
        let listed = c.ask(LIST, &[]);
        let wanted = EXPORTS.map(|name| (REP_SERVER, [string(name), about(name).into_bytes()].concat()));
        assert_eq!(listed, wanted);
    }),
    case("LIST says the same twice", "NBD_OPT_LIST", |c| {
        c.hello();
        assert_eq!(c.ask(LIST, &[]), c.ask(LIST, &[]));
    }),
    case("LIST with data is invalid", "NBD_OPT_LIST", |c| {
        c.hello();
        c.refused(LIST, b"x", ERR_INVALID);
        c.enter();
    }),
    case("STARTTLS where there is no TLS is against the policy, twice", "NBD_OPT_STARTTLS", |c| {
        c.hello();
        c.refused(STARTTLS, &[], ERR_POLICY);
        c.refused(STARTTLS, &[], ERR_POLICY);
        c.enter();
    }),
    // ---- INFO and GO ----
    case("INFO tells size and flags, and the handshake goes on", "NBD_OPT_INFO", |c| {
        c.hello();
        let export = c.told(INFO, "", &[], 0);
        assert_eq!((export.len(), be64(&export)), (10, SIZE));
        c.enter();
        c.alive();
    }),
    case("INFO tells the name where it is asked for", "NBD_INFO_NAME", |c| {
        c.hello();
        assert_eq!(c.told(INFO, "", &[1], 1), b"");
    }),
    case("INFO tells the description where it is asked for", "NBD_INFO_DESCRIPTION", |c| {
        c.hello();
        assert_eq!(c.told(INFO, "", &[2], 2), about("").into_bytes());
    }),
    case("INFO tells block sizes that obey the rules", "NBD_INFO_BLOCK_SIZE", |c| {
        c.hello();
        let sizes = c.told(INFO, "", &[3], 3);
        let [minimum, preferred, maximum] = [be32(&sizes), be32(&sizes[4..]), be32(&sizes[8..])];
        assert_eq!((sizes.len(), minimum, maximum), (12, 1, 32 << 20));
        assert!(preferred.is_power_of_two() && (512..=32 << 20).contains(&preferred));
    }),
    case("INFO passes over kinds that it does not know", "NBD_INFO_*", |c| {
        c.hello();
        c.told(INFO, "", &[4, 0x7fff, 0xffff], 0);
        c.enter();
    }),
    case("INFO tells each kind once, however often it is asked for", "NBD_INFO_*", |c| {
        c.hello();
        c.told(INFO, "", &[1, 1, 1], 1);
        c.told(INFO, "", &[0, 0], 0);
    }),
    case("INFO takes a thousand kinds", "NBD_INFO_*", |c| {
        c.hello();
        c.told(INFO, "", &[3; 1000], 3);
    }),
    case("INFO of an export that is not there", "NBD_OPT_INFO", |c| {
        c.hello();
        c.refused(INFO, &go("nope", &[]), ERR_UNKNOWN);
        c.enter();
    }),
    case("GO tells what INFO tells", "NBD_OPT_GO", |c| {
        c.hello();
        let info = c.ask(INFO, &go("", &[1, 2, 3]));
        assert_eq!(c.ask(GO, &go("", &[1, 2, 3])), info);
        c.alive();
    }),
    case("GO to an export that is not there, and then to one that is", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &go("nope", &[]), ERR_UNKNOWN);
        c.enter();
        c.alive();
    }),
    ours("an unknown export is named without its escape sequences", "NBD_OPT_GO", "sends them back", |c| {
        c.hello();
        assert!(c.refused(GO, &go("no\x1bpe", &[]), ERR_UNKNOWN).contains("'no\\x1bpe'"));
    }),
    ours("GO to another export", "NBD_OPT_GO", "has one export", |c| {
        c.hello();
        c.enter_export("p1");
        c.alive();
    }),
    case("names are compared as a whole", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &go("x", &[]), ERR_UNKNOWN);
        c.refused(GO, &go(" ", &[]), ERR_UNKNOWN);
    }),
    case("a name of 4096 bytes is a name", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &go(&"x".repeat(4096), &[]), ERR_UNKNOWN);
        c.enter();
    }),
    case("GO without data is invalid", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &[], ERR_INVALID);
        c.enter();
    }),
    case("GO with a name of 4 GiB in 6 bytes is invalid", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &[0xff, 0xff, 0xff, 0xff, 0, 0], ERR_INVALID);
        c.enter();
    }),
    case("GO with a name one byte longer than the option is invalid", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &[0, 0, 0, 3, 0, 0], ERR_INVALID);
        c.enter();
    }),
    case("GO with more kinds than it carries is invalid", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &[0, 0, 0, 0, 0xff, 0xff, 0, 1], ERR_INVALID);
        c.enter();
    }),
    case("GO with fewer kinds than it carries is invalid", "NBD_OPT_GO", |c| {
        c.hello();
        c.refused(GO, &[0, 0, 0, 0, 0, 1, 0, 1, 0, 2], ERR_INVALID);
        c.enter();
    }),
    case("an option after GO ends the connection", "NBD_OPT_GO", |c| {
        c.hello();
        c.enter();
        c.send(&[&b"IHAVEOPT\0\0\0\x03\0\0\0\0"[..], &[0; 12]].concat());
        c.closed_in_the_end();
    }),
    // ---- EXPORT_NAME ----
    case("EXPORT_NAME with zeroes sends 134 bytes", "NBD_OPT_EXPORT_NAME", |c| {
        c.flags(0);
        c.option(EXPORT_NAME, b"");
        let answer = c.receive(134);
        assert_eq!(be64(&answer), SIZE);
        assert!(answer[10..].iter().all(|byte| *byte == 0));
        c.alive();
    }),
    case("EXPORT_NAME without zeroes sends 10 bytes", "NBD_OPT_EXPORT_NAME", |c| {
        c.hello();
        c.option(EXPORT_NAME, b"");
        assert_eq!(be64(&c.receive(10)), SIZE);
        c.alive();
    }),
    case("EXPORT_NAME of an export that is not there ends the connection", "NBD_OPT_EXPORT_NAME", |c| {
        c.hello();
        c.option(EXPORT_NAME, b"nope");
        c.closed();
    }),
    case("EXPORT_NAME of 1 MiB ends the connection", "NBD_OPT_EXPORT_NAME", |c| {
        c.hello();
        c.option_header(EXPORT_NAME, 1 << 20);
        assert!(c.closed_in_the_end().len() < 100, "it was taken for a name");
    }),
    case("EXPORT_NAME keeps structured replies", "NBD_OPT_EXPORT_NAME", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.option(EXPORT_NAME, b"");
        assert_eq!(be16(&c.receive(10)[8..]) & (1 << 7), 1 << 7);
        c.alive();
    }),
    case("EXPORT_NAME after extended headers ends the connection", "NBD_OPT_EXTENDED_HEADERS", |c| {
        c.hello();
        c.agree(EXTENDED);
        c.option(EXPORT_NAME, b"");
        c.closed();
    }),
    // ---- styles ----
    case("STRUCTURED_REPLY with data is invalid", "NBD_OPT_STRUCTURED_REPLY", |c| {
        c.hello();
        c.refused(STRUCTURED, b"x", ERR_INVALID);
        c.enter();
        c.alive();
    }),
    case("STRUCTURED_REPLY twice is invalid and the first one counts", "NBD_OPT_STRUCTURED_REPLY", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.refused(STRUCTURED, &[], ERR_INVALID);
        c.enter();
        c.alive();
    }),
    case("EXTENDED_HEADERS with data is invalid", "NBD_OPT_EXTENDED_HEADERS", |c| {
        c.hello();
        c.refused(EXTENDED, b"x", ERR_INVALID);
        c.enter();
        c.alive();
    }),
    case("EXTENDED_HEADERS twice is invalid and the first one counts", "NBD_OPT_EXTENDED_HEADERS", |c| {
        c.hello();
        c.agree(EXTENDED);
        c.refused(EXTENDED, &[], ERR_INVALID);
        c.enter();
        c.alive();
    }),
    case("EXTENDED_HEADERS alone", "NBD_OPT_EXTENDED_HEADERS", |c| {
        c.hello();
        c.agree(EXTENDED);
        c.enter();
        c.alive();
    }),
    case("EXTENDED_HEADERS after STRUCTURED_REPLY wins", "NBD_OPT_EXTENDED_HEADERS", |c| {
        c.hello();
        c.agree(STRUCTURED);
        c.agree(EXTENDED);
        c.enter();
        c.alive();
    }),
    case("STRUCTURED_REPLY after EXTENDED_HEADERS is no way back", "NBD_REP_ERR_EXT_HEADER_REQD", |c| {
        c.hello();
        c.agree(EXTENDED);
        c.refused(STRUCTURED, &[], ERR_EXT_HEADER_REQD);
        c.enter();
        c.alive();
    }),
    // ---- transmission flags ----
    case("flags with simple replies: read-only, many connections, no DF", "Transmission flags", |c| {
        c.hello();
        let flags = c.transmission_flags(GO);
        assert_eq!(flags & 0b1_1000_0011, 0b1_0000_0011, "{flags:#b}");
    }),
    case("DF is offered with structured replies", "NBD_FLAG_SEND_DF", |c| {
        c.hello();
        c.agree(STRUCTURED);
        assert_eq!(c.transmission_flags(GO) & (1 << 7), 1 << 7);
    }),
    case("DF is offered with extended headers", "NBD_FLAG_SEND_DF", |c| {
        c.hello();
        c.agree(EXTENDED);
        assert_eq!(c.transmission_flags(GO) & (1 << 7), 1 << 7);
    }),
    case("flags for what cannot be done are not set", "Transmission flags", |c| {
        c.hello();
        // ROTATIONAL, SEND_TRIM, SEND_WRITE_ZEROES, SEND_RESIZE and SEND_FAST_ZERO.
        assert_eq!(c.transmission_flags(INFO) & (1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11), 0);
    }),
    case(
        "a choice of contexts is not offered with structured replies",
        "NBD_FLAG_BLOCK_STATUS_PAYLOAD",
        |c| {
            c.hello();
            c.agree(STRUCTURED);
            c.select("", &[ALLOCATION]);
            assert_eq!(c.transmission_flags(GO) & (1 << 12), 0);
        },
    ),
    case("a choice of contexts is not offered where there are none", "NBD_FLAG_BLOCK_STATUS_PAYLOAD", |c| {
        c.hello();
        c.agree(EXTENDED);
        assert_eq!(c.transmission_flags(GO) & (1 << 12), 0);
    }),
    case("a choice of contexts is offered with extended headers", "NBD_FLAG_BLOCK_STATUS_PAYLOAD", |c| {
        c.hello();
        c.agree(EXTENDED);
        assert_eq!(c.transmission_flags(INFO) & (1 << 12), 1 << 12);
        c.select("", &[ALLOCATION]);
        assert_eq!(c.transmission_flags(GO) & (1 << 12), 1 << 12);
    }),
];
