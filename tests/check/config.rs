//! Rules of the group `config`: how a Linux is set up.

use super::*;

#[test]
fn the_root_alone_is_mounted() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "fstab-devices", "");
    assert_eq!(checked.result("fstab-devices"), "pass", "{:#}", checked.json);
}
