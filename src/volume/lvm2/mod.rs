//! LVM2: volume groups of physical volumes (PV), cut into logical volumes (LV), from the text metadata on the PVs.
//!
//! ```text
//! PV ── label ──▶ text ──▶ group ──▶ segments ──▶ the LV's source
//!       label.rs  text.rs  group.rs  build.rs     (thin.rs, snapshot.rs: what keeps tables of its own)
//! ```
//! Of several copies of a group's metadata the one with the highest `seqno` counts. Shown is what `lvs` lists without
//! `-a` and the kernel would activate, but for pools. An LV that needs a PV that is not there is a volume whose every read
//! says which PV that is; the others are whole. Nothing is locked, written or activated.

use super::{Assembly, Makes, Manager, VolCx, Volume};
use crate::block::Probe;
use crate::error::Result;
use crate::text::escape;
use build::Builder;
use group::{Group, Lv};
use label::Label;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

mod build;
mod group;
mod label;
mod snapshot;
mod text;
mod thin;

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "lvm2", nests: true, claims, seeks: None, makes: Makes::OfMany(assemble) };

/// Types of segments whose LVs hold no data of the user's own.
const POOLS: &[&str] = &["thin-pool", "cache-pool", "vdo-pool", "snapshot"];

/// Logical volumes made at once; the search shows no more volumes than that.
const MAX_SHOWN: usize = 1024;

/// A disk with partitions is none: lvm2 leaves a label alone that a partitioned disk has kept from an earlier life.
fn claims(probe: &Probe<'_>) -> bool {
    label::is_there(probe) && !super::mbr::has_partitions(probe)
}

/// A PV that is there.
struct Member {
    /// Which of the volumes given.
    at: usize,
    label: Label,
    /// The groups that its texts describe.
    groups: Vec<Arc<Group>>,
}

fn assemble(volumes: &[Volume], cx: &VolCx<'_>, may_wait: bool) -> Result<Assembly> {
    let mut made = Assembly::default();
    // The n-th copy of a PV goes with the n-th copies of the others: a clone of a machine's disks is a group of its own.
    let mut layers: Vec<BTreeMap<String, Member>> = Vec::new();
    let mut texts = Texts::default();
    for (at, volume) in volumes.iter().enumerate() {
        let member = match Member::load(at, volume, cx, &mut texts, &mut made.warnings) {
            Ok(member) => member,
            Err(error) => {
                made.warnings.push(format!("{}: {}", volume.id, error.chain()));
                continue;
            }
        };
        let layer = layers.iter().position(|layer| !layer.contains_key(&member.label.uuid));
        let layer = layer.unwrap_or_else(|| {
            layers.push(BTreeMap::new());
            layers.len().saturating_sub(1)
        });
        if layer > 0 {
            let uuid = dashed(&member.label.uuid);
            made.warnings.push(format!(
                "{}: physical volume {uuid} is there more than once; each copy is kept apart",
                volume.id
            ));
        }
        if let Some(layer) = layers.get_mut(layer) {
            layer.insert(member.label.uuid.clone(), member);
        }
    }
    let mut names = HashSet::new();
    for members in &layers {
        for group in newest(members) {
            let there = |pv: &&group::Pv| !pv.is_missing && members.contains_key(&pv.uuid);
            if may_wait && !group.pvs.values().all(|pv| there(&pv)) {
                continue;
            }
            let taken = group.pvs.values().filter(there).filter_map(|pv| members.get(&pv.uuid));
            let taken: Vec<usize> = taken.map(|member| member.at).collect();
            let mut name = shown(&group.name);
            let mut number = 1_u32;
            while !names.insert(name.clone()) {
                number = number.saturating_add(1);
                name = format!("{}~{number}", shown(&group.name));
            }
            if number > 1 {
                made.warnings.push(format!(
                    "volume group {} (UUID {}) is there more than once; this one is shown as {name}",
                    shown(&group.name),
                    dashed(&group.uuid)
                ));
            }
            let before = made.volumes.len();
            show(group, &name, number > 1, members, volumes, cx, &mut made);
            if made.volumes.len() > before {
                made.taken.extend(taken);
            }
        }
    }
    Ok(made)
}

impl Member {
    fn load(
        at: usize,
        volume: &Volume,
        cx: &VolCx<'_>,
        known: &mut Texts,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let label = Label::load(&*volume.source)?;
        let (texts, errors) = label.texts(&*volume.source, cx.budget);
        let mut groups = Vec::new();
        let mut failed = errors;
        for text in texts {
            let len = text.len();
            match known.group(&text, cx) {
                Ok(group) => groups.push(group),
                Err(error) => failed.push(error),
            }
            cx.budget.release(len);
        }
        // A second copy on the same PV, or on another one, does as well.
        warnings.extend(failed.iter().map(|error| format!("{}: {}", volume.id, error.chain())));
        Ok(Self { at, label, groups })
    }
}

