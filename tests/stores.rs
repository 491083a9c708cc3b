//! Images on servers that are no web servers: S3 stores, FTP, NBD. The bytes are compared by SHA-256 with those of the file
//! that the server has, summed by `sha256sum`. S3 and FTP servers are small ones of `tests/servers`, which misbehave when
//! asked to; NBD servers are qemu-nbd, nbdkit and our own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::process::{Reaped, wait_for};
use imgmount::block::BlockSource;
use imgmount::error::{Error, ErrorKind};
use imgmount::locator::Locator;
use imgmount::source::dial::Patience;
use imgmount::source::gate::Given;
use imgmount::source::{SourceCx, ftp, nbd};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

// ---- what they all serve ----

/// A folder with `disk.img`: 5 MiB that no block of it has twice, with a hole in it, and a torn end.
struct Disk {
    dir: tempfile::TempDir,
    sum: String,
}

impl Disk {
    fn new() -> Self {
        let dir = common::tempdir();
        let at = dir.path().display();
        common::sh(&format!(
            "cd {at}; openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c 5242980 > disk.img || true
             fallocate -p -o 1048576 -l 1048576 disk.img; ls disk.img"
        ));
        let sum = common::sh(&format!("sha256sum < {at}/disk.img"));
        Self { sum: sum.split(' ').next().unwrap().to_owned(), dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

/// A server of `tests/servers`, ended with the test.
struct Server {
    _child: Reaped,
    port: u16,
    log: PathBuf,
}

impl Server {
    fn start(script: &str, disk: &Disk, rules: &[&str]) -> Self {
        let log = disk.dir.path().join("log");
        let mut child = Command::new("python3")
            .arg(common::root().join("tests/servers").join(script))
            .arg(disk.path())
            .args(rules)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { _child: Reaped(child), port: line.trim().parse().unwrap(), log }
    }

    /// What it was asked.
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

fn right(output: &Output, disk: &Disk) {
    assert!(output.status.success(), "{}", common::stderr(output));
    let said = common::stdout(output);
    assert!(said.starts_with(&disk.sum), "{said}\nwhere {} was expected", disk.sum);
}

fn wrong(output: &Output, texts: &[&str]) {
    let said = common::stderr(output);
    assert!(!output.status.success(), "{}", common::stdout(output));
    for text in texts {
        assert!(said.contains(text), "'{text}' is not in\n{said}");
    }
}

// ---- S3 ----

/// Runs us with these variables, and no others that concern S3.
fn with(variables: &[(&str, &str)], store: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgmount"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
        .env("HOME", "/nonexistent")
        .env("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{}", store.port))
        .envs(variables.iter().copied())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

const KEYS: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hu/sh+hush=")];

#[test]
fn a_signed_object_is_read_right() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let store = Server::start("s3.py", &disk, &["keys=AKID:hu/sh+hush="]);
    right(&with(KEYS, &store, &["hash", "s3://bucket/disk.img"]), &disk);
    assert!(store.log().contains("AKID/"), "{}", store.log());
}

#[test]
fn a_key_is_taken_as_it_stands() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let key = "buck.et//a b/é%41+&=~?#.img";
    let store = Server::start("s3.py", &disk, &["keys=AKID:hu/sh+hush=:to/k=en", &format!("key={key}")]);
    let mut variables = KEYS.to_vec();
    variables.push(("AWS_SESSION_TOKEN", "to/k=en"));
    right(&with(&variables, &store, &["hash", &format!("s3://{key}")]), &disk);
}

#[test]
fn the_region_is_learned_from_the_store() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let store = Server::start("s3.py", &disk, &["keys=AKID:hu/sh+hush=", "region=eu-north-1"]);
    right(&with(KEYS, &store, &["hash", "s3://bucket/disk.img"]), &disk);
    assert!(store.log().contains("/us-east-1/") && store.log().contains("/eu-north-1/"), "{}", store.log());
}

#[test]
fn a_profile_gives_keys_and_region() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let store = Server::start("s3.py", &disk, &["keys=PID:p", "region=eu-west-3"]);
    let file = disk.dir.path().join("credentials");
    std::fs::write(&file, "[mine]\naws_access_key_id = PID\naws_secret_access_key = p\nregion = eu-west-3\n")
        .unwrap();
    let variables = [("AWS_PROFILE", "mine"), ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
    right(&with(&variables, &store, &["hash", "s3://bucket/disk.img"]), &disk);
    assert!(!store.log().contains("us-east-1"), "{}", store.log());
}

#[test]
fn a_public_object_needs_no_keys() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let store = Server::start("s3.py", &disk, &[]);
    right(&with(&[], &store, &["hash", "s3://bucket/disk.img"]), &disk);
}

