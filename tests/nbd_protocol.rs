//! The NBD protocol, case by case: what the specification says about good, odd and hostile clients.
//!
//! A case is a name, the section of the specification that it is about, and a script in the words of
//! [`language::Client`]: what is sent, and what has to come. Every case is played to our server, and to qemu-nbd, whose
//! answers are another implementation's opinion on what we expect; where qemu differs, the case says how.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test panics where something is wrong"
)]
#[path = "nbd_protocol/changing.rs"]
mod changing;
mod common;
#[path = "nbd_protocol/contexts.rs"]
mod contexts;
#[path = "nbd_protocol/crowd.rs"]
mod crowd;
#[path = "nbd_protocol/extended.rs"]
mod extended;
#[path = "nbd_protocol/handshake.rs"]
mod handshake;
#[path = "nbd_protocol/language.rs"]
mod language;
#[path = "nbd_protocol/qemu.rs"]
mod qemu;
#[path = "nbd_protocol/reading.rs"]
mod reading;
#[path = "nbd_protocol/requests.rs"]
mod requests;

use imgmount::serve::nbd::Options;
use language::{Case, Client, Qemu};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn all() -> Vec<Case> {
    [handshake::CASES, contexts::CASES, reading::CASES, requests::CASES, extended::CASES].concat()
}

/// Plays the cases to the server on that socket; fails with the names of those that went wrong.
fn play(cases: &[Case], socket: &Path) {
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| {
            let played = catch_unwind(AssertUnwindSafe(|| (case.script)(&mut Client::connect(socket))));
            if played.is_err() {
                eprintln!("^ case: {} ({})", case.name, case.section);
            }
            played.is_err()
        })
        .map(|case| case.name)
        .collect();
    println!("{} of {} cases passed", cases.len() - failed.len(), cases.len());
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn our_server_passes_every_case() {
    let server = common::disk::serve(Options::default());
    let cases = all();
    play(&cases, &server.socket);
    assert!(cases.len() >= 120, "{}", cases.len());
}

#[test]
fn qemu_nbd_passes_every_case_in_which_it_is_said_to_agree() {
    requires!("qemu-nbd", "qemu-img");
    let server = qemu::QemuNbd::start();
    let (agreed, differing): (Vec<_>, Vec<_>) = all().into_iter().partition(|case| case.qemu == Qemu::Agrees);
    play(&agreed, server.socket());
    for case in differing {
        println!("qemu differs: {}: {:?}", case.name, case.qemu);
    }
}

#[test]
fn no_two_cases_have_one_name() {
    let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
