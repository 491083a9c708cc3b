//! Images made to do harm: whatever is in them, the program ends by itself, soon, in little memory, opens nothing but
//! the image, and prints nothing that a terminal obeys. The judges are the kernel's: exit status, rusage, strace.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

// ---- the judge ----

/// What a forbidden file holds; it may be in no output.
const CANARY: &str = "CANARY-7f3a-do-not-print";

/// Processor seconds that opening may take, and what the program may hold: promises of `man imgmount`.
const MAX_SECONDS: f64 = 5.0;
const MAX_RSS_KIB: u64 = 300 << 10;

/// How one run ended.
#[derive(Debug)]
struct Run {
    output: Output,
    rss_kib: u64,
    seconds: f64,
}

/// Runs the program under test.
fn run(args: &[&str], dir: &Path) -> Run {
    run_program(common::IMGMOUNT, args, dir)
}

/// Runs a program under `time`, and under `timeout` for the case that it hangs: its processor seconds may take minutes.
fn run_program(program: &str, args: &[&str], dir: &Path) -> Run {
    let figures = dir.join("figures");
    let output = Command::new("time")
        .args(["-q", "-f", "%M %U %S", "-o"])
        .arg(&figures)
        .args(["timeout", "-s", "KILL", "300", program])
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let figures = std::fs::read_to_string(&figures).unwrap();
    let figures: Vec<f64> =
        figures.lines().last().unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
    Run { output, rss_kib: figures[0] as u64, seconds: figures[1] + figures[2] }
}

/// What is wrong with a run, if anything.
fn complaints(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    let (stdout, stderr) = (common::stdout(&run.output), common::stderr(&run.output));
    match run.output.status.code() {
        Some(0 | 1 | 3 | 4 | 6) => {}
        Some(124 | 137) => found.push("did not end".to_owned()),
        code => found.push(format!("exit status {code:?}")),
    }
    if stderr.contains("panicked") {
        found.push("panicked".to_owned());
    }
    if run.seconds > MAX_SECONDS {
        found.push(format!("took {} s of the processor", run.seconds));
    }
    if run.rss_kib > MAX_RSS_KIB {
        found.push(format!("took {} KiB of memory", run.rss_kib));
    }
    if stdout.contains(CANARY) || stderr.contains(CANARY) || stdout.contains("root:x:0") {
        found.push("printed a file that is not its own".to_owned());
    }
    if run
        .output
        .stdout
        .iter()
        .chain(&run.output.stderr)
        .any(|b| (*b < 0x20 && !b"\n\t\r".contains(b)) || *b == 0x7f)
    {
        found.push("printed a control character".to_owned());
    }
    if !matches!(run.output.status.code(), Some(0)) && stderr.is_empty() && stdout.is_empty() {
        found.push("failed without a word".to_owned());
    }
    if !found.is_empty() {
        found.push(stderr.chars().take(600).collect());
    }
    found
}

#[test]
fn the_judge_sees_what_it_is_there_to_see() {
    requires!("time");
    let dir = common::tempdir();
    let judged = |script: &str| complaints(&run_program("sh", &["-c", script], dir.path())).join(", ");
    assert_eq!(judged("echo fine"), "");
    assert!(judged("echo no; kill -SEGV $$").contains("exit status"));
    assert!(judged("echo no; exit 70").contains("exit status"));
    assert!(judged("exit 3").contains("without a word"));
    assert!(judged("printf '\\033[31m'").contains("control character"));
    assert!(judged(&format!("echo {CANARY}")).contains("not its own"));
    assert!(judged("head -c 400M /dev/zero | tail -c 400M >/dev/null").contains("memory"));
    let slow = Run { seconds: 5.1, ..run_program("sh", &["-c", "echo late"], dir.path()) };
    assert!(complaints(&slow).join(", ").contains("processor"));
}

/// An image made to do harm.
struct Case {
    name: String,
    bytes: Vec<u8>,
    /// Claims to be so large that hashing its zeros would take too long honestly.
    huge: bool,
}

fn case(name: &str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name: name.to_owned(), bytes: bytes.into(), huge: false }
}

fn huge(name: &str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { huge: true, ..case(name, bytes) }
}

/// The verbs that are tried on everything.
fn verbs(image: &str, huge: bool) -> Vec<Vec<String>> {
    let verb = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut all =
        vec![verb(&["info", image]), verb(&["info", "--json", image]), verb(&["ls", &format!("{image}:/")])];
    if !huge {
        all.push(verb(&["hash", image]));
    }
    if image.ends_with(".ext4") && !huge {
        all.push(verb(&["find", "--hash", &format!("{image}:/")]));
        all.push(verb(&[
            "cat",
            &format!("{image}:/file"),
            &format!("{image}:/link"),
            &format!("{image}:/dir/sub/small"),
        ]));
    }
    all
}

/// Tries every verb on every case; fails with the list of all complaints.
fn judge(cases: &[Case], extension: &str) {
    let dir = common::tempdir();
    let mut found = Vec::new();
    for case in cases {
        let image = format!("{}.{extension}", case.name);
        std::fs::write(dir.path().join(&image), &case.bytes).unwrap();
        for words in verbs(&image, case.huge) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let complaints = complaints(&run(&words, dir.path()));
            if !complaints.is_empty() {
                found.push(format!("{}: {}", words.join(" "), complaints.join(", ")));
            }
        }
        std::fs::remove_file(dir.path().join(&image)).unwrap();
    }
    assert!(found.is_empty(), "{} complaints\n{}", found.len(), found.join("\n"));
}

// ---- tools for building images ----

/// Bytes written at offsets, zeros between.
#[derive(Clone, Default)]
struct Build(Vec<u8>);

impl From<Build> for Vec<u8> {
    fn from(build: Build) -> Self {
        build.0
    }
}

