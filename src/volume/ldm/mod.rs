//! Dynamic disks of Windows (LDM, the Logical Disk Manager): disks in groups, each with a copy of the group's database of
//! volumes. Simple, spanned, striped, mirrored and RAID-5 volumes, and those of Veritas that combine them.
//!
//! ```text
//! partitions of type LDM ─▶ their disk's header ─▶ its database ─▶ by group ─▶ the newest one's volumes
//!                           header.rs              database.rs, record.rs       build.rs
//! ```
//! A volume is called `ldm/Volume1`; of a second group, `ldm~2/Volume1`. One that needs a disk that is not here is a volume
//! whose every read says which; a mirror, and a RAID-5 that lacks one disk, are read from the others.
//!
//! What is claimed are the partitions that stand for the dynamic part in the disk's table; others beside them, such as the
//! EFI system partition, are what they are. Storage Spaces, which came after this, are something else.

use super::{Assembly, Makes, Manager, VolCx, Volume};
use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, Result};
use crate::ondisk::uuid;
use build::Builder;
use database::Database;
use header::{Header, Stretch};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

mod build;
mod database;
mod header;
mod record;

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "ldm", nests: true, claims, seeks: Some(seeks), makes: Makes::OfMany(assemble) };

/// Types of a partition: in an MBR, all of the dynamic part; in a GPT, what it holds and the database.
const MBR: &str = "0x42";
const DATA: &str = "af9b60a0-1431-4f62-bc68-3311714a69ad";
const METADATA: &str = "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3";

/// Volumes made at once; the search shows no more than that.
const MAX_SHOWN: usize = 1024;
/// Disks that are missing, each of which has a line of its own.
const MAX_NAMED: usize = 8;

/// What the database says of a volume, beside where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dynamic {
    /// Its GUID, in the order in which the database has the bytes.
    pub guid: [u8; 16],
    /// `simple`, `spanned`, `striped`, `mirrored`, `raid5`.
    pub kind: &'static str,
    /// The drive letter that it had last, `D:`; empty if it had none.
    pub hint: String,
    /// The disk group's name.
    pub group: String,
}

impl Dynamic {
    /// The GUID in its usual spelling.
    #[must_use]
    pub fn guid_text(&self) -> String {
        uuid(&self.guid)
    }
}

/// For people: `mirrored, D:`.
impl fmt::Display for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, ", {}", self.hint) }
    }
}

/// There is nothing to go by but the type of a partition.
const fn claims(_probe: &Probe<'_>) -> bool {
    false
}

fn type_code(volume: &Volume) -> &str {
    volume.partition.as_ref().map_or("", |part| &part.type_code)
}

/// A GPT's types say it all. That of an MBR was others' too: there a header must be found, whole or not.
fn seeks(volume: &Volume, _cx: &VolCx<'_>) -> Result<bool> {
    match (type_code(volume), &volume.cut_from) {
        (DATA | METADATA, _) => Ok(true),
        (MBR, Some(disk)) => Ok(!matches!(Header::find(&**disk, None), Ok(None))),
        _ => Ok(false),
    }
}

/// A dynamic disk that is there.
#[derive(Debug)]
struct Member {
    source: Arc<dyn BlockSource>,
    header: Header,
    database: Database,
    /// Which of the volumes given are its partitions.
    parts: Vec<usize>,
}

impl Member {
    fn load(
        source: &Arc<dyn BlockSource>,
        parts: Vec<usize>,
        volumes: &[Volume],
        cx: &VolCx<'_>,
    ) -> Result<Self> {
        let of_type = |code: &str| {
            let mut found = parts.iter().filter_map(|at| volumes.get(*at));
            found.find(|volume| type_code(volume) == code)
        };
        let metadata = of_type(METADATA).and_then(|volume| volume.partition.as_ref());
        let metadata = metadata.map(|part| Stretch { start: part.start, len: part.size });
        let none = || {
            let what =
                if metadata.is_some() { "the partition for metadata has none" } else { "there is none" };
            Error::corrupt(At::new("ldm", "header")).because(what)
        };
        let header = Header::find(&**source, metadata)?.ok_or_else(none)?;
        let database = Database::load(&**source, &header, cx.budget)?;
        Ok(Self { source: Arc::clone(source), header, database, parts })
    }

