//! Links that expire while they are open, and the command that prints fresh ones.

use super::*;
use std::path::Path;

/// Serves `file` under `?sig=N` for N of `valid`, and answers 403 to every other signature.
fn signed(file: &Arc<Vec<u8>>, valid: impl Fn(&str, &Request) -> bool + Send + Sync + 'static) -> Server {
    let file = Arc::clone(file);
    Server::start(move |request| {
        let sig = request.path.split_once("sig=").map_or("", |(_, sig)| sig);
        if valid(sig, request) { Reply::right(&file, request) } else { Reply::new(403) }
    })
}

/// A command that counts its runs in `dir` and prints what is written in `dir/url`.
fn command(dir: &Path, url: &str) -> Options {
    std::fs::write(dir.join("url"), url).unwrap();
    let dir = dir.display();
    Options { url_command: Some(format!("echo x >> '{dir}/runs'; cat '{dir}/url'")), ..Options::default() }
}

fn runs(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("runs")).map_or(0, |runs| runs.lines().count())
}

#[test]
fn an_expired_link_is_renewed_once_for_all_readers() {
    let (file, dir) = (noise(8 * MIB), common::tempdir());
    let server = signed(&file, |sig, request| sig == "2" || request.number < 2);
    let source = open_as(
        &format!("{}?sig=1", server.url()),
        command(dir.path(), &format!("{}?sig=2\n", server.url())),
    )
    .unwrap();
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (source, file) = (&source, &file);
            scope.spawn(move || {
                let at = reader * MIB;
                assert!(read(source, at as u64, 700_000).unwrap() == file[at..at + 700_000]);
            });
        }
    });
    assert_eq!(runs(dir.path()), 1);
}

#[test]
fn a_link_that_never_worked_is_renewed_when_it_is_opened() {
    let (file, dir) = (noise(MIB), common::tempdir());
    let server = signed(&file, |sig, _| sig == "2");
    let fresh = format!("{}?sig=2", server.url());
    let source = open_as(&format!("{}?sig=1", server.url()), command(dir.path(), &fresh)).unwrap();
    assert!(read(&source, 0, MIB as u64).unwrap() == file[..]);
    assert_eq!(runs(dir.path()), 1);
}

#[test]
fn a_token_that_expires_with_status_400_is_renewed() {
    let (file, dir) = (noise(4 * MIB), common::tempdir());
    let server = Server::start({
        let file = Arc::clone(&file);
        move |request| {
            let good = request.number == 0 || request.path.ends_with("sig=2");
            if good { Reply::right(&file, request) } else { Reply::new(400) }
        }
    });
    let source = open_as(&server.url(), command(dir.path(), &format!("{}?sig=2", server.url()))).unwrap();
    assert!(read(&source, 2 << 20, 5000).unwrap() == file[2 * MIB..2 * MIB + 5000]);
}

#[test]
fn the_fresh_link_may_lead_to_another_server_and_the_login_stays_behind() {
    let (file, dir) = (noise(4 * MIB), common::tempdir());
    let mirror = Server::serving(&file);
    let server = signed(&file, |_, request| request.opens());
    let url = server.url().replace("http://", "http://me:secret@");
    let source = open_as(&url, command(dir.path(), &mirror.url())).unwrap();
    assert!(read(&source, 2 << 20, 5000).unwrap() == file[2 * MIB..2 * MIB + 5000]);
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_fresh_link_to_another_object_is_a_change_for_ever() {
    let (file, other, dir) = (noise(4 * MIB), noise(5 * MIB), common::tempdir());
    let server = signed(&file, |_, request| request.opens());
    let wrong = Server::serving(&other);
    let source = open_as(&server.url(), command(dir.path(), &wrong.url())).unwrap();
    for _ in 0..2 {
        assert_eq!(read(&source, 2 << 20, 5000).unwrap_err().kind(), ErrorKind::Changed);
    }
}

#[test]
fn a_fresh_link_that_does_not_work_either_ends_in_time() {
    let (file, dir) = (noise(4 * MIB), common::tempdir());
    let server = signed(&file, |_, request| request.opens());
    let (deadline, interval) = (Duration::from_secs(3), Duration::from_secs(1));
    let tuning = Tuning { deadline, interval, ..patient() };
    let source = open_as_with(&server.url(), &tuning, command(dir.path(), &server.url())).unwrap();
    let start = Instant::now();
    let error = read(&source, 2 << 20, 5000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("--url-command"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    // One at once, and one each time the interval has passed within the deadline.
    assert!(runs(dir.path()) <= 4, "{} runs", runs(dir.path()));
}

#[test]
fn a_command_that_fails_is_named_and_not_run_again_at_once() {
    let (file, dir) = (noise(4 * MIB), common::tempdir());
    let server = signed(&file, |_, request| request.opens());
    let mut options = command(dir.path(), "http://h/?token=s3cr3t");
    options.url_command = options.url_command.map(|command| format!("{command}; exit 3"));
    let source = open_as(&server.url(), options).unwrap();
    for _ in 0..3 {
        let error = read(&source, 2 << 20, 5000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.chain().contains("--url-command failed: exit status: 3"), "{}", error.chain());
        assert!(!format!("{error:?} {}", error.chain()).contains("s3cr3t"));
    }
    assert_eq!(runs(dir.path()), 1);
}

#[test]
fn the_program_renews_links_and_shows_none() {
    let file = noise(3 * MIB);
    let server = signed(&file, |sig, request| sig == "s3cr3t2" || request.number < 2);
    let fresh = "echo \"$IMGMOUNT_OBJECT?sig=s3cr3t2\"; echo said >&2";
    let output =
        common::imgmount(["hash", "-vv", "--url-command", fresh, &format!("{}?sig=s3cr3t1", server.url())]);
    let (stdout, stderr) = (common::stdout(&output), common::stderr(&output));
    assert_eq!(stdout.split(' ').next(), Some(sha256(&file).as_str()), "{stderr}");
    assert!(
        stderr.contains("said\n") && !stderr.contains("s3cr3t") && !stdout.contains("s3cr3t"),
        "{stderr}"
    );
}
