//! Rules of the group `access`: accounts, sshd, cloud-init, agents.

use super::*;

#[test]
fn cloud_init_alone_passes_by_its_own_profile() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let checked = rule_of("", "cloud-init", "");
    assert_eq!(checked.result("cloud-init"), "pass", "{:#}", checked.json);
}
