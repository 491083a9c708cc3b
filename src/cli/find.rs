//! `imgmount find`.

use super::content::sha256;
use super::entry::Record;
use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::error::Result;
use crate::fs::FileType;
use crate::fs::tree::{Enter, Follow, Node, Tree, Visit};
use crate::text::escape;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE:PATH…, or IMAGE PATH…; without a path, the root
    #[arg(required = true, value_name = "IMAGE:PATH")]
    paths: Vec<OsString>,
    /// One JSON object a line
    #[arg(long)]
    jsonl: bool,
    /// Print the SHA-256 sum of each regular file, as sha256sum does; with --jsonl in "sha256"
    #[arg(long)]
    hash: bool,
    /// Only names that match a shell pattern: * ? [a-z]
    #[arg(long, value_name = "GLOB")]
    name: Option<OsString>,
    /// Only one kind: f, d, l, b, c, p, s, or file, dir, symlink, block, char, fifo, socket
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<FileType>,
    /// End each path with a NUL and print it as it is stored, for xargs -0
    #[arg(long, conflicts_with_all = ["jsonl", "hash"])]
    print0: bool,
}

fn kind(text: &str) -> std::result::Result<FileType, String> {
    Ok(match text {
        "f" | "file" => FileType::File,
        "d" | "dir" => FileType::Dir,
        "l" | "symlink" => FileType::Symlink,
        "b" | "block" => FileType::Block,
        "c" | "char" => FileType::Char,
        "p" | "fifo" => FileType::Fifo,
        "s" | "socket" => FileType::Socket,
        _ => return Err(format!("no file type '{text}'; one of f, d, l, b, c, p, s")),
    })
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut images = Images::new(common);
    let mut finder =
        Finder { args, jsonl: args.jsonl || common.json, stream: Stream::new(), tally: Tally::default() };
    for target in plan::targets(&args.paths) {
        match finder.find(&target, &mut images) {
            Ok(()) => finder.tally.done(),
            Err(error) => {
                out::complain(&error);
                if finder.jsonl {
                    finder.stream.json_line(&out::error_object(&error))?;
                }
                finder.tally.failed(&error);
            }
        }
    }
    finder.stream.end()?;
    Ok(finder.tally.exit())
}

struct Finder<'a> {
    args: &'a Args,
    jsonl: bool,
    stream: Stream,
    tally: Tally,
}

impl Finder<'_> {
    fn find(&mut self, target: &Target, images: &mut Images<'_>) -> Result<()> {
        let (tree, path, top) = images.find(target, Follow::No)?;
        let stat = tree.stat(top).map_err(|error| error.context(target.shown()))?;
        let is_dir = stat.kind == FileType::Dir;
        // Names and types stand in directories: only who wants more pays for a look at every inode.
        if self.jsonl {
            let top_visit = Visit { path: &path, node: top, found: Ok(stat), is_dir_error: false };
            self.object(&tree, &top_visit)?;
            if is_dir {
                tree.walk(&path, top, &mut |visit| self.object(&tree, &visit).map(|()| Enter::Yes))?;
            }
        } else {
            let top_visit = Visit { path: &path, node: top, found: Ok(stat.kind), is_dir_error: false };
            self.line(&tree, &top_visit)?;
            if is_dir {
                tree.walk_kinds(&path, top, &mut |visit| self.line(&tree, &visit).map(|()| Enter::Yes))?;
            }
        }
        Ok(())
    }

    /// Is the file wanted? What could not be read of it is said and counted, and is, whatever its type would be.
    fn takes<T>(&mut self, visit: &Visit<'_, T>, kind: Option<FileType>) -> bool {
        if let Err(error) = &visit.found {
            out::complain(&error.clone().context(escape(visit.path)));
            self.tally.partial();
            return true;
        }
        self.wanted(visit.path, kind)
    }

    /// The sum of a regular file, where sums are asked for.
    fn sum(
        &mut self,
        tree: &Tree,
        path: &[u8],
        node: Node,
        kind: Option<FileType>,
    ) -> Option<Result<String>> {
        let sum = (self.args.hash && kind == Some(FileType::File)).then(|| sha256(tree, node));
        if let Some(Err(error)) = &sum {
            out::complain(&error.clone().context(escape(path)));
            self.tally.partial();
        }
        sum
    }

    /// One file as an object, if it is wanted.
    fn object(&mut self, tree: &Tree, visit: &Visit<'_>) -> Result<()> {
        let kind = visit.found.as_ref().ok().map(|stat| stat.kind);
        if !self.takes(visit, kind) {
            return Ok(());
        }
        let mut record = Record::new(tree, visit.node, visit.path, visit.found.as_ref());
        match self.sum(tree, visit.path, visit.node, kind) {
            Some(Ok(sum)) => record.sha256 = Some(sum),
            Some(Err(error)) => record.error = Some(error.chain()),
            None => {}
        }
        if record.error.is_some() {
            self.tally.partial();
        }
        self.stream.json_line(&record)
    }

    /// One file as its path, if it is wanted.
    fn line(&mut self, tree: &Tree, visit: &Visit<'_, FileType>) -> Result<()> {
        let kind = visit.found.as_ref().ok().copied();
        if !self.takes(visit, kind) {
            return Ok(());
        }
        let sum = self.sum(tree, visit.path, visit.node, kind);
        // A directory that could not be listed was printed when it was met.
        if visit.is_dir_error {
            return Ok(());
        }
        if self.args.print0 {
            self.stream.bytes(visit.path)?;
            return self.stream.bytes(b"\0");
        }
        match sum {
            Some(Ok(sum)) => self.stream.line(format_args!("{sum}  {}", escape(visit.path))),
            _ if self.args.hash => Ok(()),
            _ => self.stream.line(escape(visit.path)),
        }
    }

    fn wanted(&self, path: &[u8], kind: Option<FileType>) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty()).unwrap_or(b"/");
        let named = self.args.name.as_deref().is_none_or(|glob| matches(glob, name));
        named && self.args.kind.is_none_or(|wanted| kind == Some(wanted))
    }
}