impl Build {
    fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn le16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn le32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn le64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_le_bytes())
    }

    fn be32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    fn be64(self, at: usize, value: u64) -> Self {
        self.put(at, &value.to_be_bytes())
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

// ---- raw, MBR, GPT ----

#[test]
fn fragments_of_nothing() {
    requires!("time");
    let every_magic = Build::new(1 << 20)
        .put(0, b"QFI\xfb\0\0\0\x03")
        .put(510, &[0x55, 0xaa])
        .put(512, b"EFI PART")
        .put(1080, &[0x53, 0xef])
        .put(32769, b"CD001")
        .put(65536 + 64, b"_BHRfS_M")
        .put((1 << 20) - 512, b"conectix");
    let cases = [
        case("empty", []),
        case("one-byte", [0]),
        case("odd", [0xaa; 511]),
        case("zeros", [0; 512]),
        case("ones", vec![0xff; 1 << 20]),
        case("only-a-signature", Build::new(512).put(510, &[0x55, 0xaa])),
        case("magic-of-qcow2-alone", b"QFI\xfb"),
        case("magic-of-vmdk-alone", b"KDMV"),
        case("magic-of-vhd-alone", b"conectix"),
        case("magic-of-vdi-alone", Build::new(68).le32(64, 0xbeda_107f)),
        case("magic-of-vmdk-text-alone", b"# Disk DescriptorFile"),
        case("every-magic", every_magic),
    ];
    judge(&cases, "img");
}

/// Puts a partition entry into the MBR or EBR at `sector`.
fn entry(build: Build, sector: usize, slot: usize, kind: u8, start: u32, sectors: u32) -> Build {
    let at = sector * 512 + 446 + slot * 16;
    build
        .put(at + 4, &[kind])
        .le32(at + 8, start)
        .le32(at + 12, sectors)
        .put(sector * 512 + 510, &[0x55, 0xaa])
}

#[test]
fn mbr_that_leads_astray() {
    requires!("time");
    let disk = || entry(Build::new(4 << 20), 0, 0, 5, 63, 8000);
    let chain = (0..5000_u32).fold(disk(), |build, link| {
        let sector = 63 + link as usize;
        entry(entry(build, sector, 0, 0x83, 1, 1), sector, 1, 5, link + 1, 1)
    });
    let four =
        (0..4).fold(Build::new(1 << 20), |build, slot| entry(build, 0, slot, 0x83, u32::MAX, u32::MAX));
    let nested = (0..4).fold(Build::new(1 << 20), |build, slot| entry(build, 0, slot, 0x83, 0, 2048));
    let cases = [
        case("ebr-names-itself", entry(entry(disk(), 63, 0, 0x83, 1, 1), 63, 1, 5, 0, 8000)),
        case("ebr-circle-of-two", entry(entry(disk(), 63, 1, 5, 10, 10), 73, 1, 5, 0, 10)),
        case("ebr-names-the-mbr", entry(disk(), 63, 1, 5, 63_u32.wrapping_neg(), 10)),
        case("ebr-names-only-ebrs", entry(entry(disk(), 63, 0, 5, 0, 10), 63, 1, 0xf, 0, 10)),
        case("ebr-chain-of-5000", chain),
        case("extended-from-0", entry(Build::new(1 << 20), 0, 0, 5, 0, 100)),
        case("partitions-at-the-end-of-numbers", four),
        case("partitions-that-are-the-disk", nested),
        case("protective-without-gpt", entry(Build::new(1 << 20), 0, 0, 0xee, 1, u32::MAX)),
    ];
    judge(&cases, "img");
}

/// A GPT whose checksums are right, whatever `change` does to header and entries. The disk has 2048 sectors.
fn gpt(change: impl FnOnce(Build) -> Build) -> Build {
    let linux = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
    let build = entry(Build::new(1 << 20), 0, 0, 0xee, 1, 2047)
        .put(512, b"EFI PART\0\0\x01\0\x5c\0\0\0")
        .le64(512 + 24, 1)
        .le64(512 + 32, 2047)
        .le64(512 + 40, 34)
        .le64(512 + 48, 2014)
        .put(512 + 56, &[7; 16])
        .le64(512 + 72, 2)
        .le32(512 + 80, 128)
        .le32(512 + 84, 128)
        .put(1024, &linux)
        .put(1040, &[9; 16])
        .le64(1056, 40)
        .le64(1064, 1000);
    let build = change(build);
    let number = |at: usize| u32::from_le_bytes(build.0[at..at + 4].try_into().unwrap());
    let (count, size, header) = (u64::from(number(592)), u64::from(number(596)), number(524) as usize);
    let entries = build.0.get(1024..(1024 + (count * size).min(1 << 20) as usize)).map_or(0, crc32);
    let build = build.le32(512 + 88, entries).le32(512 + 16, 0);
    let sum = build.0.get(512..512 + header).map_or(0, crc32);
    build.le32(512 + 16, sum)
}

#[test]
fn gpt_that_leads_astray() {
    requires!("time");
    let name = |bytes: &[u8]| gpt(|build| build.put(1080, bytes));
    let cases = [
        case("as-it-should-be", gpt(|build| build)),
        case("entries-4294967295", gpt(|build| build.le32(592, u32::MAX))),
        case("entries-of-0-bytes", gpt(|build| build.le32(596, 0))),
        case("entries-of-1-byte", gpt(|build| build.le32(596, 1))),
        case("entries-of-2-gib", gpt(|build| build.le32(596, 1 << 31))),
        case("entries-times-size-overflows", gpt(|build| build.le32(592, u32::MAX).le32(596, u32::MAX))),
        case("entries-at-the-end-of-numbers", gpt(|build| build.le64(584, u64::MAX))),
        case("entries-in-the-header", gpt(|build| build.le64(584, 1))),
        case("header-of-4-gib", gpt(|build| build.le32(524, u32::MAX))),
        case("header-of-0-bytes", gpt(|build| build.le32(524, 0))),
        case("backup-at-the-end-of-numbers", gpt(|build| build.le64(544, u64::MAX))),
        case("backup-is-the-header", gpt(|build| build.le64(544, 1))),
        case("partition-ends-before-it-starts", gpt(|build| build.le64(1056, 1000).le64(1064, 40))),
        case("partition-at-the-end-of-numbers", gpt(|build| build.le64(1056, u64::MAX).le64(1064, u64::MAX))),
        case("partition-of-all-numbers", gpt(|build| build.le64(1056, 0).le64(1064, u64::MAX))),
        case("name-with-terminal-escapes", name(b"\x1b\0[\x003\x001\0m\0\x07\0\n\0\r\0")),
        case("name-with-lone-surrogates", name(&[0x00, 0xd8, 0x00, 0xdc, 0x00, 0xd8])),
        case("name-without-an-end", name(&[0x41; 72])),
    ];
    judge(&cases, "img");
}

/// So many zeros, packed as qcow2 packs them: deflate without a frame.
fn deflated(zeros: u64) -> Vec<u8> {
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(zeros), &mut packer).unwrap();
    packer.finish().unwrap()
}

// ---- qcow2 ----

/// A qcow2 header, version 3, 64 KiB clusters, a 1 MiB disk: L1 at 0x30000, one L2 at 0x40000, data at 0x50000.
fn qcow2() -> Build {
    Build::new(0x60000)
        .put(0, b"QFI\xfb")
        .be32(4, 3)
        .be32(20, 16)
        .be64(24, 1 << 20)
        .be32(36, 1)
        .be64(40, 0x30000)
        .be64(48, 0x10000)
        .be32(56, 1)
        .be32(96, 4)
        .be32(100, 104)
        .be64(0x10000, 0x20000)
        .be64(0x30000, 0x40000 | 1 << 63)
        .be64(0x40000, 0x50000 | 1 << 63)
}

