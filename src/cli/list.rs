//! `imgmount list`: the mounts and servers that run, this user's or, for root, everybody's.

use super::{Common, Exit, out};
use crate::error::Result;
use crate::host::running::{self, Running, State};
use crate::host::runtime;
use crate::text::defuse;
use serde_json::{Value, json};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Servers are found by their sockets in $XDG_RUNTIME_DIR/imgmount (root: /run/imgmount)."
)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, common: &Common) -> Result<Exit> {
    let all = running::all(false)?;
    if common.json {
        let all: Vec<Value> = all.iter().map(fields).collect();
        out::json(&json!({ "schema": "imgmount.list/1", "running": all }));
        return Ok(Exit::OK);
    }
    if runtime::place().is_none() {
        out::say(common, "only mounts: servers are found by way of XDG_RUNTIME_DIR, which is not set");
    }
    if all.is_empty() {
        out::say(common, "nothing runs");
        return Ok(Exit::OK);
    }
    let head = ["KIND", "PID", "SINCE", "CLIENTS", "IMAGE", "WHERE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(all.iter().map(row)).collect();
    for row in &rows {
        out::data(&format!("{}\n", aligned(row, &rows)));
    }
    Ok(Exit::OK)
}

/// What is told of one, for programs.
pub(super) fn fields(one: &Running) -> Value {
    json!({
        "kind": one.kind.name(),
        "state": one.state.name(),
        "images": one.images,
        "where": one.places,
        "pid": one.pid,
        "worker": one.worker,
        "uid": one.user,
        "since": one.since,
        "clients": one.clients,
    })
}

fn row(one: &Running) -> [String; 6] {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let since = one.since.as_deref().map_or_else(|| "-".to_owned(), local_time);
    let mut places = one.places.join(" ");
    if one.state != State::Running {
        places.push_str(&format!(" ({})", one.state.name()));
    }
    let kind = one.kind.name().to_owned();
    [kind, number(one.pid), since, number(one.clients), one.images.join(" "), places]
        .map(|field| if field.is_empty() { "-".to_owned() } else { defuse(&field) })
}

/// A point in time as people here write it.
fn local_time(since: &str) -> String {
    let zone = jiff::tz::TimeZone::system();
    since.parse::<jiff::Timestamp>().map_or_else(
        |_| since.to_owned(),
        |time| time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// The fields in columns, the last one as long as it is.
fn aligned(row: &[String; 6], rows: &[[String; 6]]) -> String {
    let mut line = String::new();
    for (at, field) in row.iter().enumerate() {
        let widths = rows.iter().filter_map(|row| row.get(at)).map(|field| field.chars().count());
        let width = if at == 5 { 0 } else { widths.max().unwrap_or(0) };
        line.push_str(&format!("{field:width$}  "));
    }
    line.trim_end().to_owned()
}
