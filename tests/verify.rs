//! Second opinions: they agree where all is well, differ where a byte was changed between the two readings' subjects,
//! and whatever the other library does, panic, refuse or hang, is told as its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
#![cfg(feature = "second-opinion")]
mod common;

use common::{sh, stderr};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

fn verify(image: &Path, options: &[&str]) -> (Output, Value) {
    let mut line = vec!["verify".as_ref(), "--json".as_ref(), image.as_os_str()];
    line.extend(options.iter().map(|option| std::ffi::OsStr::new(*option)));
    let output = common::imgmount(line);
    let document =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    (output, document)
}

/// Reader, subject and result of every opinion.
fn results(document: &Value) -> Vec<(String, String, String)> {
    let text = |opinion: &Value, key: &str| opinion[key].as_str().unwrap().to_owned();
    let opinions = document["opinions"].as_array().unwrap();
    opinions.iter().map(|one| (text(one, "reader"), text(one, "subject"), text(one, "result"))).collect()
}

fn row(reader: &str, subject: &str, result: &str) -> (String, String, String) {
    (reader.to_owned(), subject.to_owned(), result.to_owned())
}

/// An ext4 file system alone on a disk of 16 MiB.
fn disk(dir: &Path) {
    sh(&format!(
        "cd {}; mkdir -p tree/a/b; seq 1 100000 > tree/a/numbers; ln -s numbers tree/a/link; truncate -s 2M tree/sparse; \
         echo x > tree/a/b/x; truncate -s 16M disk.raw; mkfs.ext4 -q -F -d tree disk.raw",
        dir.display()
    ));
}

#[test]
fn three_readers_agree_on_a_sound_image() {
    requires!("mkfs.ext4", "qemu-img");
    let dir = common::tempdir();
    disk(dir.path());
    sh(&format!("cd {}; qemu-img convert -O qcow2 -c disk.raw d.qcow2", dir.path().display()));
    let (output, document) = verify(&dir.path().join("d.qcow2"), &[]);
    let expected =
        [row("qcow2-rs", "disk", "agree"), row("nbd", "disk", "agree"), row("ext4-view", "disk", "agree")];
    assert_eq!(results(&document), expected, "{document:#}");
    assert_eq!(output.status.code(), Some(0));
    // The root, lost+found, a, b, and four files.
    assert_eq!(document["opinions"][2]["files"], 8);
    assert_eq!(document["opinions"][0]["bytes"], 16 << 20);
}

#[test]
fn what_the_other_refuses_is_not_a_difference() {
    requires!("qemu-img");
    let dir = common::tempdir();
    sh(&format!(
        "cd {}; seq 1 100000 > d; truncate -s 4M d; qemu-img convert -O qcow2 -c -o compression_type=zstd d z.qcow2",
        dir.path().display()
    ));
    let (output, document) = verify(&dir.path().join("z.qcow2"), &["--reader", "qcow2-rs"]);
    assert_eq!(results(&document), [row("qcow2-rs", "disk", "other-cannot")]);
    assert!(
        document["opinions"][0]["reason"].as_str().unwrap().contains("incompatible feature"),
        "{document:#}"
    );
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn a_cluster_size_that_breaks_the_other_is_told_as_its_own_fault() {
    requires!("qemu-img");
    let dir = common::tempdir();
    sh(&format!(
        "cd {}; seq 1 100000 > d; truncate -s 4M d; qemu-img convert -O qcow2 -o cluster_size=512 d s.qcow2",
        dir.path().display()
    ));
    let (output, document) = verify(&dir.path().join("s.qcow2"), &[]);
    assert_eq!(
        results(&document),
        [row("qcow2-rs", "disk", "other-cannot"), row("nbd", "disk", "agree")],
        "{document:#}"
    );
    let reason = document["opinions"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("panicked") || reason.contains("did not finish"), "{reason}");
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn a_backing_file_is_not_looked_for_by_the_other() {
    requires!("qemu-img");
    let dir = common::tempdir();
    sh(&format!(
        "cd {}; seq 1 100000 > d; truncate -s 4M d; qemu-img convert -O qcow2 d base.qcow2; qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
        dir.path().display()
    ));
    let (output, document) =
        verify(&dir.path().join("top.qcow2"), &["--allow-parent", dir.path().to_str().unwrap()]);
    assert_eq!(
        results(&document),
        [row("qcow2-rs", "disk", "other-cannot"), row("nbd", "disk", "agree")],
        "{document:#}"
    );
    assert!(document["opinions"][0]["reason"].as_str().unwrap().contains("backing file"));
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn an_unreadable_stretch_is_told_with_its_range() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    sh(&format!(
        "cd {}; seq 1 600000 | head -c 4000000 > d || true; truncate -s 4M d; qemu-img convert -O qcow2 -c d c.qcow2",
        dir.path().display()
    ));
    // The stream of the tenth cluster is made garbage: header -> L1 -> L2 -> entry ("docs/interop/qcow2.txt").
    let image = dir.path().join("c.qcow2");
    let mut bytes = std::fs::read(&image).unwrap();
    let be64 = |bytes: &[u8], at: u64| u64::from_be_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let l2 = be64(&bytes, be64(&bytes, 40)) & 0x00ff_ffff_ffff_fe00;
    let entry = be64(&bytes, l2 + 9 * 8);
    assert!(entry & (1 << 62) != 0, "the cluster is not compressed");
    let stream = (entry & ((1 << 54) - 1)) as usize;
    bytes[stream..stream + 64].fill(0xff);
    std::fs::write(&image, bytes).unwrap();
    let (output, document) = verify(&dir.path().join("c.qcow2"), &["--reader", "qcow2-rs"]);
    let finding = &document["opinions"][0]["findings"][0];
    assert_eq!(
        (finding["verdict"].as_str(), finding["start"].as_u64()),
        (Some("other-cannot"), Some(0)),
        "{document:#}"
    );
    assert!(finding["reason"].as_str().unwrap().starts_with("neither can: "), "{document:#}");
    assert_eq!(output.status.code(), Some(6), "{document:#}");
}

/// Path, verdict and reason of every finding on an NTFS, by the crate alone.
fn on_ntfs(image: &Path) -> (Value, Vec<(String, String, String)>) {
    let (_, document) = verify(image, &["--reader", "ntfs"]);
    let opinion = document["opinions"][0].clone();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("").to_owned();
    let findings = opinion["findings"].as_array().unwrap();
    let found = findings.iter().map(|one| (text(one, "path"), text(one, "verdict"), text(one, "reason")));
    let found = found.collect();
    (opinion, found)
}

#[test]
fn ntfs_is_as_the_other_reads_it_but_for_what_that_cannot() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "setfattr", "python3");
    let dir = common::tempdir();
    // Its process is waited for: what it has in memory is on the disk when it ends, not when 'umount' does.
    sh(&format!(
        "cd {}; truncate -s 200M disk; mkntfs -F -Q -q disk >/dev/null; mkdir mnt
         ntfs-3g -o no_detach,compression,streams_interface=xattr disk mnt & pid=$!
         until mountpoint -q mnt; do kill -0 $pid; sleep 0.02; done
         python3 {}/tests/make/ntfs.py mnt
         mkdir mnt/packed; setfattr -h -v 0x00000800 -n system.ntfs_attrib_be mnt/packed
         seq 1 50000 > mnt/packed/numbers
         python3 -c 'f = open(\"mnt/islands\", \"wb\", 0)
for n in range(3000): f.seek(n * 36864); f.write(bytes([n % 251 + 1]) * 4096)'
         umount mnt; wait $pid",
        dir.path().display(),
        common::root().display()
    ));
    let (opinion, found) = on_ntfs(&dir.path().join("disk"));
    let told = |path: &str| found.iter().find(|(of, _, _)| of == path).map_or("", |(_, _, reason)| reason);
    assert!(told("/packed/numbers").contains("LZNT1"), "{opinion:#}");
    assert!(told("/islands").contains("several records"), "{opinion:#}");
    let others: Vec<_> = found.iter().filter(|(_, verdict, _)| verdict != "other-cannot").collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(opinion["files"].as_u64().unwrap() > 500 && found.len() < 10, "{opinion:#}");
}

