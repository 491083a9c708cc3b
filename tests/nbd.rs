//! The NBD server among many clients, good and bad, and the real clients: libnbd's tools, qemu, fio and the `nbd` crate's.
//! What each option and request is answered is in `nbd_protocol.rs`. Bytes are compared with the raw file, by `cmp` or
//! `qemu-img compare`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stderr,
    reason = "a test panics where something is wrong"
)]
mod common;

use imgmount::block::{BlockSource, check_range};
use imgmount::error::{ErrorKind, Result};
use imgmount::serve::nbd::{Export, Listener, Options, Server, Stop};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

// ---- a disk whose every byte is known -------------------------------------------------------------------------

/// 40 MiB of data that depend on the position.
#[derive(Debug)]
struct Disk;

fn byte(at: u64) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1
}

fn expected(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(byte).collect()
}

impl BlockSource for Disk {
    fn len(&self) -> u64 {
        40 * MIB
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        for (at, byte_) in (offset..).zip(buf) {
            *byte_ = byte(at);
        }
        Ok(())
    }
}

// ---- a server in this process ---------------------------------------------------------------------------------

struct Served {
    path: PathBuf,
    stop: Stop,
    thread: Option<JoinHandle<Result<()>>>,
    _dir: tempfile::TempDir,
}

fn serve_with(options: Options) -> Served {
    let dir = common::tempdir();
    let path = dir.path().join("s");
    let listener = Listener::Unix(UnixListener::bind(&path).unwrap());
    let export =
        |name: &str| Export { name: name.into(), about: format!("the {name} disk"), source: Arc::new(Disk) };
    let server = Server::new(vec![export(""), export("disk"), export("p1")], options).unwrap();
    let stop = Stop::default();
    let told = stop.clone();
    let thread = std::thread::spawn(move || server.run(vec![listener], &told));
    Served { path, stop, thread: Some(thread), _dir: dir }
}

fn serve() -> Served {
    serve_with(Options::default())
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

// ---- a client that says what it is told -----------------------------------------------------------------------

const FIXED_AND_NO_ZEROES: u32 = 3;
const OPT_GO: u32 = 7;
const OPT_STRUCTURED: u32 = 8;
const OPT_SET_META: u32 = 10;
const ACK: u32 = 1;
const ERR_POLICY: u32 = (1 << 31) + 2;

const READ: u16 = 0;
const EIO: u32 = 5;

struct Client(UnixStream);

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text].concat()
}

/// The payload of GO and INFO.
fn go(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut payload = string(name.as_bytes());
    payload.extend((wanted.len() as u16).to_be_bytes());
    wanted.iter().for_each(|kind| payload.extend(kind.to_be_bytes()));
    payload
}

/// The payload of the metadata context options.
fn meta(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut payload = string(name.as_bytes());
    payload.extend((queries.len() as u32).to_be_bytes());
    queries.iter().for_each(|query| payload.extend(string(query.as_bytes())));
    payload
}

impl Client {
    /// Connected and greeted, with nothing said yet.
    fn silent(server: &Served) -> Self {
        let mut stream = UnixStream::connect(&server.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, *b"NBDMAGICIHAVEOPT\0\x03");
        Self(stream)
    }

    fn new(server: &Served) -> Self {
        let mut client = Self::silent(server);
        client.send(&FIXED_AND_NO_ZEROES.to_be_bytes());
        client
    }

    /// In the transmission phase, with structured replies and `base:allocation`.
    fn structured(server: &Served) -> Self {
        let mut client = Self::new(server);
        assert_eq!(client.answer(OPT_STRUCTURED, &[]), (ACK, vec![]));
        assert_eq!(client.answers(OPT_SET_META, &meta("", &["base:allocation"])).len(), 2);
        assert_eq!(client.answers(OPT_GO, &go("", &[])).last().unwrap().0, ACK);
        client
    }

