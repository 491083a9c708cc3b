//! Rules of the group `disk`: the disk.

use super::*;

#[test]
fn a_small_disk_is_small_enough() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "virtual-size", "params = { max = \"1 GiB\" }");
    assert_eq!(checked.result("virtual-size"), "pass", "{:#}", checked.json);
}
