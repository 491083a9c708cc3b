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
        let (made, open, pools, warnings) = (BTreeMap::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Self { group, volumes, there, cx, made, open, pools, warnings }
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
        let names = |segment: &Segment, field: &str| segment.fields.text(field) == Some(name);
        let is_ours = |segment: &&Segment| {
            let is_merging = segment.fields.contains_key("merging_store");
            segment.kind == "snapshot" && names(segment, if is_merging { "origin" } else { "cow_store" })
        };
        let found = self.group.lvs.values().flat_map(|lv| &lv.segments).find(is_ours);
        let Some(segment) = found else { return self.lv(name) };
        let store = segment.named(if segment.fields.contains_key("merging_store") {
            "merging_store"
        } else {
            "cow_store"
        })?;
        let (origin, store) = (self.lv(segment.named("origin")?)?, self.lv(store)?);
        snapshot::open(origin, store, self.len(segment.count), self.cx.mapper)
    }

    /// Is it the store of a snapshot, by that field? A plain one has no mark of being visible and is shown, as the snapshot;
    /// one that is being merged back is not: it is seen as its origin.
    pub(super) fn is_store(&self, name: &str, field: &str) -> bool {
        let mut segments = self.group.lvs.values().flat_map(|lv| &lv.segments);
        segments.any(|segment| segment.kind == "snapshot" && segment.fields.text(field) == Some(name))
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
        let (legs, leg_len) = self.legs(segment, shape.is_none())?;
        let source = match shape {
            None => {
                let legs = legs.into_iter().flatten().collect();
                striped(legs, chunk, Zones::Original, "lvm2", self.cx.mapper)?
            }
            Some(Shape::Mirror) => {
                Array { shape: Shape::Mirror, legs, leg_len: len, chunk }.open("lvm2", self.cx.mapper)?
            }
            Some(shape) => Array { shape, legs, leg_len, chunk }.open("lvm2", self.cx.mapper)?,
        };
        slice(&source, 0, len)
            .map_err(|_| bad(format!("{kind}: its images hold {} bytes, {len} are needed", source.len())))
    }

    /// The images of a raid, those that may not be read left out, and how long they are.
    fn legs(&mut self, segment: &Segment, needs_all: bool) -> Result<(Vec<Leg>, u64)> {
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
            let state = meta.and_then(|meta| self.lv(meta).ok()).and_then(|meta| State::load(&*meta));
            let extents = self.group.lvs.get(*image).map_or(0, Lv::extents);
            leg_len =
                leg_len.min(self.len(extents).saturating_sub(state.as_ref().map_or(0, |state| state.start)));
            let leg = match self.lv(image) {
                Ok(leg) => Ok(leg),
                Err(error) if needs_all || error.kind() == ErrorKind::Unsupported => return Err(error),
                Err(error) => Err(error),
            };
            found.push((leg, state));
        }
        let freshest = found.iter().filter_map(|(_, state)| state.as_ref()).max_by_key(|state| state.events);
        let (failed, is_reshaping) = freshest.map_or((0, false), |state| (state.failed, state.is_reshaping));
        if is_reshaping {
            return Err(Error::unsupported("an array in the middle of a reshape"));
        }
        let mut legs = Vec::new();
        for (number, (leg, state)) in found.into_iter().enumerate() {
            let has_failed = u32::try_from(number)
                .ok()
                .and_then(|at| failed.checked_shr(at))
                .is_some_and(|bits| bits & 1 != 0);
            let is_whole = state.as_ref().is_none_or(|state| state.recovered == u64::MAX);
            let lv = self.open.last().map_or("", |(name, _)| name);
            let out = |why: &str| {
                format!(
                    "{}/{}: image {number} is left out: {why}",
                    super::shown(&self.group.name),
                    super::shown(lv)
                )
            };
            legs.push(match leg {
                _ if has_failed => {
                    self.warnings.push(out("it has failed"));
                    None
                }
                _ if !is_whole => {
                    self.warnings.push(out("it was not yet rebuilt"));
                    None
                }
                Ok(leg) => {
                    let start = state.map_or(0, |state| state.start);
                    Some(slice(&leg, start, leg.len().saturating_sub(start))?)
                }
                Err(error) => {
                    self.warnings.push(out(&error.chain()));
                    None
                }
            });
        }
        Ok((legs, leg_len))
    }
}

/// What dm-raid's superblock says of an image (`struct dm_raid_superblock`, `drivers/md/dm-raid.c`).
struct State {
    events: u64,
    /// A bit for each image that has failed.
    failed: u64,
    /// Sectors that were rebuilt; all ones when that is done.
    recovered: u64,
    is_reshaping: bool,
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
        Some(Self {
            events: get_le64(&bytes, 16)?,
            failed: get_le64(&bytes, 24)?,
            recovered: get_le64(&bytes, 32)?,
            is_reshaping: is_new && get_le32(&bytes, 60)? & 1 != 0,
            start: if is_new { get_le64(&bytes, 96)?.saturating_mul(512) } else { 0 },
        })
    }
}