#[test]
fn refusals_of_a_store_are_told_in_words_and_without_secrets() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let refused = |rules: &[&str], variables: &[(&str, &str)], key: &str, texts: &[&str]| {
        let store = Server::start("s3.py", &disk, rules);
        let output = with(variables, &store, &["-vv", "info", &format!("s3://{key}")]);
        wrong(&output, texts);
        let said = common::stderr(&output);
        assert!(!said.contains("hush") && !said.contains("X-Amz"), "{said}");
    };
    let keys = ["keys=AKID:other"];
    refused(
        &keys,
        KEYS,
        "bucket/disk.img",
        &["s3://bucket/disk.img", "signature does not fit", "secret key"],
    );
    refused(&["keys=OTHER:x"], KEYS, "bucket/disk.img", &["does not know the access key"]);
    refused(&keys, &[], "bucket/disk.img", &["access denied without credentials", "export-credentials"]);
    refused(&[], &[], "bucket/none.img", &["no such object"]);
    refused(&["code=403:InvalidObjectState"], KEYS, "bucket/disk.img", &["archived", "restore-object"]);
    refused(&["code=301:PermanentRedirect"], KEYS, "bucket/disk.img", &["another region", "AWS_REGION"]);
    refused(&["code=400:ExpiredToken"], KEYS, "bucket/disk.img", &["credentials have expired"]);
    refused(&["code=403:<x>"], KEYS, "bucket/disk.img", &["HTTP status 403"]);
}

#[test]
fn credentials_that_expire_while_it_is_open_end_it_with_their_name() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let store = Server::start("s3.py", &disk, &["keys=AKID:hu/sh+hush=", "expire=2"]);
    let output = with(KEYS, &store, &["hash", "--connections", "1", "s3://bucket/disk.img"]);
    wrong(&output, &["credentials have expired"]);
}

#[test]
fn an_object_that_is_removed_while_it_is_open_is_a_source_that_failed() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let store = Server::start("s3.py", &disk, &["gone=2"]);
    let output = with(&[], &store, &["hash", "--connections", "1", "s3://bucket/disk.img"]);
    wrong(&output, &["no such object", "removed it while it was open"]);
    assert_eq!(output.status.code(), Some(4), "{}", common::stderr(&output));
}

#[test]
fn a_member_of_an_archive_in_a_store_is_found() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let at = disk.dir.path();
    common::sh(&format!("cd {}; mkdir m; mv disk.img m/; tar -C m -cf disk.img disk.img", at.display()));
    let store = Server::start("s3.py", &disk, &["key=b/x.tar"]);
    right(&with(&[], &store, &["hash", "s3://b/x.tar//disk.img"]), &disk);
}

// ---- FTP ----

fn ftp_url(server: &Server, login: &str) -> String {
    format!("ftp://{login}127.0.0.1:{}/d/disk.img", server.port)
}

#[test]
fn a_file_of_an_ftp_server_is_read_right_whatever_it_lacks() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    for faults in [
        &[][..],
        &["no-epsv"],
        &["no-epsv", "pasv-elsewhere"],
        &["no-mdtm"],
        &["drop=3"],
        &["user=me:hunter:2"],
    ] {
        let server = Server::start("ftp.py", &disk, faults);
        let login = if faults == ["user=me:hunter:2"] { "me:hunter%3A2@" } else { "" };
        right(&common::imgmount(["hash", &ftp_url(&server, login)]), &disk);
    }
}

