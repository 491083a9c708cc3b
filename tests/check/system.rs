//! Rules of the group `system`: what the system is.

use super::*;

#[test]
fn the_base_guest_is_a_debian() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "distribution", "params = { ids = [\"debian\"] }");
    assert_eq!(checked.result("distribution"), "pass", "{:#}", checked.json);
}
