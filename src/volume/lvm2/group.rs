//! A volume group as its metadata text describes it: physical volumes, logical volumes, and the segments of these.

use super::text::{Look, Section, Value};
use crate::error::{At, Error, Result};
use crate::text::escape;
use std::collections::BTreeMap;

/// Sectors of 512 bytes in an extent, at most: 16 GiB, far above lvm2's 4 MiB default; a sum of bytes stays below 2^64.
const MAX_EXTENT: u64 = 32 << 20;
/// Extents are counted in 32 bits (`struct logical_volume`, `le_count`).
const MAX_EXTENTS: u64 = 1 << 32;

/// A volume group.
#[derive(Debug)]
pub(super) struct Group {
    /// 32 characters, without dashes.
    pub(super) uuid: String,
    pub(super) name: String,
    /// Which version of the metadata this is.
    pub(super) seqno: u64,
    /// Bytes in an extent.
    pub(super) extent: u64,
    pub(super) is_exported: bool,
    pub(super) pvs: BTreeMap<String, Pv>,
    pub(super) lvs: BTreeMap<String, Lv>,
}

/// A physical volume that the group has, here or not.
#[derive(Debug)]
pub(super) struct Pv {
    pub(super) uuid: String,
    /// First byte of its first extent.
    pub(super) start: u64,
    /// It was not there when the group was last changed.
    pub(super) is_missing: bool,
}

/// A logical volume.
#[derive(Debug)]
pub(super) struct Lv {
    pub(super) uuid: String,
    pub(super) is_visible: bool,
    pub(super) segments: Vec<Segment>,
}

/// Extents of a logical volume that are made in one way.
#[derive(Debug)]
pub(super) struct Segment {
    /// The first extent, and how many.
    pub(super) start: u64,
    pub(super) count: u64,
    /// `striped`, `thin`, `raid5_ls`, ...
    pub(super) kind: String,
    pub(super) fields: Section,
}

fn bad(why: impl Into<String>) -> Error {
    Error::corrupt(At::new("lvm2", "metadata text")).because(why)
}

fn uuid(section: &Section) -> String {
    section.text("id").unwrap_or_default().chars().filter(|c| *c != '-').collect()
}

impl Group {
    /// Takes the group out of a text.
    ///
    /// # Errors
    /// `Corrupt` when it lacks what a group has, or its numbers make no sense.
    pub(super) fn parse(text: &Section) -> Result<Self> {
        let (name, group) = text.sections().next().ok_or_else(|| bad("no volume group in it"))?;
        let number = |name: &str| group.number(name).ok_or_else(|| bad(format!("the group has no {name}")));
        let sectors = number("extent_size")?;
        if sectors == 0 || sectors > MAX_EXTENT {
            return Err(bad(format!("extents of {sectors} sectors")));
        }
        let none = Section::new();
        let pvs = group.section("physical_volumes").unwrap_or(&none);
        let pv = |(name, pv): (&String, &Section)| {
            let start = pv.number("pe_start").unwrap_or(0).saturating_mul(512);
            (name.clone(), Pv { uuid: uuid(pv), start, is_missing: pv.has("flags", "MISSING") })
        };
        let mut lvs = BTreeMap::new();
        for (name, lv) in group.section("logical_volumes").unwrap_or(&none).sections() {
            lvs.insert(name.clone(), Lv::parse(name, lv)?);
        }
        Ok(Self {
            uuid: uuid(group),
            name: name.clone(),
            seqno: number("seqno")?,
            extent: sectors.saturating_mul(512),
            is_exported: group.has("status", "EXPORTED"),
            pvs: pvs.sections().map(pv).collect(),
            lvs,
        })
    }
}

impl Lv {
    fn parse(name: &str, lv: &Section) -> Result<Self> {
        let of = |why: String| bad(format!("logical volume {}: {why}", escape(name.as_bytes())));
        let mut segments = Vec::new();
        for (_, segment) in lv.sections().filter(|(name, _)| name.starts_with("segment")) {
            let number = |name: &str| segment.number(name).filter(|number| *number <= MAX_EXTENTS);
            let place = number("start_extent").zip(number("extent_count").filter(|count| *count > 0));
            let (start, count) = place.ok_or_else(|| of("a segment without a place".to_owned()))?;
            let kind = segment.text("type").unwrap_or_default().to_owned();
            segments.push(Segment { start, count, kind, fields: segment.clone() });
        }
        segments.sort_by_key(|segment| segment.start);
        let mut end = 0_u64;
        for segment in &segments {
            if segment.start != end {
                return Err(of(format!(
                    "a segment begins at extent {}, the one before ends at {end}",
                    segment.start
                )));
            }
            end = end.saturating_add(segment.count);
        }
        Ok(Self { uuid: uuid(lv), is_visible: lv.has("status", "VISIBLE"), segments })
    }

    /// How many extents it has.
    pub(super) fn extents(&self) -> u64 {
        self.segments.iter().map(|segment| segment.count).fold(0, u64::saturating_add)
    }

    /// The type of its first segment: for what is no plain volume, what it is.
    pub(super) fn kind(&self) -> &str {
        self.segments.first().map_or("", |segment| &segment.kind)
    }
}

impl Segment {
    /// Names of logical volumes and numbers in a list, in pairs: `stripes = ["pv0", 0, "pv1", 0]`.
    pub(super) fn areas(&self, list: &str) -> Result<Vec<(&str, u64)>> {
        let pairs = self.fields.list(list).chunks(2);
        let pair = |pair: &'_ [Value]| match pair {
            [Value::Text(_), Value::Number(extent)] if *extent <= MAX_EXTENTS => Some(*extent),
            _ => None,
        };
        let names = self.fields.list(list).iter().step_by(2).map(|value| match value {
            Value::Text(name) => name.as_str(),
            _ => "",
        });
        let extents: Option<Vec<u64>> = pairs.map(pair).collect();
        let extents =
            extents.ok_or_else(|| bad(format!("a segment's {list} are no pairs of name and extent")))?;
        Ok(names.zip(extents).collect())
    }

    /// A field that names a logical volume.
    pub(super) fn named(&self, field: &str) -> Result<&str> {
        let kind = escape(self.kind.as_bytes());
        self.fields.text(field).ok_or_else(|| bad(format!("a segment of type {kind} has no {field}")))
    }

    /// A number of sectors, in bytes.
    pub(super) fn bytes(&self, field: &str) -> Result<u64> {
        let kind = escape(self.kind.as_bytes());
        let sectors = self.fields.number(field).filter(|sectors| *sectors > 0 && *sectors <= MAX_EXTENT);
        let sectors = sectors
            .ok_or_else(|| bad(format!("a segment of type {kind} has no {field} that makes sense")))?;
        Ok(sectors.saturating_mul(512))
    }
}