#[test]
fn names_of_any_bytes_reach_the_ftp_server() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let server = Server::start("ftp.py", &disk, &[]);
    for name in ["d/d%C3%A9%20k.img", "d/dé k.img", "/d/disk.img"] {
        let url = format!("ftp://127.0.0.1:{}/{name}", server.port);
        right(&common::imgmount(["hash", &url]), &disk);
    }
}

#[test]
fn what_an_ftp_server_refuses_is_told_in_its_words_and_without_secrets() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    for (faults, login, texts) in [
        (&["no-rest"][..], "", &["no ranges", "502 no", "--spool"][..]),
        (&["ignore-rest"], "", &["no ranges", "more than the last", "--spool"]),
        (&["size=500"], "", &["where the length promises"]),
        (&["no-size"], "", &["SIZE"]),
        (&["tls"], "", &["530 TLS first"]),
        (&["user=me:x"], "me:hunter2@", &["530 no, ... is wrong", "USER:PASSWORD"]),
    ] {
        let server = Server::start("ftp.py", &disk, faults);
        let output = common::imgmount(["-vv", "info", &ftp_url(&server, login)]);
        wrong(&output, texts);
        assert!(!common::stderr(&output).contains("hunter2"), "{}", common::stderr(&output));
    }
    let server = Server::start("ftp.py", &disk, &[]);
    let missing = common::imgmount(["info", &format!("ftp://127.0.0.1:{}/none", server.port)]);
    wrong(&missing, &["550 no such file"]);
}

#[test]
fn an_ftp_server_without_ranges_is_read_in_one_go() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let server = Server::start("ftp.py", &disk, &["no-rest"]);
    let spool = format!("--spool={}", disk.dir.path().display());
    right(&common::imgmount(["hash", &spool, &ftp_url(&server, "")]), &disk);
    assert_eq!(server.log().matches("RETR").count(), 1, "{}", server.log());
}

/// With servers that answer, on the slowest machine.
fn patient() -> Patience {
    Patience {
        connect: Duration::from_secs(20),
        stall: Duration::from_secs(20),
        deadline: Duration::from_secs(60),
        pause: Duration::from_millis(20),
    }
}

fn open_ftp(server: &Server, patience: &Patience) -> Result<Arc<dyn BlockSource>, Error> {
    let given = Given::open(Locator::Url(ftp_url(server, "")), &[])?;
    ftp::open_url(&given, patience, &SourceCx::default())
}

fn all(source: &Arc<dyn BlockSource>) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(source.len()).unwrap()];
    source.read_at(&mut bytes, 0).map(|()| bytes)
}

#[test]
fn a_file_that_changes_on_the_ftp_server_is_changed_for_ever() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    for fault in ["touch=1", "grow=1"] {
        let server = Server::start("ftp.py", &disk, &[fault]);
        // The first transfer is the one that opening makes, the second begins before it is changed.
        let source = open_ftp(&server, &patient()).unwrap();
        assert_eq!(all(&source).unwrap_err().kind(), ErrorKind::Changed, "{fault}");
        assert_eq!(all(&source).unwrap_err().kind(), ErrorKind::Changed, "{fault}");
    }
}

#[test]
fn silence_of_an_ftp_server_is_tried_again() {
    requires!("python3", "openssl");
    let disk = Disk::new();
    let server = Server::start("ftp.py", &disk, &["stall=2"]);
    // Opening is not tried again, and must not take it for silence that the machine is slow.
    let hasty = Patience { stall: Duration::from_secs(3), ..patient() };
    assert!(all(&open_ftp(&server, &hasty).unwrap()).unwrap() == disk.bytes());
}

// ---- NBD ----

