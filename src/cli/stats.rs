//! `imgmount stats`: what a mount or a server has read and answered so far.

use super::{Common, Exit, list, out, serve};
use crate::error::{Error, ErrorKind, Result};
use crate::host::mount;
use crate::host::running::{self, Kind, Running, State};
use crate::text::{defuse, escape};
use serde_json::{Map, Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount points; sockets, URIs or process ids of servers; without any, all that run
    #[arg(value_name = "DIR|SOCKET")]
    targets: Vec<OsString>,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut tally = out::Tally::default();
    let mut shown = Vec::new();
    let found: Vec<Result<Running>> = if args.targets.is_empty() {
        running::all(true)?.into_iter().map(Ok).collect()
    } else {
        args.targets.iter().map(|target| find(target)).collect()
    };
    for one in found.into_iter().map(|one| one.and_then(alive)) {
        match one {
            Ok(one) => {
                tally.done();
                shown.push(one);
            }
            Err(error) => {
                out::complain(&error);
                tally.failed(&error);
            }
        }
    }
    if common.json {
        let all: Vec<Value> = shown.iter().map(document).collect();
        out::json(&json!({ "schema": "imgmount.stats/1", "stats": all }));
    } else {
        for (at, one) in shown.iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            out::data(&format!("{gap}{}", text(one)));
        }
        if args.targets.is_empty() && shown.is_empty() {
            out::say(common, "nothing runs");
        }
    }
    Ok(tally.exit())
}

/// What is meant by a mount point, a socket, a URI or a process id.
fn find(target: &OsStr) -> Result<Running> {
    let path = Path::new(target);
    if let Some(mount) = running::mount_at(&mount::absolute(path))? {
        return Ok(mount);
    }
    let word = target.to_string_lossy();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let sockets = [absolute, mount::absolute(path)].map(|path| serve::socket_parameter(&path));
    let is_meant = |one: &Running| {
        let is_there = |place: &String| {
            *place == word || place.split(['?', '&']).any(|part| sockets.iter().any(|socket| socket == part))
        };
        one.pid.is_some_and(|pid| pid.to_string() == word) || one.places.iter().any(is_there)
    };
    let none = || {
        let what = format!("{}: no mount and no server of imgmount", escape(target.as_bytes()));
        Error::new(ErrorKind::Host, what).help("what runs: imgmount list")
    };
    running::all(true)?.into_iter().find(is_meant).ok_or_else(none)
}

fn alive(one: Running) -> Result<Running> {
    let place = || defuse(&one.places.join(" "));
    match one.state {
        State::Running if one.worker.is_none() && matches!(one.kind, Kind::Mount(_)) => {
            let what =
                format!("{}: its root directory keeps this user out, and what it tells with it", place());
            Err(Error::new(ErrorKind::Host, what)
                .help("without -o default_permissions, who mounts may read everything"))
        }
        State::Running => Ok(one),
        State::Dead => Err(Error::new(ErrorKind::Host, format!("{}: nobody serves it any more", place()))
            .help("take it away: imgmount unmount --all-stale")),
        State::Silent => Err(Error::new(ErrorKind::Host, format!("{}: does not answer", place()))),
    }
}

fn counter(one: &Running, wanted: &str) -> Option<u64> {
    one.counters.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
}

/// The share of units that were found in the cache, in percent.
fn cache_hit(one: &Running) -> Option<f64> {
    let (hits, misses) = (counter(one, "cache_hits")?, counter(one, "cache_misses")?);
    percent(hits, hits.checked_add(misses)?)
}

#[expect(clippy::as_conversions, reason = "a percentage for people")]
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 * 1000.0 / whole as f64).round() / 10.0)
}

fn document(one: &Running) -> Value {
    let counters: Map<String, Value> =
        one.counters.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
    let mut all = list::fields(one);
    if let Some(all) = all.as_object_mut() {
        all.insert("cache_hit_percent".to_owned(), cache_hit(one).into());
        all.insert("counters".to_owned(), counters.into());
    }
    all
}

fn text(one: &Running) -> String {
    let on = if matches!(one.kind, Kind::Mount(_)) { "on" } else { "at" };
    let mut text = defuse(&format!("{} {on} {}", one.images.join(" "), one.places.join(" ")));
    text.push('\n');
    let mut line = |name: &str, value: &str| {
        text.push_str(&format!("  {:<18} {value}\n", defuse(name)));
    };
    one.clients.iter().for_each(|clients| line("clients", &clients.to_string()));
    for (name, value) in &one.counters {
        match name.as_str() {
            name if name.contains("bytes") => line(name, &format!("{value} ({})", out::human_size(*value))),
            name => line(name, &value.to_string()),
        }
        if let Some(percent) = cache_hit(one).filter(|_| name == "cache_misses") {
            line("cache_hit_percent", &format!("{percent:.1}"));
        }
    }
    text
}
