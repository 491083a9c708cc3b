//! `serve` as a citizen of a system: names and words of the exports, sockets, service managers, limits, logs. The protocol
//! itself is in `tests/nbd.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::nbd::{be32, go, option};
use common::process::{Reaped, SOON, children, runs, signal, wait_for, within};
use common::served::Served;
use common::server::{Server, greeted};
use imgmount::block::BlockSource;
use imgmount::error::Result;
use imgmount::serve::nbd::{Export, Options};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

fn image(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    path
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(common::IMGMOUNT);
    command.arg("serve").args(args).current_dir(dir).env("XDG_RUNTIME_DIR", dir).stdin(Stdio::null());
    command
}

/// The lines of `--list`, in their three fields.
fn list(dir: &Path, args: &[&str]) -> Vec<[String; 3]> {
    let output = command(dir, &[args, &["--list"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    let text = common::stdout(&output);
    let line = |line: &str| {
        <[String; 3]>::try_from(line.split('\t').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    };
    text.lines().map(line).collect()
}

fn names(dir: &Path, args: &[&str]) -> Vec<String> {
    list(dir, args).into_iter().map(|[name, ..]| name).collect()
}

/// What the server answers to `NBD_OPT_GO` for the default export, doc/proto.md: the first reply's type and its text.
fn asked(stream: &mut UnixStream) -> (u32, String) {
    stream.write_all(&[&3_u32.to_be_bytes()[..], &option(7, &go("", &[]))].concat()).unwrap();
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; be32(&head[16..]) as usize];
    stream.read_exact(&mut payload).unwrap();
    (be32(&head[12..]), String::from_utf8_lossy(&payload).into_owned())
}

#[test]
fn images_of_one_name_are_told_apart() {
    let dir = common::tempdir();
    let dir = dir.path();
    let _ = ["a/disk.raw", "b/disk.raw", "c/disk.img", "other.raw"].map(|name| image(dir, name));
    let served = names(dir, &["-f", "raw", "a/disk.raw", "b/disk.raw", "c/disk.img", "other.raw"]);
    let disks: Vec<&str> = served.iter().filter_map(|name| name.strip_suffix("/disk")).collect();
    assert_eq!(disks, ["disk.raw", "disk.raw-2", "disk.img", "other"]);
}

#[test]
fn odd_names_become_fit_for_a_uri() {
    let dir = common::tempdir();
    let dir = dir.path();
    let _ = ["a b\u{1b}[31m?.raw", "größe.raw"].map(|name| image(dir, name));
    let served = names(dir, &["-f", "raw", "a b\u{1b}[31m?.raw", "größe.raw"]);
    assert_eq!(served, ["a_b__31m_", "a_b__31m_/disk", "größe", "größe/disk"]);
}

#[test]
fn the_first_disk_has_the_name_that_is_asked_for_too() {
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    assert_eq!(names(dir.path(), &["-f", "raw", "-x", "mine", "disk.raw"]), ["", "disk", "mine"]);
    assert_eq!(names(dir.path(), &["-f", "raw", "-x", "disk", "disk.raw"]), ["", "disk"]);
}

#[test]
fn a_name_that_something_else_has_is_refused() {
    let dir = common::tempdir();
    let _ = ["a.raw", "b.raw"].map(|name| image(dir.path(), name));
    let mut serve = command(dir.path(), &["-f", "raw", "-x", "b", "a.raw", "b.raw", "--run", "true"]);
    for _ in ["the worker", "--list"] {
        let output = serve.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", common::stderr(&output));
        let said = common::stderr(&output);
        assert!(said.contains("--export-name b: another export is called so"), "{said}");
        serve.arg("--list");
    }
}

/// A disk with a partition of which nothing can be read before it is let out. What is in it is looked for, so that until
/// then the exports are not known.
#[derive(Debug, Default)]
struct Withheld {
    is_out: Mutex<bool>,
    came_out: Condvar,
}

impl Withheld {
    const PARTITION: Range<u64> = 16 << 20..24 << 20;

    fn served(self: &Arc<Self>) -> Served {
        let source = Arc::<Self>::clone(self);
        let export = Export { name: String::new(), about: String::new(), source };
        Served::start(vec![export], Options::default())
    }

    fn let_out(&self) {
        *self.is_out.lock().unwrap() = true;
        self.came_out.notify_all();
    }
}

impl BlockSource for Withheld {
    fn len(&self) -> u64 {
        32 << 20
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        buf.fill(0);
        let end = offset + buf.len() as u64;
        if offset < Self::PARTITION.end && end > Self::PARTITION.start {
            drop(self.came_out.wait_while(self.is_out.lock().unwrap(), |is_out| !*is_out).unwrap());
        }
        // Its one entry, of type Linux, in sectors; and the signature.
        let sectors = |bytes: u64| (bytes as u32 / 512).to_le_bytes();
        let (start, len) = (Self::PARTITION.start, Self::PARTITION.end - Self::PARTITION.start);
        let entry = [&[0, 0, 0, 0, 0x83, 0, 0, 0][..], &sectors(start), &sectors(len)].concat();
        for (at, bytes) in [(446, &entry[..]), (510, &[0x55, 0xaa])] {
            for (at, byte) in (at..).zip(bytes) {
                if (offset..end).contains(&at) {
                    buf[(at - offset) as usize] = *byte;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn a_name_that_a_partition_may_have_is_not_the_disks_before_that_is_known() {
    let disk = Arc::new(Withheld::default());
    let upstream = disk.served();
    let dir = common::tempdir();
    let url = format!("nbd+unix:///?socket={}", upstream.socket.display());
    let socket = dir.path().join("s");
    let mut server =
        Server::start(&mut command(dir.path(), &["-f", "raw", &url, "-k", "s", "-x", "p1"]), &socket);
    // The disk under its own names is there already.
    assert_eq!(asked(&mut greeted(&socket).unwrap()).0, 3);
    let mut early = greeted(&socket).unwrap();
    early.write_all(&[&3_u32.to_be_bytes()[..], &option(7, &go("p1", &[]))].concat()).unwrap();
    // Time enough for a wrong answer.
    std::thread::sleep(Duration::from_millis(300));
    disk.let_out();
    let mut answer = Vec::new();
    drop(early.read_to_end(&mut answer));
    assert!(answer.is_empty(), "{answer:?}");
    wait_for("it serves two things under one name", || !runs(server.id()));
    assert_eq!(server.end(), Some(2));
}

#[test]
fn clients_are_told_what_each_export_is() {
    requires!("nbdinfo", "qemu-img", "sfdisk", "mkfs.ext4");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd {}; truncate -s 24M disk.raw
         printf 'label: gpt\\nstart=2048,size=8192\\nstart=16384,size=16384\\n' | sfdisk -q disk.raw
         mkfs.ext4 -q -L root -E offset=8388608 disk.raw 8M
         qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw disk.vmdk",
        dir.path().display()
    ));
    let output =
        command(dir.path(), &["disk.vmdk", "--run", "nbdinfo --list --json \"$uri\""]).output().unwrap();
    let json: serde_json::Value = serde_json::from_str(&common::stdout(&output)).unwrap();
    let about = |name: &str| {
        let mut exports = json["exports"].as_array().unwrap().iter();
        let export = exports.find(|export| export["export-name"] == name).unwrap();
        export["description"].as_str().unwrap().to_owned()
    };
    assert_eq!(about(""), "vmdk streamOptimized, whole disk");
    assert_eq!(about("p2"), "vmdk streamOptimized, partition 2, ext4 'root'");
    assert_eq!(about("p1"), "vmdk streamOptimized, partition 1");
}

#[test]
fn without_a_socket_the_users_runtime_directory_has_it() {
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let socket = dir.path().join("imgmount/disk.sock");
    let mut server = Server::start(&mut command(dir.path(), &["-f", "raw", "disk.raw"]), &socket);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(server.end(), Some(0));
    assert_eq!(std::fs::read_dir(socket.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn several_addresses_of_both_kinds_are_listened_on() {
    requires!("nbdinfo");
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let args = ["-f", "raw", "disk.raw", "--tcp", "127.0.0.1:0", "--tcp", "[::1]:0", "-k", "s"];
    let (mut server, line) = Server::start_and_listen(&mut command(dir.path(), &args), &dir.path().join("s"));
    let uris: Vec<&str> = line.split('\'').filter(|word| word.starts_with("nbd")).collect();
    // The first stands there twice, in the hint how to look at it.
    assert!(uris[0].starts_with("nbd://127.0.0.1:") && uris[1].starts_with("nbd://[::1]:"), "{line}");
    for uri in &uris[..3] {
        assert_eq!(common::sh(&format!("nbdinfo --size '{uri}'")).trim(), "1048576", "{uri}");
    }
    assert_eq!(server.end(), Some(0));
}

#[test]
fn one_client_more_than_are_let_in_is_told_so_until_one_leaves() {
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let socket = dir.path().join("s");
    let server =
        Server::start(&mut command(dir.path(), &["-f", "raw", "disk.raw", "-k", "s", "-e", "2"]), &socket);
    // NBD_REP_INFO, and errors with the highest bit set.
    let mut seated: Vec<UnixStream> = (0..2).map(|_| greeted(&socket).unwrap()).collect();
    for stream in &mut seated {
        assert_eq!(asked(stream).0, 3);
    }
    let (kind, text) = asked(&mut greeted(&socket).unwrap());
    assert!(kind >= 1 << 31, "{kind:#x}");
    assert!(!text.is_empty());
    seated.clear();
    wait_for("nobody is let in", || asked(&mut greeted(&socket).unwrap()).0 == 3);
    drop(server);
}

#[test]
fn a_client_that_would_open_several_connections_finds_its_one_seat() {
    requires!("nbdcopy");
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let run = "nbdcopy \"$uri\" out.raw && cmp disk.raw out.raw";
    let output = command(dir.path(), &["-f", "raw", "disk.raw", "-e", "1", "--run", run]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
}

#[test]
fn interrupted_while_it_waits_for_the_background_it_leaves_no_server_there() {
    let disk = Arc::new(Withheld::default());
    let upstream = disk.served();
    let url = format!("nbd+unix:///?socket={}", upstream.socket.display());
    let dir = common::tempdir();
    let socket = dir.path().join("s");
    let args = ["-f", "raw", &url, "-k", "s", "--fork"];
    let mut waiting = Reaped(command(dir.path(), &args).spawn().unwrap());
    wait_for("it does not begin", || socket.exists());
    let background = children(waiting.0.id())[0];
    signal(waiting.0.id(), Signal::INT);
    assert!(!waiting.0.wait().unwrap().success());
    let is_gone = within(SOON, || !runs(background) && !socket.exists());
    disk.let_out();
    if !is_gone {
        signal(background, Signal::TERM);
    }
    assert!(is_gone);
}

#[test]
fn the_service_manager_hears_when_it_begins_and_when_it_ends() {
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut text = [0; 4096];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    // Under a service manager the process that was started is the one that stays.
    let mut command = command(dir.path(), &["-f", "raw", "disk.raw", "-k", "s", "--fork"]);
    let notify = command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    let mut server = Server::start(notify, &dir.path().join("s"));
    let ready = hear();
    let lines: Vec<&str> = ready.lines().collect();
    assert!(lines.contains(&"READY=1") && lines.contains(&&*format!("MAINPID={}", server.id())), "{ready}");
    assert!(lines.iter().any(|line| line.starts_with("STATUS=serving disk.raw")), "{ready}");
    assert_eq!(server.end(), Some(0));
    assert_eq!(hear(), "STOPPING=1");
}

#[test]
fn metrics_are_counted_and_answered_on_this_host_only() {
    requires!("nbdcopy", "/usr/bin/python3");
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let serve =
        |address: &str| command(dir.path(), &["-f", "raw", "disk.raw", "-k", "s", "--metrics", address]);
    assert_eq!(serve("0.0.0.0:0").output().unwrap().status.code(), Some(2));
    let (server, line) = Server::start_and_listen(&mut serve("127.0.0.1:0"), &dir.path().join("s"));
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    common::sh(&format!("nbdcopy --no-extents '{}' null:", server.uri()));
    let ask =
        "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end='')";
    let text = common::sh(&format!("/usr/bin/python3 -c \"{ask}\" {url}"));
    // Each number stands behind its type.
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks(2) {
        let name = pair[1].split(' ').next().unwrap();
        assert!(pair[0].starts_with(&format!("# TYPE {name} ")), "{pair:?}");
        assert_eq!(pair[0].ends_with(" counter"), name.ends_with("_total"), "{pair:?}");
    }
    assert!(lines.contains(&"imgmount_bytes_served_total 1048576"), "{text}");
    assert!(lines.contains(&"imgmount_clients 0"), "{text}");
}

#[test]
fn an_image_that_does_not_open_in_time_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk.raw", silent.local_addr().unwrap());
    let dir = common::tempdir();
    let output = command(dir.path(), &[&url, "-k", "s", "--timeout", "200ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", common::stderr(&output));
    assert!(common::stderr(&output).contains("not ready after 200ms"), "{}", common::stderr(&output));
    assert!(!dir.path().join("s").exists());
}

#[test]
fn a_server_that_runs_out_of_descriptors_is_reported_as_that() {
    requires!("prlimit");
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    // From too few for the supervisor to enough for the worker.
    for limit in 6..=24 {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).args([common::IMGMOUNT, "serve", "-f", "raw"]);
        command.args(["disk.raw", "-k", "s", "--run", "exit 7"]).current_dir(dir.path());
        let output = command.output().unwrap();
        let said = common::stderr(&output);
        match output.status.code() {
            Some(7) => {}
            Some(5) => assert!(said.contains("Too many open files"), "{limit}: {said}"),
            // A library that needs one more panics.
            Some(70) => assert!(
                said.contains("imgmount: the process that reads the image panicked"),
                "{limit}: {said}"
            ),
            other => panic!("{limit}: {other:?}: {said}"),
        }
    }
}

#[test]
fn what_a_server_in_the_background_has_to_say_is_in_its_log() {
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    std::fs::write(dir.path().join("log"), "what was there\n").unwrap();
    let args =
        ["-f", "raw", "disk.raw", "-k", "s", "--fork", "-vv", "--log-file", "log", "--pid-file", "pid"];
    let mut command = command(dir.path(), &args);
    let output = command.args(["--handshake-limit", "500ms"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    let _silent = greeted(&dir.path().join("s")).unwrap();
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    wait_for("nothing in the log", || log().contains("handshake"));
    common::sh(&format!("kill $(cat {})", dir.path().join("pid").display()));
    wait_for("it did not end", || !dir.path().join("s").exists());
    assert!(log().starts_with("what was there\n"));
}

#[test]
fn a_pid_file_that_another_server_has_written_since_is_left_alone() {
    let dir = common::tempdir();
    image(dir.path(), "disk.raw");
    let start = |socket: &str| {
        let args = ["-f", "raw", "disk.raw", "-k", socket, "--pid-file", "pid"];
        Server::start(&mut command(dir.path(), &args), &dir.path().join(socket))
    };
    let file = dir.path().join("pid");
    let names = |server: &Server| {
        wait_for("no process id", || {
            std::fs::read_to_string(&file).is_ok_and(|text| text == format!("{}\n", server.id()))
        });
    };
    let mut first = start("a");
    names(&first);
    let mut second = start("b");
    names(&second);
    assert_eq!(first.end(), Some(0));
    names(&second);
    assert_eq!(second.end(), Some(0));
    assert!(!file.exists());
}