/// The same with a backing file's name.
fn qcow2_backed(name: &str) -> Build {
    qcow2().be64(8, 0x200).be32(16, name.len() as u32).put(0x200, name.as_bytes())
}

#[test]
fn qcow2_headers_beyond_reason() {
    requires!("time");
    let mut cases = vec![
        case("as-it-should-be", qcow2()),
        case("header-alone", qcow2().0[..72].to_vec()),
        case("header-cut", qcow2().0[..50].to_vec()),
        huge("size-of-8-eib", qcow2().be64(24, 1 << 63)),
        huge("size-of-all-numbers", qcow2().be64(24, u64::MAX)),
        huge("size-of-64-tib-with-a-small-l1", qcow2().be64(24, 1 << 46)),
        huge("l1-of-4294967295", qcow2().be32(36, u32::MAX)),
        huge("l1-of-32-mib-past-the-end", qcow2().be32(36, 1 << 22).be64(24, 1 << 50)),
        case("l1-past-the-end", qcow2().be64(40, 1 << 60)),
        case("l1-at-the-end-of-numbers", qcow2().be64(40, u64::MAX)),
        case("l1-unaligned", qcow2().be64(40, 0x30001)),
        case("header-length-of-4-gib", qcow2().be32(100, u32::MAX)),
        case("header-length-of-0", qcow2().be32(100, 0)),
        case("extension-of-4-gib", qcow2().be32(104, 0x1234_5678).be32(108, u32::MAX)),
        case(
            "extensions-without-an-end",
            (0..0x1000).fold(qcow2(), |b, n| b.be32(104 + n * 8, 1).be32(108 + n * 8, 0)),
        ),
        case("refcount-order-63", qcow2().be32(96, 63)),
        case("refcounts-past-the-end", qcow2().be64(48, 1 << 60).be32(56, u32::MAX)),
        case("snapshots-4294967295", qcow2().be32(60, u32::MAX).be64(64, 0x30000)),
        case("snapshots-past-the-end", qcow2().be32(60, 1).be64(64, 1 << 62)),
        case("every-incompatible-feature", qcow2().be64(72, u64::MAX)),
        case("encrypted-aes", qcow2().be32(32, 1)),
        case("encrypted-luks-without-a-header", qcow2().be32(32, 2)),
        case("extended-l2-with-both-bits", qcow2().be64(72, 16).be64(0x40008, u64::MAX)),
        case("version-0", qcow2().be32(4, 0)),
        case("backing-name-of-4-gib", qcow2().be64(8, 0x200).be32(16, u32::MAX)),
        case("backing-name-past-the-end", qcow2().be64(8, 1 << 62).be32(16, 10)),
    ];
    cases.extend(
        [0, 8, 22, 31, 63, 64, u32::MAX]
            .map(|bits| huge(&format!("cluster-bits-{bits}"), qcow2().be32(20, bits))),
    );
    judge(&cases, "qcow2");
}

#[test]
fn qcow2_tables_that_lead_astray() {
    requires!("time");
    let l2 = |value: u64| qcow2().be64(0x40000, value);
    let bomb = deflated(64 << 20);
    let cases = [
        case("l1-names-itself", qcow2().be64(0x30000, 0x30000 | 1 << 63)),
        case("l1-names-the-header", qcow2().be64(0x30000, 1 << 63)),
        case("l1-past-the-end", qcow2().be64(0x30000, 0x00ff_ffff_ffff_0000)),
        case("l1-unaligned", qcow2().be64(0x30000, 0x40200)),
        case("l1-with-reserved-bits", qcow2().be64(0x30000, u64::MAX)),
        case("l2-names-itself", l2(0x40000 | 1 << 63)),
        case("l2-past-the-end", l2(0x00ff_ffff_ffff_0000)),
        case("l2-half-past-the-end", Build(l2(0x50000 | 1 << 63).0[..0x50100].to_vec())),
        case("l2-unaligned", l2(0x50200)),
        case("l2-with-reserved-bits", l2(u64::MAX >> 2)),
        case("compressed-nothing", l2(1 << 62)),
        case("compressed-past-the-end", l2(1 << 62 | 0x003f_ffff_ffff)),
        case("compressed-garbage", l2(1 << 62 | 0x50000 | 0xff << 54).put(0x50000, &[0xee; 4096])),
        case("compressed-64-mib", l2(1 << 62 | 0x50000 | 0xff << 54).put(0x50000, &bomb)),
        case("compressed-one-byte", l2(1 << 62 | 0x50000).put(0x50000, &deflated(1))),
        case("compressed-by-the-header", l2(1 << 62 | 0xff << 54)),
        case("compressed-zstd-garbage", l2(1 << 62 | 0x50000).be64(72, 8).put(104, &[1]).be32(100, 112)),
        case("unknown-compression", qcow2().be64(72, 8).put(104, &[99]).be32(100, 112)),
    ];
    judge(&cases, "qcow2");
}

/// With extended L2 entries; the first is of the bitmap given.
fn subclusters(entry: u64, bitmap: u64) -> Build {
    qcow2().be64(72, 16).be64(0x40000, entry).be64(0x40008, bitmap)
}

/// With a snapshot table at 0x20000 that repeats one entry so many times; `change` is done to each.
fn snapshots(count: u32, change: impl Fn(Build, usize) -> Build) -> Build {
    let entry = |build: Build, n: u32| {
        let at = 0x20000 + n as usize * 64;
        let build = build.be64(at, 0x30000).be32(at + 8, 1).put(at + 12, &[0, 1, 0, 1]).be32(at + 36, 16);
        change(build.be64(at + 48, 1 << 20).put(at + 56, b"1x"), at)
    };
    (0..count.min(900)).fold(qcow2().be32(60, count).be64(64, 0x20000), entry)
}

#[test]
fn qcow2_subclusters_and_snapshots_that_lead_astray() {
    requires!("time");
    let host = 0x50000 | 1 << 63;
    let cases = [
        case("subclusters-as-they-should-be", subclusters(host, 0xaaaa_aaaa)),
        case("subclusters-of-both-kinds", subclusters(host, u64::MAX)),
        case("subclusters-nowhere", subclusters(0, 0xffff_ffff)),
        case("subclusters-past-the-end", subclusters(0x00ff_ffff_ffff_0000, 1 << 31)),
        case("subclusters-of-a-packed-cluster", subclusters(1 << 62 | 0x50000, u64::MAX)),
        case("subclusters-in-small-clusters", subclusters(host, 1).be32(20, 13)),
        case("snapshots-as-they-should-be", snapshots(3, |b, _| b)),
        case("snapshots-of-one-name", snapshots(900, |b, _| b)),
        case("snapshots-without-an-end", snapshots(u32::MAX, |b, _| b)),
        case("snapshot-with-4-gib-of-extra", snapshots(1, |b, at| b.be32(at + 36, u32::MAX))),
        case("snapshot-with-64-kib-of-name", snapshots(1, |b, at| b.put(at + 12, &[0xff; 4]))),
        case(
            "snapshot-named-for-a-terminal",
            snapshots(2, |b, at| b.put(at + 12, &[0, 1, 0, 8]).put(at + 57, b"\x1b[2J\n\x07\0/")),
        ),
        huge("snapshot-of-all-numbers", snapshots(2, |b, at| b.be64(at + 48, u64::MAX))),
        case("snapshot-with-an-l1-of-4294967295", snapshots(2, |b, at| b.be32(at + 8, u32::MAX))),
        case("snapshot-with-an-l1-past-the-end", snapshots(2, |b, at| b.be64(at, 1 << 62))),
        case("snapshot-with-the-header-for-an-l1", snapshots(2, |b, at| b.be64(at, 0))),
    ];
    judge(&cases, "qcow2");
}