/// Its own sample, in which a record that straddles two runs of the MFT is one that it does not read.
#[test]
fn the_ntfs_crates_own_volume_differs_nowhere() {
    requires!("corpus");
    let (opinion, found) = on_ntfs(&common::corpus().unwrap().join("fs/ntfs-rs/testfs1"));
    assert!(opinion["files"].as_u64().unwrap() > 500, "{opinion:#}");
    let paths: Vec<&str> = found.iter().map(|(path, _, _)| path.as_str()).collect();
    assert!(paths.contains(&"/many_subdirs/187"), "{paths:?}");
    let others: Vec<_> = found.iter().filter(|(_, verdict, _)| verdict != "other-cannot").collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn packed_files_of_windows_are_none_for_the_other() {
    requires!("corpus");
    let (opinion, found) = on_ntfs(&common::corpus().unwrap().join("fs/made/ntfs_wof.img.zst"));
    assert_eq!(found.len(), 4, "{opinion:#}");
    for (_, verdict, reason) in &found {
        assert!(verdict == "other-cannot" && reason.contains("WOF"), "{opinion:#}");
    }
}

#[test]
fn a_dirty_file_system_is_told_before_its_differences() {
    requires!("mkfs.ext4", "debugfs");
    let dir = common::tempdir();
    disk(dir.path());
    sh(&format!(
        "cd {}; debugfs -w -R 'feature needs_recovery' disk.raw >/dev/null 2>&1",
        dir.path().display()
    ));
    let (_, document) = verify(&dir.path().join("disk.raw"), &["--reader", "ext4-view"]);
    assert!(document["opinions"][0]["note"].as_str().unwrap().contains("dirty"), "{document:#}");
}

#[test]
fn the_real_guest_agrees_but_for_times_the_other_takes_for_invalid() {
    requires!("guest");
    let guest = common::guest().unwrap();
    let (_, document) = verify(&guest.join("disk-zlib.qcow2"), &[]);
    let results = results(&document);
    assert_eq!(results[..2], [row("qcow2-rs", "disk", "agree"), row("nbd", "disk", "agree")], "{document:#}");
    let files = &document["opinions"][2];
    assert!(files["files"].as_u64().unwrap() > 10_000 && files["reason"].is_null(), "{document:#}");
    for finding in files["findings"].as_array().unwrap() {
        // ext4-view 1.0 refuses the inodes of files from before 1970 or after 2038.
        assert!(
            finding["verdict"] == "other-cannot"
                && finding["reason"].as_str().unwrap().contains("invalid timestamp"),
            "{finding}"
        );
    }
}
