//! Rules of the group `boot`: how a Linux starts.

use super::*;

#[test]
fn the_default_kernel_is_there() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "boot-files", "");
    assert_eq!(checked.result("boot-files"), "pass", "{:#}", checked.json);
}
