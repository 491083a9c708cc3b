//! What people and programs read: stdout is data, stderr is talk.

use super::Common;
use crate::error::Error;
use std::io::{IsTerminal as _, Write as _};

/// Sets up logging on stderr by `-v` and `IMGMOUNT_LOG`.
pub fn init(common: &Common) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("IMGMOUNT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("imgmount={level}")));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    drop(log.without_time().with_target(false).try_init());
}

/// Prints to stdout. A reader that went away (`| head`) ends the program quietly, as for any filter.
pub fn data(text: &str) {
    bytes(text.as_bytes());
}

/// Prints bytes to stdout, as they are.
pub fn bytes(data: &[u8]) {
    if std::io::stdout().write_all(data).is_err() {
        std::process::exit(0);
    }
}

/// Prints one JSON document to stdout.
pub fn json(value: &serde_json::Value) {
    data(&format!("{value:#}\n"));
}

/// Says a line on stderr, unless `-q`.
pub fn say(common: &Common, line: &str) {
    if !common.quiet {
        drop(writeln!(std::io::stderr(), "{line}"));
    }
}

/// Reports an error: one line with the cause, a `help:` line with the next step, and with `--json` an object on stdout.
pub fn report(error: &Error, common: &Common) {
    let mut stderr = std::io::stderr();
    drop(writeln!(stderr, "imgmount: {}", error.chain()));
    if let Some(help) = error.help_text() {
        drop(writeln!(stderr, "help: {help}"));
    }
    if common.json {
        json(&serde_json::json!({
            "schema": "imgmount.error/1",
            "error": error.chain(),
            "kind": error.kind().name(),
            "help": error.help_text(),
            "exit": super::Exit::of(error).0,
        }));
    }
}
