//! Objects fetched by one request: links that are good for one only, servers without ranges.

use super::*;
use imgmount::source::spool::SpoolDir;

fn spooled(url: &str) -> Result<Arc<dyn BlockSource>, Error> {
    spooled_with(url, &patient())
}

fn spooled_with(url: &str, tuning: &Tuning) -> Result<Arc<dyn BlockSource>, Error> {
    let spool = SpoolDir::open(&std::env::temp_dir(), u64::MAX).unwrap();
    open_as_with(url, tuning, Options { spool: Some(Arc::new(spool)), ..Options::default() })
}

/// What a server answers that knows nothing of ranges.
fn whole(file: &[u8]) -> Reply {
    Reply::new(200).with("ETag", "\"v1\"").body(|body| body.extend_from_slice(file))
}

/// `Reply::right` for a range that may be open at its end.
fn right(file: &[u8], request: &Request) -> Reply {
    let mut request = request.clone();
    let range = request.header("range").unwrap().to_owned();
    if range.ends_with('-') {
        let last = (file.len() - 1).to_string();
        request.headers = vec![("Range".to_owned(), format!("{range}{last}"))];
    }
    Reply::right(file, &request)
}

#[test]
fn a_link_for_one_request_is_read_by_one_request() {
    let file = noise(3 * MIB + 77);
    for ranges in [true, false] {
        let served = Arc::clone(&file);
        let server = Server::start(move |request| match request.number {
            0 if ranges => right(&served, request),
            0 => whole(&served),
            _ => Reply::new(403),
        });
        let dir = common::tempdir();
        let spool = format!("--spool={}", dir.path().display());
        for words in [&["hash", "--format", "raw"][..], &["hash", "--container"]] {
            server.seen.lock().unwrap().clear();
            let output = common::imgmount(words.iter().copied().chain([&*spool, &server.url()]));
            assert_eq!(
                common::stdout(&output).split(' ').next(),
                Some(&*sha256(&file)),
                "{}",
                common::stderr(&output)
            );
            assert_eq!(server.requests().len(), 1);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn an_answer_in_chunks_without_a_length_is_read() {
    let file = noise(MIB + 5);
    let served = Arc::clone(&file);
    let server = Server::start(move |_| Reply { chunked: true, ..whole(&served) });
    let source = spooled(&server.url()).unwrap();
    assert_eq!(source.len(), file.len() as u64);
    assert!(read(&source, 0, source.len()).unwrap() == file[..]);
}

#[test]
fn an_empty_object_is_empty() {
    for reply in [Reply::new(200), Reply::new(416).with("Content-Range", "bytes */0")] {
        let server = Server::start(move |_| reply.clone());
        assert_eq!(spooled(&server.url()).unwrap().len(), 0);
    }
}

#[test]
fn what_has_arrived_is_read_before_the_rest_is_there() {
    let file = noise(4 * MIB);
    let served = Arc::clone(&file);
    let server = Server::start(move |request| Reply {
        drip: Some((MIB, Duration::from_millis(250))),
        ..right(&served, request)
    });
    let start = Instant::now();
    let source = spooled(&server.url()).unwrap();
    assert!(read(&source, 1000, 5000).unwrap() == file[1000..6000]);
    let early = start.elapsed();
    assert!(read(&source, 3 << 20, MIB as u64).unwrap() == file[3 * MIB..]);
    assert!(early < start.elapsed(), "the first bytes came with the last");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_break_is_taken_up_where_it_was() {
    let file = noise(3 * MIB);
    let served = Arc::clone(&file);
    let server = Server::start(move |request| {
        let right = right(&served, request);
        let announced = right.body.len().to_string();
        match request.number {
            0..4 => Reply { cut: Some(600_000), ..right.with("Content-Length", &announced) },
            4 => Reply::new(503),
            _ => right,
        }
    });
    let source = spooled(&server.url()).unwrap();
    assert!(read(&source, 0, source.len()).unwrap() == file[..]);
    let asked: Vec<String> =
        server.requests().iter().map(|request| request.header("range").unwrap().to_owned()).collect();
    assert_eq!(asked[..4], ["bytes=0-", "bytes=600000-", "bytes=1200000-", "bytes=1800000-"]);
}

#[test]
fn a_break_that_cannot_be_taken_up_is_an_error_for_good() {
    let file = noise(3 * MIB);
    // The last one may pass, and is waited for.
    let soon = Tuning { deadline: Duration::from_secs(2), ..patient() };
    for (ranges, later, tuning, kind) in [
        (false, 200, patient(), ErrorKind::Io),
        (true, 403, patient(), ErrorKind::Source),
        (true, 200, soon, ErrorKind::Io),
    ] {
        let served = Arc::clone(&file);
        let server = Server::start(move |request| {
            let answer = if ranges { right(&served, request) } else { whole(&served) };
            let announced = answer.body.len().to_string();
            match (request.header("range"), later) {
                (Some("bytes=0-"), _) => {
                    Reply { cut: Some(600_000), ..answer.with("Content-Length", &announced) }
                }
                (_, 200) => whole(&served),
                _ => Reply::new(later),
            }
        });
        let source = spooled_with(&server.url(), &tuning).unwrap();
        for _ in 0..2 {
            let error = read(&source, 2 << 20, 5000).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
        assert!(
            read(&source, 0, 500_000).unwrap() == file[..500_000],
            "what came before the break stays good"
        );
    }
}

#[test]
fn an_object_that_changes_before_the_rest_is_fetched_is_a_change() {
    let file = noise(3 * MIB);
    let served = Arc::clone(&file);
    let server = Server::start(move |request| {
        let right = right(&served, request);
        let announced = right.body.len().to_string();
        match request.number {
            0 => Reply { cut: Some(600_000), ..right.with("Content-Length", &announced) },
            _ => right.with("ETag", "\"v2\""),
        }
    });
    let source = spooled(&server.url()).unwrap();
    assert_eq!(read(&source, 2 << 20, 5000).unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn a_download_that_drips_or_falls_silent_ends() {
    let file = noise(3 * MIB);
    let (stall, deadline) = (hasty().stall, hasty().deadline);
    for (drip, tuning) in [
        ((1, Duration::from_millis(100)), Tuning { deadline, ..patient() }),
        ((MIB, Duration::from_secs(60)), Tuning { stall, ..patient() }),
    ] {
        let served = Arc::clone(&file);
        let server = Server::start(move |_| Reply { drip: Some(drip), ..whole(&served) });
        let source = spooled_with(&server.url(), &tuning).unwrap();
        let start = Instant::now();
        assert_eq!(read(&source, 2 << 20, 5000).unwrap_err().kind(), ErrorKind::Io);
        assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    }
}

#[test]
fn more_than_was_announced_is_an_error() {
    let file = noise(MIB);
    let served = Arc::clone(&file);
    let server = Server::start(move |request| {
        let reply = right(&served, request).body(|body| body.push(9));
        Reply { chunked: true, ..reply }
    });
    let source = spooled(&server.url()).unwrap();
    assert_eq!(read(&source, MIB as u64 - 10, 10).unwrap_err().kind(), ErrorKind::Io);
}

/// Nobody asked for 70 MB to be downloaded.
#[test]
fn a_large_gzip_file_on_a_server_is_read_only_by_way_of_a_spool() {
    requires!("gzip");
    let dir = common::tempdir();
    let local = dir.path().join("d.img.gz");
    common::sh(&format!("head -c 70M /dev/urandom | gzip -1 > '{}'", local.display()));
    let expected = common::sh(&format!("gzip -dc '{}' | sha256sum", local.display()));
    let file = std::fs::read(&local).unwrap();
    let server = Server::start(move |request| right(&file, request));
    let url = format!("http://{}/d.img.gz", server.address);
    let refused = common::imgmount(["hash", &url]);
    assert_eq!(refused.status.code(), Some(3), "{}", common::stderr(&refused));
    assert!(common::stderr(&refused).contains("would have to be downloaded"), "{}", common::stderr(&refused));
    assert!(common::stderr(&refused).contains("--spool"));
    let before = server.requests().len();
    assert!(before < 10, "{before} requests to refuse it");
    let spooled = common::imgmount(["hash".into(), format!("--spool={}", dir.path().display()), url]);
    assert_eq!(common::stdout(&spooled).get(..64), expected.get(..64), "{}", common::stderr(&spooled));
    assert_eq!(server.requests().len(), before + 1);
}
