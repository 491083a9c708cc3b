//! What a mount shows: the view of an opened image.
//!
//! ```text
//!   /                      the guest's root, with the other volumes at their places
//!   /.imgmount/            not listed
//!       disk.raw  partitions/1.raw  volumes/vg0-root.raw  layers/0.raw  filesystems/1-ext4-boot/
//!       drives/C/ D/                                    of a Windows
//!       info.json  check.json  status  stats  errors
//! ```

use crate::check::report::{self, About, Report};
use crate::check::{Settings, Subject, profile};
use crate::cli::info;
use crate::counters::COUNTERS;
use crate::fs::FsFacts;
use crate::fs::tree::Tree;
use crate::serve::fuse::{self, Late, Troubles, View};
use crate::stack::Stack;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// `--view`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// The guest's root; everything else below .imgmount, which is not listed
    #[default]
    Root,
    /// Disk, partitions, file systems, and the guest's root under root
    All,
    /// The disk, its partitions and volumes, as files
    Disk,
    /// The drives of a Windows, by letter
    Drives,
}

/// The folder that is there without being listed.
const HIDDEN: &str = ".imgmount";

/// A view, and what to tell about it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) view: View,
    /// What is shown in the end.
    pub(super) what: What,
    /// What the user should know, one line each.
    pub(super) notes: Vec<String>,
}

/// The generated files, as far as the image itself does not tell what is in them.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    /// The image, as the check's report names it.
    pub(super) image: String,
    pub(super) status: String,
    pub(super) troubles: Arc<Troubles>,
}

/// Makes the view of an image. `texts` is asked once it is known what is shown.
pub(super) fn view(stack: &Arc<Stack>, mut what: What, texts: impl FnOnce(What) -> Texts) -> Shown {
    let mut notes = Vec::new();
    let root = match stack.tree(None) {
        Ok(root) => Some(root),
        Err(error) => {
            if what == What::Root {
                what = What::All;
                notes.push(format!("{}; showing every volume (--view all)", error.chain()));
            }
            None
        }
    };
    if what == What::Drives && drives(stack).is_empty() {
        what = What::All;
        notes.push("no Windows with drives was found; showing every volume (--view all)".to_owned());
    }
    if what != What::Disk && stack.only.is_none() && stack.guests.len() > 1 {
        let all: Vec<String> =
            (1..).zip(&stack.guests).map(|(number, guest)| format!("{number}: {}", guest.title())).collect();
        notes.push(format!("several operating systems: {}; the first is shown (--os N)", all.join("; ")));
    }
    let mut view = View::new();
    let top = view.top();
    let texts = Generated::new(texts(what), stack);
    // Scripts find disks and texts at one place in every view; people see them where they are listed.
    let inside = if what == What::Root { top } else { view.add_hidden(HIDDEN) };
    disks(&mut view, inside, stack);
    match what {
        What::Root => {
            volumes(&mut view, inside, stack);
            if let Some(root) = root {
                view.cover(root, HIDDEN);
            }
        }
        What::All => {
            disks(&mut view, top, stack);
            if let Some(root) = root {
                view.add_tree(top, "root", root);
            }
            volumes(&mut view, top, stack);
            texts.add(&mut view, top);
        }
        What::Disk => disks(&mut view, top, stack),
        What::Drives => {
            for (letter, tree) in drives(stack) {
                view.add_tree(top, &letter.to_string(), Arc::clone(tree));
            }
        }
    }
    texts.add(&mut view, inside);
    Shown { view, what, notes }
}

/// The generated files of a view. Those that read here and there in the image are made when somebody looks.
struct Generated {
    texts: Texts,
    info: Arc<Late>,
    check: Arc<Late>,
}

impl Generated {
    fn new(texts: Texts, stack: &Arc<Stack>) -> Self {
        let of = Arc::clone(stack);
        let info = Late::new(move || info_json(&of));
        let (of, image) = (Arc::clone(stack), texts.image.clone());
        let check = Late::new(move || check_json(&of, &image));
        Self { texts, info, check }
    }

