//! The tour runs to its end, and the samples inside the program are what qemu-img reads of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::{imgmount, sh, stderr, stdout};

#[test]
fn the_tour_ends_well_and_leaves_nothing_behind() {
    let tmp = common::tempdir();
    let output =
        std::process::Command::new(common::IMGMOUNT).arg("demo").env("TMPDIR", tmp.path()).output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("NOT IMPORTABLE"), "{}", stdout(&output));
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
}

#[test]
fn every_sample_is_the_disk_that_qemu_img_reads() {
    requires!("qemu-img");
    let tmp = common::tempdir();
    let dir = tmp.path().to_str().unwrap();
    assert!(imgmount(["demo", "--unpack", dir]).status.success());
    let images = [
        "debian.raw",
        "debian.qcow2",
        "debian-zlib.qcow2",
        "debian-zstd.qcow2",
        "debian.vmdk",
        "debian-stream.vmdk",
        "debian-flat.vmdk",
        "debian-split.vmdk",
        "debian.vhd",
        "debian-fixed.vhd",
        "debian.vhdx",
        "debian.vdi",
    ];
    // qemu-img tells a VHD from a raw disk by its size, unless the format is said.
    let expected = sh(&format!(
        "cd {dir}; for image in {}; do
             format=; case $image in *.raw) format='-f raw' ;; *.vhd) format='-f vpc' ;; esac
             qemu-img convert $format -O raw $image out.raw; sha256sum < out.raw
         done",
        images.join(" ")
    ));
    let ours =
        imgmount(std::iter::once("hash".to_owned()).chain(images.map(|image| format!("{dir}/{image}"))));
    let sums = |text: &str| -> Vec<String> { text.lines().map(|line| line[..64].to_owned()).collect() };
    assert_eq!(sums(&stdout(&ours)), sums(&expected), "{}", stderr(&ours));
    assert_eq!(sums(&expected).len(), images.len());
}
