//! `imgmount hash`.

use super::content::{hex, sha256};
use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::block::{Below, BlockSource};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Follow;
use crate::pipeline::{Piece, in_order};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::sync::Arc;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE… for the disk's content, IMAGE:PATH for a file of the guest
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<OsString>,
    /// Sum the image's file or files as they lie, not the disk in them
    #[arg(long)]
    container: bool,
    /// Compare with a given SHA-256 sum: exit 0 if it is the same, 1 if not
    #[arg(long, value_name = "SHA256", value_parser = sum)]
    verify: Option<String>,
}

/// Memory for unpacked units while a whole disk is summed.
const CACHE: u64 = 16 << 20;

fn sum(text: &str) -> std::result::Result<String, String> {
    let fits = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if fits {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 sum has 64 hexadecimal digits".to_owned())
    }
}

/// A sum and what it is of.
struct Sum {
    sha256: String,
    name: String,
    size: u64,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    if args.verify.is_some() && args.images.len() != 1 {
        return Err(Error::new(ErrorKind::Usage, "--verify compares one sum with one image"));
    }
    let mut images = Images::new(common);
    let mut tally = Tally::default();
    let mut stream = Stream::new();
    let mut documents = Vec::new();
    // Each word is a target of its own here: "hash a.img /b.img" sums two images.
    for target in args.images.iter().map(|word| Target::parse(word)) {
        match sums(args, &target, &mut images, common) {
            Ok(sums) => {
                tally.done();
                for sum in sums {
                    let matches = args.verify.as_ref().map(|given| *given == sum.sha256);
                    if matches == Some(false) {
                        tally.no();
                    }
                    if common.json {
                        documents.push(document(&sum, matches));
                    } else {
                        let verdict = matches.map_or("", |same| if same { "  OK" } else { "  FAILED" });
                        stream.line(format_args!("{}  {}{verdict}", sum.sha256, sum.name))?;
                    }
                }
                stream.send()?;
            }
            Err(error) => {
                out::complain(&error);
                // A byte of the image that cannot be read spoils the sum; that the image cannot be reached is another thing.
                let exit = if error.kind() == ErrorKind::Io { Exit(3) } else { Exit::of(&error) };
                let mut object = out::error_object(&error);
                if let Some(object) = object.as_object_mut() {
                    object.insert("exit".to_owned(), exit.0.into());
                }
                documents.push(object);
                tally.failed_as(exit);
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

fn document(sum: &Sum, matches: Option<bool>) -> Value {
    let mut document =
        json!({ "schema": "imgmount.hash/1", "name": sum.name, "size": sum.size, "sha256": sum.sha256 });
    if let (Some(matches), Some(map)) = (matches, document.as_object_mut()) {
        map.insert("matches".to_owned(), matches.into());
    }
    document
}

fn sums(args: &Args, target: &Target, images: &mut Images<'_>, common: &Common) -> Result<Vec<Sum>> {
    if target.path.is_some() {
        let (tree, _, node) = images.find(target, Follow::Yes)?;
        let said = |error: Error| error.context(target.shown());
        let sha256 = sha256(&tree, node).map_err(said)?;
        let size = tree.stat(node).map_err(said)?.size;
        return Ok(vec![Sum { sha256, name: target.shown(), size }]);
    }
    let given = plan::given(&target.image, common)?;
    let name = given.locator.to_string();
    // Each unit is read once, so there is nothing to keep: room for what is unpacked at the moment will do.
    let options = plan::options(&Common { cache: common.cache.min(CACHE), ..common.clone() });
    let opened = crate::stack::open_image(Arc::clone(&given), &options)?;
    if !args.container {
        return Ok(vec![source_sum(&*opened.disk, name)?]);
    }
    let own = crate::source::open(&given, &options.source_cx())?;
    let mut found = vec![source_sum(&*own, name.clone())?];
    for file in ground(&opened.disk)?.iter().filter(|file| file.label() != name) {
        found.push(source_sum(&**file, file.label())?);
    }
    Ok(found)
}

/// The sum of a source's content.
fn source_sum(source: &dyn BlockSource, name: String) -> Result<Sum> {
    let mut hash = Sha256::new();
    let update = &mut |_: u64, piece: Piece<'_>| match piece {
        Piece::Data(bytes) => {
            hash.update(bytes);
            Ok(())
        }
        Piece::Zeros(len) => super::content::zeros(len, &mut |part| {
            hash.update(part);
            Ok(())
        }),
    };
    in_order(source, update).map_err(|error| error.context(&name))?;
    Ok(Sum { sha256: hex(&hash.finalize()), name, size: source.len() })
}

/// The files an image itself consists of, not those of its parents, in the order in which its disk needs them.
fn ground(disk: &Arc<dyn BlockSource>) -> Result<Vec<Arc<dyn BlockSource>>> {
    let mut found: Vec<Arc<dyn BlockSource>> = Vec::new();
    let mut offset = 0;
    while offset < disk.len() {
        let step = disk.step(offset)?;
        match step.below {
            Below::Stored(file, _) | Below::Packed(file, _, _) => {
                if !found.iter().any(|known| Arc::ptr_eq(known, &file)) {
                    found.push(file);
                }
            }
            Below::Here | Below::Zero | Below::Hole | Below::Parent(..) => {}
        }
        offset = offset.saturating_add(step.len.max(1));
    }
    Ok(found)
}
