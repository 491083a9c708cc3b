//! What people and programs read: stdout is data, stderr is talk.

use super::{Common, Exit};
use crate::error::{Error, ErrorKind, Result};
use crate::text::json_safe;
use serde::Serialize;
use std::io::{BufWriter, StdoutLock, Write};

/// Sets up logging on stderr by `-v` and `IMGMOUNT_LOG`. Filter expressions cost a millisecond to build, so a plain
/// level is set unless the variable asks for more.
pub fn init(common: &Common) {
    use tracing::level_filters::LevelFilter;
    let level = match (common.quiet, common.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        (_, 2) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false);
    drop(match tracing_subscriber::EnvFilter::try_from_env("IMGMOUNT_LOG") {
        Ok(filter) => log.with_env_filter(filter).try_init(),
        Err(_) => log.with_max_level(level).try_init(),
    });
}

/// Standard output as a stream of records. Writes are joined into large ones; [`Stream::end`] sends the rest.
#[derive(Debug)]
pub struct Stream(BufWriter<StdoutLock<'static>>);

impl Stream {
    /// Takes standard output.
    #[must_use]
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, std::io::stdout().lock()))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// `Host` when standard output cannot be written. A reader that went away (`| head`) ends the program quietly.
    pub fn bytes(&mut self, data: &[u8]) -> Result<()> {
        self.0.write_all(data).map_err(lost)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// As [`Stream::bytes`].
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(self.0, "{text}").map_err(lost)
    }

    /// Writes a value as JSON without a line's end.
    ///
    /// # Errors
    /// As [`Stream::bytes`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|error| lost(error.into()))?;
        self.bytes(json_safe(&text).as_bytes())
    }

    /// Writes a value as one JSON document over several lines.
    ///
    /// # Errors
    /// As [`Stream::bytes`].
    pub fn json_document(&mut self, value: &serde_json::Value) -> Result<()> {
        self.line(json_safe(&format!("{value:#}")))
    }

    /// Writes a value as one line of JSON.
    ///
    /// # Errors
    /// As [`Stream::bytes`].
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        self.json(value)?;
        self.bytes(b"\n")
    }

    /// Sends what is held so far, where the next record may be long in coming.
    ///
    /// # Errors
    /// As [`Stream::bytes`].
    pub fn send(&mut self) -> Result<()> {
        self.0.flush().map_err(lost)
    }

    /// Sends what is still held, at the end.
    ///
    /// # Errors
    /// As [`Stream::bytes`].
    pub fn end(mut self) -> Result<()> {
        self.0.flush().and_then(|()| self.0.get_mut().flush()).map_err(lost)
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

/// What a failed write to standard output means.
fn lost(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Error::new(ErrorKind::Host, "writing to standard output").caused_by(error)
}

/// Prints to stdout.
pub fn data(text: &str) {
    bytes(text.as_bytes());
}

/// Prints bytes to stdout, as they are. What cannot be written ends the program: nothing after it could be of use.
pub fn bytes(data: &[u8]) {
    let written = std::io::stdout().write_all(data);
    if let Err(error) = written.map_err(lost) {
        let _ = writeln!(std::io::stderr(), "imgmount: {}", error.chain());
        std::process::exit(Exit::of(&error).0.into());
    }
}

/// Sends what standard output still holds, at the end of the program.
///
/// # Errors
/// `Host` when it cannot be written.
pub fn flush() -> Result<()> {
    std::io::stdout().flush().map_err(lost)
}

/// Prints one JSON document to stdout.
pub fn json(value: &serde_json::Value) {
    data(&json_safe(&format!("{value:#}\n")));
}

/// Says a line on stderr, unless `-q`.
pub fn say(common: &Common, line: &str) {
    if !common.quiet {
        drop(writeln!(std::io::stderr(), "{line}"));
    }
}

/// Reports an error: one line with the cause, a `help:` line with the next step, and with `--json` an object on stdout.
pub fn report(error: &Error, common: &Common) {
    complain(error);
    if common.json {
        json(&error_object(error));
    }
}

/// The two lines on stderr alone, for verbs whose document on stdout says the rest.
pub fn complain(error: &Error) {
    let mut stderr = std::io::stderr();
    drop(writeln!(stderr, "imgmount: {}", error.chain()));
    drop(writeln!(stderr, "help: {}", help(error)));
}

/// The next step: the error's own, or what can be said of its kind.
fn help(error: &Error) -> &str {
    error.help_text().unwrap_or(match error.kind() {
        ErrorKind::Io => "a disk or connection failed below the image: see the host's log (dmesg), and copy the image away",
        ErrorKind::Source => "look at the path and its permissions, or at the URL and the network",
        ErrorKind::Corrupt | ErrorKind::OutOfRange => {
            "an upload or copy that was cut? compare its sum with the original's: imgmount hash --container IMAGE"
        }
        ErrorKind::NotAnImage => "is it the right file? imgmount info IMAGE shows what an image is",
        ErrorKind::Unsupported => "this version cannot; the program that made the image can write it in another way",
        ErrorKind::Ambiguous => "say which it is: --format FORMAT",
        ErrorKind::NotFound => "imgmount ls IMAGE:/ shows what there is, imgmount info IMAGE the volumes",
        ErrorKind::ExternalRef => "to let an image open files it names: --allow-parent DIR",
        ErrorKind::Denied => "imgmount reads disks, folders, files and links, and writes nothing into an image",
        ErrorKind::Encrypted => "give its key: --key disk:file:FILE or --key disk:env:VARIABLE; on a terminal it is asked for",
        ErrorKind::Limit => "no sound image asks for so much: take it for damaged or hostile",
        ErrorKind::Changed => "copy the image, or wait until nothing writes to it",
        ErrorKind::Host => "imgmount doctor shows what this host lacks",
        ErrorKind::Usage => "imgmount --help, or imgmount VERB --help",
        _ => "a fault of imgmount itself: please report it with what you typed",
    })
}

/// An error as `--json` shows it.
#[must_use]
pub fn error_object(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "schema": "imgmount.error/1",
        "error": error.chain(),
        "kind": error.kind().name(),
        "help": help(error),
        "exit": Exit::of(error).0,
    })
}

