//! Blocks kept on disk between runs: never a wrong byte, never more than allowed.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The sum of the disk, read with a cache directory.
fn hash(dir: &Path, url: &str, more: &[&str]) -> (String, String) {
    let dir = dir.to_str().unwrap();
    let words = ["hash", "--format", "raw", "--cache-dir", dir].into_iter().chain(more.iter().copied());
    let output = common::imgmount(words.chain([url]));
    (common::stdout(&output).split(' ').next().unwrap().to_owned(), common::stderr(&output))
}

/// The files that hold blocks.
fn files(dir: &Path) -> Vec<PathBuf> {
    let own = std::fs::read_dir(dir.join("blocks-1")).unwrap();
    let mut files: Vec<PathBuf> = own.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Bytes that they take.
fn taken(dir: &Path) -> u64 {
    files(dir).iter().map(|file| file.metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn a_second_run_asks_for_the_first_bytes_only_also_with_another_signature() {
    let (file, dir) = (noise(20 * MIB + 123), common::tempdir());
    let server = Server::serving(&file);
    assert_eq!(hash(dir.path(), &format!("{}?X-Amz-Signature=s3cr3t1", server.url()), &[]).0, sha256(&file));
    let before = server.requests().len();
    assert_eq!(hash(dir.path(), &format!("{}?X-Amz-Signature=s3cr3t2", server.url()), &[]).0, sha256(&file));
    let later = server.requests()[before..].to_vec();
    assert_eq!(later.iter().map(Request::range).collect::<Vec<_>>(), [(0, (512 << 10) - 1)]);
    for path in files(dir.path()) {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.to_str().unwrap().contains("s3cr3t") && !path.to_str().unwrap().contains("disk"));
    }
    assert_eq!(dir.path().join("blocks-1").metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn another_version_of_the_object_is_fetched() {
    let (old, new, dir) = (noise(4 * MIB), Arc::new(vec![7; 4 * MIB]), common::tempdir());
    let version = Arc::new(AtomicU64::new(1));
    let server = Server::start({
        let (old, new, version) = (Arc::clone(&old), Arc::clone(&new), Arc::clone(&version));
        move |request| match version.load(Ordering::SeqCst) {
            1 => Reply::right(&old, request),
            _ => Reply::right(&new, request).with("ETag", "\"v2\""),
        }
    });
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&old));
    version.store(2, Ordering::SeqCst);
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&new));
}

#[test]
fn a_server_that_lies_about_the_version_is_noticed_by_the_first_bytes() {
    let (old, dir) = (noise(4 * MIB), common::tempdir());
    let new: Arc<Vec<u8>> = Arc::new(old.iter().map(|byte| byte ^ 1).collect());
    assert_eq!(hash(dir.path(), &Server::serving(&old).url(), &[]).0, sha256(&old));
    // The same host, port, name, length and ETag: what is on disk belongs to another object all the same.
    let served = Arc::new(Mutex::new(Arc::clone(&old)));
    let server = Server::start({
        let served = Arc::clone(&served);
        move |request| Reply::right(&served.lock().unwrap(), request)
    });
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&old));
    *served.lock().unwrap() = Arc::clone(&new);
    let (sum, stderr) = hash(dir.path(), &server.url(), &[]);
    assert_eq!(sum, sha256(&new));
    assert!(stderr.contains("is another than the one in the cache directory"), "{stderr}");
}

#[test]
fn without_a_validator_nothing_is_kept_and_that_is_said() {
    let (file, dir) = (noise(MIB), common::tempdir());
    let served = Arc::clone(&file);
    let server =
        Server::start(move |request| Reply::right(&served, request).without("ETag").without("Last-Modified"));
    let (sum, stderr) = hash(dir.path(), &server.url(), &[]);
    assert_eq!(sum, sha256(&file));
    assert!(stderr.contains("not kept in the cache directory"), "{stderr}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_damaged_block_is_fetched_again() {
    let (file, dir) = (noise(5 * MIB), common::tempdir());
    let server = Server::serving(&file);
    hash(dir.path(), &server.url(), &[]);
    let kept = files(dir.path())[0].clone();
    let good = std::fs::read(&kept).unwrap();
    // A byte of a sum; the first and the last byte of a block behind those that come with opening; a file cut short.
    for at in [32 * 3 + 7, 4096 + 3 * (256 << 10), 4096 + 4 * (256 << 10) - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&kept, bad).unwrap();
        let before = server.requests().len();
        assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file), "byte {at}");
        assert_eq!(
            server.requests()[before..].iter().map(Request::range).nth(1),
            Some((3 << 18, (4 << 18) - 1))
        );
        assert!(std::fs::read(&kept).unwrap() == good, "it is repaired");
    }
    std::fs::write(&kept, &good[..good.len() / 2]).unwrap();
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file));
    // Every sum and every block of another place.
    let mut moved = good;
    moved[..64 * 32].rotate_left(32);
    moved[4096..].rotate_left(256 << 10);
    std::fs::write(&kept, moved).unwrap();
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file));
}