    /// The partition that holds a byte of the disk, or its first.
    fn part_at(&self, byte: u64, volumes: &[Volume]) -> Option<usize> {
        let holds = |at: &&usize| {
            let part = volumes.get(**at).and_then(|volume| volume.partition.as_ref());
            part.is_some_and(|part| byte.checked_sub(part.start).is_some_and(|inside| inside < part.size))
        };
        self.parts.iter().find(holds).or_else(|| self.parts.first()).copied()
    }
}

/// A group of disks, none of them there twice.
type Group = BTreeMap<String, Member>;

/// The disk whose database counts: the newest; of two, the one that is whole.
fn newest(group: &Group) -> Option<&Member> {
    group.values().max_by_key(|member| (member.database.change, Reverse(member.database.faults.len())))
}

/// Are all disks here that this one knows of?
fn is_complete(group: &Group, member: &Member) -> bool {
    member.database.disks.values().all(|disk| group.contains_key(&disk.guid))
}

fn assemble(volumes: &[Volume], cx: &VolCx<'_>, may_wait: bool) -> Result<Assembly> {
    let mut made = Assembly::default();
    let (groups, lost) = gather(volumes, cx, &mut made.warnings);
    if may_wait
        && groups.iter().any(|(_, group)| newest(group).is_some_and(|member| !is_complete(group, member)))
    {
        return Ok(Assembly::default());
    }
    // A partition of a disk that cannot be read is no file system either, whatever it looks like.
    made.taken.extend(lost);
    let mut copies: BTreeMap<String, u32> = BTreeMap::new();
    for (number, (guid, group)) in (1_u32..).zip(&groups) {
        let copy = copies.entry(guid.clone()).or_default();
        *copy = copy.saturating_add(1);
        // The newest database counts; of two, the one that is whole.
        let rank = |member: &&Member| (member.database.change, Reverse(member.database.faults.len()));
        let Some(newest) = group.values().max_by_key(rank) else { continue };
        let database = &newest.database;
        let missing: Vec<_> =
            database.disks.values().filter(|disk| !group.contains_key(&disk.guid)).collect();
        if may_wait && !missing.is_empty() {
            continue;
        }
        let prefix = if number == 1 { "ldm".to_owned() } else { format!("ldm~{number}") };
        let name = &database.group_name;
        if number > 1 {
            made.warnings.push(format!(
                "a further disk group, {name} (GUID {guid}): its volumes are shown as {prefix}/"
            ));
        }
        for fault in &database.faults {
            made.warnings.push(format!("disk group {name}: {fault}"));
        }
        for disk in missing.iter().take(MAX_NAMED) {
            made.warnings
                .push(format!("disk group {name}: disk {} (GUID {}) is missing", disk.name, disk.guid));
        }
        if let Some(more) = missing.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            made.warnings.push(format!("disk group {name}: {more} disks more are missing"));
        }
        show(group, database, &prefix, *copy > 1, volumes, cx, &mut made);
        made.taken.extend(group.values().flat_map(|member| &member.parts));
    }
    Ok(made)
}

