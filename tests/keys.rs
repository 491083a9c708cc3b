//! Keys, as users give them: in a file, a variable, a descriptor, on a terminal; to every verb, and to nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::{IMGMOUNT, sh, stderr, stdout};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Not to be found in anything we print.
const KEY: &str = "kept-to-ourselves";

/// A LUKS1 container, its payload written by qemu-img: a file system with `etc/fstab`, 4 MiB, as it is in `plain.raw`.
fn locked() -> tempfile::TempDir {
    let dir = common::tempdir();
    sh(&format!(
        r#"cd {0}; mkdir -p tree/etc; echo 'UUID=x / ext4 defaults 0 1' > tree/etc/fstab
        printf {KEY} > key; printf '{KEY}\n' > line; printf wrong > wrong
        truncate -s 4M plain.raw; mkfs.ext4 -q -F -L locked -d tree plain.raw
        truncate -s 6M disk.luks
        cryptsetup -q luksFormat --type luks1 --offset 4096 --pbkdf-force-iterations 1000 disk.luks key
        qemu-img convert -n --object secret,id=s,file=key --target-image-opts plain.raw driver=luks,key-secret=s,file.filename=disk.luks"#,
        dir.path().display()
    ));
    dir
}

fn run<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Output {
    let output = Command::new(IMGMOUNT)
        .args(args)
        .current_dir(dir)
        .env("PASS", KEY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for said in [stdout(&output), stderr(&output)] {
        assert!(!said.contains(KEY), "the key is shown: {said}");
    }
    output
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

macro_rules! tools {
    () => {
        requires!("cryptsetup", "qemu-img", "mkfs.ext4")
    };
}

#[test]
fn every_verb_takes_keys() {
    tools!();
    let dir = locked();
    let sum = sh(&format!("sha256sum < {}/plain.raw | cut -c1-64", dir.path().display()));
    let ok = |line: &str| {
        let output = run(dir.path(), words(line));
        assert!(output.status.success(), "{line}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    assert!(ok("hash disk.luks --key disk:file:key").starts_with(sum.trim()));
    assert!(ok("hash disk.luks --key *:env:PASS").starts_with(sum.trim()));
    assert!(ok("hash disk.luks --key disk:file:line").starts_with(sum.trim()), "a newline at the end");
    assert!(
        ok("hash disk.luks --key p1:file:wrong --key disk:file:wrong --key *:env:PASS")
            .starts_with(sum.trim())
    );
    assert_eq!(ok("cat disk.luks:/etc/fstab --key disk:file:key"), "UUID=x / ext4 defaults 0 1\n");
    assert!(ok("ls disk.luks:/etc --key disk:file:key").contains("fstab"));
    assert!(ok("info disk.luks --key disk:file:key").contains("\"locked\""), "the label of the file system");
    assert!(ok("serve --list disk.luks --key disk:file:key").contains("4194304"));
    let map: Value = serde_json::from_str(&ok("map --json disk.luks --key disk:file:key")).unwrap();
    assert_eq!((map[0]["length"].as_u64(), map[0]["zero"].as_bool()), (Some(4 << 20), Some(false)));
    assert_eq!(map[0].get("offset"), None, "what is stored there is not what is read");
    let sums = ok("hash --container disk.luks --key disk:file:key");
    assert!(
        sums.starts_with(sh(&format!("sha256sum < {}/disk.luks | cut -c1-64", dir.path().display())).trim())
    );
    assert_eq!(sums.lines().count(), 1);
    let verify = run(dir.path(), words("verify disk.luks --key disk:file:key"));
    assert!(matches!(verify.status.code(), Some(0)), "{}{}", stdout(&verify), stderr(&verify));
    assert!(stdout(&verify).contains("ext4-view  disk   agree"), "{}", stdout(&verify));
}

#[test]
fn a_server_and_a_mount_take_keys() {
    tools!();
    requires!("root", "fuse", "nbdcopy");
    let dir = locked();
    let copy = ["serve", "disk.luks", "--key", "disk:env:PASS", "--run", "nbdcopy \"$uri\" copy.raw"];
    let output = run(dir.path(), copy);
    assert!(output.status.success(), "{}", stderr(&output));
    sh(&format!("cd {}; cmp plain.raw copy.raw", dir.path().display()));
    let output = run(dir.path(), ["disk.luks", "--key", "disk:file:key", "--", "cat", "etc/fstab"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "UUID=x / ext4 defaults 0 1\n"));
    // In the background: two more processes, of which none may show the key to others.
    std::fs::create_dir(dir.path().join("m")).unwrap();
    let output = run(dir.path(), ["disk.luks", "m", "--key", "disk:file:key"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let at = dir.path().display();
    let status = sh(&format!("cat {at}/m/.imgmount/status"));
    let json: Value = serde_json::from_str(&status).unwrap();
    let lines = sh(&format!("cat /proc/{}/cmdline /proc/{}/cmdline", json["supervisor"], json["worker"]));
    let fstab = sh(&format!("cat {at}/m/etc/fstab"));
    let unmounted = run(dir.path(), ["unmount", "m"]);
    assert!(unmounted.status.success(), "{}", stderr(&unmounted));
    assert_eq!(fstab, "UUID=x / ext4 defaults 0 1\n");
    assert!(lines.contains("internal-worker") && !format!("{status}{lines}").contains(KEY), "{lines}");
}

#[test]
fn a_key_comes_over_a_descriptor_once() {
    tools!();
    requires!("root", "fuse");
    let dir = locked();
    let script = format!(
        "cd {}; mkdir m; printf {KEY} | '{IMGMOUNT}' disk.luks m --key-fd 0 2> said && cat m/etc/fstab; '{IMGMOUNT}' unmount m; \
         exec 3< key; '{IMGMOUNT}' hash disk.luks --key-fd 3",
        dir.path().display()
    );
    let said = sh(&script);
    assert!(said.contains("UUID=x / ext4 defaults 0 1"), "{said}");
}

#[test]
fn without_a_key_it_is_told_what_is_locked_and_how_to_give_one() {
    tools!();
    let dir = locked();
    let uuid = sh(&format!("cryptsetup luksUUID {}/disk.luks", dir.path().display()));
    for line in [
        "info disk.luks",
        "cat disk.luks:/etc/fstab",
        "hash disk.luks",
        "serve disk.luks --run true",
        "check -p tencent disk.luks",
        "disk.luks -- true",
    ] {
        let output = run(dir.path(), words(line));
        let said = stderr(&output);
        let code = if line.ends_with("-- true") { 125 } else { 3 };
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains("LUKS1, aes-xts-plain64") && said.contains(uuid.trim()), "{line}: {said}");
        assert!(said.contains("help: give its key: --key disk:file:FILE"), "{line}: {said}");
    }
    let text = stdout(&run(dir.path(), ["info", "disk.luks"]));
    assert!(text.contains("file format: luks\n") && text.contains("encrypted: yes\n"), "{text}");
    let json: Value =
        serde_json::from_str(&stdout(&run(dir.path(), ["info", "--json", "disk.luks"]))).unwrap();
    assert_eq!(
        (json["format"].as_str(), json["locked"].as_bool(), json["kind"].as_str()),
        (Some("luks"), Some(true), Some("encrypted"))
    );
}

#[test]
fn a_wrong_key_is_told_from_none() {
    tools!();
    let dir = locked();
    let output = run(dir.path(), words("hash disk.luks --key disk:file:wrong"));
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("no key given fits"), "{}", stderr(&output));
    // A key for something else is none for the disk.
    let output = run(dir.path(), words("hash disk.luks --key p1:file:key"));
    assert!(stderr(&output).contains("no key was given"), "{}", stderr(&output));
}

#[test]
fn a_key_that_cannot_be_read_is_named_before_anything_is_opened() {
    let dir = common::tempdir();
    let output = run(dir.path(), words("hash nothing.img --key disk:file:/nowhere/key"));
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("/nowhere/key"));
    let output = run(dir.path(), ["hash", "nothing.img", "--key", &format!("disk:{KEY}")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("write VOL:file:FILE or VOL:env:VARIABLE"), "{}", stderr(&output));
    let output = run(dir.path(), words("hash nothing.img --key-fd 99"));
    assert_eq!(output.status.code(), Some(4));
}

/// Runs a command on a terminal of its own, types each answer when something ends in a colon and a space, and prints what
/// was shown and the exit status.
const TERMINAL: &str = r#"
import os, pty, signal, sys, termios
answers = sys.argv[1].split(",")
pid, fd = pty.fork()
if pid == 0:
    # Who runs the tests in the background may have them started with the signal ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.argv[2], sys.argv[2:])
shown = b""
while True:
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    if not piece:
        break
    shown += piece
    if shown.endswith(b": ") and answers:
        echo = termios.tcgetattr(fd)[3] & termios.ECHO
        shown += b"[echo]" if echo else b"[no echo]"
        os.write(fd, answers.pop(0).encode().decode("unicode_escape").encode())
status = os.waitpid(pid, 0)[1]
print(shown.decode())
print("status", os.waitstatus_to_exitcode(status))
"#;

fn on_a_terminal(dir: &Path, answers: &str, args: &[&str]) -> String {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-c").arg(TERMINAL).arg(answers).arg(IMGMOUNT).args(args).current_dir(dir);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stdout(&output).contains(KEY), "the key is shown");
    stdout(&output)
}

#[test]
fn a_person_at_a_terminal_is_asked_and_not_echoed() {
    tools!();
    requires!("/usr/bin/python3", "root", "fuse");
    let dir = locked();
    let sum = sh(&format!("sha256sum < {}/plain.raw | cut -c1-64", dir.path().display()));
    // A wrong one first; then one with a slip of the finger, taken back.
    let answers = format!("wrong\\r,{KEY}x\\x7f\\r");
    let said = on_a_terminal(dir.path(), &answers, &["hash", "disk.luks"]);
    assert!(said.contains("passphrase for disk.luks: [no echo]"), "{said}");
    assert!(
        said.contains("that key does not fit") && said.contains(sum.trim()) && said.contains("status 0"),
        "{said}"
    );
    // The supervisor that asks parses nothing: the worker tells it that something is locked.
    let said = on_a_terminal(dir.path(), &format!("{KEY}\\r"), &["disk.luks", "--", "cat", "etc/fstab"]);
    assert!(said.contains("UUID=x / ext4") && said.contains("status 0"), "{said}");
    let said =
        on_a_terminal(dir.path(), &format!("{KEY}\\r"), &["serve", "disk.luks", "--run", "echo served"]);
    assert!(said.contains("served") && said.contains("status 0"), "{said}");
    std::fs::create_dir(dir.path().join("m")).unwrap();
    let said = on_a_terminal(dir.path(), &format!("{KEY}\\r"), &["disk.luks", "m"]);
    assert!(said.contains("status 0"), "{said}");
    let unmounted = run(dir.path(), ["unmount", "m"]);
    assert!(unmounted.status.success(), "{}", stderr(&unmounted));
    // Interrupted: ends by the signal, and the terminal echoes again.
    let said = on_a_terminal(dir.path(), "abc\\x03", &["hash", "disk.luks"]);
    assert!(said.contains("status -2"), "{said}");
}
