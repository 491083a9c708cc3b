//! What lies where on a disk: partitions, gaps between them, and what was made of the partitions. The ground for the
//! picture in a page, and for whoever wants to draw one of the JSON.

use crate::fs::Content;
use crate::stack::Stack;
use crate::text::{Text, escape};
use crate::volume::{Discovery, Volume};

/// Parts of one disk that are kept; a table of more is damaged or a joke.
const MAX_PARTS: usize = 256;

/// A disk.
#[derive(Clone, Debug)]
pub struct Layout {
    /// `disk`, `disk2`.
    pub id: String,
    /// What it is called in its archive.
    pub name: Option<String>,
    /// Bytes.
    pub size: u64,
    /// The kind of its partition table.
    pub table: &'static str,
    /// What the code in its first sector calls itself.
    pub boot_code: &'static str,
    /// Its partitions by their start; a disk without a table is one part.
    pub parts: Vec<Part>,
    /// What is made of them, by depth.
    pub made: Vec<Part>,
}

/// A partition or a volume.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Its name: `p1`.
    pub id: String,
    /// The first byte on the disk; nothing for what is made of others.
    pub start: Option<u64>,
    /// Bytes.
    pub size: u64,
    /// What the partition table calls it.
    pub kind: String,
    /// Marked as the one to start from.
    pub bootable: bool,
    /// What it is made of.
    pub made_of: Vec<String>,
    /// What is made of it: the manager's name.
    pub member_of: Option<&'static str>,
    /// The file system or the signature that was found; nothing for what nobody knows.
    pub holds: Option<String>,
    /// Why it could not be read.
    pub unread: bool,
    /// Its label.
    pub label: String,
    /// Free bytes of the file system, where they are known.
    pub free: Option<u64>,
    /// `clean`, `dirty`, `errors`; nothing where there is no file system that we read.
    pub state: Option<&'static str>,
    /// Where the system mounts it.
    pub mounts: Vec<String>,
}

impl Part {
    /// How much of it is in use, in thousandths.
    #[must_use]
    pub fn used_permille(&self) -> Option<u64> {
        let used = self.size.saturating_sub(self.free?);
        u64::try_from(u128::from(used).saturating_mul(1000).checked_div(u128::from(self.size))?).ok()
    }
}

/// Every disk, and what is made of several.
pub(super) fn of(stack: &Stack, counts: bool) -> (Vec<Layout>, Vec<Part>) {
    let first = disk(stack, &stack.discovery, "disk", None, stack.disk().len(), counts);
    let others = stack.others.iter().map(|other| {
        let name = other.image.member.clone();
        disk(stack, &other.discovery, &other.id, name, other.image.disk.len(), counts)
    });
    let disks = std::iter::once(first).chain(others).collect();
    (disks, stack.joined.iter().take(MAX_PARTS).map(|volume| part(stack, volume, counts)).collect())
}

fn disk(stack: &Stack, found: &Discovery, id: &str, name: Option<String>, size: u64, counts: bool) -> Layout {
    let (mut parts, mut made) = (Vec::new(), Vec::new());
    for volume in found.volumes.iter().take(MAX_PARTS) {
        let one = part(stack, volume, counts);
        if volume.made_of.is_empty() { parts.push(one) } else { made.push(one) }
    }
    parts.sort_by_key(|part| part.start);
    Layout {
        id: id.to_owned(),
        name,
        size,
        table: found.table.kind.name(),
        boot_code: found.table.boot_code,
        parts,
        made,
    }
}

fn part(stack: &Stack, volume: &Volume, counts: bool) -> Part {
    let table = volume.partition.as_ref().filter(|_| volume.made_of.is_empty());
    let mut part = Part {
        id: volume.id.clone(),
        start: table.map(|table| table.start).or_else(|| volume.is_disk().then_some(0)),
        size: volume.source.len(),
        kind: volume.partition.as_ref().map_or_else(String::new, |table| {
            if table.type_name.is_empty() { table.type_code.clone() } else { table.type_name.to_owned() }
        }),
        bootable: table.is_some_and(|table| table.bootable),
        made_of: volume.made_of.clone(),
        member_of: volume.claimed_by,
        ..Part::default()
    };
    for guest in &stack.guests {
        let places = guest.tree.mounts().iter().filter(|mount| mount.volume == volume.id);
        part.mounts.extend(places.map(|mount| escape(&mount.path).to_string()));
    }
    part.mounts.dedup();
    let content = stack.contents.iter().find(|content| content.volume == volume.id);
    match content.map(|content| &content.content) {
        Some(Ok(Content::Files(fs))) => {
            let facts = fs.facts();
            part.holds = Some(facts.kind.to_owned());
            part.label = shown(&facts.label);
            part.free = facts.free.or_else(|| if counts { fs.free() } else { None });
            part.state = Some(facts.state.name());
        }
        Some(Ok(Content::Known(kind))) => part.holds = Some((*kind).to_owned()),
        Some(Err(_)) => part.unread = true,
        Some(Ok(Content::Member(_) | Content::Unknown)) | None => {}
    }
    part
}

fn shown(text: &Text) -> String {
    text.to_string()
}