// ---- qcow, qed ----

/// A qcow header, 4 KiB clusters, a 1 MiB disk: L1 at 0x30, one L2 at 0x1000, data at 0x2000.
fn qcow() -> Build {
    Build::new(0x3000)
        .put(0, b"QFI\xfb\0\0\0\x01")
        .be64(24, 1 << 20)
        .put(32, &[12, 9])
        .be64(40, 0x30)
        .be64(0x30, 0x1000)
        .be64(0x1000, 0x2000)
}

/// A QED header, 4 KiB clusters, tables of one, a 1 MiB disk: L1 at 0x1000, one L2 at 0x2000, data at 0x3000.
fn qed() -> Build {
    Build::new(0x4000)
        .put(0, b"QED\0")
        .le32(4, 4096)
        .le32(8, 1)
        .le32(12, 1)
        .le64(40, 0x1000)
        .le64(48, 1 << 20)
        .le64(0x1000, 0x2000)
        .le64(0x2000, 0x3000)
}

#[test]
fn qcow_that_leads_astray() {
    requires!("time");
    let l2 = |value: u64| qcow().be64(0x1000, value);
    let packed = |len: u64| l2(1 << 63 | len << 51 | 0x2000);
    let mut cases = vec![
        case("as-it-should-be", qcow()),
        case("header-cut", qcow().0[..40].to_vec()),
        huge("size-of-all-numbers", qcow().be64(24, u64::MAX)),
        huge("size-of-8-tib-with-the-file-for-an-l1", qcow().be64(24, 1 << 43)),
        case("l1-at-the-end-of-numbers", qcow().be64(40, u64::MAX - 7)),
        case("l1-unaligned", qcow().be64(40, 0x31)),
        case("l1-names-itself", qcow().be64(0x30, 0x30)),
        case("l2-past-the-end", qcow().be64(0x30, 1 << 62)),
        case("l2-unaligned", qcow().be64(0x30, 0x1001)),
        case("cluster-unaligned", l2(0x2001)),
        case("cluster-past-the-end", l2(1 << 62)),
        case("packed-nothing", packed(0)),
        case("packed-garbage", packed(0xfff).put(0x2000, &[0xee; 4096])),
        case("packed-64-mib", packed(0xfff).put(0x2000, &deflated(64 << 20))),
        case("packed-one-byte", packed(100).put(0x2000, &deflated(1))),
        case("packed-past-the-end", l2(u64::MAX)),
        case("backing-name-of-4-gib", qcow().be64(8, 0x40).be32(16, u32::MAX)),
        case("backing-name-past-the-end", qcow().be64(8, 1 << 62).be32(16, 10)),
        case("crypt-method-unknown", qcow().be32(36, 7)),
    ];
    cases.extend(
        [(0, 9), (8, 9), (17, 9), (255, 9), (12, 5), (12, 14), (12, 255)]
            .map(|(cluster, l2)| huge(&format!("bits-{cluster}-{l2}"), qcow().put(32, &[cluster, l2]))),
    );
    judge(&cases, "qcow");
}

#[test]
fn qed_that_leads_astray() {
    requires!("time");
    let l2 = |value: u64| qed().le64(0x2000, value);
    let cases = [
        case("as-it-should-be", qed()),
        case("header-cut", qed().0[..60].to_vec()),
        huge("size-of-all-numbers", qed().le64(48, u64::MAX - 511)),
        case("size-odd", qed().le64(48, 1000)),
        case("clusters-of-0-bytes", qed().le32(4, 0)),
        case("clusters-of-2-gib", qed().le32(4, 1 << 31)),
        case("clusters-of-3000-bytes", qed().le32(4, 3000)),
        case("tables-of-0-clusters", qed().le32(8, 0)),
        case("tables-of-4294967295-clusters", qed().le32(8, u32::MAX)),
        case("tables-of-1-gib", qed().le32(4, 1 << 26).le32(8, 16).le64(40, 1 << 26)),
        case("header-of-all-numbers", qed().le32(12, u32::MAX)),
        case("every-feature", qed().le64(16, u64::MAX)),
        case("l1-at-the-end-of-numbers", qed().le64(40, u64::MAX << 12)),
        case("l1-in-the-header", qed().le64(40, 0)),
        case("l1-names-itself", qed().le64(0x1000, 0x1000)),
        case("l1-names-the-header", qed().le64(0x1000, 1)),
        case("l2-names-itself", l2(0x2000)),
        case("l2-past-the-end", qed().le64(0x1000, 1 << 62)),
        case("cluster-unaligned", l2(0x3001)),
        case("cluster-past-the-end", l2(u64::MAX << 12)),
        case(
            "backing-name-of-4-gib",
            qed().le64(16, 1).le32(12, u32::MAX).le32(60, u32::MAX).le64(40, u64::MAX << 12),
        ),
        case("backing-name-past-the-end", qed().le64(16, 1).le32(56, u32::MAX).le32(60, 10)),
    ];
    judge(&cases, "qed");
}

// ---- vmdk ----

/// A hosted sparse extent: 2048 sectors, grains of 128, GT of 512, descriptor at sector 1, GD at 21, GT at 22, grain at 128.
fn vmdk() -> Build {
    let text = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\
                RW 2048 SPARSE \"self.vmdk\"\nddb.adapterType = \"ide\"\n";
    Build::new(256 * 512)
        .put(0, b"KDMV")
        .le32(4, 1)
        .le32(8, 3)
        .le64(12, 2048)
        .le64(20, 128)
        .le64(28, 1)
        .le64(36, 20)
        .le32(44, 512)
        .le64(48, 0)
        .le64(56, 21)
        .le64(64, 128)
        .put(73, b"\n \r\n")
        .put(512, text.as_bytes())
        .le32(21 * 512, 22)
        .le32(22 * 512, 128)
}

fn descriptor(lines: &str) -> Vec<u8> {
    format!("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n{lines}\n").into_bytes()
}

