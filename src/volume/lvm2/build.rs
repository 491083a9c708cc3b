//! Makes a source of each logical volume, segment by segment.

use super::dashed;
use super::group::{Group, Lv, Segment};
use super::snapshot;
use super::text::{Look as _, Value};
use super::thin::Pool;
use crate::block::BlockSource;
use crate::error::{At, Error, ErrorKind, Result};
use crate::num::narrow;
use crate::ondisk::{get_le32, get_le64};
use crate::text::escape;
use crate::volume::pieces::{Absent, Zeros, concat, slice};
use crate::volume::raid::{Array, Leg, MAX_LEGS, Shape, Zones, striped};
use crate::volume::{VolCx, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Source = Arc<dyn BlockSource>;

/// LVs inside each other: thin on raid on stripes has four.
const MAX_NESTING: usize = 16;
/// Images of a raid that are left out, each of which has a line of its own.
const MAX_NAMED: usize = 8;

/// Builds the LVs of one group; each once.
pub(super) struct Builder<'a> {
    group: &'a Group,
    volumes: &'a [Volume],
    /// Which of the volumes is the PV of a UUID.
    there: &'a BTreeMap<&'a str, usize>,
    cx: &'a VolCx<'a>,
    made: BTreeMap<&'a str, (Result<Source>, BTreeSet<usize>)>,
    /// LVs being built, outermost first, each with the volumes it was seen to use.
    open: Vec<(&'a str, BTreeSet<usize>)>,
    pools: BTreeMap<&'a str, Arc<Pool>>,
    /// The segment through which an LV of that name is seen.
    snapshots: BTreeMap<&'a str, &'a Segment>,
    /// Stores, each with the field that names it.
    stores: BTreeSet<(&'a str, &'a str)>,
    pub(super) warnings: Vec<String>,
}

fn bad(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("lvm2", "segment")).because(why)
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        group: &'a Group,
        volumes: &'a [Volume],
        there: &'a BTreeMap<&'a str, usize>,
        cx: &'a VolCx<'a>,
    ) -> Self {
        let (mut snapshots, mut stores) = (BTreeMap::new(), BTreeSet::new());
        let segments = group.lvs.values().flat_map(|lv| &lv.segments);
        for segment in segments.filter(|segment| segment.kind == "snapshot") {
            for field in ["cow_store", "merging_store"] {
                stores.extend(segment.fields.text(field).map(|store| (field, store)));
            }
            let is_merging = segment.fields.contains_key("merging_store");
            if let Some(seen) = segment.fields.text(if is_merging { "origin" } else { "cow_store" }) {
                snapshots.entry(seen).or_insert(segment);
            }
        }
        let (made, open, pools, warnings) = (BTreeMap::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Self { group, volumes, there, cx, made, open, pools, snapshots, stores, warnings }
    }

    /// The LV as a user sees it, and which volumes it lies on.
    pub(super) fn shown(&mut self, name: &'a str) -> (Result<Source>, BTreeSet<usize>) {
        self.open.push((name, BTreeSet::new()));
        let source = self.view(name);
        let uses = self.open.pop().map(|(_, uses)| uses).unwrap_or_default();
        (source, uses)
    }

    fn view(&mut self, name: &'a str) -> Result<Source> {
        // The user's snapshot has the name of its store; that it is one, says a hidden LV with both names. While it is being
        // merged back, it is the origin that is seen through the store.
        let Some(segment) = self.snapshots.get(name).copied() else { return self.lv(name) };
        let store = segment.named(if segment.fields.contains_key("merging_store") {
            "merging_store"
        } else {
            "cow_store"
        })?;
        let (origin, store) = (self.lv(segment.named("origin")?)?, self.lv(store)?);
        let id = format!("{}/{}", super::shown(&self.group.name), super::shown(name));
        snapshot::open(origin, store, self.len(segment.count), id, self.cx)
    }

    /// Is it the store of a snapshot, by that field? A plain one has no mark of being visible and is shown, as the snapshot;
    /// one that is being merged back is not: it is seen as its origin.
    pub(super) fn is_store(&self, name: &str, field: &str) -> bool {
        self.stores.contains(&(field, name))
    }

    /// The LV of that name as its segments make it.
    fn lv(&mut self, name: &str) -> Result<Source> {
        let known = self.group.lvs.get_key_value(name);
        let (name, lv) =
            known.ok_or_else(|| bad(format!("there is no logical volume {}", escape(name.as_bytes()))))?;
        if let Some((source, uses)) = self.made.get(name.as_str()) {
            if let Some((_, all)) = self.open.last_mut() {
                all.extend(uses);
            }
            return source.clone();
        }
        let is_open = |(open, _): &(&str, _)| *open == name.as_str();
        // The outermost is the LV that is shown, which stands there before it is built.
        if self.open.iter().skip(1).any(is_open) || self.open.len() > MAX_NESTING {
            return Err(bad(format!(
                "logical volume {} is made of itself, or nested deeper than {MAX_NESTING}",
                escape(name.as_bytes())
            )));
        }
        self.open.push((name, BTreeSet::new()));
        let source = self.segments(lv);
        let uses = self.open.pop().map(|(_, uses)| uses).unwrap_or_default();
        if let Some((_, all)) = self.open.last_mut() {
            all.extend(&uses);
        }
        self.made.insert(name, (source.clone(), uses));
        source
    }

    fn segments(&mut self, lv: &'a Lv) -> Result<Source> {
        let mut pieces = Vec::new();
        for segment in &lv.segments {
            self.cx.budget.step("lvm2 segments")?;
            pieces.push(self.segment(segment)?);
        }
        Ok(concat(pieces, self.cx.mapper))
    }

    fn len(&self, extents: u64) -> u64 {
        extents.saturating_mul(self.group.extent)
    }

    fn segment(&mut self, segment: &'a Segment) -> Result<Source> {
        let len = self.len(segment.count);
        match segment.kind.as_str() {
            "striped" | "linear" => self.striped(segment, len),
            "mirror" => self.mirror(segment),
            "error" => Ok(Absent::source(
                len,
                Error::new(ErrorKind::NotFound, "lvm2: a segment of type error: what was here is lost"),
            )),
            "zero" => Ok(Arc::new(Zeros(len))),
            kind if kind.starts_with("raid") => self.raid(segment, kind, len),
            "cache" => self.cache(segment),
            "thin" => self.thin(segment, len),
            kind => Err(Error::unsupported(format!("lvm2 segment type {}", escape(kind.as_bytes())))),
        }
    }

    /// Extents of a PV, or of another LV.
    fn area(&mut self, name: &str, extent: u64, extents: u64) -> Result<Source> {
        let (start, len) = (self.len(extent), self.len(extents));
        let Some(pv) = self.group.pvs.get(name) else {
            let lv = self.lv(name)?;
            let place = escape(name.as_bytes());
            return slice(&lv, start, len)
                .map_err(|_| bad(format!("logical volume {place} ends before extent {extent} + {extents}")));
        };
        let at = if pv.is_missing { None } else { self.there.get(pv.uuid.as_str()) };
        let missing = || {
            let (name, uuid) = (escape(name.as_bytes()), dashed(&pv.uuid));
            let why = if pv.is_missing {
                "was missing when the group was last changed, so that what it holds is out of date"
            } else {
                "is not here"
            };
            Error::new(ErrorKind::NotFound, format!("physical volume {name} (UUID {uuid}) {why}"))
                .help("give the images of all disks of the volume group together")
        };
        let at = *at.ok_or_else(missing)?;
        let volume = self.volumes.get(at).ok_or_else(missing)?;
        if let Some((_, uses)) = self.open.last_mut() {
            uses.insert(at);
        }
        let start = pv.start.saturating_add(start);
        slice(&volume.source, start, len).map_err(|_| {
            bad(format!(
                "bytes {start} to {} of {}, which ends at {}: it was cut off",
                start.saturating_add(len),
                volume.id,
                volume.source.len()
            ))
        })
    }

    fn striped(&mut self, segment: &Segment, len: u64) -> Result<Source> {
        let areas = segment.areas("stripes")?;
        let count = crate::num::wide(areas.len());
        if count == 0 || count > u64::from(MAX_LEGS) || !segment.count.is_multiple_of(count.max(1)) {
            return Err(bad(format!("{} extents in {count} stripes", segment.count)));
        }
        let each = segment.count.checked_div(count).unwrap_or(0);
        let mut legs = Vec::new();
        for (name, extent) in areas {
            legs.push(self.area(name, extent, each)?);
        }
        match <[_; 1]>::try_from(legs) {
            Ok([only]) => Ok(only),
            Err(legs) => {
                let source =
                    striped(legs, segment.bytes("stripe_size")?, Zones::Original, "lvm2", self.cx.mapper)?;
                slice(&source, 0, len).map_err(|_| bad("its stripes are no whole chunks"))
            }
        }
    }

    /// The old mirror: what its first leg holds is what the kernel copies to the others when they are in doubt.
    fn mirror(&mut self, segment: &Segment) -> Result<Source> {
        let areas = segment.areas("mirrors")?;
        let (name, extent) = areas.first().ok_or_else(|| bad("a mirror without legs"))?;
        self.area(name, *extent, segment.count)
    }

    /// A volume of a thin pool.
    fn thin(&mut self, segment: &'a Segment, len: u64) -> Result<Source> {
        let name = segment.named("thin_pool")?;
        let number =
            segment.fields.number("device_id").ok_or_else(|| bad("a thin volume without a number"))?;
        let origin = match segment.fields.text("external_origin") {
            Some(origin) => Some(self.lv(origin)?),
            None => None,
        };
        let pool = self.group.lvs.get(name).and_then(|pool| pool.segments.first());
        let pool = pool.filter(|pool| pool.kind == "thin-pool");
        let pool = pool.ok_or_else(|| bad(format!("{} is no thin pool", escape(name.as_bytes()))))?;
        // Both are built once; what a pool keeps besides are two references.
        let (meta, data) = (self.lv(pool.named("metadata")?)?, self.lv(pool.named("pool")?)?);
        let known = self.pools.get(name).cloned();
        let pool = match known {
            Some(pool) => pool,
            None => {
                let pool = Arc::new(Pool::open(meta, data, pool.bytes("chunk_size")?, self.cx.mapper)?);
                self.pools.insert(name, Arc::clone(&pool));
                pool
            }
        };
        pool.volume(number, len, origin, self.cx.mapper)
    }

    /// A cache in front of an origin that has everything.
    fn cache(&mut self, segment: &Segment) -> Result<Source> {
        let pool = segment.named("cache_pool")?;
        let of_pool = self.group.lvs.get(pool).and_then(|pool| pool.segments.first());
        let mode = segment.fields.text("cache_mode").or_else(|| of_pool?.fields.text("cache_mode"));
        match mode {
            Some("writethrough" | "passthrough") => self.lv(segment.named("origin")?),
            Some(mode) => Err(Error::unsupported(format!(
                "a cache in mode {} (its newest blocks are not in the origin)",
                escape(mode.as_bytes())
            ))),
            None => Err(Error::unsupported("a cache without a mode in the metadata")),
        }
    }

    fn raid(&mut self, segment: &Segment, kind: &str, len: u64) -> Result<Source> {
        let shape = match kind {
            "raid0" | "raid0_meta" => None,
            "raid1" => Some(Shape::Mirror),
            // dm-raid's raid4 is a raid5 with its parity on the first leg.
            "raid4" => Some(Shape::Single(4)),
            "raid5_la" => Some(Shape::Single(0)),
            "raid5_ra" => Some(Shape::Single(1)),
            "raid5" | "raid5_ls" => Some(Shape::Single(2)),
            "raid5_rs" => Some(Shape::Single(3)),
            "raid5_n" => Some(Shape::Single(5)),
            "raid6" | "raid6_zr" => Some(Shape::Double(8)),
            "raid6_nr" => Some(Shape::Double(9)),
            "raid6_nc" => Some(Shape::Double(10)),
            "raid6_la_6" => Some(Shape::Double(16)),
            "raid6_ra_6" => Some(Shape::Double(17)),
            "raid6_ls_6" => Some(Shape::Double(18)),
            "raid6_rs_6" => Some(Shape::Double(19)),
            "raid6_n_6" => Some(Shape::Double(5)),
            "raid10" | "raid10_near" => {
                let copies = segment.fields.number("data_copies").unwrap_or(2);
                let near = u8::try_from(copies).map_err(|_| bad(format!("{copies} copies")))?;
                Some(Shape::Copies(u32::from(near) | 1 << 8))
            }
            other => {
                return Err(Error::unsupported(format!("lvm2 segment type {}", escape(other.as_bytes()))));
            }
        };
        let chunk = if shape == Some(Shape::Mirror) { 0 } else { segment.bytes("stripe_size")? };
        let (legs, leg_len) = self.legs(segment, shape)?;
        let source = match shape {
            None => {
                // Whose image is left out was refused before.
                let all: Option<Vec<Source>> = legs.into_iter().collect();
                let all = all.ok_or_else(|| bad(format!("{kind}: an image is missing")))?;
                striped(all, chunk, Zones::Original, "lvm2", self.cx.mapper)?
            }
            Some(Shape::Mirror) => {
                Array { shape: Shape::Mirror, legs, leg_len: len, chunk }.open("lvm2", self.cx.mapper)?
            }
            Some(shape) => Array { shape, legs, leg_len, chunk }.open("lvm2", self.cx.mapper)?,
        };
        slice(&source, 0, len)
            .map_err(|_| bad(format!("{kind}: its images hold {} bytes, {len} are needed", source.len())))
    }

    /// The images of a raid, those that may not be read left out, and how long they are. Of a raid0, which has no `shape`,
    /// none may be left out.
    fn legs(&mut self, segment: &Segment, shape: Option<Shape>) -> Result<(Vec<Leg>, u64)> {
        let (found, leg_len) = self.images(segment)?;
        let states = found.iter().filter_map(|(_, state)| state.as_ref());
        let freshest = states.max_by_key(|state| state.events).cloned();
        if let Some(state) = &freshest {
            if state.is_reshaping {
                return Err(Error::unsupported("an array in the middle of a reshape"));
            }
            if state.features != 0 {
                return Err(Error::unsupported(format!(
                    "dm-raid metadata with incompatible features {:#x}",
                    state.features
                )));
            }
        }
        let lv = self.open.last().map_or("", |(name, _)| name);
        let own = format!("{}/{}", super::shown(&self.group.name), super::shown(lv));
        let (mut legs, mut out) = (Vec::new(), Vec::new());
        for (number, (leg, state)) in found.into_iter().enumerate() {
            let why = match (&leg, &state) {
                _ if freshest.as_ref().is_some_and(|fresh| fresh.has_failed(number)) => {
                    Some("it has failed".to_owned())
                }
                (Err(error), _) if error.kind() == ErrorKind::Unsupported => return Err(error.clone()),
                (Err(error), _) => Some(error.chain()),
                // The kernel fills one that is new to the set before it reads it.
                (Ok(_), None) if freshest.is_some() => {
                    Some("it has no superblock, as the others have".to_owned())
                }
                (Ok(_), Some(state)) if state.recovered != u64::MAX => {
                    Some("it was not yet rebuilt".to_owned())
                }
                _ => None,
            };
            match (why, leg) {
                (None, Ok(leg)) => {
                    let start = state.map_or(0, |state| state.start);
                    legs.push(Some(slice(&leg, start, leg.len().saturating_sub(start))?));
                }
                (why, leg) => {
                    let why = why.unwrap_or_default();
                    if shape.is_none() {
                        // Nothing else holds what this one does: its own error, or one that names it.
                        let named = Error::not_found(format!("image {number} of a raid0")).because(why);
                        return Err(leg.err().unwrap_or(named));
                    }
                    out.push(format!("{own}: image {number} is left out: {why}"));
                    legs.push(None);
                }
            }
        }
        let more = out.len().saturating_sub(MAX_NAMED);
        out.truncate(MAX_NAMED);
        self.warnings.append(&mut out);
        if more > 0 {
            self.warnings.push(format!("{own}: {more} images more are left out"));
        }
        let is_synced = freshest.is_some_and(|state| state.synced == u64::MAX);
        if legs.iter().any(Option::is_none) && !is_synced {
            if matches!(shape, Some(Shape::Single(_) | Shape::Double(_))) {
                return Err(Error::unsupported(
                    "a degraded raid whose parity was never worked out to its end, or that does not say so",
                )
                .help("what the missing image held cannot be told from the others; Linux does not start it either"));
            }
            self.warnings.push(format!(
                "{own}: its images were never made alike to the end: what was not written since it was made may differ in each"
            ));
        }
        Ok((legs, leg_len))
    }

    /// Each image of a raid with what its superblock says, and how long all of them are.
    fn images(&mut self, segment: &Segment) -> Result<(Vec<Image>, u64)> {
        let list = if segment.fields.contains_key("raids") { "raids" } else { "raid0_lvs" };
        let mut meta = None;
        let mut images = Vec::new();
        for value in segment.fields.list(list) {
            let Value::Text(name) = value else { return Err(bad("an image without a name")) };
            // Each image stands behind its own metadata, where it has such.
            if name.contains("_rmeta_") {
                meta = Some(name.as_str());
            } else {
                images.push((meta.take(), name.as_str()));
            }
        }
        let mut found = Vec::new();
        let mut leg_len = u64::MAX;
        for (meta, image) in images.iter().take(narrow(u64::from(MAX_LEGS).saturating_add(1))) {
            self.cx.budget.step("lvm2 raid images")?;
            let state = meta.and_then(|meta| self.lv(meta).ok()).and_then(|meta| State::load(&*meta));
            let extents = self.group.lvs.get(*image).map_or(0, Lv::extents);
            let start = state.as_ref().map_or(0, |state| state.start);
            leg_len = leg_len.min(self.len(extents).saturating_sub(start));
            found.push((self.lv(image), state));
        }
        Ok((found, leg_len))
    }
}

