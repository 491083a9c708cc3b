//! Nobody imports upwards. The table is the architecture; a folder that is not in it fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test panics where something is wrong"
)]

use std::fs;
use std::path::{Path, PathBuf};

const BASE: &[&str] = &["error", "num", "text", "checksum"];

/// A module, and those it may name after `crate::` besides itself and [`BASE`].
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("num", &[]),
    ("text", &[]),
    ("checksum", &[]),
    ("galois", &[]),
    ("counters", &[]),
    ("budget", &[]),
    ("confined", &[]),
    ("block", &[]),
    ("locator", &["block"]),
    ("keys", &[]),
    ("nbd_protocol", &[]),
    ("crypt", &["block", "budget", "ondisk", "keys"]),
    ("measure", &["block", "budget"]),
    ("pipeline", &["block"]),
    ("ondisk", &["block", "budget"]),
    ("cache", &["block", "counters"]),
    ("source", &["block", "locator", "cache", "counters", "budget", "nbd_protocol"]),
    ("engine", &["block", "cache", "counters"]),
    ("image", &["engine", "block", "budget", "locator", "ondisk", "confined", "counters", "keys", "crypt"]),
    ("volume", &["engine", "block", "budget", "ondisk", "crypt", "keys", "galois"]),
    ("fs", &["engine", "block", "budget", "ondisk", "confined", "galois"]),
    ("guest", &["fs", "budget", "ondisk"]),
    (
        "stack",
        &[
            "source", "cache", "engine", "image", "volume", "fs", "guest", "block", "budget", "locator",
            "keys",
        ],
    ),
    ("check", &["measure", "stack", "guest", "volume", "image", "fs", "block", "budget", "ondisk"]),
    (
        "verify",
        &["serve", "stack", "fs", "image", "block", "confined", "budget", "counters", "source", "locator"],
    ),
    ("serve", &["block", "fs", "counters", "budget", "nbd_protocol", "keys"]),
    ("host", &["locator", "source", "keys"]),
    (
        "cli",
        &[
            "measure", "pipeline", "stack", "check", "verify", "serve", "host", "guest", "volume", "image",
            "fs", "block", "locator", "source", "cache", "counters", "budget", "engine", "keys",
        ],
    ),
];

/// Modules that may name an outside crate with a colour of its own.
const ONLY_IN: &[(&str, &[&str])] =
    &[("tokio::", &["serve/nbd"]), ("fuser::", &["serve/fuse"]), ("clap::", &["cli"])];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

fn violations(file: &str, text: &str) -> Vec<String> {
    let module = file.split(['/', '.']).next().unwrap();
    if matches!(module, "main" | "lib") {
        return Vec::new();
    }
    let Some((_, may)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        return vec![format!("src/{file}: '{module}' is not in the table of tests/layering.rs")];
    };
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for part in code.split("crate::").skip(1) {
            let names: Vec<&str> = match part.strip_prefix('{') {
                Some(list) => list
                    .split('}')
                    .next()
                    .unwrap()
                    .split(',')
                    .map(|item| item.trim().split("::").next().unwrap())
                    .collect(),
                None => vec![part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()],
            };
            for name in names.into_iter().filter(|name| !name.is_empty()) {
                if name != module
                    && !BASE.contains(&name)
                    && !may.contains(&name)
                    && MAY_USE.iter().any(|(known, _)| *known == name)
                {
                    found.push(format!("src/{file}:{}: {module} may not use {name}", number + 1));
                }
            }
        }
        for (krate, places) in ONLY_IN {
            // `diffuser::` is no `fuser::`.
            let is_named = code.match_indices(krate).any(|(at, _)| {
                !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            });
            if is_named && !places.iter().any(|place| file.starts_with(place)) {
                found.push(format!("src/{file}:{}: {krate} belongs in {places:?}", number + 1));
            }
        }
    }
    found
}

#[test]
fn nobody_imports_upwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut found = Vec::new();
    for path in &files {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap();
        found.extend(violations(file, &fs::read_to_string(path).unwrap()));
    }
    assert!(files.len() > 20, "the sources were not found");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_violation_is_found() {
    assert_eq!(violations("image/x.rs", "use crate::source::file;").len(), 1);
    assert_eq!(violations("fs/x.rs", "use crate::{error, volume};").len(), 1);
    assert_eq!(violations("block.rs", "let x = crate::stack::open();").len(), 1);
    assert_eq!(violations("fs/x.rs", "use tokio::net;").len(), 1);
    assert_eq!(violations("brandnew/x.rs", "").len(), 1);
    assert!(violations("image/x.rs", "use crate::block::Run;").is_empty());
    assert!(violations("fs/x.rs", "use super::diffuser::Key;").is_empty());
}