#[test]
fn vmdk_headers_and_tables_that_lead_astray() {
    requires!("time");
    let stream = |build: Build| build.le32(4, 3).le32(8, 0x30001).put(77, &[1, 0]);
    let cases = [
        case("as-it-should-be", vmdk()),
        case("header-cut", vmdk().0[..100].to_vec()),
        huge("capacity-of-all-numbers", vmdk().le64(12, u64::MAX)),
        huge("capacity-of-8-eib", vmdk().le64(12, 1 << 54)),
        case("grain-of-0", vmdk().le64(20, 0)),
        case("grain-of-1", vmdk().le64(20, 1)),
        case("grain-of-3", vmdk().le64(20, 3)),
        huge("grain-of-all-numbers", vmdk().le64(20, u64::MAX)),
        huge("grain-of-2-tib", vmdk().le64(20, 1 << 32)),
        case("gt-of-0-entries", vmdk().le32(44, 0)),
        case("gt-of-1-entry", vmdk().le32(44, 1)),
        huge("gt-of-4294967295-entries", vmdk().le32(44, u32::MAX)),
        case("gd-in-the-header", vmdk().le64(56, 0)),
        case("gd-names-itself", vmdk().le32(21 * 512, 21)),
        case("gd-past-the-end", vmdk().le64(56, 1 << 54)),
        case("gd-at-the-end-of-numbers", vmdk().le64(56, u64::MAX - 1)),
        case("gt-names-itself", vmdk().le32(22 * 512, 22)),
        case("gt-past-the-end", vmdk().le32(21 * 512, u32::MAX)),
        case("grain-in-the-header", vmdk().le32(22 * 512, 2)),
        case("grain-past-the-end", vmdk().le32(22 * 512, u32::MAX)),
        case("descriptor-past-the-end", vmdk().le64(28, 1 << 54)),
        case("descriptor-of-all-numbers", vmdk().le64(36, u64::MAX)),
        case("descriptor-of-binary", vmdk().put(512, &[0xff; 10240])),
        case(
            "descriptor-with-escapes",
            vmdk().put(512, &descriptor("createType=\"\x1b[2J\x07\"\nRW 2048 SPARSE \"\x1b]0;x\x07\"")),
        ),
        case("compressed-marker-of-0", stream(vmdk()).le64(128 * 512, 0).le32(128 * 512 + 8, 0)),
        case("compressed-marker-of-4-gib", stream(vmdk()).le64(128 * 512, 0).le32(128 * 512 + 8, u32::MAX)),
        case("compressed-garbage", stream(vmdk()).le32(128 * 512 + 8, 600).put(128 * 512 + 12, &[0xee; 600])),
        case("gd-at-end-without-a-footer", stream(vmdk()).le64(56, u64::MAX)),
        case("unknown-compression", vmdk().put(77, &[0xff, 0xff])),
        case("newline-test-failed", vmdk().put(73, b"\n\n\n\n")),
    ];
    judge(&cases, "vmdk");
}

#[test]
fn vmdk_descriptors_beyond_reason() {
    requires!("time");
    let many: String = (0..100_000).map(|n| format!("RW 1 FLAT \"many-f{n:06}.vmdk\" 0\n")).collect();
    let zeros = "RW 1 ZERO\n".repeat(100_000);
    let cases = [
        case("no-extents", descriptor("createType=\"monolithicFlat\"")),
        case("extents-100000-missing", descriptor(&many)),
        case("extents-100000-of-zeros", descriptor(&zeros)),
        huge("extent-of-all-numbers", descriptor("RW 18446744073709551615 ZERO")),
        huge("extents-whose-sum-overflows", descriptor(&"RW 9223372036854775807 ZERO\n".repeat(4))),
        case("extent-of-minus-1", descriptor("RW -1 ZERO")),
        case("extent-without-a-name", descriptor("RW 2048 FLAT")),
        case("extent-without-a-quote", descriptor("RW 2048 FLAT \"x")),
        case("extent-that-is-the-descriptor", descriptor("RW 8 SPARSE \"extent-that-is-the-descriptor.vmdk\"")),
        case("extent-of-an-unknown-kind", descriptor("RW 8 \x1b[31mWORM \"x\"")),
        case("one-line-of-a-million", descriptor(&"x".repeat(1_000_000))),
        case("a-million-lines", descriptor(&"\n".repeat(1_000_000))),
        case("parent-in-a-circle", b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=1\nparentFileNameHint=\"parent-in-a-circle.vmdk\"\nRW 1 ZERO\n"),
    ];
    judge(&cases, "vmdk");
}

// ---- vhd ----

/// Puts the checksum of a VHD structure: the ones' complement of the sum of its bytes without the sum.
fn vhd_sum(build: Build, at: usize, len: usize, field: usize) -> Build {
    let build = build.be32(at + field, 0);
    let sum: u32 = build.0[at..at + len].iter().map(|byte| u32::from(*byte)).sum();
    build.be32(at + field, !sum)
}

/// A dynamic VHD of 4 MiB: footer's copy at 0, header at 512, BAT at 1536, one block at 2048, footer at the end.
fn vhd(change: impl FnOnce(Build) -> Build) -> Build {
    let end = 2048 + 512 + (2 << 20);
    let footer = |build: Build, at: usize| {
        build
            .put(at, b"conectix\0\0\0\x02\0\x01\0\0")
            .be64(at + 16, 512)
            .put(at + 28, b"test")
            .be64(at + 40, 4 << 20)
            .be64(at + 48, 4 << 20)
            .put(at + 56, &[0, 120, 4, 17])
            .be32(at + 60, 3)
    };
    let header = footer(footer(Build::new(end + 512), 0), end)
        .put(512, b"cxsparse")
        .be64(520, u64::MAX)
        .be64(528, 1536)
        .be32(536, 0x0001_0000)
        .be32(540, 2)
        .be32(544, 2 << 20)
        .be32(1536, 4)
        .be32(1540, u32::MAX);
    let changed = change(header);
    let copy = changed.0[..512].to_vec();
    vhd_sum(vhd_sum(vhd_sum(changed.put(end, &copy), 0, 512, 64), end, 512, 64), 512, 1024, 36)
}

