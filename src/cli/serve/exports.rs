//! The exports of a server: what of the images is served, under which names, in whose words.

use super::Args;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Content;
use crate::image::Opened;
use crate::serve::nbd::Export;
use crate::stack::Stack;
use crate::text::{defuse, escape};
use crate::volume::Volume;
use std::ffi::OsString;
use std::sync::Arc;

/// Bytes of a name, the specification's limit for strings.
const MAX_NAME: usize = 4096;

/// The word for each image in the names of its exports: none for the only one, else its file's name, without extension
/// where that tells it from the others.
pub(super) fn names(args: &Args) -> Vec<String> {
    if args.images.len() == 1 {
        return vec![String::new()];
    }
    apart(&args.images.iter().map(file_name).collect::<Vec<_>>())
}

/// Words that tell files apart: `a` and `b` for `a.vmdk` and `b.vmdk`; `a.vmdk` and `a.qcow2` as they are; of two
/// `a.vmdk` the second becomes `a.vmdk-2`.
fn apart(files: &[String]) -> Vec<String> {
    let stems: Vec<String> = files.iter().map(|file| stem(file)).collect();
    let mut all: Vec<String> = Vec::new();
    for (file, stem) in files.iter().zip(&stems) {
        let is_alone = stems.iter().filter(|other| *other == stem).count() == 1;
        let word = if is_alone { stem.clone() } else { fit(file) };
        let numbered = (2..).map(|number: u64| format!("{word}-{number}"));
        let mut candidates = std::iter::once(word.clone()).chain(numbered);
        all.extend(candidates.find(|word| !all.contains(word)));
    }
    all
}

/// A file's name without extension, as far as it is fit for a URI and a path.
pub(super) fn word(image: &OsString) -> String {
    stem(&file_name(image))
}

fn file_name(image: &OsString) -> String {
    crate::locator::Locator::parse(image).file_name()
}

fn stem(file: &str) -> String {
    fit(file.rsplit_once('.').map_or(file, |(stem, _)| stem))
}

fn fit(name: &str) -> String {
    let fit = |c: char| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let word: String = name.chars().map(fit).collect();
    if word.trim_matches('.').is_empty() { "image".to_owned() } else { word }
}

/// An image's first exports, which are known before anything in it is looked for: its disk, under the default name and its
/// own. `name` is empty for the only image.
pub(super) fn of_disk(image: &Opened, name: &str) -> Vec<Export> {
    vec![disk(name.to_owned(), image), disk(named(name, "disk"), image)]
}

fn disk(name: String, image: &Opened) -> Export {
    Export { name, about: format!("{}, whole disk", format_of(image)), source: Arc::clone(&image.disk) }
}

fn named(image: &str, part: &str) -> String {
    if image.is_empty() { part.to_owned() } else { format!("{image}/{part}") }
}

/// All exports of one image: the disk, its volumes, the layers below it.
pub(super) fn of(stack: &Stack, name: &str) -> Vec<Export> {
    let named = |part: &str| named(name, part);
    let mut exports = of_disk(&stack.image, name);
    exports.extend(stack.others.iter().map(|other| disk(named(&other.id), &other.image)));
    let is_disk = |id: &str| id == "disk" || stack.others.iter().any(|other| other.id == id);
    for volume in stack.volumes().filter(|volume| !is_disk(&volume.id)) {
        let wanted = [named(&defuse(&volume.id))];
        let export = |name| Export { name, about: about(stack, volume), source: Arc::clone(&volume.source) };
        exports.extend(free(&exports, wanted).map(export));
    }
    for (number, layer) in stack.image.layers.iter().enumerate().skip(1) {
        let file = if layer.snapshot.is_some() { None } else { layer.name.rsplit('/').next() };
        // Of two layers of one name the upper one has it.
        let words = [defuse(file.unwrap_or(&layer.name)), number.to_string()];
        let wanted = words.map(|word| named(&format!("layer:{word}")));
        let about = match &layer.snapshot {
            Some(_) => format!("{}, snapshot", layer.format),
            None => format!("{}, layer {number}", layer.format),
        };
        let export = |name| Export { name, about, source: Arc::clone(&layer.disk) };
        exports.extend(free(&exports, wanted).map(export));
    }
    exports
}

/// The first disk once more, under a name that the user wants.
///
/// # Errors
/// `Usage` when something else is called so, or no client can ask for it.
pub(super) fn also(exports: &mut Vec<Export>, name: Option<String>) -> Result<()> {
    let (Some(name), Some(disk)) = (name, exports.first().cloned()) else { return Ok(()) };
    let usage = |why: &str| {
        let error = Error::new(ErrorKind::Usage, format!("--export-name {}: {why}", escape(name.as_bytes())));
        error.help("choose another name; --list without --export-name shows those that are taken")
    };
    if name.len() > MAX_NAME {
        return Err(usage("a name has 4096 bytes at most"));
    }
    match exports.iter().find(|export| export.name == name) {
        // It is the disk's own name.
        Some(same) if Arc::ptr_eq(&same.source, &disk.source) => {}
        Some(_) => return Err(usage("another export is called so")),
        None => exports.push(Export { name, ..disk }),
    }
    Ok(())
}

/// The first of the names that can be had.
fn free(exports: &[Export], wanted: impl IntoIterator<Item = String>) -> Option<String> {
    let can_be_had =
        |name: &String| name.len() <= MAX_NAME && exports.iter().all(|export| export.name != *name);
    wanted.into_iter().find(can_be_had)
}

/// `vmdk streamOptimized, partition 2, ext4 'root'`.
fn about(stack: &Stack, volume: &Volume) -> String {
    let number = volume.disk.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    let other = number.checked_sub(1).and_then(|number| stack.others.get(number));
    let mut about = format_of(other.map_or(&stack.image, |other| &other.image));
    match &volume.partition {
        Some(partition) => about.push_str(&format!(", partition {}", partition.number)),
        None => about.push_str(", volume"),
    }
    let content = stack.contents.iter().find(|content| content.volume == volume.id);
    match content.map(|content| &content.content) {
        Some(Ok(Content::Files(fs))) => {
            let facts = fs.facts();
            about.push_str(&format!(", {}", facts.kind));
            if !facts.label.is_empty() {
                about.push_str(&format!(" '{}'", facts.label));
            }
        }
        Some(Ok(Content::Known(kind))) => about.push_str(&format!(", {kind}")),
        _ => volume.claimed_by.iter().for_each(|manager| about.push_str(&format!(", member of {manager}"))),
    }
    about
}

fn format_of(image: &Opened) -> String {
    match &image.subformat {
        Some(subformat) => format!("{} {subformat}", image.format),
        None => image.format.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        apart(&files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn files_are_told_apart_by_as_little_as_it_takes() {
        assert_eq!(names(&["a.vmdk", "b.vmdk"]), ["a", "b"]);
        assert_eq!(names(&["a.vmdk", "a.qcow2", "b.raw"]), ["a.vmdk", "a.qcow2", "b"]);
        assert_eq!(names(&["a.raw", "a.raw", "a.raw-2"]), ["a.raw", "a.raw-2", "a.raw-2-2"]);
    }

    #[test]
    fn what_is_unfit_for_a_uri_becomes_an_underscore() {
        assert_eq!(names(&["my disk?.raw", "..", "x"]), ["my_disk_", "image", "x"]);
    }
}