/// Texts that were read: all members of a group have the same one, which is kept once.
#[derive(Default)]
struct Texts {
    groups: HashMap<(usize, [u64; 2]), Arc<Group>>,
    values: u32,
}

impl Texts {
    fn group(&mut self, text: &[u8], cx: &VolCx<'_>) -> Result<Arc<Group>> {
        // Two numbers of 64 bits that nobody can foresee stand for the text.
        let key = (text.len(), [1_u8, 2].map(|salt| self.groups.hasher().hash_one((salt, text))));
        if let Some(group) = self.groups.get(&key) {
            return Ok(Arc::clone(group));
        }
        let section = text::parse(text, &mut self.values, cx.budget)?;
        let group = Arc::new(Group::parse(&section)?);
        self.groups.insert(key, Arc::clone(&group));
        Ok(group)
    }
}

/// The newest metadata of every group that the members know of.
fn newest(members: &BTreeMap<String, Member>) -> Vec<&Group> {
    let mut best: BTreeMap<&str, &Group> = BTreeMap::new();
    for group in members.values().flat_map(|member| &member.groups).map(Arc::as_ref) {
        let known = best.entry(&group.uuid).or_insert(group);
        if known.seqno < group.seqno {
            *known = group;
        }
    }
    best.into_values().collect()
}

/// Makes a volume of each LV that is shown.
fn show(
    group: &Group,
    name: &str,
    is_copy: bool,
    members: &BTreeMap<String, Member>,
    volumes: &[Volume],
    cx: &VolCx<'_>,
    made: &mut Assembly,
) {
    if group.is_exported {
        made.warnings
            .push(format!("volume group {name} is exported: no machine would use it before 'vgimport'"));
    }
    let there: BTreeMap<&str, usize> =
        members.iter().map(|(uuid, member)| (uuid.as_str(), member.at)).collect();
    let mut builder = Builder::new(group, volumes, &there, cx);
    for (lv_name, lv) in &group.lvs {
        let is_shown = lv.is_visible || builder.is_store(lv_name, "cow_store");
        if !is_shown || POOLS.contains(&lv.kind()) || builder.is_store(lv_name, "merging_store") {
            continue;
        }
        if made.volumes.len() >= MAX_SHOWN {
            made.warnings
                .push(format!("{name}: more than {MAX_SHOWN} logical volumes; the rest is not shown"));
            break;
        }
        let id = format!("{name}/{}", shown(lv_name));
        let (source, uses) = builder.shown(lv_name);
        let source = source.unwrap_or_else(|error| {
            made.warnings.push(format!("{id}: {}", error.chain()));
            super::pieces::Absent::source(lv.extents().saturating_mul(group.extent), error.context(&id))
        });
        // One that cannot be read still belongs to its group.
        let uses: BTreeSet<usize> = if uses.is_empty() { there.values().copied().collect() } else { uses };
        let of: Vec<&Volume> = uses.iter().filter_map(|at| volumes.get(*at)).collect();
        made.volumes.push(Volume::of(&of, id, source, names(group, lv_name, lv, is_copy)));
    }
    made.warnings.extend(builder.warnings);
}

/// What udev calls an LV.
fn names(group: &Group, name: &str, lv: &Lv, is_copy: bool) -> Vec<String> {
    let mut names = vec![format!("/dev/disk/by-id/dm-uuid-LVM-{}{}", group.uuid, lv.uuid)];
    // Of two groups with one name, nobody knows which would have it.
    if !is_copy {
        let mapped = format!("{}-{}", group.name.replace('-', "--"), name.replace('-', "--"));
        names.push(format!("/dev/{}/{name}", group.name));
        names.push(format!("/dev/mapper/{mapped}"));
        names.push(format!("/dev/disk/by-id/dm-name-{mapped}"));
    }
    names
}

fn shown(name: &str) -> String {
    escape(name.as_bytes()).to_string()
}

/// A UUID with the dashes that lvm2 shows it with: 6-4-4-4-4-4-6.
fn dashed(uuid: &str) -> String {
    let mut out = String::new();
    for (at, c) in uuid.chars().enumerate() {
        if matches!(at, 6 | 10 | 14 | 18 | 22 | 26) {
            out.push('-');
        }
        out.push(c);
    }
    shown(&out)
}