#[test]
fn vhd_that_leads_astray() {
    requires!("time");
    let differencing = |name: &str| {
        let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let ascii = name.as_bytes().to_vec();
        vhd(|build| {
            build
                .be32(60, 4)
                .put(512 + 64, &utf16)
                .put(512 + 576, b"MacX")
                .be32(512 + 580, 512)
                .be32(512 + 584, ascii.len() as u32)
                .be64(512 + 592, 0x10_0000)
                .put(0x10_0000, &ascii)
        })
    };
    let cases = [
        case("as-it-should-be", vhd(|build| build)),
        case("footer-alone", vhd(|build| build).0[..512].to_vec()),
        case("block-of-0", vhd(|build| build.be32(544, 0))),
        case("block-of-1", vhd(|build| build.be32(544, 1))),
        case("block-of-3", vhd(|build| build.be32(544, 3))),
        case("block-of-2-gib", vhd(|build| build.be32(544, 1 << 31))),
        case("block-of-4-gib", vhd(|build| build.be32(544, u32::MAX))),
        huge("bat-of-4294967295", vhd(|build| build.be32(540, u32::MAX).be64(48, 1 << 53))),
        huge("bat-too-small-for-the-disk", vhd(|build| build.be64(48, 1 << 41))),
        case("bat-of-0", vhd(|build| build.be32(540, 0))),
        case("bat-past-the-end", vhd(|build| build.be64(528, 1 << 60))),
        case("bat-at-the-end-of-numbers", vhd(|build| build.be64(528, u64::MAX))),
        case("bat-in-the-footer", vhd(|build| build.be64(528, 0))),
        case("header-is-the-footer", vhd(|build| build.be64(16, 0))),
        case("header-past-the-end", vhd(|build| build.be64(16, 1 << 62))),
        case("header-at-the-end-of-numbers", vhd(|build| build.be64(16, u64::MAX - 511))),
        case("blocks-that-are-the-header", vhd(|build| build.be32(1536, 1).be32(1540, 1))),
        case("blocks-that-are-one", vhd(|build| build.be32(1540, 4))),
        case("blocks-past-the-end", vhd(|build| build.be32(1536, 0xffff_fffe))),
        huge("size-of-all-numbers", vhd(|build| build.be64(48, u64::MAX))),
        huge(
            "fixed-and-longer-than-its-file",
            vhd(|build| build.be32(60, 2).be64(16, u64::MAX).be64(48, 1 << 50)),
        ),
        case("type-0", vhd(|build| build.be32(60, 0))),
        case("type-7", vhd(|build| build.be32(60, 7))),
        case("version-65535", vhd(|build| build.be32(12, u32::MAX))),
        case("parent-passwd", differencing("/etc/passwd")),
        case("parent-itself", differencing("parent-itself.vhd")),
        case(
            "parent-locator-of-4-gib",
            vhd(|build| build.be32(60, 4).put(512 + 576, b"W2ku").be32(512 + 584, u32::MAX)),
        ),
    ];
    judge(&cases, "vhd");
}

// ---- vdi ----