/// The groups of disks, and the partitions of disks that are of none. The n-th copy of a disk goes with the n-th copies of
/// the others: a clone of a machine's disks is a group of its own.
fn gather(
    volumes: &[Volume],
    cx: &VolCx<'_>,
    warnings: &mut Vec<String>,
) -> (Vec<(String, Group)>, Vec<usize>) {
    let mut disks: Vec<(Arc<dyn BlockSource>, Vec<usize>)> = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        let Some(disk) = &volume.cut_from else { continue };
        match disks.iter_mut().find(|(known, _)| Arc::ptr_eq(known, disk)) {
            Some((_, parts)) => parts.push(at),
            None => disks.push((Arc::clone(disk), vec![at])),
        }
    }
    let (mut groups, mut lost): (Vec<(String, Group)>, Vec<usize>) = (Vec::new(), Vec::new());
    for (disk, parts) in disks {
        let name = parts.first().and_then(|at| volumes.get(*at)).map_or("", |volume| &volume.id);
        let member = match Member::load(&disk, parts.clone(), volumes, cx) {
            Ok(member) => member,
            Err(error) => {
                warnings.push(format!("{name}: a partition of a dynamic disk: {}", error.chain()));
                lost.extend(parts);
                continue;
            }
        };
        let (guid, own) = (member.header.group.clone(), member.header.disk.clone());
        let has_room = |(known, group): &&mut (String, Group)| *known == guid && !group.contains_key(&own);
        let is_copy = groups.iter().any(|(known, group)| *known == guid && group.contains_key(&own));
        if is_copy {
            warnings
                .push(format!("{name}: dynamic disk {own} is there more than once; each copy is kept apart"));
        }
        match groups.iter_mut().find(has_room) {
            Some((_, group)) => {
                group.insert(own, member);
            }
            None => groups.push((guid, Group::from([(own, member)]))),
        }
    }
    (groups, lost)
}

/// Makes a volume of each that the database has.
fn show(
    group: &Group,
    database: &Database,
    prefix: &str,
    is_copy: bool,
    volumes: &[Volume],
    cx: &VolCx<'_>,
    made: &mut Assembly,
) {
    let builder = Builder::new(database, group, cx);
    for volume in database.volumes.values() {
        if made.volumes.len() >= MAX_SHOWN {
            made.warnings.push(format!("{prefix}: more than {MAX_SHOWN} volumes; the rest is not shown"));
            break;
        }
        let id = format!("{prefix}/{}", volume.name);
        let built = builder.volume(volume);
        made.warnings.extend(built.warnings.iter().map(|line| format!("{id}: {line}")));
        // Whoever looks into one that cannot be read is told why.
        let source = built
            .source
            .unwrap_or_else(|error| super::pieces::Absent::source(volume.size.saturating_mul(512), error));
        let mut uses: BTreeSet<usize> = BTreeSet::new();
        for (disk, start) in &built.uses {
            uses.extend(group.get(disk).and_then(|member| member.part_at(*start, volumes)));
        }
        if uses.is_empty() {
            // One that cannot be read still belongs to its group.
            uses.extend(group.values().filter_map(|member| member.parts.first()));
        }
        let of: Vec<&Volume> = uses.iter().filter_map(|at| volumes.get(*at)).collect();
        let dynamic = Dynamic {
            guid: volume.guid,
            kind: built.kind,
            hint: volume.hint.clone(),
            group: database.group_name.clone(),
        };
        let names = names(&dynamic, &volume.name, is_copy);
        made.volumes.push(Volume { dynamic: Some(dynamic), ..Volume::of(&of, id, source, names) });
    }
}

/// What udev calls a volume that `ldmtool` made.
fn names(volume: &Dynamic, name: &str, is_copy: bool) -> Vec<String> {
    let mapped = mangled(&format!("ldm_vol_{}_{name}", volume.group));
    let by_guid = format!("/dev/disk/by-id/dm-uuid-LDM-{}-{}", mangled(name), volume.guid_text());
    // Of two groups that are alike, nobody knows which would have it.
    if is_copy {
        return Vec::new();
    }
    vec![format!("/dev/mapper/{mapped}"), format!("/dev/disk/by-id/dm-name-{mapped}"), by_guid]
}

/// A name as libdevmapper writes it: what may not stand in one becomes a number.
fn mangled(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}