/// The exit code of a verb that does several things and goes on after a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    done: bool,
    partial: bool,
    no: bool,
    failed: Option<Exit>,
}

impl Tally {
    /// One thing was done.
    pub fn done(&mut self) {
        self.done = true;
    }

    /// Something was done in part: bytes or names are missing.
    pub fn partial(&mut self) {
        self.partial = true;
    }

    /// The answer to one thing is no.
    pub fn no(&mut self) {
        self.no = true;
    }

    /// One thing failed as a whole.
    pub fn failed(&mut self, error: &Error) {
        self.failed_as(Exit::of(error));
    }

    /// One thing failed as a whole, with a code of the verb's own.
    pub fn failed_as(&mut self, exit: Exit) {
        self.no |= exit == Exit::NO;
        self.failed.get_or_insert(exit);
    }

    /// 1 before 6 before 0; the first failure's own code where nothing was done at all.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.failed {
            _ if self.no => Exit::NO,
            _ if self.partial => Exit::PARTIAL,
            Some(_) if self.done => Exit::PARTIAL,
            Some(exit) => exit,
            None => Exit::OK,
        }
    }
}

/// A size as `qemu-img` prints it: three significant digits and a binary unit (QEMU `util/cutils.c`, `size_to_str`).
#[must_use]
#[expect(clippy::as_conversions, reason = "rounding is what is wanted")]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0_usize;
    while value >= 1000.0 && unit < 6 {
        value /= 1024.0;
        unit = unit.saturating_add(1);
    }
    let digits = match value {
        _ if value < 0.9995 => 3,
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    // C's "%.3g" has no room for a fourth digit.
    let text = if value >= 999.5 { "1e+03".to_owned() } else { format!("{value:.digits$}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS.get(unit).unwrap_or(&"B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: "virtual size" of `qemu-img create -f raw x N; qemu-img info x` (QEMU 10.0.2).
    #[test]
    fn sizes_are_printed_as_qemu_img_does() {
        let sizes = [
            512,
            1024,
            102_400,
            1_024_000,
            1_048_575_488,
            10_234_880,
            67_108_864,
            10_737_418_752,
            42_966_450_176,
        ];
        let printed =
            ["512 B", "1 KiB", "100 KiB", "0.977 MiB", "1e+03 MiB", "9.76 MiB", "64 MiB", "10 GiB", "40 GiB"];
        assert_eq!(sizes.map(human_size), printed);
    }

    #[test]
    fn no_wins_over_partial_and_partial_over_done() {
        let mut tally = Tally::default();
        tally.done();
        tally.failed(&Error::new(ErrorKind::Corrupt, "x"));
        assert_eq!(tally.exit(), Exit::PARTIAL);
        tally.no();
        assert_eq!(tally.exit(), Exit::NO);
    }

    #[test]
    fn the_only_failure_keeps_its_code() {
        let mut tally = Tally::default();
        tally.failed(&Error::new(ErrorKind::Source, "x"));
        assert_eq!(tally.exit(), Exit(4));
    }
}