/// A shell pattern over bytes: `*`, `?`, `[a-z]`, `[!a]`, `\x`. Linear in memory, at worst quadratic in time.
fn matches(glob: &OsStr, name: &[u8]) -> bool {
    let (mut glob, mut name) = (glob.as_bytes(), name);
    // Where to go on when what follows the last star did not fit: the pattern behind it, and one byte further.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(rest) = glob.strip_prefix(b"*") {
            retry = Some((rest, name));
            glob = rest;
            continue;
        }
        let step = match (glob.split_first(), name.split_first()) {
            (None, None) => return true,
            (Some(_), Some((byte, rest_of_name))) => one(glob, *byte).map(|rest| (rest, rest_of_name)),
            _ => None,
        };
        if let Some(next) = step {
            (glob, name) = next;
            continue;
        }
        let Some((after_star, from)) = retry else { return false };
        let Some((_, from)) = from.split_first() else { return false };
        retry = Some((after_star, from));
        (glob, name) = (after_star, from);
    }
}

/// The rest of the pattern if its first element takes `byte`.
fn one(glob: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, rest) = glob.split_first()?;
    match first {
        b'?' => Some(rest),
        b'\\' if !rest.is_empty() => {
            rest.split_first().filter(|(literal, _)| **literal == byte).map(|(_, rest)| rest)
        }
        b'[' => {
            let (negated, set) = match rest.split_first() {
                Some((b'!' | b'^', set)) => (true, set),
                _ => (false, rest),
            };
            // A bracket that stands first in the set is meant as itself; a set that does not end is a plain '['.
            let end = set.iter().skip(1).position(|b| *b == b']').map(|at| at.saturating_add(1));
            let Some((members, rest)) =
                end.and_then(|end| Some((set.get(..end)?, set.get(end.saturating_add(1)..)?)))
            else {
                return (byte == b'[').then_some(rest);
            };
            (in_set(members, byte) != negated).then_some(rest)
        }
        literal => (*literal == byte).then_some(rest),
    }
}

fn in_set(mut members: &[u8], byte: u8) -> bool {
    loop {
        match members {
            [] => return false,
            [from, b'-', to, rest @ ..] => {
                if (*from..=*to).contains(&byte) {
                    return true;
                }
                members = rest;
            }
            [member, rest @ ..] => {
                if *member == byte {
                    return true;
                }
                members = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: bash `[[ NAME == GLOB ]]`.
    #[test]
    fn patterns_are_those_of_the_shell() {
        let fits = |glob: &str, name: &str| matches(glob.as_ref(), name.as_bytes());
        assert!(fits("*.conf", "a.conf") && fits("*", "") && fits("a*b*c", "aXbYbZc") && fits("?", "x"));
        assert!(fits("[a-c]x", "bx") && fits("[!a-c]x", "dx") && fits("[]]", "]") && fits("\\*", "*"));
        assert!(!fits("*.conf", "a.conf~") && !fits("?", "") && !fits("[a-c]", "d") && !fits("a", "ab"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let name = vec![b'a'; 255];
        assert!(!matches("*a*a*a*a*a*a*a*a*a*a*b".as_ref(), &name));
    }
}
