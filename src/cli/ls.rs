//! `imgmount ls`.

use super::entry::{Record, arrow, is_device, mode_letters, time};
use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::error::Result;
use crate::fs::tree::{Follow, Node, Tree};
use crate::fs::{FileType, Stat};
use crate::text::escape;
use std::ffi::OsString;
use std::ops::ControlFlow;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE:PATH…, or IMAGE PATH…; without a path, the root
    #[arg(required = true, value_name = "IMAGE:PATH")]
    paths: Vec<OsString>,
    /// Show mode, links, owner, group, size, time of change and target
    #[arg(short, long)]
    long: bool,
    /// Show names that begin with a dot
    #[arg(short, long)]
    all: bool,
    /// Show the directory itself, not what is in it
    #[arg(short, long)]
    directory: bool,
}

/// One line to be.
struct Line {
    name: Vec<u8>,
    path: Vec<u8>,
    node: Node,
    stat: Result<Stat>,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut images = Images::new(common);
    let mut tally = Tally::default();
    let mut stream = Stream::new();
    let mut records = Vec::new();
    let targets = plan::targets(&args.paths);
    for (number, target) in targets.iter().enumerate() {
        let listed = list(args, target, &mut images, &mut tally);
        let (tree, lines) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                out::complain(&error);
                if common.json {
                    records.push(out::error_object(&error));
                }
                tally.failed(&error);
                continue;
            }
        };
        tally.done();
        if common.json {
            records.extend(lines.iter().map(|line| as_json(&tree, line)));
            continue;
        }
        if targets.len() > 1 {
            stream.line(format_args!("{}{}:", if number > 0 { "\n" } else { "" }, target.shown()))?;
        }
        print(args, &tree, &lines, &mut stream)?;
    }
    if common.json {
        stream.json_document(&document(&targets, records, &tally))?;
    }
    stream.end()?;
    Ok(tally.exit())
}

/// The JSON document; a single path that failed as a whole is an error object, as everywhere.
fn document(targets: &[Target], mut records: Vec<serde_json::Value>, tally: &Tally) -> serde_json::Value {
    if targets.len() == 1 && tally.exit() != Exit::OK && tally.exit() != Exit::PARTIAL {
        return records.pop().unwrap_or_default();
    }
    serde_json::json!({ "schema": "imgmount.ls/1", "entries": records })
}

fn list(
    args: &Args,
    target: &Target,
    images: &mut Images<'_>,
    tally: &mut Tally,
) -> Result<(std::sync::Arc<Tree>, Vec<Line>)> {
    // As ls(1) does: a link that is named is followed, unless the links themselves are asked for.
    let follow = if args.long || args.directory { Follow::No } else { Follow::Yes };
    let (tree, path, node) = images.find(target, follow)?;
    let stat = tree.stat(node).map_err(|error| error.context(target.shown()))?;
    let mut lines = Vec::new();
    if stat.kind != FileType::Dir || args.directory {
        lines.push(Line { name: path.clone(), path, node, stat: Ok(stat) });
        return Ok((tree, lines));
    }
    let listed = tree.readdir(node, 0, &mut |entry| {
        if args.all || !entry.name.starts_with(b".") {
            let mut child = path.clone();
            if !child.ends_with(b"/") {
                child.push(b'/');
            }
            child.extend_from_slice(entry.name);
            let stat = tree.stat(entry.node);
            lines.push(Line { name: entry.name.to_vec(), path: child, node: entry.node, stat });
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = listed {
        let error = error.context(target.shown());
        if lines.is_empty() {
            return Err(error);
        }
        out::complain(&error);
        tally.partial();
    }
    for line in &lines {
        if let Err(error) = &line.stat {
            out::complain(&error.clone().context(escape(&line.path)));
            tally.partial();
        }
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((tree, lines))
}

fn as_json(tree: &Tree, line: &Line) -> serde_json::Value {
    serde_json::to_value(Record::new(tree, line.node, &line.path, line.stat.as_ref())).unwrap_or_default()
}

fn print(args: &Args, tree: &Tree, lines: &[Line], stream: &mut Stream) -> Result<()> {
    if !args.long {
        for line in lines {
            stream.line(escape(&line.name))?;
        }
        return Ok(());
    }
    let rows: Vec<[String; 7]> = lines.iter().map(|line| columns(tree, line)).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default()
    };
    let (links, owner, group, size) = (width(1), width(2), width(3), width(4));
    for [mode, n, uid, gid, bytes, when, name] in &rows {
        stream.line(format_args!(
            "{mode} {n:>links$} {uid:>owner$} {gid:>group$} {bytes:>size$} {when} {name}"
        ))?;
    }
    Ok(())
}

fn columns(tree: &Tree, line: &Line) -> [String; 7] {
    let name = escape(&line.name).to_string();
    let Ok(stat) = &line.stat else {
        return ["??????????", "?", "?", "?", "?", "?", &name].map(str::to_owned);
    };
    let size = if is_device(stat.kind) {
        format!("{}, {}", stat.rdev.0, stat.rdev.1)
    } else {
        stat.size.to_string()
    };
    [
        mode_letters(stat.kind, stat.mode),
        stat.nlink.to_string(),
        stat.uid.to_string(),
        stat.gid.to_string(),
        size,
        time(stat.mtime),
        format!("{name}{}", arrow(tree, line.node, stat.kind)),
    ]
}
