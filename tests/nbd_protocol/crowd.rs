//! Many clients at once: what good ones get beside those that say nothing, take nothing or vanish, and how a server ends.

use super::language::*;
use crate::common;
use crate::common::disk::{Disk, MIB};
use crate::common::served::Served;
use imgmount::error::ErrorKind;
use imgmount::serve::nbd::{Export, Options, Server};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn serve(options: Options) -> Served {
    common::disk::serve(options)
}

/// In the transmission phase, with structured replies and `base:allocation`.
fn structured(server: &Served) -> Client {
    let mut client = Client::connect(&server.socket);
    client.ready_with(STRUCTURED, ALLOCATION);
    client
}

/// In the transmission phase, with simple replies.
fn simple(server: &Served) -> Client {
    let mut client = Client::connect(&server.socket);
    client.ready(Style::Simple);
    client
}

// ---- what many clients may cost ------------------------------------------------------------------------------

#[test]
fn a_slow_handshake_is_dropped_at_the_deadline() {
    let server = serve(Options { handshake: Duration::from_secs(3), ..Options::default() });
    let mut silent = Client::connect(&server.socket);
    silent.greeting();
    let mut dripping = Client::connect(&server.socket);
    dripping.hello();
    // An option that takes it four minutes.
    dripping.option_header(GO, 4000);
    let start = Instant::now();
    while dripping.try_send(&[0]).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(60));
    }
    dripping.closed();
    silent.closed();
}

#[test]
fn two_hundred_silent_connections_keep_nobody_out() {
    let server = serve(Options { handshake: Duration::from_secs(120), ..Options::default() });
    let silent: Vec<_> = (0..200).map(|_| UnixStream::connect(&server.socket).unwrap()).collect();
    // Well before those are dropped.
    let start = Instant::now();
    structured(&server).alive();
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    drop(silent);
}

#[test]
fn a_full_server_says_so_and_takes_the_next_when_one_leaves() {
    let server = serve(Options { clients: 1, handshake: Duration::from_secs(120), ..Options::default() });
    let first = simple(&server);
    let mut second = Client::connect(&server.socket);
    second.hello();
    second.refused(GO, &go("", &[]), ERR_POLICY);
    drop(first);
    // That the first one has left is noticed in a moment; a client has 32 options.
    let mut pause = Duration::from_millis(20);
    loop {
        second.option(GO, &go("", &[]));
        let (kind, _) = second.answer(GO);
        if kind != ERR_POLICY {
            return assert_eq!(kind, REP_INFO);
        }
        assert!(pause < Duration::from_secs(30));
        std::thread::sleep(pause);
        pause *= 2;
    }
}

#[test]
fn two_exports_of_one_name_are_refused() {
    let source = Arc::new(Disk { damaged: false });
    let export = || Export { name: "x".into(), about: String::new(), source: Arc::<Disk>::clone(&source) };
    let error = Server::new(vec![export(), export()], Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn large_simple_reads_of_many_clients_are_all_right_when_memory_is_short() {
    let server = serve(Options::default());
    let mut clients: Vec<_> = (0..5).map(|_| simple(&server)).collect();
    clients.iter_mut().for_each(|client| client.request(0, READ, 1, 6 * MIB, 30 * MIB));
    clients.iter_mut().rev().for_each(|client| client.content(1, 6 * MIB, 30 * MIB));
}

// ---- clients that behave badly, and the end -------------------------------------------------------------------

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_read_hurts_nobody() {
    let server = serve(Options::default());
    for _ in 0..20 {
        let mut client = structured(&server);
        (0..8).for_each(|cookie| client.request(0, READ, cookie, 6 * MIB, 32 * MIB));
        client.receive(100_000);
    }
    structured(&server).alive();
}

#[test]
fn a_client_that_takes_no_replies_is_dropped_and_holds_nobody_up() {
    // Where three seconds are too few for the good one, because the machine is slow, twenty are not.
    assert!([3, 20].into_iter().any(|stall| is_held_up_by_nobody(Duration::from_secs(stall))));
}

/// Is a client answered before others that take no replies are dropped?
fn is_held_up_by_nobody(stall: Duration) -> bool {
    let server = serve(Options { stall, threads: 2, ..Options::default() });
    let mut greedy: Vec<_> = (0..6).map(|_| structured(&server)).collect();
    for client in &mut greedy {
        // All at once: it may be dropped any time after the first.
        let requests = (0..40).flat_map(|cookie| client.encode(0, READ, cookie, 6 * MIB, 32 * MIB));
        let requests: Vec<u8> = requests.collect();
        client.send(&requests);
    }
    let start = Instant::now();
    let mut good = structured(&server);
    good.alive();
    if start.elapsed() >= stall {
        return false;
    }
    greedy[0].hung_up();
    // What the kernel held is still there; then comes the end, long before 40 * 32 MiB.
    let taken = greedy[0].closed_in_the_end().len();
    assert!(taken < 64 << 20, "{taken}");
    good.alive();
    true
}

#[test]
fn stop_hangs_up_on_everyone() {
    let server = serve(Options::default());
    let mut client = structured(&server);
    // Before anybody is dropped because it takes nothing.
    let start = Instant::now();
    drop(server);
    client.closed();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn once_ends_when_the_last_of_the_first_clients_leaves() {
    let server = serve(Options { once: true, ..Options::default() });
    let (first, second) = (structured(&server), structured(&server));
    drop(first);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!server.has_ended());
    drop(second);
    server.wait();
}

#[test]
fn idle_exit_ends_after_the_last_client_and_not_before() {
    let options = Options { idle_exit: Some(Duration::from_millis(300)), ..Options::default() };
    // The time does not run before all exports are told of, so that no client is too late.
    let server = Arc::new(Server::beginning(common::disk::exports(), options).unwrap());
    let served = Served::run(Arc::clone(&server));
    let client = structured(&served);
    server.complete(common::disk::exports(), || Ok(())).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(!served.has_ended());
    drop(client);
    served.wait();
}
