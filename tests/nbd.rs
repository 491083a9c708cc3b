//! `imgmount serve` and real clients: libnbd's tools, qemu, fio and the `nbd` crate's. What each option and request is
//! answered, and what many clients may do to each other, is in `nbd_protocol.rs`. Bytes are compared with the raw file, by
//! `cmp` or `qemu-img compare`.
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

use common::nbd::{be32, be64, compact};
use common::process::{runs, signal, wait_for};
use common::server::Server;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const READ: u16 = 0;
const EIO: u32 = 5;

/// `imgmount serve` on a file.
struct Program {
    server: Server,
    image: PathBuf,
    dir: tempfile::TempDir,
}

impl std::ops::Deref for Program {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
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

fn program(args: &[&str]) -> Program {
    let dir = common::tempdir();
    let (image, socket) = (image(dir.path()), dir.path().join("sock"));
    let mut command = Command::new(common::IMGMOUNT);
    let server = Server::start(command.arg("serve").arg(&image).arg("-k").arg(&socket).args(args), &socket);
    Program { server, image, dir }
}

#[test]
fn nbdinfo_sees_a_read_only_disk_with_every_feature() {
    requires!("nbdinfo");
    let server = program(&[]);
    let json: serde_json::Value =
        serde_json::from_str(&common::sh(&format!("nbdinfo --json '{}'", server.uri()))).unwrap();
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
        serde_json::from_str(&common::sh(&format!("nbdinfo --map --json '{}'", server.uri()))).unwrap();
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
    common::sh(&format!("nbdcopy '{}' {dir}/a.raw; cmp {image} {dir}/a.raw", server.uri()));
    common::sh(&format!("nbdcopy --no-extents '{}' {dir}/b.raw; cmp {image} {dir}/b.raw", server.uri()));
    common::sh(&format!("nbdcopy --synchronous '{}' {dir}/c.raw; cmp {image} {dir}/c.raw", server.uri()));
}

#[test]
fn nbddump_shows_the_last_bytes() {
    requires!("nbddump");
    let server = program(&[]);
    let dump = common::sh(&format!("nbddump '{}' | tail -1", server.uri()));
    assert!(dump.contains("65 6e 64 |.............end|"), "{dump}");
}

#[test]
fn qemu_img_reads_the_same_disk() {
    requires!("qemu-img");
    let server = program(&[]);
    let (uri, dir, image) = (&server.uri(), server.dir.path().display(), server.image.display());
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
        Command::new("/usr/bin/python3").args(["-c", script, &server.uri()]).arg(&server.image).status();
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
        server.uri()
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
    silent.set_nonblocking(true).unwrap();
    let url = format!("http://{}/disk.raw", silent.local_addr().unwrap());
    for (args, code) in [(&[][..], 0), (&["--run", "true"], 128 + 15)] {
        let dir = common::tempdir();
        let socket = dir.path().join("sock");
        let mut command = Command::new(common::IMGMOUNT);
        command.args(["serve", &url, "--socket"]).arg(&socket).args(args);
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("no socket", || socket.exists());
        let mut client = None;
        wait_for("it opens nothing", || {
            client = silent.accept().ok();
            client.is_some()
        });
        let start = Instant::now();
        signal(child.id(), Signal::TERM);
        let output = child.wait_with_output().unwrap();
        // Before it would have given up by itself.
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!((output.status.code(), common::stderr(&output).as_str()), (Some(code), ""));
        assert!(!socket.exists());
        drop(client);
    }
}

#[test]
fn sigterm_ends_both_processes_and_removes_the_socket() {
    let mut server = program(&[]);
    let worker = server.worker();
    assert_eq!(server.server.end(), Some(0));
    assert!(!server.socket.exists());
    assert!(!runs(worker));
}

#[test]
fn a_killed_supervisor_takes_its_worker_along_and_its_socket_is_replaced() {
    let mut server = program(&[]);
    let worker = server.worker();
    server.server.kill();
    wait_for("the worker stayed", || !runs(worker));
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
fn a_command_finds_the_address_of_each_of_several_images() {
    requires!("nbdinfo", "qemu-img");
    let dir = common::tempdir();
    let (one, two) = (dir.path().join("one.raw"), dir.path().join("zwei & größer.raw"));
    std::fs::write(&one, vec![1; 1 << 20]).unwrap();
    std::fs::write(&two, vec![2; 2 << 20]).unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let each = "nbdinfo --size \"$uri\"; for uri in $uris; do nbdinfo --size \"$uri\"; done";
    for (images, wanted) in [(&[one, two][..], "1048576 1048576 2097152"), (&[two], "2097152 2097152")] {
        for door in [&[][..], &["--tcp", "127.0.0.1:0"]] {
            let args = [&["serve", "--format", "raw", "--run", each], door, images].concat();
            let output = common::imgmount(args);
            let sizes: Vec<String> = common::stdout(&output).lines().map(str::to_owned).collect();
            assert_eq!(sizes.join(" "), wanted, "{}", common::stderr(&output));
        }
    }
    let compare = "qemu-img compare -f raw -F raw $uris";
    let compared = |other: &str| common::imgmount(["serve", "-f", "raw", one, other, "--run", compare]);
    assert_eq!(common::stdout(&compared(one)), "Images are identical.\n");
    assert_eq!(compared(two).status.code(), Some(1), "compare's own for images that differ");
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

/// Error number and cookie of a simple reply; data must be received after it.
fn simple_reply(client: &mut UnixStream) -> (u32, u64) {
    let mut header = [0; 16];
    client.read_exact(&mut header).unwrap();
    assert_eq!(be32(&header), 0x6744_6698);
    (be32(&header[4..]), be64(&header[8..]))
}

#[test]
fn a_file_that_changes_is_an_error_for_ever_and_never_wrong_bytes() {
    requires!("nbdinfo");
    let server = program(&[]);
    let mut client = server.client();
    client.write_all(&compact(0, READ, 1, 1 << 20, 4096)).unwrap();
    assert_eq!(simple_reply(&mut client), (0, 1));
    client.read_exact(&mut [0; 4096]).unwrap();
    std::fs::OpenOptions::new().write(true).open(&server.image).unwrap().set_len(1 << 20).unwrap();
    client.write_all(&compact(0, READ, 2, 1 << 20, 4096)).unwrap();
    assert_eq!(simple_reply(&mut client), (EIO, 2));
}

#[test]
fn a_killed_client_leaves_the_server_serving() {
    requires!("nbdcopy", "nbdinfo");
    let server = program(&[]);
    for _ in 0..5 {
        let mut copy =
            Command::new("nbdcopy").args(["--no-extents", &server.uri(), "null:"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15));
        drop(copy.kill());
        copy.wait().unwrap();
    }
    assert_eq!(common::sh(&format!("nbdinfo --size '{}'", server.uri())).trim(), (48 * MIB).to_string());
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
    let mut clients: Vec<UnixStream> = (0..50)
        .map(|_| {
            let mut client = server.client();
            client.write_all(&compact(0, READ, 1, 0, 32 << 20).repeat(4)).unwrap();
            client
        })
        .collect();
    let start = Instant::now();
    assert_eq!(server.server.end(), Some(0));
    // Before anybody is dropped because it takes nothing.
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert!(!server.socket.exists());
    clients.iter_mut().for_each(|client| drop(client.read_to_end(&mut Vec::new())));
}
