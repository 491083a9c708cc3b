//! `imgmount unmount`: takes a mount away, and returns when the image is released.

use super::out::Tally;
use super::{Common, Exit, out, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::host::holders::{self, Holder};
use crate::host::mount::{self, Unmounted};
use crate::host::mounts::{self, Entry};
use crate::host::running;
use crate::text::escape;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a mount may be busy before we say so: something may just be closing its last file.
const TRY_TIME: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);
/// How long the processes that keep it busy may take to end in their own way.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long a mount may take to say who serves it, or that it is dead.
const STATUS_TIME: Duration = Duration::from_secs(3);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount points
    #[arg(value_name = "DIR", required_unless_present_any = ["all", "all_stale"])]
    dirs: Vec<PathBuf>,
    /// Every mount of imgmount
    #[arg(long, conflicts_with = "dirs")]
    all: bool,
    /// Every mount of imgmount that nobody serves any more
    #[arg(long, conflicts_with_all = ["dirs", "all"])]
    all_stale: bool,
    /// Take a busy mount out of sight now; it ends when its last file is closed
    #[arg(short = 'l', short_alias = 'z', long)]
    lazy: bool,
    /// End the processes that keep it busy: by SIGTERM, and after 5 seconds by SIGKILL
    #[arg(long)]
    kill: bool,
    /// How long to wait until the serving process has ended
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = plan::duration)]
    timeout: Duration,
}

fn host(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Host, message)
}

fn show(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).to_string()
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut points: Vec<PathBuf> = args.dirs.iter().map(|dir| mount::absolute(dir)).collect();
    if args.all || args.all_stale {
        let ours = mounts::all()?.into_iter().filter(running::may_know);
        points = ours.filter(|entry| args.all || is_dead(entry)).map(|entry| entry.point).collect();
        // What was mounted last may stand in what was mounted first.
        points.reverse();
    }
    // Whoever stands in the mount and unmounts it must not be in our own way.
    drop(std::env::set_current_dir("/"));
    let mut tally = Tally::default();
    for point in &points {
        match one(point, args) {
            Ok(line) => {
                out::say(common, &line);
                tally.done();
            }
            Err(error) => {
                out::complain(&error);
                tally.failed(&error);
            }
        }
    }
    Ok(tally.exit())
}

fn is_dead(entry: &Entry) -> bool {
    mount::answers(&entry.point, entry.owner(), STATUS_TIME).err() == Some(Errno::NOTCONN)
}

/// Unmounts one; the line to say.
fn one(point: &Path, args: &Args) -> Result<String> {
    let shown = show(point);
    let entry = mounts::at(point)?.ok_or_else(|| not_mounted(&shown))?;
    if !entry.is_ours() {
        let what = format!("{shown}: is mounted, but not by imgmount ({})", escape(entry.kind.as_bytes()));
        return Err(host(what).help(format!("umount {shown}")));
    }
    if let Some(above) = mounts::hidden_by(&entry)? {
        let above = show(&above);
        return Err(host(format!("{shown}: is hidden by what is mounted on {above}"))
            .help(format!("first: umount {above}")));
    }
    let answer = mount::answers(point, entry.owner(), STATUS_TIME);
    if answer == Err(Errno::NOTCONN) {
        mount::unmount(point, true)?;
        return Ok(format!("detached {shown}, which nobody served any more"));
    }
    if answer == Err(Errno::TIMEDOUT) && holders::of(&entry).is_empty() {
        // Our own question, which waits for its answer, is all that keeps it, and ends with us.
        mount::unmount(point, true)?;
        return Ok(format!("detached {shown}, which did not answer"));
    }
    let servers = servers(&entry);
    let start = Instant::now();
    // Out of sight, nobody's open files carry its path any more.
    let stays = args.lazy && !holders::of(&entry).is_empty();
    let patience = if args.kill { args.timeout } else { TRY_TIME };
    let mut told = BTreeSet::new();
    while matches!(mount::unmount(point, args.lazy)?, Unmounted::Busy) {
        if start.elapsed() > patience {
            return Err(busy(&entry));
        }
        if args.kill {
            end_holders(&entry, start.elapsed() > KILL_AFTER, &mut told);
        }
        std::thread::sleep(PAUSE);
    }
    if stays {
        return Ok(format!("{shown} is out of sight; it ends when its last file is closed"));
    }
    for (pid, server) in &servers {
        let left = args.timeout.saturating_sub(start.elapsed());
        if !has_ended(server, left) {
            let what = format!("{shown}: unmounted, but process {pid} still holds the image");
            return Err(host(what).help(format!("wait longer with --timeout, or end it: kill {pid}")));
        }
    }
    Ok(format!("unmounted {shown}"))
}

fn not_mounted(shown: &str) -> Error {
    let ours = mounts::all().unwrap_or_default();
    let ours: Vec<String> =
        ours.iter().filter(|entry| running::may_know(entry)).map(|entry| show(&entry.point)).collect();
    let error = host(format!("{shown}: nothing is mounted there"));
    error.help(if ours.is_empty() {
        "imgmount has mounted nothing for you on this host".to_owned()
    } else {
        format!("imgmount has mounted: {}", ours.join(", "))
    })
}

fn busy(entry: &Entry) -> Error {
    let holders = holders::of(entry);
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    let shown = show(&entry.point);
    let by = if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) };
    let devices: Vec<String> = holders.iter().filter_map(way_out).collect();
    host(format!("{shown}: is in use{by}")).help(match (holders.is_empty(), devices.is_empty()) {
        (true, _) if !rustix::process::geteuid().is_root() => {
            format!("processes of other users are seen by root: sudo imgmount unmount {shown}; or use --lazy")
        }
        (_, false) => format!("first: {}", devices.join("; ")),
        _ => "end these first, or use --kill, or --lazy to take it out of sight now".to_owned(),
    })
}

/// What frees a mount from a holder that is no process.
fn way_out(holder: &Holder) -> Option<String> {
    match holder {
        Holder::Process { .. } => None,
        Holder::Mount(above) => Some(format!("umount {}", show(above))),
        Holder::Loop { device, .. } => {
            Some(format!("umount what {0} carries, then losetup -d {0}", show(device)))
        }
    }
}

/// Tells each holder once, or ends them all.
fn end_holders(entry: &Entry, for_certain: bool, told: &mut BTreeSet<u32>) {
    for number in holders::of(entry).iter().filter_map(Holder::pid) {
        let Some(pid) = pid(u64::from(number)) else { continue };
        if for_certain {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        } else if told.insert(number) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }
}

fn pid(number: u64) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// The processes behind a mount, held so that their numbers cannot come to mean others: worker and supervisor, as the
/// mount itself names them. None if it does not say.
fn servers(entry: &Entry) -> Vec<(u64, OwnedFd)> {
    let status = mounts::tells(entry, "status", STATUS_TIME).ok();
    let Some(status) = status.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok()) else {
        return Vec::new();
    };
    let numbers = ["worker", "supervisor"].iter().filter_map(|name| status.get(name)?.as_u64());
    numbers
        .filter(|number| mounts::is_served_by(entry, *number))
        .filter_map(|number| {
            Some((number, rustix::process::pidfd_open(pid(number)?, PidfdFlags::empty()).ok()?))
        })
        .collect()
}

fn has_ended(server: &OwnedFd, patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let mut wait = [PollFd::new(server, PollFlags::IN)];
        match rustix::event::poll(&mut wait, rustix::event::Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
