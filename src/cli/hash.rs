//! `imgmount hash`.

use super::content::{hex, sha256};
use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::block::{Below, BlockSource};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Follow;
use crate::image::{Opened, StoredSum};
use crate::pipeline::{Piece, in_order};
use crate::source::gate::Given;
use serde_json::{Value, json};
use sha2::digest::DynDigest;
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::sync::Arc;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "An archive of several disks (OVA) has a line for each, named IMAGE//MEMBER. \
                        --verify IMAGE checks the sums that IMAGE carries: an OVA's manifest. Exit: 0 if all are right, \
                        1 if one is not, 6 if there is none or one cannot be checked.")]
pub(super) struct Args {
    /// IMAGE… for the disk's content, IMAGE:PATH for a file of the guest
    #[arg(required_unless_present = "verify", value_name = "IMAGE")]
    images: Vec<OsString>,
    /// Sum the image's file or files as they lie, not the disk in them
    #[arg(long)]
    container: bool,
    /// Compare with a given SHA-256 sum or, without one, with the sums that the image carries
    #[arg(long, value_name = "SHA256", num_args = 0..=1)]
    verify: Option<Option<OsString>>,
}

/// Memory for unpacked units while a whole disk is summed.
const CACHE: u64 = 16 << 20;

/// What the sums are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Against {
    /// Nothing: they are printed.
    Nothing,
    /// A sum that the user gave.
    Given(String),
    /// The sums that the image carries.
    Stored,
}

impl Args {
    /// What to compare with, and the images. The word behind `--verify` is a sum if it has the form of one, else an image.
    fn meant(&self) -> Result<(Against, Vec<OsString>)> {
        let images = || self.images.clone();
        let word = match &self.verify {
            None => return Ok((Against::Nothing, images())),
            Some(None) => return Ok((Against::Stored, images())),
            Some(Some(word)) => word,
        };
        let digits = word.to_str().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let exists = || std::path::Path::new(word).exists();
        match digits {
            Some(sum) if sum.len() == 64 && !self.images.is_empty() => {
                Ok((Against::Given(sum.to_ascii_lowercase()), images()))
            }
            Some(_) if !exists() => {
                let error = Error::new(ErrorKind::Usage, "--verify: a SHA-256 sum has 64 hexadecimal digits");
                Err(error.help(
                    "imgmount hash --verify SHA256 IMAGE, or --verify IMAGE for the sums that it carries",
                ))
            }
            _ => Ok((Against::Stored, std::iter::once(word.clone()).chain(images()).collect())),
        }
    }
}

/// A sum and what it is of.
struct Sum {
    sha256: String,
    name: String,
    size: u64,
}

