//! `imgmount stat`.

use super::entry::{Record, arrow, is_device, lossless, mode_letters, time};
use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::error::Result;
use crate::fs::Stat;
use crate::fs::tree::{Follow, Node, Tree};
use crate::text::escape;
use serde_json::{Value, json};
use std::ffi::OsString;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE:PATH…, or IMAGE PATH…
    #[arg(required = true, value_name = "IMAGE:PATH")]
    files: Vec<OsString>,
    /// Show the file that a symbolic link leads to, inside the guest
    #[arg(short = 'L', long)]
    dereference: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut images = Images::new(common);
    let mut tally = Tally::default();
    let mut stream = Stream::new();
    let targets = plan::targets(&args.files);
    let mut documents = Vec::new();
    for target in &targets {
        let follow = if args.dereference { Follow::Yes } else { Follow::No };
        let found = target.need_path("stat").and_then(|_| images.find(target, follow)).and_then(
            |(tree, path, node)| {
                let stat = tree.stat(node).map_err(|error| error.context(target.shown()))?;
                Ok((tree, path, node, stat))
            },
        );
        match found {
            Ok((tree, path, node, stat)) => {
                tally.done();
                if common.json {
                    documents.push(document(&tree, node, &path, &stat, &mut tally));
                } else {
                    print(&tree, node, target, &stat, &mut tally, &mut stream)?;
                }
            }
            Err(error) => {
                out::complain(&error);
                documents.push(out::error_object(&error));
                tally.failed(&error);
            }
        }
    }
    if common.json {
        let one = if documents.len() == 1 { documents.pop() } else { None };
        stream.json_document(&one.unwrap_or(Value::Array(documents)))?;
    }
    stream.end()?;
    Ok(tally.exit())
}

fn document(tree: &Tree, node: Node, path: &[u8], stat: &Stat, tally: &mut Tally) -> Value {
    let record = Record::new(tree, node, path, Ok(stat));
    if record.error.is_some() {
        tally.partial();
    }
    let mut document = json!({ "schema": "imgmount.stat/1" });
    merge(&mut document, serde_json::to_value(record).unwrap_or_default());
    merge(
        &mut document,
        json!({
            "volume": tree.volume(node),
            "blocks": stat.blocks,
            "blksize": stat.blksize,
            "atime": time(stat.atime),
            "ctime": time(stat.ctime),
            "btime": stat.btime.map(time),
        }),
    );
    match tree.xattrs(node) {
        Ok(xattrs) => {
            let list = xattrs.iter().map(|xattr| {
                let (name, _) = lossless(&xattr.name);
                let (value, bytes) = lossless(&xattr.value);
                let mut one = json!({ "name": name, "value": value });
                if let Some(bytes) = bytes {
                    merge(&mut one, json!({ "value_bytes": bytes }));
                }
                one
            });
            merge(&mut document, json!({ "xattrs": list.collect::<Vec<_>>() }));
        }
        Err(error) => {
            tally.partial();
            merge(&mut document, json!({ "error": error.chain() }));
        }
    }
    document
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn print(
    tree: &Tree,
    node: Node,
    target: &Target,
    stat: &Stat,
    tally: &mut Tally,
    stream: &mut Stream,
) -> Result<()> {
    stream.line(format_args!("  File: {}{}", target.shown(), arrow(tree, node, stat.kind)))?;
    let device = if is_device(stat.kind) {
        format!("  Device: {}, {}", stat.rdev.0, stat.rdev.1)
    } else {
        String::new()
    };
    stream.line(format_args!(
        "  Size: {}  Blocks: {}  IO Block: {}  Type: {}{device}",
        stat.size,
        stat.blocks,
        stat.blksize,
        stat.kind.name()
    ))?;
    stream.line(format_args!("Volume: {}  Inode: {}  Links: {}", tree.volume(node), stat.ino, stat.nlink))?;
    stream.line(format_args!(
        "Access: ({:04o}/{})  Uid: {}  Gid: {}",
        stat.mode,
        mode_letters(stat.kind, stat.mode),
        stat.uid,
        stat.gid
    ))?;
    stream.line(format_args!("Access: {}", time(stat.atime)))?;
    stream.line(format_args!("Modify: {}", time(stat.mtime)))?;
    stream.line(format_args!("Change: {}", time(stat.ctime)))?;
    stream.line(format_args!(" Birth: {}", stat.btime.map_or_else(|| "-".to_owned(), time)))?;
    match tree.xattrs(node) {
        Ok(xattrs) => {
            for xattr in xattrs {
                stream.line(format_args!(" Xattr: {} = {}", escape(&xattr.name), escape(&xattr.value)))?;
            }
        }
        Err(error) => {
            out::complain(&error.context(target.shown()));
            tally.partial();
        }
    }
    Ok(())
}
