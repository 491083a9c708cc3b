//! Links that are made to lead out of the guest.

use super::*;

/// A disc whose links, taken as the kernel reads them, lead to `/etc/hostname` of this host: each `..` has a NUL behind it.
fn disc(dir: &Path) -> PathBuf {
    sh(&format!(
        "cd {}; mkdir -p tree/a tree/b tree/c; cd tree
         ln -s AA@ up; for n in $(seq 20); do ln -s AA@ a/$n; done; echo fine > file; ln -s file link
         ln -s \"up/$(printf 'AA@/%.0s' $(seq 20))etc/hostname\" out
         genisoimage -quiet -R -o ../disk $PWD",
        dir.display()
    ));
    let disk = dir.join("disk");
    let mut bytes = std::fs::read(&disk).unwrap();
    let places: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, word)| *word == b"AA@").map(|(at, _)| at).collect();
    assert!(places.len() > 40, "{}", places.len());
    for at in places {
        bytes[at..at + 3].copy_from_slice(b"..\0");
    }
    std::fs::write(&disk, bytes).unwrap();
    disk
}

#[test]
fn a_link_with_a_nul_in_its_target_leads_nowhere() {
    requires!("root", "fuse", "genisoimage");
    let dir = tempdir();
    let disk = disc(dir.path());
    for options in [&["-q"][..], &["-q", "--symlinks=raw"]] {
        let mount = Mount::of(&disk, options);
        for link in ["up", "out", "a/1"] {
            let read = rustix::fs::readlink(mount.join(link), Vec::new());
            assert_eq!(read, Err(rustix::io::Errno::IO), "{link} {options:?}");
            assert!(std::fs::read(mount.join(link)).is_err() && std::fs::read_dir(mount.join(link)).is_err());
        }
        // One bad link is no concern of the others.
        assert_eq!(std::fs::read(mount.join("link")).unwrap(), b"fine\n");
        let errors = std::fs::read_to_string(mount.join(".imgmount/errors")).unwrap();
        assert!(errors.contains("/up (disk): reading its target:") && errors.contains("NUL"), "{errors}");
    }
}

#[test]
fn a_link_with_a_nul_in_its_target_is_not_copied() {
    requires!("genisoimage");
    let dir = tempdir();
    let disk = disc(dir.path());
    let at = |path: &str| format!("{}:{path}", disk.display());
    let out = dir.path().join("out");
    let copied = imgmount(["cp", "-r", &at("/"), out.to_str().unwrap()]);
    assert_eq!(copied.status.code(), Some(6), "{}", stderr(&copied));
    assert!(stderr(&copied).contains("NUL in its target"), "{}", stderr(&copied));
    assert_eq!(std::fs::read(out.join("link")).unwrap(), b"fine\n");
    for link in ["up", "out", "a/1"] {
        assert!(std::fs::symlink_metadata(out.join(link)).is_err(), "{link}");
    }
    let listed = imgmount(["ls", "-l", &at("/")]);
    assert!(stdout(&listed).contains("link -> file"), "{}", stdout(&listed));
    assert!(stdout(&listed).contains("NUL in its target"), "{}", stdout(&listed));
    let read = imgmount(["cat", &at("/out")]);
    assert!(!read.status.success() && read.stdout.is_empty(), "{}", stderr(&read));
    let found = imgmount(["find", "--jsonl", &at("/")]);
    assert!(
        stdout(&found).lines().any(|line| line.contains("\"/up\"") && line.contains("NUL in its target"))
    );
}
