//! The man pages in `man/` are those that `imgmount man` writes, `man` can read them, and every option is explained.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use std::collections::BTreeSet;
use std::path::Path;

fn names(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Pages that people wrote.
fn is_by_hand(name: &str) -> bool {
    !name.ends_with(".1") || name == "imgmount-check.1"
}

#[test]
fn the_pages_are_those_of_this_program() {
    let fresh = common::tempdir();
    assert!(common::imgmount(["man".as_ref(), fresh.path().as_os_str()]).status.success());
    let kept = common::root().join("man");
    let generated: BTreeSet<String> = names(&kept).into_iter().filter(|name| !is_by_hand(name)).collect();
    assert_eq!(generated, names(fresh.path()), "run 'make man'");
    for name in &generated {
        let same = std::fs::read(kept.join(name)).unwrap() == std::fs::read(fresh.path().join(name)).unwrap();
        assert!(same, "man/{name} is stale: run 'make man'");
    }
}

#[test]
fn every_option_and_verb_is_explained() {
    fn look(command: &clap::Command, missing: &mut Vec<String>) {
        if command.get_about().is_none() {
            missing.push(command.get_name().to_owned());
        }
        for argument in command.get_arguments() {
            if argument.get_help().is_none() {
                missing.push(format!("{} {}", command.get_name(), argument.get_id()));
            }
        }
        command.get_subcommands().for_each(|verb| look(verb, missing));
    }
    let mut missing = Vec::new();
    look(&imgmount::cli::command(), &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_command_makes_sense_to_clap() {
    imgmount::cli::command().debug_assert();
}

#[test]
fn man_shows_every_page_without_a_warning() {
    requires!("man", "groff");
    for name in names(&common::root().join("man")) {
        let page = common::root().join("man").join(&name);
        // Only a warning of the formatter is printed to stderr.
        let output = common::sh(&format!(
            "LC_ALL=C.UTF-8 MANWIDTH=100 man --warnings -E UTF-8 -l -Tutf8 -Z {} 2>&1 >/dev/null",
            page.display()
        ));
        assert_eq!(output, "", "{name}");
    }
}
