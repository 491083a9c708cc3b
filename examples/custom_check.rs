//! A rule of one's own, run on an image beside those of a cloud: is root's password locked?
//!
//! `cargo run --example custom_check disk.vmdk`
#![allow(clippy::print_stdout, reason = "an example talks")]

use imgmount::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Settings, Subject, profile};
use imgmount::error::{Error, ErrorKind, Result};
use imgmount::fs::tree::Follow;
use imgmount::locator::Locator;
use imgmount::source::gate::Given;
use imgmount::stack::{self, Options};
use std::sync::Arc;

/// The largest `/etc/shadow` that is read.
const MAX_SHADOW: u64 = 1 << 20;

struct RootLocked;

impl Check for RootLocked {
    fn id(&self) -> &'static str {
        "root-locked"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Root's entry in /etc/shadow must hold no password.",
            "/etc/shadow 中 root 的条目不得含有密码。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = match subject.linux() {
            Ok(guest) => guest,
            Err(outcome) => return Ok(outcome),
        };
        // What cannot be read makes the rule undecided: `?` is all that this takes.
        let path = b"/etc/shadow";
        let node = guest.tree.resolve(path, Follow::Yes)?;
        let shadow = guest.tree.read_all(node, MAX_SHADOW)?;
        let mut lines = (1..).zip(shadow.split(|byte| *byte == b'\n'));
        let Some((number, line)) = lines.find(|(_, line)| line.starts_with(b"root:")) else {
            return Seen::new(Phrase::new("There is no root in /etc/shadow.", "/etc/shadow 中没有 root。"))
                .pass();
        };
        let locked = matches!(line.get(5), Some(b'!' | b'*'));
        // The line itself is a secret: its place is evidence enough.
        let place =
            Evidence::new("root's entry").on(guest.tree.volume(node)).path(path).line(number, b"root:...");
        if locked {
            Seen::new(Phrase::new("Root's password is locked.", "root 的密码已锁定。")).at(place).pass()
        } else {
            Seen::new(Phrase::new("Root can log in with a password.", "root 可以用密码登录。"))
                .at(place)
                .fix(Phrase::new("passwd -l root", "passwd -l root"))
                .fail()
        }
    }
}

fn main() -> Result<()> {
    let image = std::env::args_os().nth(1);
    let image = image.ok_or_else(|| Error::new(ErrorKind::Usage, "custom_check IMAGE"))?;
    let stack = stack::open(Arc::new(Given::open(Locator::parse(&image), &[])?), &Options::default())?;
    let settings = Settings::default();
    let subject = Subject::new(&stack, &settings, false);
    println!("{}: {:?}", RootLocked.id(), RootLocked.run(&subject, &Args::new(&toml::Table::new()))?);
    for profile in profile::all()? {
        for finding in profile.run(&subject, &[]) {
            println!("{} {}: {}", profile.id, finding.rule.check, finding.result());
        }
    }
    Ok(())
}