/// What there is to say of one image.
#[derive(Default)]
struct Answer {
    /// Lines and documents.
    said: Vec<(String, Value)>,
    /// A sum is not what it should be.
    differs: bool,
    /// There was none to compare with, or it could not be computed.
    undecided: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let (against, words) = args.meant()?;
    if matches!(against, Against::Given(_)) && words.len() != 1 {
        return Err(Error::new(ErrorKind::Usage, "--verify compares one sum with one image"));
    }
    if against == Against::Stored && args.container {
        return Err(Error::new(ErrorKind::Usage, "--container compares with a sum that you give")
            .help("imgmount hash --container --verify SHA256 IMAGE"));
    }
    let mut images = Images::new(common);
    let mut tally = Tally::default();
    let mut stream = Stream::new();
    let mut documents = Vec::new();
    // Each word is a target of its own here: "hash a.img /b.img" sums two images.
    for target in words.iter().map(|word| Target::parse(word)) {
        let answer = match &against {
            Against::Stored => verify(&target, common),
            against => {
                sums(args, &target, &mut images, common).and_then(|sums| compare(&sums, against, &target))
            }
        };
        match answer {
            Ok(answer) => {
                tally.done();
                if answer.differs {
                    tally.no();
                }
                if answer.undecided {
                    tally.partial();
                }
                for (line, document) in answer.said {
                    if common.json {
                        documents.push(document);
                    } else {
                        stream.line(line)?;
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

/// Says the sums, and whether they are the one that was given.
fn compare(sums: &[Sum], against: &Against, target: &Target) -> Result<Answer> {
    let given = match against {
        Against::Given(given) => Some(given),
        _ => None,
    };
    if given.is_some() && sums.len() > 1 {
        let names: Vec<&str> = sums.iter().map(|sum| sum.name.as_str()).collect();
        let error =
            Error::new(ErrorKind::Usage, format!("{}: one sum, but several to compare", target.shown()));
        return Err(error.help(format!("name the one that is meant: {}", names.join(", "))));
    }
    let mut answer = Answer::default();
    for sum in sums {
        let matches = given.map(|given| *given == sum.sha256);
        answer.differs |= matches == Some(false);
        let verdict = matches.map_or("", |same| if same { "  OK" } else { "  FAILED" });
        let mut document =
            json!({ "schema": "imgmount.hash/1", "name": sum.name, "size": sum.size, "sha256": sum.sha256 });
        if let (Some(matches), Some(map)) = (matches, document.as_object_mut()) {
            map.insert("matches".to_owned(), matches.into());
        }
        answer.said.push((format!("{}  {}{verdict}", sum.sha256, sum.name), document));
    }
    Ok(answer)
}

/// A name for each disk of an image: `IMAGE//MEMBER` in an archive.
fn disk_name(image: &str, picked: bool, disk: &Opened) -> String {
    match &disk.member {
        Some(member) if !picked => format!("{image}//{member}"),
        _ => image.to_owned(),
    }
}

fn sums(args: &Args, target: &Target, images: &mut Images<'_>, common: &Common) -> Result<Vec<Sum>> {
    if target.path.is_some() {
        let (tree, _, node) = images.find(target, Follow::Yes)?;
        let said = |error: Error| error.context(target.shown());
        let sha256 = sha256(&tree, node).map_err(said)?;
        let size = tree.stat(node).map_err(said)?.size;
        return Ok(vec![Sum { sha256, name: target.shown(), size }]);
    }
    let (given, own, opened) = open(target, common)?;
    let disks = || std::iter::once(&opened).chain(&opened.others);
    if !args.container {
        let name = |disk: &Opened| disk_name(&given.name(), given.member.is_some(), disk);
        return disks().map(|disk| source_sum(&*disk.disk, name(disk))).collect();
    }
    let name = given.locator.to_string();
    let mut found = vec![source_sum(&*own, name.clone())?];
    let mut known = vec![name];
    for disk in disks() {
        for file in ground(&disk.disk)? {
            let label = file.label();
            if !known.contains(&label) {
                found.push(source_sum(&*file, label.clone())?);
                known.push(label);
            }
        }
    }
    Ok(found)
}

/// What was given, the file as it lies, and the image in it. The file is opened once: a link may be good for one request.
fn open(target: &Target, common: &Common) -> Result<(Arc<Given>, Arc<dyn BlockSource>, Opened)> {
    let given = plan::given(&target.image, common)?;
    // Each unit is read once, so there is nothing to keep: room for what is unpacked at the moment will do, and for what
    // is read ahead of a remote image.
    let cache = if given.file.is_some() { common.cache.min(CACHE) } else { common.cache };
    let options = plan::options(&Common { cache, ..common.clone() });
    let (own, opened) = plan::open_image(&target.image, &given, &options, common)?;
    Ok((given, own, opened))
}

/// Checks the sums that an image carries. What several of them are of is read once.
fn verify(target: &Target, common: &Common) -> Result<Answer> {
    if target.path.is_some() {
        let error =
            Error::new(ErrorKind::Usage, format!("{}: a guest's file carries no sum", target.shown()));
        return Err(error.help("imgmount hash --verify SHA256 IMAGE:/PATH compares with one that you have"));
    }
    let (given, _, opened) = open(target, common)?;
    let (name, archive) = (given.name(), given.locator.to_string());
    let mut answer = Answer { undecided: opened.sums.is_empty(), ..Answer::default() };
    for warning in &opened.warnings {
        out::say(common, &format!("warning: {name}: {warning}"));
    }
    if opened.sums.is_empty() {
        out::say(common, &format!("{name}: carries no sum to check (format {})", opened.format));
        let document =
            json!({ "schema": "imgmount.hash/1", "name": name, "matches": null, "error": "carries no sum" });
        answer.said.push((format!("-  {name}  -  UNDECIDED"), document));
    }
    let mut rest: Vec<&StoredSum> = opened.sums.iter().collect();
    while let Some(first) = rest.first().copied() {
        let same = |sum: &&StoredSum| sum.of == first.of && Arc::ptr_eq(&sum.bytes, &first.bytes);
        let (group, others): (Vec<&StoredSum>, Vec<&StoredSum>) = rest.into_iter().partition(same);
        rest = others;
        let name = if first.of == "disk" { name.clone() } else { format!("{archive}//{}", first.of) };
        verify_one(&name, &group, &mut answer);
    }
    Ok(answer)
}

/// Computes the sums of one thing, and says of each whether it is what is stated.
fn verify_one(name: &str, stated: &[&StoredSum], answer: &mut Answer) {
    let Some(bytes) = stated.first().map(|sum| &sum.bytes) else { return };
    let mut digests: Vec<Box<dyn DynDigest>> = stated.iter().map(|sum| digest(sum.algorithm)).collect();
    let read = each_byte(&**bytes, &mut |part| digests.iter_mut().for_each(|digest| digest.update(part)));
    let failed = read.err().map(|error| error.context(name));
    if let Some(error) = &failed {
        out::complain(error);
    }
    // What is not there is not what was promised; what may not be opened or cannot be read may well be.
    let is_missing = failed.as_ref().is_some_and(|error| error.kind() == ErrorKind::NotFound);
    for (sum, digest) in stated.iter().zip(digests) {
        let computed = failed.is_none().then(|| hex(&digest.finalize()));
        let matches =
            computed.as_ref().map(|computed| *computed == sum.stated).or(is_missing.then_some(false));
        answer.differs |= matches == Some(false);
        answer.undecided |= matches.is_none();
        let verdict = match (matches, &computed) {
            (Some(true), _) => "OK".to_owned(),
            (Some(false), Some(_)) => format!("FAILED, stated: {}", sum.stated),
            (Some(false), None) => "FAILED, missing".to_owned(),
            (None, _) => "UNDECIDED".to_owned(),
        };
        let shown = computed.as_deref().unwrap_or("-");
        let line = format!("{shown}  {name}  {}  {verdict}", sum.algorithm);
        let document = json!({
            "schema": "imgmount.hash/1", "name": name, "size": computed.as_ref().map(|_| bytes.len()),
            "algorithm": sum.algorithm, "stated": sum.stated, "computed": computed, "matches": matches,
            "error": failed.as_ref().map(Error::chain),
        });
        answer.said.push((line, document));
    }
}

fn digest(algorithm: &str) -> Box<dyn DynDigest> {
    match algorithm {
        "md5" => Box::new(md5::Md5::default()),
        "sha1" => Box::new(sha1::Sha1::default()),
        "sha512" => Box::new(sha2::Sha512::default()),
        _ => Box::new(Sha256::default()),
    }
}

/// Hands over every byte of a source, in order.
fn each_byte(source: &dyn BlockSource, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
    in_order(source, &mut |_: u64, piece: Piece<'_>| match piece {
        Piece::Data(bytes) => {
            sink(bytes);
            Ok(())
        }
        Piece::Zeros(len) => super::content::zeros(len, &mut |part| {
            sink(part);
            Ok(())
        }),
    })
}

/// The sum of a source's content.
fn source_sum(source: &dyn BlockSource, name: String) -> Result<Sum> {
    let mut hash = Sha256::new();
    each_byte(source, &mut |part| sha2::Digest::update(&mut hash, part))
        .map_err(|error| error.context(&name))?;
    Ok(Sum { sha256: hex(&hash.finalize()), name, size: source.len() })
}

/// The files an image itself consists of, not those of its parents, in the order in which its disk needs them.
fn ground(disk: &Arc<dyn BlockSource>) -> Result<Vec<Arc<dyn BlockSource>>> {
    let mut found: Vec<Arc<dyn BlockSource>> = Vec::new();
    let mut offset = 0;
    while offset < disk.len() {
        let step = disk.step(offset)?;
        let below = match step.below {
            Below::Stored(file, at) | Below::Encrypted(file, at) | Below::Packed(file, at, _) => {
                Some((file, at))
            }
            Below::Here
            | Below::Zero
            | Below::Hole
            | Below::PastParent
            | Below::Computed
            | Below::Parent(..) => None,
        };
        if let Some((mut file, mut at)) = below {
            // A part of an archive is no file of its own, nor is what was deciphered.
            while let Below::Stored(below, to) | Below::Encrypted(below, to) | Below::Packed(below, to, _) =
                file.step(at)?.below
            {
                (file, at) = (below, to);
            }
            if !found.iter().any(|known| Arc::ptr_eq(known, &file)) {
                found.push(file);
            }
        }
        offset = offset.saturating_add(step.len.max(1));
    }
    Ok(found)
}