/// A dynamic VDI of 4 MiB: map at 512, blocks of 1 MiB from 1024 on, the first of them stored.
fn vdi() -> Build {
    Build::new(1024 + (1 << 20))
        .put(0, b"<<< made to do harm >>>\n")
        .le32(64, 0xbeda_107f)
        .le32(68, 0x0001_0001)
        .le32(72, 400)
        .le32(76, 1)
        .le32(340, 512)
        .le32(344, 1024)
        .le32(360, 512)
        .le64(368, 4 << 20)
        .le32(376, 1 << 20)
        .le32(384, 4)
        .le32(388, 1)
        .put(512, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
}

#[test]
fn vdi_that_leads_astray() {
    requires!("time");
    let cases = [
        case("as-it-should-be", vdi()),
        case("header-alone", vdi().0[..400].to_vec()),
        case("block-of-0", vdi().le32(376, 0)),
        case("block-of-1", vdi().le32(376, 1)),
        case("block-of-4-gib", vdi().le32(376, u32::MAX)),
        case("blocks-0", vdi().le32(384, 0)),
        huge("blocks-4294967295", vdi().le32(384, u32::MAX).le64(368, 1 << 52)),
        huge("size-of-all-numbers", vdi().le64(368, u64::MAX)),
        huge("size-of-more-than-its-blocks", vdi().le64(368, 1 << 40)),
        case("map-past-the-end", vdi().le32(340, u32::MAX)),
        case("map-is-the-header", vdi().le32(340, 0)),
        case("data-past-the-end", vdi().le32(344, u32::MAX)),
        case("data-is-the-header", vdi().le32(344, 0)),
        case("block-past-the-end", vdi().le32(512, 0xffff_fffd)),
        case("blocks-that-are-one", vdi().le32(516, 0).le32(520, 0).le32(524, 0)),
        case("type-4-differencing", vdi().le32(76, 4)),
        case("type-4294967295", vdi().le32(76, u32::MAX)),
        case("version-4294967295", vdi().le32(68, u32::MAX)),
        case("sectors-of-0", vdi().le32(360, 0)),
        case("extra-of-4-gib", vdi().le32(380, u32::MAX)),
    ];
    judge(&cases, "vdi");
}

// ---- ext ----

/// An ext4 of 4 MiB with a few files, made by mke2fs; `script` goes to debugfs, which may break what it likes.
fn ext(dir: &Path, script: &str) -> Vec<u8> {
    let image = dir.join("ext.img");
    let tree = dir.join("tree");
    if !tree.exists() {
        std::fs::create_dir_all(tree.join("dir/sub")).unwrap();
        std::fs::write(tree.join("file"), vec![b'y'; 20_000]).unwrap();
        std::fs::write(tree.join("dir/sub/small"), "small\n").unwrap();
        std::os::unix::fs::symlink("/file", tree.join("link")).unwrap();
    }
    let script = script.replace('\n', "\\n");
    common::sh(&format!(
        "rm -f '{image}'; mke2fs -q -t ext4 -b 1024 -O ^metadata_csum -d '{tree}' '{image}' 4M\n\
         printf '{script}\\n' | debugfs -w -f - '{image}' >/dev/null 2>&1",
        image = image.display(),
        tree = tree.display()
    ));
    std::fs::read(&image).unwrap()
}

#[test]
fn ext_superblocks_beyond_reason() {
    requires!("time", "mke2fs", "debugfs");
    let dir = common::tempdir();
    let good = ext(dir.path(), "");
    let field = |name: &str, change: &dyn Fn(Build) -> Build| case(name, change(Build(good.clone())));
    let cases = [
        field("as-it-should-be", &|b| b),
        field("blocks-of-2-to-the-70", &|b| b.le32(1024 + 24, 60)),
        field("blocks-of-2-to-the-4294967305", &|b| b.le32(1024 + 24, u32::MAX)),
        field("inodes-per-group-0", &|b| b.le32(1024 + 40, 0)),
        field("inodes-per-group-4294967295", &|b| b.le32(1024 + 40, u32::MAX)),
        field("blocks-per-group-0", &|b| b.le32(1024 + 32, 0)),
        field("blocks-per-group-1", &|b| b.le32(1024 + 32, 1)),
        field("blocks-4294967295", &|b| b.le32(1024 + 4, u32::MAX)),
        field("blocks-of-all-numbers", &|b| {
            b.le32(1024 + 4, u32::MAX).le32(1024 + 0x150, u32::MAX).le32(1024 + 0x60, 0x2c2)
        }),
        field("inodes-0", &|b| b.le32(1024, 0)),
        field("first-data-block-4294967295", &|b| b.le32(1024 + 20, u32::MAX)),
        field("inode-of-0-bytes", &|b| b.le16(1024 + 88, 0)),
        field("inode-of-1-byte", &|b| b.le16(1024 + 88, 1)),
        field("inode-of-65535-bytes", &|b| b.le16(1024 + 88, u16::MAX)),
        field("descriptor-of-1-byte", &|b| b.le32(1024 + 0x60, 0x2c2).le16(1024 + 0xfe, 1)),
        field("descriptor-of-65535-bytes", &|b| b.le32(1024 + 0x60, 0x2c2).le16(1024 + 0xfe, u16::MAX)),
        field("every-incompatible-feature", &|b| b.le32(1024 + 0x60, u32::MAX)),
        field("revision-4294967295", &|b| b.le32(1024 + 76, u32::MAX)),
        field("reserved-gdt-65535", &|b| b.le16(1024 + 0xce, u16::MAX)),
        field("flex-groups-of-2-to-the-255", &|b| b.put(1024 + 0x174, &[255])),
        field("first-meta-group-4294967295", &|b| b.le32(1024 + 0x104, u32::MAX)),
        field("inode-table-past-the-end", &|b| b.le32(2048 + 8, u32::MAX)),
        field("inode-table-is-the-superblock", &|b| b.le32(2048 + 8, 1)),
        field("label-with-terminal-escapes", &|b| b.put(1024 + 120, b"\x1b[31m\x07\n\r\x9b2J")),
        field("last-mounted-with-terminal-escapes", &|b| b.put(1024 + 136, b"\x1b]0;owned\x07")),
    ];
    judge(&cases, "ext4");
}

#[test]
fn ext_inodes_that_lead_astray() {
    requires!("time", "mke2fs", "debugfs");
    let dir = common::tempdir();
    let broken = |name: &str, script: &str| case(name, ext(dir.path(), script));
    // The extent root of an inode stands in block[0..15]: magic and entries, max and depth, generation, then entries.
    let root = |file: &str, words: &[u32]| {
        words
            .iter()
            .enumerate()
            .map(|(n, word)| format!("sif {file} block[{n}] {word}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let cases = [
        broken("file-of-8-eib", "sif /file size 0x7fffffffffffffff"),
        huge("file-of-4-tib", ext(dir.path(), "sif /file size 0x3ff00000000")),
        broken("directory-of-8-eib", "sif / size 0x7fffffffffffffff"),
        broken("link-of-4-gib", "sif /link size 0xffffffff"),
        broken("root-is-a-file", "sif / mode 0100644"),
        broken("root-is-a-link", "sif / mode 0120777"),
        broken("root-is-freed", "sif / mode 0"),
        broken("file-is-a-device", "sif /file mode 0060644"),
        broken("file-is-of-no-kind", "sif /file mode 0170644"),
        broken("file-is-a-directory", "sif /file mode 0040755"),
        broken("directory-is-its-own-child", "unlink /dir/sub\nlink / /dir/sub"),
        broken("entry-of-inode-4294967295", "link <11> /astray\nsif /dir/sub links_count 0\nmkdir /x"),
        broken("extents-of-depth-65535", &root("/file", &[0xf30a | 1 << 16, 4 | 0xffff_0000, 0, 0, 10, 0])),
        broken("extents-65535", &root("/file", &[0xf30a | 0xffff_0000, 0xffff, 0, 0, 10, 0])),
        broken("extent-tree-of-the-superblock", &root("/file", &[0xf30a | 1 << 16, 4 | 1 << 16, 0, 0, 1, 0])),
        broken(
            "extent-past-the-end",
            &root("/file", &[0xf30a | 1 << 16, 4, 0, 0, 20 | 0xffff_0000, u32::MAX]),
        ),
        broken(
            "directory-extent-past-the-end",
            &root("/dir", &[0xf30a | 1 << 16, 4, 0, 0, 1 | 0xffff_0000, u32::MAX]),
        ),
        broken("directory-is-the-superblock", &root("/dir", &[0xf30a | 1 << 16, 4, 0, 0, 1, 1])),
        broken("names-with-terminal-escapes", "mkdir \x1b[31mred\nmkdir a\x07b"),
    ];
    judge(&cases, "ext4");
}

// ---- other files ----

/// Names that an image may not open.
fn forbidden(dir: &Path) -> Vec<(&'static str, String)> {
    let canary = dir.join("canary.raw").display().to_string();
    vec![
        ("absolute", canary.clone()),
        ("relative", "canary.raw".to_owned()),
        ("dot", "./canary.raw".to_owned()),
        ("up-and-down", "../DIR/canary.raw".replace("DIR", dir.file_name().unwrap().to_str().unwrap())),
        ("link", "link.raw".to_owned()),
        ("fifo", "fifo".to_owned()),
        ("passwd", "/etc/passwd".to_owned()),
        ("shadow", "/etc/shadow".to_owned()),
        ("environment", "/proc/self/environ".to_owned()),
        ("descriptor", "/dev/fd/0".to_owned()),
        ("disk", "/dev/sda".to_owned()),
        ("fdset", "/dev/fdset/1".to_owned()),
        (
            "json",
            format!("json:{{\"driver\":\"raw\",\"file\":{{\"driver\":\"file\",\"filename\":\"{canary}\"}}}}"),
        ),
        ("json-empty", "json:{}".to_owned()),
        ("file-url", format!("file://{canary}")),
        ("file-prefix", format!("file:{canary}")),
        ("host-device", "host_device:/dev/sda".to_owned()),
        ("nbd", "nbd://127.0.0.1:10809/x".to_owned()),
        ("http", "http://127.0.0.1:9/x".to_owned()),
        ("ssh", "ssh://localhost/etc/passwd".to_owned()),
        ("fat", "fat:rw:/etc".to_owned()),
        ("nul", "canary.raw\0.qcow2".to_owned()),
        ("escapes", "\x1b]0;owned\x07\x1b[2J".to_owned()),
        ("format", "%s%n%x{}".to_owned()),
        ("long", "x/".repeat(500)),
    ]
}

/// An image for each forbidden name and each way of naming it.
fn referring(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut images = Vec::new();
    for (what, name) in forbidden(dir) {
        images.push((format!("backing-{what}.qcow2"), qcow2_backed(&name).into()));
        let raw = "raw";
        let typed =
            qcow2_backed(&name).be32(104, 0xe279_2aca).be32(108, raw.len() as u32).put(112, raw.as_bytes());
        images.push((format!("backing-raw-{what}.qcow2"), typed.into()));
        let data =
            qcow2().be64(72, 4).be32(104, 0x4441_5441).be32(108, name.len() as u32).put(112, name.as_bytes());
        images.push((format!("data-{what}.qcow2"), data.into()));
        let old = qcow().be64(8, 0x100).be32(16, name.len() as u32).put(0x100, name.as_bytes());
        images.push((format!("backing-{what}.qcow"), old.into()));
        let named = qed().le32(56, 0x100).le32(60, name.len() as u32).put(0x100, name.as_bytes());
        images.push((format!("backing-{what}.qed"), named.clone().le64(16, 1).into()));
        images.push((format!("backing-raw-{what}.qed"), named.le64(16, 5).into()));
        for kind in ["FLAT", "SPARSE", "VMFS"] {
            let offset = if kind == "FLAT" { " 0" } else { "" };
            let text = descriptor(&format!("createType=\"monolithicFlat\"\nRW 8 {kind} \"{name}\"{offset}"));
            images.push((format!("extent-{}-{what}.vmdk", kind.to_lowercase()), text));
        }
        let parent = format!("parentFileNameHint=\"{name}\"\nRW 8 ZERO");
        let parent = String::from_utf8(descriptor(&parent))
            .unwrap()
            .replace("parentCID=ffffffff", "parentCID=12345678");
        images.push((format!("parent-{what}.vmdk"), parent.into_bytes()));
        let embedded = vmdk().put(512, &[0; 10240]).put(512, parent_text(&name).as_bytes());
        images.push((format!("parent-in-sparse-{what}.vmdk"), embedded.into()));
    }
    images
}

fn parent_text(name: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=12345678\nparentFileNameHint=\"{name}\"\n\
         createType=\"monolithicSparse\"\nRW 2048 SPARSE \"self.vmdk\"\n"
    )
}

/// A place with everything in it that an image might like to have.
fn trap() -> (tempfile::TempDir, PathBuf) {
    let dir = common::tempdir();
    let path = dir.path().canonicalize().unwrap();
    std::fs::write(path.join("canary.raw"), CANARY.repeat(1000)).unwrap();
    std::os::unix::fs::symlink("canary.raw", path.join("link.raw")).unwrap();
    common::sh(&format!("mkfifo '{}'", path.join("fifo").display()));
    (dir, path)
}

#[test]
fn no_image_gets_a_file_that_it_names() {
    requires!("time");
    let (_keep, dir) = trap();
    let mut found = Vec::new();
    for (image, bytes) in referring(&dir) {
        std::fs::write(dir.join(&image), bytes).unwrap();
        // VMware's own names for extents lead out of the directory here.
        for verb in ["info", "hash"] {
            let run = run(&[verb, &image], &dir);
            let mut complaints = complaints(&run);
            if run.output.status.code() == Some(0) && verb == "hash" {
                complaints.push("was opened without what it stands on".to_owned());
            }
            if !complaints.is_empty() {
                found.push(format!("{verb} {image}: {}", complaints.join(", ")));
            }
        }
        std::fs::remove_file(dir.join(&image)).unwrap();
    }
    assert!(found.is_empty(), "{} complaints\n{}", found.len(), found.join("\n"));
}

#[test]
fn links_in_the_place_of_own_extents_are_not_followed() {
    requires!("time");
    let (_keep, dir) = trap();
    for target in ["canary.raw", "/etc/passwd", "fifo"] {
        let flat = dir.join("trap-flat.vmdk");
        drop(std::fs::remove_file(&flat));
        std::os::unix::fs::symlink(target, &flat).unwrap();
        std::fs::write(
            dir.join("trap.vmdk"),
            descriptor("createType=\"monolithicFlat\"\nRW 2 FLAT \"trap-flat.vmdk\" 0"),
        )
        .unwrap();
        let run = run(&["hash", "trap.vmdk"], &dir);
        assert!(complaints(&run).is_empty(), "{target}: {:?}", complaints(&run));
        assert_eq!(run.output.status.code(), Some(3), "{target}");
    }
}

/// The kernel's own list of what was opened, for one image of each kind.
#[test]
fn strace_sees_nothing_opened_but_the_image() {
    requires!("strace");
    let (_keep, dir) = trap();
    let mut found = Vec::new();
    for (image, bytes) in referring(&dir).into_iter().filter(|(image, _)| {
        ["absolute", "relative", "passwd", "link", "fifo", "json.", "nbd", "http"]
            .iter()
            .any(|what| image.contains(what))
    }) {
        std::fs::write(dir.join(&image), bytes).unwrap();
        let trace = dir.join("trace");
        let status = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=%file,connect,execve", "-o"])
            .arg(&trace)
            .args([common::IMGMOUNT, "info", &image])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.code().is_some(), "{image}: {status}");
        for line in std::fs::read_to_string(&trace).unwrap().lines() {
            let opened = !line.contains(" = -1 ");
            let bad = ["canary", "link.raw", "fifo", "/etc/passwd", "/etc/shadow", "connect("]
                .iter()
                .any(|what| line.contains(what));
            let program_itself = line.contains("execve(") || line.contains(&format!("\"{image}\""));
            if opened && bad && !program_itself {
                found.push(format!("{image}: {line}"));
            }
        }
        std::fs::remove_file(dir.join(&image)).unwrap();
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

// ---- what was found once ----

#[test]
fn every_file_of_the_collection() {
    requires!("time");
    let folder = common::root().join("tests/hostile");
    let mut cases = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "README.md" {
            cases.push(huge(&name, std::fs::read(&path).unwrap()));
        }
    }
    judge(&cases, "img");
}

/// The broken samples of other projects, where they are at hand: what they broke there must not break here.
#[test]
fn broken_samples_of_others() {
    requires!("time", "corpus", "xz");
    let folder = common::corpus().unwrap().join("broken");
    let dir = common::tempdir();
    let list = common::sh(&format!("find '{}' -type f -size -2M | sort", folder.display()));
    let mut found = Vec::new();
    for path in list.lines().filter(|path| !path.ends_with(".tsv")) {
        // What is packed by bzip2 comes as it is.
        let is_packed = path.ends_with(".xz") || path.ends_with(".gz");
        let unpacked = is_packed.then(|| common::samples::unpacked_as_far_as_it_goes(Path::new(path)));
        let image = unpacked.as_deref().map_or_else(
            || {
                std::fs::copy(path, dir.path().join("sample.img")).unwrap();
                dir.path().join("sample.img")
            },
            Path::to_owned,
        );
        let image = image.to_str().unwrap();
        for words in [["info", image], ["ls", &format!("{image}:/")]] {
            let complaints = complaints(&run(&words, dir.path()));
            if !complaints.is_empty() {
                found.push(format!("{} {path}: {}", words[0], complaints.join(", ")));
            }
        }
    }
    assert!(found.is_empty(), "{} complaints\n{}", found.len(), found.join("\n"));
}
