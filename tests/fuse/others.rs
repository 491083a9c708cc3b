//! What a user who is not root has to do with the mounts of others, and with a guest that keeps its root directory to itself.

use super::*;

#[test]
fn mounts_of_others_are_no_concern_of_unmount() {
    requires!("root", "fuse", "loop", "sfdisk", "mkfs.ext4", "python3", "setpriv");
    let roots = Mount::of(disk(), &["-q"]);
    let dir = tempfile::tempdir().unwrap();
    // A user who has no mount, whatever other tests do: as nobody, theirs would be taken away.
    let script = format!(
        "cp {IMGMOUNT} {0}/imgmount; chmod 755 {0}; cd {0}
         exec setpriv --reuid=54321 --regid=54321 --clear-groups sh -c './imgmount unmount --all; echo $?; ./imgmount unmount . || true' 2>&1",
        dir.path().display()
    );
    let said = sh(&script);
    assert!(said.starts_with("0\n"), "{said}");
    assert!(said.contains("imgmount has mounted nothing"), "{said}");
    assert!(!said.contains(roots.path().to_str().unwrap()), "{said}");
    assert!(roots.is_there());
}

#[test]
fn a_mount_whose_root_directory_is_closed_is_not_silent() {
    requires!("root", "fuse", "mkfs.ext4", "debugfs", "setpriv", "fusermount3");
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("closed");
    sh(&format!(
        "truncate -s 8M {0}; mkfs.ext4 -q {0}; debugfs -w -R 'set_inode_field <2> mode 040700' {0} 2>/dev/null",
        disk.display()
    ));
    let script = "./imgmount -q --volume disk -o default_permissions disk.raw mnt
        ls mnt 2>/dev/null || echo closed; ./imgmount list --json; ./imgmount stats mnt; echo $?; ./imgmount unmount -q mnt";
    let output = as_nobody(&disk, dir.path(), script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let (first, rest) = said.split_once('\n').unwrap();
    let (list, code) = rest.trim_end().rsplit_once('\n').unwrap();
    let list: serde_json::Value = serde_json::from_str(list).unwrap();
    assert_eq!((first, code), ("closed", "5"), "{said}");
    // Other tests are nobody, too.
    let place = dir.path().join("mnt");
    let is_it = |one: &&serde_json::Value| one["where"][0] == place.to_str().unwrap();
    let one = list["running"].as_array().unwrap().iter().find(is_it).unwrap();
    assert_eq!(one["state"], "running", "{said}");
    assert!(stderr(&output).contains("its root directory keeps this user out"), "{}", stderr(&output));
}
