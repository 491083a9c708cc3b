//! The exports of a server: what of the images is served, under which names, in whose words.

use super::Args;
use crate::fs::Content;
use crate::image::Opened;
use crate::serve::nbd::Export;
use crate::stack::Stack;
use std::ffi::OsString;
use std::sync::Arc;

/// The word for each image in the names of its exports: none for the only one, else its file's name without extension.
pub(super) fn names(args: &Args) -> Vec<String> {
    if args.images.len() == 1 {
        return vec![String::new()];
    }
    args.images.iter().map(word).collect()
}

/// A file's name without extension, as far as it is fit for a URI and a path.
pub(super) fn word(image: &OsString) -> String {
    let name = crate::locator::Locator::parse(image).file_name();
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let fit = |c: char| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let word: String = stem.chars().map(fit).collect();
    if word.trim_matches('.').is_empty() { "image".to_owned() } else { word }
}

/// The exports of one image: the disk, its volumes, the layers below it. `name` is empty for the only image.
pub(super) fn of(stack: &Stack, name: &str) -> Vec<Export> {
    let named = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") };
    let disk = |name: String, image: &Opened| Export {
        name,
        about: format!("disk, {}", format_of(image)),
        source: Arc::clone(&image.disk),
    };
    // The default export comes first.
    let mut exports = vec![disk(name.to_owned(), &stack.image), disk(named("disk"), &stack.image)];
    exports.extend(stack.others.iter().map(|other| disk(named(&other.id), &other.image)));
    let is_disk = |id: &str| id == "disk" || stack.others.iter().any(|other| other.id == id);
    for volume in stack.volumes().filter(|volume| !is_disk(&volume.id)) {
        let mut about = match &volume.partition {
            Some(partition) => format!("partition {}", partition.number),
            None => format!("volume {}", volume.id),
        };
        let content = stack.contents.iter().find(|content| content.volume == volume.id);
        match content.map(|content| &content.content) {
            Some(Ok(Content::Files(fs))) => {
                let facts = fs.facts();
                about.push_str(", ");
                about.push_str(facts.kind);
                if !facts.label.is_empty() {
                    about.push_str(&format!(" '{}'", facts.label));
                }
            }
            Some(Ok(Content::Known(kind))) => about.push_str(&format!(", {kind}")),
            _ => {}
        }
        exports.push(Export { name: named(&volume.id), about, source: Arc::clone(&volume.source) });
    }
    for layer in stack.image.layers.iter().skip(1) {
        let file = if layer.snapshot.is_some() { None } else { layer.name.rsplit('/').next() };
        let name = named(&format!("layer:{}", file.unwrap_or(&layer.name)));
        // Two layers of one name: the upper one has it.
        if exports.iter().all(|export| export.name != name) {
            let about = format!("layer, {}", layer.format);
            exports.push(Export { name, about, source: Arc::clone(&layer.disk) });
        }
    }
    exports
}

fn format_of(image: &Opened) -> String {
    match &image.subformat {
        Some(subformat) => format!("{} {subformat}", image.format),
        None => image.format.to_owned(),
    }
}