    /// In the transmission phase, with simple replies.
    fn simple(server: &Served) -> Self {
        let mut client = Self::new(server);
        assert_eq!(client.answers(OPT_GO, &go("", &[])).last().unwrap().0, ACK);
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn option_header(&mut self, number: u32, len: u32) {
        self.send(&[&b"IHAVEOPT"[..], &number.to_be_bytes(), &len.to_be_bytes()].concat());
    }

    /// Sends an option; every answer to it: kind and payload.
    fn answers(&mut self, number: u32, payload: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.option_header(number, payload.len() as u32);
        self.send(payload);
        let mut all = Vec::new();
        loop {
            let header = self.receive(20);
            assert_eq!(be64(&header), 0x0003_e889_0455_65a9);
            assert_eq!(be32(&header[8..]), number);
            let kind = be32(&header[12..]);
            let payload = self.receive(be32(&header[16..]) as usize);
            all.push((kind, payload));
            if kind == ACK || kind & (1 << 31) != 0 {
                return all;
            }
        }
    }

    /// Of an option that is answered once.
    fn answer(&mut self, number: u32, payload: &[u8]) -> (u32, Vec<u8>) {
        let mut all = self.answers(number, payload);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn error(&mut self, number: u32, payload: &[u8]) -> u32 {
        self.answer(number, payload).0
    }

    fn request(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) {
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        self.send(&bytes);
    }

    /// Error number and cookie of a simple reply; data must be received after it.
    fn simple_reply(&mut self) -> (u32, u64) {
        let header = self.receive(16);
        assert_eq!(be32(&header), 0x6744_6698);
        (be32(&header[4..]), be64(&header[8..]))
    }

    /// Cookie and payload of a reply that is one chunk.
    fn chunk(&mut self) -> (u64, Vec<u8>) {
        let header = self.receive(20);
        assert_eq!(be32(&header), 0x668e_33ef);
        assert_eq!(header[4..6], [0, 1], "the flags say that it is the last one");
        (be64(&header[8..]), self.receive(be32(&header[16..]) as usize))
    }

    /// Has the server hung up?
    fn assert_closed(&mut self) {
        let mut rest = [0; 1];
        match self.0.read(&mut rest) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("the connection is open: {other:?}"),
        }
    }

    fn assert_alive(&mut self) {
        self.request(0, READ, 0xa11fe, 4096, 512);
        let (cookie, payload) = self.chunk();
        assert_eq!((cookie, &payload[8..]), (0xa11fe, &expected(4096, 512)[..]));
    }
}

// ---- what many clients may cost ------------------------------------------------------------------------------

#[test]
fn a_slow_handshake_is_dropped_at_the_deadline() {
    let server = serve_with(Options { handshake: Duration::from_millis(300), ..Options::default() });
    let mut silent = Client::silent(&server);
    let mut dripping = Client::new(&server);
    let start = Instant::now();
    for byte in b"IHAVEOPT" {
        drop(dripping.0.write_all(&[*byte]));
        std::thread::sleep(Duration::from_millis(60));
    }
    dripping.assert_closed();
    silent.assert_closed();
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn two_hundred_silent_connections_keep_nobody_out() {
    let server = serve();
    let silent: Vec<_> = (0..200).map(|_| UnixStream::connect(&server.path).unwrap()).collect();
    let start = Instant::now();
    let mut client = Client::structured(&server);
    client.assert_alive();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_full_server_says_so_and_takes_the_next_when_one_leaves() {
    let server = serve_with(Options { clients: 1, ..Options::default() });
    let first = Client::simple(&server);
    let mut second = Client::new(&server);
    assert_eq!(second.error(OPT_GO, &go("", &[])), ERR_POLICY);
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(5);
    while second.answers(OPT_GO, &go("", &[])).last().unwrap().0 != ACK {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn two_exports_of_one_name_are_refused() {
    let export = || Export { name: "x".into(), about: String::new(), source: Arc::new(Disk) };
    let error = Server::new(vec![export(), export()], Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn large_simple_reads_of_many_clients_are_all_right_when_memory_is_short() {
    let server = serve();
    let mut clients: Vec<_> = (0..5).map(|_| Client::simple(&server)).collect();
    clients.iter_mut().for_each(|client| client.request(0, READ, 1, 6 * MIB, 30 << 20));
    let wanted = expected(6 * MIB, 30 * MIB);
    for client in clients.iter_mut().rev() {
        assert_eq!(client.simple_reply(), (0, 1));
        assert!(client.receive(30 << 20) == wanted);
    }
}

// ---- clients that behave badly, and the end -------------------------------------------------------------------

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_read_hurts_nobody() {
    let server = serve();
    for _ in 0..20 {
        let mut client = Client::structured(&server);
        (0..8).for_each(|cookie| client.request(0, READ, cookie, 6 * MIB, 32 << 20));
        client.receive(100_000);
    }
    Client::structured(&server).assert_alive();
}

#[test]
fn a_client_that_takes_no_replies_is_dropped_and_holds_nobody_up() {
    let server = serve_with(Options { stall: Duration::from_millis(400), threads: 2, ..Options::default() });
    let mut greedy: Vec<_> = (0..6).map(|_| Client::structured(&server)).collect();
    for client in &mut greedy {
        (0..40).for_each(|cookie| client.request(0, READ, cookie, 6 * MIB, 32 << 20));
    }
    let start = Instant::now();
    let mut good = Client::structured(&server);
    good.assert_alive();
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(1500));
    // What the kernel held is still there; then comes the end, long before 40 * 32 MiB.
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = greedy[0].0.read(&mut buffer) {
        taken += read;
    }
    assert!(taken < 64 << 20, "{taken}");
    good.assert_alive();
}

#[test]
fn stop_hangs_up_on_everyone() {
    let server = serve();
    let mut client = Client::structured(&server);
    let start = Instant::now();
    drop(server);
    client.assert_closed();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn once_ends_when_the_last_of_the_first_clients_leaves() {
    let mut server = serve_with(Options { once: true, ..Options::default() });
    let (first, second) = (Client::structured(&server), Client::structured(&server));
    drop(first);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!server.thread.as_ref().unwrap().is_finished());
    drop(second);
    server.thread.take().unwrap().join().unwrap().unwrap();
    server.thread = Some(std::thread::spawn(|| Ok(())));
}

#[test]
fn idle_exit_ends_after_the_last_client_and_not_before() {
    let mut server =
        serve_with(Options { idle_exit: Some(Duration::from_millis(300)), ..Options::default() });
    let client = Client::structured(&server);
    std::thread::sleep(Duration::from_millis(600));
    assert!(!server.thread.as_ref().unwrap().is_finished());
    drop(client);
    server.thread.take().unwrap().join().unwrap().unwrap();
    server.thread = Some(std::thread::spawn(|| Ok(())));
}

// ---- the real program and real clients ------------------------------------------------------------------------

/// `imgmount serve` on a file, waited for.
struct Program {
    child: Child,
    socket: PathBuf,
    uri: String,
    image: PathBuf,
    dir: tempfile::TempDir,
}

/// 48 MiB with data, holes and zeros, made by the tools of the host.
fn image(dir: &Path) -> PathBuf {
    let path = dir.join("disk.raw");
    common::sh(&format!(
        "cd {}; truncate -s 48M disk.raw
         dd if=/dev/urandom of=disk.raw bs=64K count=40 seek=16 conv=notrunc status=none
         dd if=/dev/urandom of=disk.raw bs=4K count=1 seek=9000 conv=notrunc status=none
         dd if=/dev/zero of=disk.raw bs=1M count=2 seek=20 conv=notrunc status=none
         printf end | dd of=disk.raw bs=1 seek=50331645 conv=notrunc status=none",
        dir.display()
    ));
    path
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn program(args: &[&str]) -> Program {
    let dir = common::tempdir();
    let (image, socket) = (image(dir.path()), dir.path().join("sock"));
    let mut command = Command::new(common::IMGMOUNT);
    command.arg("serve").arg(&image).arg("--socket").arg(&socket).args(args);
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the server did not come up", || UnixStream::connect(&socket).is_ok());
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    Program { child, socket, uri, image, dir }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Program {
    fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn nbdinfo_sees_a_read_only_disk_with_every_feature() {
    requires!("nbdinfo");
    let server = program(&[]);
    let json: serde_json::Value =
        serde_json::from_str(&common::sh(&format!("nbdinfo --json '{}'", server.uri))).unwrap();
    let export = &json["exports"][0];
    assert_eq!(json["structured"], true);
    assert_eq!(export["export-size"], 48 << 20);
    assert_eq!(export["contexts"], serde_json::json!(["base:allocation", "qemu:allocation-depth"]));
    let features = ["is_read_only", "can_multi_conn", "can_df", "can_cache"];
    assert!(features.iter().all(|feature| export[feature] == true), "{export}");
    assert_eq!(export["block_size_maximum"], 32 << 20);
}

#[test]
fn nbdinfo_map_has_the_holes_that_qemu_img_map_has() {
    requires!("nbdinfo", "qemu-img");
    let server = program(&[]);
    let ours: serde_json::Value =
        serde_json::from_str(&common::sh(&format!("nbdinfo --map --json '{}'", server.uri))).unwrap();
    let image = server.image.display();
    let theirs: serde_json::Value =
        serde_json::from_str(&common::sh(&format!("qemu-img map -f raw --output=json {image}"))).unwrap();
    let ours: Vec<_> = ours
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["offset"].clone(), e["length"].clone(), e["type"] == 3))
        .collect();
    let theirs: Vec<_> = theirs
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["start"].clone(), e["length"].clone(), e["data"] == false))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn qemu_nbd_lists_twelve_partitions() {
    requires!("qemu-nbd", "sfdisk");
    let dir = common::tempdir();
    let image = dir.path().join("d.raw");
    common::sh(&format!(
        "truncate -s 32M {0}; (echo label: gpt; for n in $(seq 12); do echo size=1M; done) | sfdisk -q {0}",
        image.display()
    ));
    let list = "qemu-nbd --list -k \"$unixsocket\"";
    let output = common::imgmount(["serve", image.to_str().unwrap(), "--run", list]);
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    let list = common::stdout(&output);
    // The disk under its two names, and the partitions.
    assert_eq!(list.matches("export: ").count(), 14, "{list}");
    assert!(list.contains("export: 'p12'"), "{list}");
}

#[test]
fn nbdinfo_lists_disk_and_partitions() {
    requires!("nbdinfo", "sfdisk");
    let dir = common::tempdir();
    let image = dir.path().join("d.raw");
    common::sh(&format!(
        "truncate -s 16M {0}; printf 'label: dos\\nstart=2048,size=4096\\nstart=8192,size=8192\\n' | sfdisk -q {0}",
        image.display()
    ));
    let output = common::imgmount(["serve", image.to_str().unwrap(), "--run", "nbdinfo --list --json $uri"]);
    let json: serde_json::Value = serde_json::from_str(&common::stdout(&output)).unwrap();
    let exports: Vec<_> = json["exports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|export| (export["export-name"].as_str().unwrap(), export["export-size"].as_u64().unwrap()))
        .collect();
    assert_eq!(exports, [("", 16 * MIB), ("disk", 16 * MIB), ("p1", 2 * MIB), ("p2", 4 * MIB)]);
}

#[test]
fn nbdcopy_brings_the_same_bytes_with_and_without_extents() {
    requires!("nbdcopy");
    let server = program(&[]);
    let (dir, image) = (server.dir.path().display(), server.image.display());
    common::sh(&format!("nbdcopy '{}' {dir}/a.raw; cmp {image} {dir}/a.raw", server.uri));
    common::sh(&format!("nbdcopy --no-extents '{}' {dir}/b.raw; cmp {image} {dir}/b.raw", server.uri));
    common::sh(&format!("nbdcopy --synchronous '{}' {dir}/c.raw; cmp {image} {dir}/c.raw", server.uri));
}

#[test]
fn nbddump_shows_the_last_bytes() {
    requires!("nbddump");
    let server = program(&[]);
    let dump = common::sh(&format!("nbddump '{}' | tail -1", server.uri));
    assert!(dump.contains("65 6e 64 |.............end|"), "{dump}");
}

#[test]
fn qemu_img_reads_the_same_disk() {
    requires!("qemu-img");
    let server = program(&[]);
    let (uri, dir, image) = (&server.uri, server.dir.path().display(), server.image.display());
    let info: serde_json::Value =
        serde_json::from_str(&common::sh(&format!("qemu-img info --output=json '{uri}'"))).unwrap();
    assert_eq!(info["virtual-size"], 48 << 20);
    common::sh(&format!("qemu-img compare -f raw -F raw {image} '{uri}'"));
    common::sh(&format!("qemu-img convert -f raw '{uri}' -O qcow2 {dir}/x.qcow2"));
    common::sh(&format!("qemu-img compare -f raw -F qcow2 {image} {dir}/x.qcow2"));
    let map = |what: &str| {
        let map: serde_json::Value =
            serde_json::from_str(&common::sh(&format!("qemu-img map -f raw --output=json '{what}'")))
                .unwrap();
        let map = map.as_array().unwrap().clone();
        map.iter().map(|e| (e["start"].clone(), e["length"].clone(), e["zero"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(map(uri), map(server.image.to_str().unwrap()));
}

#[test]
fn libnbd_reads_over_many_connections_and_is_refused_writes() {
    requires!("/usr/bin/python3", "nbdsh");
    if !Command::new("/usr/bin/python3").args(["-c", "import nbd"]).status().unwrap().success() {
        return common::skip("python3-libnbd is not available");
    }
    let server = program(&[]);
    let script = "
import nbd, sys, errno
uri, image = sys.argv[1:]
disk = open(image, 'rb').read()
conns = []
for i in range(8):
    h = nbd.NBD()
    h.add_meta_context('base:allocation')
    h.connect_uri(uri)
    conns.append(h)
assert conns[0].can_multi_conn() and conns[0].can_meta_context('base:allocation')
for i in range(400):
    h = conns[i % 8]
    at = (i * 7919 * 131) % (len(disk) - 70000)
    assert bytes(h.pread(70000, at)) == disk[at:at + 70000], at
h = conns[0]
h.set_strict_mode(0)
def fails(code, call):
    try: call()
    except nbd.Error as e: assert e.errno == code, (e.errno, e.string)
    else: raise SystemExit('no error')
fails('EPERM', lambda: h.pwrite(b'x' * 4096, 0))
fails('EPERM', lambda: h.zero(4096, 0))
fails('EPERM', lambda: h.trim(4096, 0))
fails('EINVAL', lambda: h.pread(512, len(disk)))
h.cache(1 << 20, 0)
chunks = []
h.pread_structured(6 << 20, 0, lambda b, o, s, e: chunks.append((o, len(b), s)))
assert {s for _, _, s in chunks} == {nbd.READ_DATA, nbd.READ_HOLE}, chunks
";
    let status =
        Command::new("/usr/bin/python3").args(["-c", script, &server.uri]).arg(&server.image).status();
    assert!(status.unwrap().success());
}

#[cfg(feature = "second-opinion")]
#[test]
fn the_nbd_crates_legacy_client_reads_the_same_bytes() {
    let server = program(&[]);
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    let export = nbd::client::handshake(&mut stream, b"disk").unwrap();
    assert_eq!((export.size, export.readonly), (48 << 20, true));
    let mut client = nbd::client::NbdClient::new(&mut stream, &export);
    let mut bytes = vec![0; 48 << 20];
    // It sends what it is asked for in one request, however large.
    bytes.chunks_mut(16 << 20).for_each(|part| client.read_exact(part).unwrap());
    assert!(bytes == std::fs::read(&server.image).unwrap());
}

#[test]
fn fio_verifies_random_reads_at_depth_16() {
    requires!("fio", "qemu-img");
    if !common::sh("fio --enghelp || true").contains("nbd") {
        return common::skip("fio has no nbd engine");
    }
    let server = program(&[]);
    common::sh(&format!(
        "cd {}; fio --name=r --ioengine=nbd --uri='{}' --rw=randread --bs=4k --iodepth=16 --io_size=16m --size=48m",
        server.dir.path().display(),
        server.uri
    ));
}

#[test]
fn nbdcopy_starts_the_server_by_socket_activation() {
    requires!("nbdcopy");
    let dir = common::tempdir();
    let (image, dir) = (image(dir.path()), dir.path().display());
    common::sh(&format!(
        "nbdcopy -- [ {} serve {image} ] {dir}/out.raw; cmp {image} {dir}/out.raw",
        common::IMGMOUNT,
        image = image.display()
    ));
}

#[test]
fn sockets_passed_in_exclude_sockets_of_our_own() {
    let output = Command::new("bash")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve x.raw --socket y 3</dev/null",
            common::IMGMOUNT,
        ])
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    let dir = common::tempdir();
    let image = image(dir.path());
    let script = "import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[3]); s.listen()
os.dup2(s.fileno(), 3)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], ['imgmount', 'serve', sys.argv[2], '--socket', sys.argv[3] + '2'])";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script, common::IMGMOUNT])
        .arg(&image)
        .arg(dir.path().join("s"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", common::stderr(&output));
}

#[test]
fn run_exits_with_the_commands_status_and_leaves_nothing() {
    let dir = common::tempdir();
    let image = image(dir.path());
    let run = |command: &str| common::imgmount(["serve", image.to_str().unwrap(), "--run", command]);
    let output = run("test -S \"$unixsocket\" && echo \"$unixsocket\" && exit 9");
    assert_eq!(output.status.code(), Some(9));
    let socket = PathBuf::from(common::stdout(&output).trim());
    assert!(!socket.exists() && !socket.parent().unwrap().exists());
    assert_eq!(run("exit 0").status.code(), Some(0));
    assert_eq!(run("/no/such/program").status.code(), Some(127));
    assert_eq!(run("kill -KILL $$").status.code(), Some(137));
}

#[test]
fn a_command_outlives_a_server_that_ends_and_its_status_is_ours() {
    requires!("pgrep");
    let dir = common::tempdir();
    let image = image(dir.path());
    let run = |command: &str| {
        let command = format!("worker=$(pgrep -P $PPID -f 'internal-[w]orker'); {command}");
        common::imgmount(["serve", image.to_str().unwrap(), "--run", &command]).status.code()
    };
    assert_eq!(run("kill -TERM $worker; sleep 0.3; exit 9"), Some(9));
    assert_eq!(run("trap 'exit 3' TERM; kill -KILL $worker; sleep 30 >&- 2>&- & wait; exit 9"), Some(70));
}

#[test]
fn a_signal_ends_a_server_that_is_still_opening() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk.raw", silent.local_addr().unwrap());
    for (args, code) in [(&[][..], 0), (&["--run", "true"], 128 + 15)] {
        let dir = common::tempdir();
        let socket = dir.path().join("sock");
        let mut command = Command::new(common::IMGMOUNT);
        command.args(["serve", &url, "--socket"]).arg(&socket).args(args);
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("no socket", || socket.exists());
        let (client, _) = silent.accept().unwrap();
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        let start = Instant::now();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!((output.status.code(), common::stderr(&output).as_str()), (Some(code), ""));
        assert!(!socket.exists());
        drop(client);
    }
}

#[test]
fn sigterm_ends_both_processes_and_removes_the_socket() {
    let mut server = program(&[]);
    let worker = common::sh(&format!("pgrep -P {}", server.child.id()));
    assert_eq!(server.terminate(), Some(0));
    assert!(!server.socket.exists());
    assert!(!Path::new("/proc").join(worker.trim()).exists());
}

#[test]
fn a_killed_supervisor_takes_its_worker_along_and_its_socket_is_replaced() {
    let mut server = program(&[]);
    let worker = common::sh(&format!("pgrep -P {}", server.child.id())).trim().to_owned();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    wait_for("the worker stayed", || {
        std::fs::read_to_string(format!("/proc/{worker}/stat")).map_or(true, |stat| stat.contains(") Z"))
    });
    assert!(server.socket.exists());
    let socket = server.socket.to_str().unwrap();
    let output =
        common::imgmount(["serve", server.image.to_str().unwrap(), "-k", socket, "--idle-exit", "50ms"]);
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    assert!(!server.socket.exists());
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let server = program(&[]);
    let (image, socket) = (server.image.to_str().unwrap(), server.socket.to_str().unwrap());
    let output = common::imgmount(["serve", image, "-k", socket]);
    assert_eq!(output.status.code(), Some(5));
    assert!(common::stderr(&output).contains("somebody listens there already"));
    assert!(UnixStream::connect(&server.socket).is_ok());
    let output = common::imgmount(["serve", image, "-k", image]);
    assert_eq!(output.status.code(), Some(5));
    assert!(server.image.exists());
}

#[test]
fn a_port_that_others_could_reach_needs_insecure() {
    let dir = common::tempdir();
    let image = image(dir.path());
    let serve = |args: &[&str]| {
        common::imgmount([&["serve", image.to_str().unwrap(), "--idle-exit", "50ms"], args].concat())
    };
    assert_eq!(serve(&["--tcp", "0.0.0.0:0"]).status.code(), Some(2));
    assert_eq!(serve(&["--tcp", "nonsense"]).status.code(), Some(2));
    let local = serve(&["--tcp", "127.0.0.1:0"]);
    assert_eq!(local.status.code(), Some(0));
    assert!(common::stderr(&local).contains("nbd://127.0.0.1:"), "{}", common::stderr(&local));
    assert_eq!(serve(&["--tcp", "0.0.0.0:0", "--insecure"]).status.code(), Some(0));
}

#[test]
fn tcp_clients_read_the_same_bytes() {
    requires!("nbdcopy");
    let dir = common::tempdir();
    let (image, out) = (image(dir.path()), dir.path().join("out.raw"));
    let command = format!("nbdcopy \"$uri\" {}", out.display());
    let output =
        common::imgmount(["serve", image.to_str().unwrap(), "--tcp", "127.0.0.1:0", "--run", &command]);
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    common::sh(&format!("cmp {} {}", image.display(), out.display()));
}

#[test]
fn fork_returns_when_clients_can_connect() {
    requires!("nbdinfo");
    let dir = common::tempdir();
    let image = image(dir.path());
    let (socket, pid) = (dir.path().join("s"), dir.path().join("pid"));
    let args = [image.to_str().unwrap(), "-k", socket.to_str().unwrap()];
    let pid_file = ["--pid-file", pid.to_str().unwrap()];
    let output = common::imgmount([&["serve", "--fork"][..], &args, &pid_file].concat());
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    let size = common::sh(&format!("nbdinfo --size 'nbd+unix:///?socket={}'", socket.display()));
    assert_eq!(size.trim(), (48 * MIB).to_string());
    common::sh(&format!("kill $(cat {})", pid.display()));
    wait_for("it did not end", || !socket.exists() && !pid.exists());
}

#[test]
fn fork_reports_what_keeps_it_from_serving() {
    let output = common::imgmount(["serve", "--fork", "/no/such.raw"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(common::stderr(&output).contains("no such file"));
}

#[test]
fn what_is_no_image_is_not_served_and_leaves_no_socket() {
    let dir = common::tempdir();
    let (empty, socket) = (dir.path().join("empty"), dir.path().join("s"));
    std::fs::write(&empty, b"").unwrap();
    let output = common::imgmount(["serve", empty.to_str().unwrap(), "-k", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", common::stderr(&output));
    assert!(!socket.exists());
}

#[test]
fn several_images_are_served_under_their_names() {
    let dir = common::tempdir();
    let (one, two) = (dir.path().join("one.raw"), dir.path().join("two.raw"));
    std::fs::write(&one, vec![1; 1 << 20]).unwrap();
    std::fs::write(&two, vec![2; 2 << 20]).unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let output = common::imgmount(["serve", one, two, "--list", "--format", "raw"]);
    let names: Vec<String> =
        common::stdout(&output).lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["one", "one/disk", "two", "two/disk"]);
}

#[test]
fn muscle_memory_of_qemu_nbd_works() {
    let server = program(&["-r", "-t", "-x", "mine", "-f", "raw", "-e", "4"]);
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(&[&3_u32.to_be_bytes()[..], b"IHAVEOPT\0\0\0\x01\0\0\0\x04mine"].concat()).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(be64(&answer), 48 * MIB);
}

#[test]
fn a_file_that_changes_is_an_error_for_ever_and_never_wrong_bytes() {
    requires!("nbdinfo");
    let server = program(&[]);
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    let mut client = Client(stream);
    client.send(&FIXED_AND_NO_ZEROES.to_be_bytes());
    client.answers(OPT_GO, &go("", &[]));
    client.request(0, READ, 1, 1 << 20, 4096);
    assert_eq!(client.simple_reply(), (0, 1));
    client.receive(4096);
    std::fs::OpenOptions::new().write(true).open(&server.image).unwrap().set_len(1 << 20).unwrap();
    client.request(0, READ, 2, 1 << 20, 4096);
    assert_eq!(client.simple_reply(), (EIO, 2));
}

#[test]
fn a_killed_client_leaves_the_server_serving() {
    requires!("nbdcopy", "nbdinfo");
    let server = program(&[]);
    for _ in 0..5 {
        let mut copy = Command::new("nbdcopy").args(["--no-extents", &server.uri, "null:"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15));
        drop(copy.kill());
        copy.wait().unwrap();
    }
    assert_eq!(common::sh(&format!("nbdinfo --size '{}'", server.uri)).trim(), (48 * MIB).to_string());
}

/// A copy of an export of `image`, made by nbdcopy.
fn copy_of(image: &str, args: &[&str], export: &str, out: &str) {
    let command = format!("nbdcopy \"nbd+unix:///{export}?socket=$unixsocket\" {out}");
    let output = common::imgmount([&["serve", image, "--run", &command][..], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
}

#[test]
fn every_format_is_served_as_the_disk_that_qemu_img_reads_from_it() {
    requires!("qemu-img", "nbdcopy");
    let dir = common::tempdir();
    image(dir.path());
    let dir = dir.path().display();
    let formats = [
        ("qcow2", "-O qcow2"),
        ("qcow2", "-O qcow2 -c"),
        ("vmdk", "-O vmdk"),
        ("vmdk", "-O vmdk -o subformat=streamOptimized"),
        ("vpc", "-O vpc -o force_size=on"),
    ];
    for (format, options) in formats {
        common::sh(&format!("qemu-img convert -f raw {options} {dir}/disk.raw {dir}/x"));
        copy_of(&format!("{dir}/x"), &[], "disk", &format!("{dir}/out.raw"));
        common::sh(&format!(
            "cd {dir}; qemu-img convert -f {format} -O raw x want.raw; cmp want.raw out.raw"
        ));
    }
}

#[test]
fn a_partition_and_a_layer_are_exports_of_their_own() {
    requires!("qemu-img", "nbdcopy", "sfdisk");
    let dir = common::tempdir();
    image(dir.path());
    let (dir, image) = (dir.path().display(), dir.path().join("top.qcow2"));
    common::sh(&format!(
        "cd {dir}; echo start=2048,size=20480 | sfdisk -q disk.raw
         qemu-img create -q -f qcow2 -b disk.raw -F raw top.qcow2
         qemu-io -f qcow2 -c 'write -P 0x77 2M 1M' top.qcow2
         qemu-img convert -O raw top.qcow2 want.raw"
    ));
    let (image, allow) = (image.to_str().unwrap(), dir.to_string());
    let allow = ["--allow-parent", &allow];
    copy_of(image, &allow, "disk", &format!("{dir}/disk.out"));
    copy_of(image, &allow, "p1", &format!("{dir}/p1.out"));
    copy_of(image, &allow, "layer%3Adisk.raw", &format!("{dir}/layer.out"));
    common::sh(&format!(
        "cd {dir}; cmp disk.out want.raw; cmp layer.out disk.raw; cmp p1.out <(tail -c +1048577 want.raw | head -c 10485760)"
    ));
}

#[test]
fn memory_stays_below_32_mib_and_the_cache() {
    requires!("qemu-img", "nbdcopy");
    let dir = common::tempdir();
    let at = dir.path().display();
    common::sh(&format!(
        "cd {at}; for i in $(seq 96); do head -c 500000 /dev/urandom; head -c 548576 /dev/zero | tr '\\0' x; done >d.raw
         qemu-img convert -c -O qcow2 d.raw d.qcow2"
    ));
    let peaks = "nbdcopy \"$uri\" null: && for p in $PPID $(pgrep -P $PPID -x imgmount); do grep VmHWM /proc/$p/status; done";
    // How many arenas malloc makes depends on how the threads happen to run: the lowest of three runs counts.
    let peak = || {
        let output = common::imgmount(["serve", &format!("{at}/d.qcow2"), "--cache", "16M", "--run", peaks]);
        let peaks: Vec<u64> = common::stdout(&output)
            .lines()
            .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(peaks.len(), 2, "{}", common::stderr(&output));
        peaks.iter().sum::<u64>()
    };
    let peaks = [peak(), peak(), peak()];
    assert!(peaks.iter().any(|peak| *peak <= (32 + 16) << 10), "{peaks:?} KiB");
}

#[test]
fn sigterm_with_50_busy_clients_ends_soon_and_clean() {
    let mut server = program(&[]);
    let mut clients: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = UnixStream::connect(&server.socket).unwrap();
            stream.read_exact(&mut [0; 18]).unwrap();
            let mut client = Client(stream);
            client.send(&FIXED_AND_NO_ZEROES.to_be_bytes());
            client.answers(OPT_GO, &go("", &[]));
            (0..4).for_each(|cookie| client.request(0, READ, cookie, 0, 32 << 20));
            client
        })
        .collect();
    let start = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!server.socket.exists());
    clients.iter_mut().for_each(|client| drop(client.0.read_to_end(&mut Vec::new())));
}