    fn add(&self, view: &mut View, dir: usize) {
        view.add_late(dir, "info.json", &self.info);
        view.add_late(dir, "check.json", &self.check);
        view.add_fixed(dir, "status", self.texts.status.clone());
        view.add_text(dir, "stats", stats);
        let (troubles, trees) = (Arc::clone(&self.texts.troubles), view.trees().to_vec());
        view.add_text(dir, "errors", move || troubles.text(&trees));
    }
}

/// Each file system alone, and the drives of a Windows.
fn volumes(view: &mut View, top: usize, stack: &Stack) {
    let dir = view.add_dir(top, "filesystems");
    for (name, tree) in filesystems(stack) {
        view.add_tree(dir, &name, tree);
    }
    if !drives(stack).is_empty() {
        let dir = view.add_dir(top, "drives");
        for (letter, tree) in drives(stack) {
            view.add_tree(dir, &letter.to_string(), Arc::clone(tree));
        }
    }
}

/// The disk, its parts and its layers, as files.
fn disks(view: &mut View, top: usize, stack: &Stack) {
    view.add_disk(top, "disk.raw", Arc::clone(stack.disk()));
    for disk in &stack.others {
        view.add_disk(top, &format!("{}.raw", disk.id), Arc::clone(&disk.image.disk));
    }
    let is_disk = |id: &str| id == "disk" || stack.others.iter().any(|disk| disk.id == id);
    let (mut partitions, mut volumes) = (None, None);
    let (mut partition_names, mut volume_names) = (Names::default(), Names::default());
    for volume in stack.volumes() {
        if let Some(partition) = &volume.partition {
            let dir = *partitions.get_or_insert_with(|| view.add_dir(top, "partitions"));
            // "1.raw" of the first disk, "disk2-1.raw" of the second.
            let disk = volume.id.rsplit_once('/').map(|(disk, _)| format!("{disk}-")).unwrap_or_default();
            let stem = format!("{}{}", fit(&disk), partition.number);
            view.add_disk(dir, &partition_names.free(&stem, ".raw"), Arc::clone(&volume.source));
        } else if !is_disk(&volume.id) {
            let dir = *volumes.get_or_insert_with(|| view.add_dir(top, "volumes"));
            let name = volume_names.free(&fit(&volume.id), ".raw");
            view.add_disk(dir, &name, Arc::clone(&volume.source));
        }
    }
    let layers = view.add_dir(top, "layers");
    for (number, layer) in stack.image.layers.iter().enumerate() {
        view.add_disk(layers, &format!("{number}.raw"), Arc::clone(&layer.disk));
    }
}

/// The drives of the system that is shown, if it is a Windows.
fn drives(stack: &Stack) -> &[(char, Arc<Tree>)] {
    stack.guests.first().and_then(|guest| guest.windows()).map_or(&[], |windows| &windows.trees)
}

/// Each file system alone: `1-ext4-boot` for the one on partition 1 with the label `boot`.
fn filesystems(stack: &Stack) -> Vec<(String, Arc<Tree>)> {
    let (mut all, mut names) = (Vec::new(), Names::default());
    for (volume, fs) in stack.filesystems() {
        let name = names.free(&name(volume, &fs.facts()), "");
        // Of a btrfs the top, with every subvolume in it; should that be unreadable, what a plain mount shows.
        let tree = stack.volume_tree(volume).unwrap_or_else(|_| Tree::new(volume, Arc::clone(fs)));
        all.push((name, Arc::new(tree)));
    }
    all
}

fn name(volume: &str, facts: &FsFacts) -> String {
    let number = volume.strip_prefix('p').filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let mut name = format!("{}-{}", fit(number.unwrap_or(volume)), facts.kind);
    if !facts.label.is_empty() {
        let _ = write!(name, "-{}", fit(&facts.label.to_string()));
    }
    name
}