#[test]
fn two_processes_at_once_agree_with_the_file() {
    let (file, dir) = (noise(12 * MIB), common::tempdir());
    let server = Server::serving(&file);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file)));
        }
    });
    let before = server.requests().len();
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file));
    assert_eq!(server.requests().len() - before, 1);
}

#[test]
fn a_process_killed_while_it_writes_leaves_no_wrong_byte() {
    let (file, dir) = (noise(12 * MIB), common::tempdir());
    let served = Arc::clone(&file);
    let server = Server::start(move |request| Reply {
        drip: Some((100_000, Duration::from_millis(2))),
        ..Reply::right(&served, request)
    });
    for wait in [40, 90, 140] {
        let mut process = Command::new(common::IMGMOUNT)
            .args(["hash", "--format", "raw", "--cache-dir", dir.path().to_str().unwrap(), &server.url()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file));
}

#[test]
fn the_limit_holds_and_what_was_used_last_stays() {
    let (file, dir) = (noise(24 * MIB), common::tempdir());
    let server = Server::serving(&file);
    for _ in 0..2 {
        let (sum, stderr) = hash(dir.path(), &server.url(), &["--cache-dir-size", "8M"]);
        assert_eq!((sum, stderr.as_str()), (sha256(&file), ""));
        assert!(taken(dir.path()) <= 8 << 20, "{} bytes", taken(dir.path()));
    }
    // Of two objects the one read last is kept.
    let small = noise(3 * MIB);
    let other = Server::serving(&small);
    hash(dir.path(), &other.url(), &["--cache-dir-size", "8M"]);
    let before = other.requests().len();
    hash(dir.path(), &other.url(), &["--cache-dir-size", "8M"]);
    assert_eq!(other.requests().len() - before, 1);
    assert!(taken(dir.path()) <= 8 << 20);
}

#[test]
fn a_limit_removes_nothing_but_blocks() {
    let (file, dir) = (noise(12 * MIB), common::tempdir());
    let own = dir.path().join("blocks-1");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("diary.txt"), vec![1; 5 << 20]).unwrap();
    std::fs::write(dir.path().join("letter.txt"), vec![1; 5 << 20]).unwrap();
    hash(dir.path(), &Server::serving(&file).url(), &["--cache-dir-size", "4M"]);
    assert!(own.join("diary.txt").exists() && dir.path().join("letter.txt").exists());
}

#[test]
fn a_full_disk_is_said_once_and_reading_goes_on() {
    requires!("root", "mount");
    let (file, dir) = (noise(12 * MIB), common::tempdir());
    let mounted = dir.path().join("small");
    std::fs::create_dir(&mounted).unwrap();
    common::sh(&format!("mount -t tmpfs -o size=3m,mode=700 none '{}'", mounted.display()));
    let server = Server::serving(&file);
    let first = hash(&mounted, &server.url(), &[]);
    let second = hash(&mounted, &server.url(), &[]);
    common::sh(&format!("umount '{}'", mounted.display()));
    for (sum, stderr) in [first, second] {
        assert_eq!(sum, sha256(&file));
        assert_eq!(stderr.matches("takes no more blocks").count(), 1, "{stderr}");
    }
}

#[test]
fn a_directory_that_others_may_write_into_is_refused() {
    let (file, dir) = (noise(MIB), common::tempdir());
    let own = dir.path().join("blocks-1");
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o777)).unwrap();
    let server = Server::serving(&file);
    let (sum, stderr) = hash(dir.path(), &server.url(), &[]);
    assert!(sum.is_empty() && stderr.contains("not yours alone"), "{stderr}");
    std::fs::remove_dir(&own).unwrap();
    std::os::unix::fs::symlink("/tmp", &own).unwrap();
    let (sum, stderr) = hash(dir.path(), &server.url(), &[]);
    assert!(sum.is_empty() && stderr.contains("the cache directory"), "{stderr}");
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    let (file, dir) = (noise(3 * MIB), common::tempdir());
    let server = Server::serving(&file);
    hash(dir.path(), &server.url(), &[]);
    let (kept, target) = (files(dir.path())[0].clone(), dir.path().join("target"));
    std::fs::write(&target, b"mine").unwrap();
    std::fs::remove_file(&kept).unwrap();
    std::os::unix::fs::symlink(&target, &kept).unwrap();
    assert_eq!(hash(dir.path(), &server.url(), &[]).0, sha256(&file));
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
}

#[test]
fn a_local_image_makes_no_cache_directory() {
    let dir = common::tempdir();
    std::fs::write(dir.path().join("disk"), vec![0; 1 << 20]).unwrap();
    let missing = dir.path().join("none");
    let output = common::imgmount([
        "hash",
        "--format",
        "raw",
        "--cache-dir",
        missing.to_str().unwrap(),
        dir.path().join("disk").to_str().unwrap(),
    ]);
    assert!(output.status.success() && !missing.exists());
}