/// An image of a raid, and what its superblock says, if it has one.
type Image = (Result<Source>, Option<State>);

/// What dm-raid's superblock says of an image (`struct dm_raid_superblock`, `drivers/md/dm-raid.c`).
#[derive(Clone, Debug)]
struct State {
    events: u64,
    /// A bit for each image that has failed.
    failed: [u64; 4],
    /// Sectors of this image that were rebuilt; all ones when that is done.
    recovered: u64,
    /// Sectors on which the images were made to fit each other; all ones when that is done.
    synced: u64,
    is_reshaping: bool,
    /// Incompatible features; Linux 6.18 knows none.
    features: u32,
    /// First byte of the data in the image.
    start: u64,
}

impl State {
    fn load(meta: &dyn BlockSource) -> Option<Self> {
        let mut bytes = [0; 512];
        meta.read_at(&mut bytes, 0).ok()?;
        if !bytes.starts_with(b"DmRd") {
            return None;
        }
        // The fields behind byte 60 are there since target version 1.9.0, which sets this bit.
        let is_new = get_le32(&bytes, 4)? & 1 != 0;
        let later = |at: usize| if is_new { get_le64(&bytes, at) } else { Some(0) };
        Some(Self {
            events: get_le64(&bytes, 16)?,
            failed: [get_le64(&bytes, 24)?, later(120)?, later(128)?, later(136)?],
            recovered: get_le64(&bytes, 32)?,
            synced: get_le64(&bytes, 40)?,
            is_reshaping: is_new && get_le32(&bytes, 60)? & 1 != 0,
            features: if is_new { get_le32(&bytes, 144)? } else { 0 },
            start: later(96)?.saturating_mul(512),
        })
    }

    fn has_failed(&self, image: usize) -> bool {
        let word = self.failed.get(image.div_euclid(64)).copied().unwrap_or(0);
        word.to_le_bytes()
            .get(image.rem_euclid(64).div_euclid(8))
            .is_some_and(|byte| byte & 1_u8.rotate_left(u32::try_from(image.rem_euclid(8)).unwrap_or(0)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Bytes;

    /// `failed_devices` and, behind the fields of target version 1.9.0, `extended_failed_devices`.
    #[test]
    fn images_behind_the_64th_fail_too() {
        let mut sb = vec![0; 512];
        for (at, byte) in [(0, b'D'), (1, b'm'), (2, b'R'), (3, b'd'), (24, 2), (128, 4)] {
            sb[at] = byte;
        }
        let failed = |sb: &[u8]| {
            let state = State::load(&Bytes(sb.to_vec())).unwrap();
            (0..300).filter(|image| state.has_failed(*image)).collect::<Vec<_>>()
        };
        assert_eq!(failed(&sb), [1]);
        sb[4] = 1;
        assert_eq!(failed(&sb), [1, 130]);
    }
}
