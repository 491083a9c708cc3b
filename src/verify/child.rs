//! The process in which another reader works: with limits, watched by a clock, and alone in it.
//!
//! The parent starts the program again with hidden options, reads its events and judges its end. The child limits
//! itself before it opens anything: address space, so that a size read from the image cannot fill the memory, and
//! processor time, so that an endless loop ends.

use super::{DISK, Event, Other, READERS, Subject, compare};
use crate::error::{Error, ErrorKind, Result};
use crate::stack::Stack;
use crate::text::escape;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Address space of the child in bytes, beside the block cache: stacks of its threads, both readers' tables and buffers.
const ADDRESS_SPACE: u64 = 4 << 30;
/// Processor seconds before anything is compared, and bytes compared in each further one: a tenth of the slowest
/// decompression measured.
const CPU_START: u64 = 120;
const CPU_RATE: u64 = 2 << 20;
/// Silence after which the child is taken for hung. Its own clock over each call is shorter.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest line that is believed to be an event.
const MAX_LINE: usize = 64 << 10;

/// The text of the last panic, for who asks why a reader's thread died.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Limits this process. Called first thing in the child.
pub fn limit(disk_size: u64, cache: u64) {
    let cpu = CPU_START.saturating_add(disk_size.div_euclid(CPU_RATE));
    for (what, most) in [
        (Resource::As, ADDRESS_SPACE.saturating_add(cache)),
        (Resource::Cpu, cpu),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        let hard = getrlimit(what).maximum;
        let most = hard.map_or(most, |hard| hard.min(most));
        // A limit that cannot be set leaves the parent's clock.
        let _ = setrlimit(what, Rlimit { current: Some(most), maximum: Some(most) });
    }
}

/// The child's work: compares one subject through one reader, and sends events.
///
/// # Errors
/// `Usage` for a reader or subject that does not exist.
pub fn work(reader: &str, subject: &Subject<'_>, all: bool, send: &mut dyn FnMut(Event)) -> Result<()> {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            let file = |place: &std::panic::Location<'_>| {
                let name = place.file().rsplit('/').next().unwrap_or_default();
                format!(" ({name}, line {})", place.line())
            };
            let place = info.location().map(file).unwrap_or_default();
            let text = format!("{}{place}", info.payload_as_str().unwrap_or("no message"));
            *last = escape(text.as_bytes()).to_string();
        }
    }));
    let reader = READERS.iter().find(|known| known.name == reader);
    let reader = reader.ok_or_else(|| Error::new(ErrorKind::Usage, "no such reader"))?;
    let compared = (reader.open)(subject).and_then(|other| {
        let mut log = compare::Log::new(all, send);
        match &other {
            Other::Disk(other) => compare::disk(&**subject.stack.disk(), &**other, &mut log)?,
            Other::Files(other) => match own_tree(subject.stack, subject.name) {
                Some(tree) => compare::files(&tree, &**other, &mut log)?,
                None => compare::alone(&**other, &mut log)?,
            },
        }
        log.end();
        Ok(())
    });
    if let Err(error) = compared {
        let why = LAST_PANIC.lock().map(|last| last.clone()).unwrap_or_default();
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        send(Event::Failed { reason: format!("{}{why}", error.chain()) });
    }
    Ok(())
}

/// Our reading of a volume, if we have one.
fn own_tree(stack: &Stack, volume: &str) -> Option<crate::fs::tree::Tree> {
    if volume == DISK && stack.volume(DISK).is_none() {
        return None;
    }
    stack.volume_tree(volume).ok()
}

/// Writes an event as the child does.
///
/// # Errors
/// When the parent went away.
pub fn write(event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)
}

/// Starts the child, writes `input` to it, hands its events over, and says why it ended if it ended badly.
///
/// # Errors
/// `Host` when it cannot be started.
pub fn watch(mut command: Command, input: &[u8], sink: &mut dyn FnMut(Event)) -> Result<()> {
    let host = |error: std::io::Error| {
        Error::new(ErrorKind::Host, "cannot start the second reader's process").caused_by(error)
    };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(host)?;
    if let Some(mut stdin) = child.stdin.take() {
        // The child reads it first thing; one that died has a reason of its own, told below.
        drop(stdin.write_all(input));
    }
    let stdout =
        child.stdout.take().ok_or_else(|| Error::new(ErrorKind::Internal, "the child has no output"))?;
    let (send, events) = channel();
    let listener = std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let event = line
                .ok()
                .filter(|line| line.len() <= MAX_LINE)
                .and_then(|line| serde_json::from_slice(&line).ok());
            let Some(event) = event else { return };
            if send.send(event).is_err() {
                return;
            }
        }
    });
    let mut ended = false;
    let mut silent = false;
    loop {
        match events.recv_timeout(SILENCE) {
            Ok(event) => {
                ended |= matches!(event, Event::End(_) | Event::Failed { .. });
                sink(event);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                silent = true;
                break;
            }
        }
    }
    // It has nothing more to say: a thread of the other reader that still runs ends with it.
    let status = match child.try_wait().map_err(host)? {
        Some(status) => status,
        None => {
            if silent || ended {
                let _ = child.kill();
            }
            child.wait().map_err(host)?
        }
    };
    drop(listener.join());
    if !ended {
        let reason = if silent {
            format!("the other reader did not finish: no sign of it for {} s", SILENCE.as_secs())
        } else {
            crashed(status)
        };
        sink(Event::Failed { reason });
    }
    Ok(())
}

/// How a child ended that had not said all.
fn crashed(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal() {
        Some(24) => "the other reader did not finish within its processor time (SIGXCPU)".to_owned(),
        Some(9) => "the other reader did not finish within its limits (SIGKILL)".to_owned(),
        Some(6) => "the other reader crashed (SIGABRT: out of its memory, or an abort)".to_owned(),
        Some(11) => "the other reader crashed (SIGSEGV)".to_owned(),
        Some(signal) => format!("the other reader crashed (signal {signal})"),
        None => format!("the other reader's process ended with {}", status.code().unwrap_or(-1)),
    }
}
