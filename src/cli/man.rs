//! `imgmount man`: the man pages of the verbs, made of the same text as `--help`.
//!
//! `imgmount.1` and one page a verb. Prose pages (`imgmount-profile.5` and the like) are written by hand beside them.

use super::{Common, Exit};
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use clap_mangen::roff::{Roff, bold, roman};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An existing directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Verbs whose pages are written by hand.
const BY_HAND: &[&str] = &["check"];

/// Exit codes, as in [`Exit`] and in the documents.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done; check: importable; hash --verify: the sums match"),
    (
        "1",
        "the answer is no: a blocker, differences, a sum that does not match, a path that is not in the image",
    ),
    ("2", "the command line makes no sense"),
    (
        "3",
        "the image cannot be used: not an image, unsupported, damaged, locked without its key, a parent missing",
    ),
    ("4", "the source cannot be reached: no such file, permission, HTTP status, TLS, time-out"),
    ("5", "this host lacks something: /dev/fuse, a mount point, a port, a permission"),
    ("6", "answered in part: something could not be read or decided (before 0, not before 1)"),
    ("70", "a fault of imgmount itself"),
    ("125, 126, 127", "-- COMMAND could not be set up, run, found; otherwise its own status"),
];

pub(super) fn run(args: &Args, _common: &Common) -> Result<Exit> {
    for (name, page) in pages() {
        write(&args.dir.join(name), &page)?;
    }
    Ok(Exit::OK)
}

fn write(path: &Path, page: &[u8]) -> Result<()> {
    std::fs::write(path, page).map_err(|error| {
        Error::new(ErrorKind::Host, escape(path.as_os_str().as_bytes()).to_string()).caused_by(error)
    })
}

/// Every generated page: file name and content.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut command = super::command();
    command.build();
    let mut pages = vec![("imgmount.1".to_owned(), page(&command, "imgmount"))];
    let verbs =
        command.get_subcommands().filter(|verb| !verb.is_hide_set() && !BY_HAND.contains(&verb.get_name()));
    pages.extend(verbs.map(|verb| {
        let name = format!("imgmount-{}", verb.get_name());
        let page = page(verb, &name);
        (format!("{name}.1"), page)
    }));
    pages
}

fn page(command: &clap::Command, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let man = clap_mangen::Man::new(command.clone())
        .title(name)
        .section("1")
        .source("imgmount")
        .manual("imgmount manual")
        .date("");
    // Writing to memory cannot fail.
    let _ = man.render(&mut bytes);
    let mut more = Roff::new();
    more.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        more.control("TP", []);
        more.text([bold(*code)]);
        more.text([roman(*meaning)]);
    }
    let _ = more.to_writer(&mut bytes);
    bytes
}