/// Runs nbdkit with `arguments` and us as its client; `$uri` is the export. The sum, if all is well.
fn nbdkit(disk: &Disk, arguments: &str, us: &str) -> Output {
    let (at, imgmount) = (disk.dir.path().display(), env!("CARGO_BIN_EXE_imgmount"));
    let script = format!("cd {at}; exec nbdkit -r {arguments} --run '{imgmount} {us}'");
    Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn an_export_of_nbdkit_is_read_right_whatever_it_lacks() {
    requires!("nbdkit", "openssl");
    let disk = Disk::new();
    for arguments in [
        "-U - file disk.img",
        "-U - --filter=noextents file disk.img",
        "-U - --no-sr file disk.img",
        "-U - --filter=blocksize-policy file disk.img blocksize-minimum=1 blocksize-maximum=64K blocksize-error-policy=error",
        "-U - --filter=delay file disk.img rdelay=20ms",
    ] {
        right(&nbdkit(&disk, arguments, "hash \"$uri\""), &disk);
    }
}

#[test]
fn requests_keep_to_the_block_sizes_of_the_server() {
    requires!("nbdkit", "openssl");
    let disk = Disk::new();
    // A server with such blocks has whole ones only.
    let sum = common::sh(&format!("head -c 5242880 {} | sha256sum", disk.path().display()));
    let sizes =
        "blocksize-minimum=4096 blocksize-preferred=4096 blocksize-maximum=128K blocksize-error-policy=error";
    let arguments =
        format!("-U - --filter=blocksize-policy --filter=truncate file disk.img round-down=4096 {sizes}");
    for us in ["hash \"$uri\"", "--cache 0 hash \"$uri\""] {
        let output = nbdkit(&disk, &arguments, us);
        assert!(
            common::stdout(&output).starts_with(sum.split(' ').next().unwrap()),
            "{}",
            common::stderr(&output)
        );
    }
}

#[test]
fn an_export_over_tcp_is_read_right() {
    requires!("nbdkit", "openssl");
    let disk = Disk::new();
    let on_a_free_port = || {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let us = format!("hash nbd://127.0.0.1:{port}/");
        nbdkit(&disk, &format!("-i 127.0.0.1 -p {port} file disk.img"), &us)
    };
    // Somebody else may take the port before nbdkit does.
    let is_free = |output: &Output| !common::stderr(output).contains("Address already in use");
    let mut output = on_a_free_port();
    for _ in 0..4 {
        if is_free(&output) {
            break;
        }
        output = on_a_free_port();
    }
    right(&output, &disk);
}

#[test]
fn errors_of_an_nbd_server_are_told() {
    requires!("nbdkit", "openssl");
    let disk = Disk::new();
    let errors = "-U - --filter=error file disk.img error-pread=EIO error-pread-rate=100%";
    wrong(&nbdkit(&disk, errors, "hash \"$uri\""), &["nbd+unix:///", "bytes ", "input/output error"]);
}

#[test]
fn the_image_in_an_export_is_recognised() {
    requires!("nbdkit", "qemu-img", "openssl");
    let disk = Disk::new();
    let at = disk.dir.path().display();
    common::sh(&format!("cd {at}; truncate -s 6M disk.img; qemu-img convert -O qcow2 disk.img in.qcow2"));
    let sum = common::sh(&format!("sha256sum < {at}/disk.img"));
    let output = nbdkit(&disk, "-U - file in.qcow2", "hash \"$uri\"");
    assert!(
        common::stdout(&output).starts_with(sum.split(' ').next().unwrap()),
        "{}",
        common::stderr(&output)
    );
}

/// A `qemu-nbd` of an image, on `socket`.
fn qemu_nbd(dir: &Path, image: &str, socket: &str, more: &[&str]) -> Reaped {
    let socket = dir.join(socket);
    let mut command = Command::new("qemu-nbd");
    command.args(["-r", "-t", "-k"]).arg(&socket).args(more).arg(dir.join(image));
    let server = Reaped(command.spawn().unwrap());
    wait_for("qemu-nbd did not come up", || UnixStream::connect(&socket).is_ok());
    server
}

fn nbd_url(dir: &Path, export: &str, socket: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", dir.join(socket).display())
}

fn open_nbd(url: &str) -> Result<Arc<dyn BlockSource>, Error> {
    nbd::open_url(&Locator::Url(url.to_owned()), &patient(), &SourceCx::default())
}

#[test]
fn an_export_of_qemu_is_read_right_and_its_holes_are_known() {
    requires!("qemu-nbd", "qemu-img", "openssl");
    let disk = Disk::new();
    let dir = disk.dir.path();
    common::sh(&format!(
        "cd {}; truncate -s 6M disk.img; qemu-img convert -O qcow2 disk.img disk.qcow2",
        dir.display()
    ));
    let _qemu = qemu_nbd(dir, "disk.qcow2", "q", &["-f", "qcow2", "-x", "dis k", "-e", "1"]);
    let source = open_nbd(&nbd_url(dir, "dis%20k", "q")).unwrap();
    let bytes = disk.bytes();
    assert!(all(&source).unwrap() == bytes);
    let (mut at, mut zeros) = (0, 0);
    while at < source.len() {
        let extent = source.extent(at).unwrap();
        let end = at + extent.len;
        if extent.zero {
            zeros += extent.len;
            assert!(bytes[at as usize..end as usize].iter().all(|byte| *byte == 0), "{at}..{end}");
        }
        at = end;
    }
    // The hole of 1 MiB, and what was added behind the end in whole clusters.
    assert!(zeros >= 1 << 20, "{zeros} bytes of holes");
}

#[test]
fn an_export_that_is_not_there_is_told_with_those_that_are() {
    requires!("qemu-nbd", "qemu-img", "openssl");
    let disk = Disk::new();
    let _qemu = qemu_nbd(disk.dir.path(), "disk.img", "q", &["-f", "raw", "-x", "this"]);
    let error = open_nbd(&nbd_url(disk.dir.path(), "that", "q")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.help_text().unwrap().contains("'this'"), "{error}");
}

#[test]
fn our_own_server_is_read_right() {
    requires!("openssl");
    let disk = Disk::new();
    let path = disk.path().display().to_string();
    let us = format!("{} hash \"$uri\"", env!("CARGO_BIN_EXE_imgmount"));
    right(&common::imgmount(["serve", path.as_str(), "--run", us.as_str()]), &disk);
}

/// Passes on what goes to `sockets`, one connection to each, and breaks each but the last off after `most` bytes.
fn proxy(at: &Path, sockets: Vec<PathBuf>, most: usize) {
    let listener = UnixListener::bind(at).unwrap();
    std::thread::spawn(move || {
        let last = sockets.len() - 1;
        for (number, socket) in sockets.iter().enumerate() {
            let (client, server) = (listener.accept().unwrap().0, UnixStream::connect(socket).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut server, mut client) = (server, client);
            // The last one is left alone.
            let mut left = if number == last { usize::MAX } else { most };
            let mut part = vec![0; 10_000];
            while let Ok(got @ 1..) = server.read(&mut part) {
                let now = got.min(left);
                left -= now;
                if client.write_all(&part[..now]).is_err() || left == 0 {
                    break;
                }
            }
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = server.shutdown(std::net::Shutdown::Both);
        }
    });
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    requires!("qemu-nbd", "openssl");
    let disk = Disk::new();
    let dir = disk.dir.path();
    let _qemu = qemu_nbd(dir, "disk.img", "q", &["-f", "raw", "-e", "4"]);
    proxy(&dir.join("p"), vec![dir.join("q"); 3], 1_700_000);
    let source = open_nbd(&nbd_url(dir, "", "p")).unwrap();
    let mut bytes = disk.bytes();
    // qemu rounds up to sectors.
    bytes.resize(usize::try_from(source.len()).unwrap(), 0);
    assert!(all(&source).unwrap() == bytes);
}

#[test]
fn an_export_of_another_size_behind_a_new_connection_is_changed() {
    requires!("qemu-nbd", "openssl");
    let disk = Disk::new();
    let dir = disk.dir.path();
    common::sh(&format!("cd {}; cp disk.img other.img; truncate -s +1M other.img", dir.display()));
    let _one = qemu_nbd(dir, "disk.img", "q", &["-f", "raw", "-e", "4"]);
    let _other = qemu_nbd(dir, "other.img", "o", &["-f", "raw", "-e", "4"]);
    proxy(&dir.join("p"), vec![dir.join("q"), dir.join("o")], 1_700_000);
    let source = open_nbd(&nbd_url(dir, "", "p")).unwrap();
    assert_eq!(all(&source).unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(all(&source).unwrap_err().kind(), ErrorKind::Changed);
}