/// The names of one directory. Two volumes of different names may have the same one that is fit for a path: `vg/a-b` and
/// `vg-a/b`.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// `stem` and `ending`, with the first number between them that makes a name of its own.
    fn free(&mut self, stem: &str, ending: &str) -> String {
        let mut name = format!("{stem}{ending}");
        let mut number = 1_u32;
        while !self.0.insert(name.clone()) {
            number = number.saturating_add(1);
            name = format!("{stem}-{number}{ending}");
        }
        name
    }
}

/// A name that is fit for a path and for a shell.
fn fit(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '-' }).collect()
}

/// What `imgmount info --json` prints.
fn info_json(stack: &Stack) -> String {
    let size = crate::measure::qcow2_size(&**stack.disk(), false);
    crate::text::json_safe(&format!("{:#}\n", info::document(stack, &size))).into_owned()
}

/// What `imgmount check --report json` prints, of every profile.
fn check_json(stack: &Stack, image: &str) -> String {
    let profiles = profile::all().unwrap_or_default();
    let settings = Settings::default();
    let subject = Subject::new(stack, &settings, false);
    let about = Arc::new(About::of(stack, false));
    let reports: Vec<Report> = profiles
        .into_iter()
        .map(|profile| Report {
            image: image.to_owned(),
            version: None,
            asked: None,
            about: Some(Arc::clone(&about)),
            findings: Ok(profile.run(&subject, &[])),
            profile: Arc::new(profile),
            diagnosis: None,
        })
        .collect();
    crate::text::json_safe(&format!("{:#}\n", report::json::document(&reports))).into_owned()
}

/// Every counter, and those of the mount.
fn counted() -> Vec<(&'static str, u64)> {
    let mut all = COUNTERS.snapshot();
    all.extend([("fuse_requests", fuse::asked()), ("zeroed_bytes", fuse::zeroed())]);
    all
}

fn stats() -> String {
    counted().into_iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

/// The same in one line, for SIGUSR1.
pub(super) fn stats_line() -> String {
    let all: Vec<String> = counted().into_iter().map(|(name, value)| format!("{name} {value}")).collect();
    format!("imgmount: {}", all.join(", "))
}

/// What was found, in the words of the line that says "mounted": `Debian 12, 2 file systems`.
pub(super) fn describe(stack: &Stack) -> String {
    if let Some((_, facts)) = stack.facts().iter().find(|(volume, _)| Some(*volume) == stack.only.as_deref())
    {
        return facts.kind.to_owned();
    }
    let count = stack.filesystems().count();
    let systems = format!("{count} file system{}", if count == 1 { "" } else { "s" });
    match stack.guests.first() {
        Some(guest) => format!("{}, {systems}", guest_name(guest)),
        None => match stack.facts().as_slice() {
            [(_, one)] => one.kind.to_owned(),
            [] => "no file system".to_owned(),
            _ => systems,
        },
    }
}

/// `Debian 12`: the distribution's word with a capital letter, and its version; of a Windows what it calls itself.
fn guest_name(guest: &crate::guest::Guest) -> String {
    if guest.windows().is_some() {
        return guest.name();
    }
    let (distro, version) = (guest.distro().to_string(), guest.version().to_string());
    let mut letters = distro.chars();
    let Some(first) = letters.next() else { return guest.kind.to_owned() };
    let name: String = first.to_uppercase().chain(letters).collect();
    if version.is_empty() { name } else { format!("{name} {version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_whose_names_become_one_get_a_number() {
        let mut names = Names::default();
        let given = ["vg/a-b", "vg-a/b", "vg-a-b-2"].map(|id| names.free(&fit(id), ".raw"));
        assert_eq!(given, ["vg-a-b.raw", "vg-a-b-2.raw", "vg-a-b-2-2.raw"]);
    }
}
