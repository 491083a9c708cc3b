//! Linux software RAID (md): arrays put together from the superblocks of their members.
//!
//! ```text
//! members ─▶ superblock.rs ─▶ by UUID ─▶ newest event count ─▶ legs by role ─▶ raid::Array
//! ```
//! As `mdadm --assemble --scan` would: a member that missed events is stale and left out, one that is not rebuilt yet too;
//! what it held is worked out from the others where the level allows it. A degraded array that was not shut down cleanly is
//! refused as the kernel refuses it: its parity may not fit its data.
//!
//! An array is called by the name in its superblock without the host's: `md0` for a number, `md/home` for a word; one
//! without a name counts down from `md127`.

use super::raid::{Array, Leg, MAX_LEGS, Shape, Zones, striped};
use super::{Assembly, MANAGERS, Makes, Manager, VolCx, Volume, pieces};
use crate::block::{BlockSource, Probe};
use crate::error::{At, Error, Result};
use crate::num::narrow;
use crate::text::escape;
use std::collections::BTreeMap;
use std::sync::Arc;
use superblock::{Level, Role, Super};

mod superblock;

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "md", nests: true, claims, seeks: Some(seeks), makes: Makes::OfMany(assemble) };

/// Members that are missing, each of which has a line of its own.
const MAX_NAMED: usize = 8;

fn claims(probe: &Probe<'_>) -> bool {
    superblock::at_start(probe)
}

/// A superblock at the end may be that of the last partition: then it is not the disk's.
fn seeks(volume: &Volume, cx: &VolCx<'_>) -> Result<bool> {
    let Some(place) = superblock::at_end(&*volume.source)? else { return Ok(false) };
    if volume.partition.is_some() {
        return Ok(true);
    }
    let bytes = crate::block::ProbeBytes::read(&*volume.source, "")?;
    for table in MANAGERS.iter().filter(|manager| matches!(manager.name, "gpt" | "mbr")) {
        if let Makes::OfOne(read) = table.makes
            && (table.claims)(&bytes.view())
            && let Ok(made) = read(volume, cx)
        {
            let covers = |volume: &Volume| {
                let part = volume.partition.as_ref();
                part.is_some_and(|part| part.start <= place && place.saturating_sub(part.start) < part.size)
            };
            return Ok(!made.volumes.iter().any(covers));
        }
    }
    Ok(true)
}

/// A member that is there.
struct Member {
    /// Which of the volumes given.
    at: usize,
    sb: Super,
}

fn assemble(volumes: &[Volume], cx: &VolCx<'_>, may_wait: bool) -> Result<Assembly> {
    let mut made = Assembly::default();
    let mut sets: BTreeMap<[u8; 16], Vec<Member>> = BTreeMap::new();
    for (at, volume) in volumes.iter().enumerate() {
        match Super::load(&*volume.source) {
            Ok(sb) => sets.entry(sb.uuid).or_default().push(Member { at, sb }),
            Err(error) => made.warnings.push(format!("{}: {}", volume.id, error.chain())),
        }
    }
    let mut unnamed = 127_u32;
    for members in sets.values() {
        let Some(newest) = members.iter().max_by_key(|member| member.sb.events).map(|member| &member.sb)
        else {
            continue;
        };
        let mut warnings = Vec::new();
        let id = match newest.id() {
            Some(id) => id,
            None => {
                let id = format!("md{unnamed}");
                unnamed = unnamed.saturating_sub(1);
                id
            }
        };
        let set = Set { id: &id, members, newest, volumes, cx };
        let chosen = set.choose(&mut warnings);
        if may_wait && chosen.iter().any(Option::is_none) {
            continue;
        }
        made.warnings.append(&mut warnings);
        let source = match set.open(&chosen) {
            Ok(source) => source,
            Err(error) => {
                made.warnings.push(format!("{id}: {}", error.chain()));
                let len = newest.array_len().unwrap_or(0);
                pieces::Absent::source(len, error.context(&id))
            }
        };
        let of: Vec<&Volume> = members.iter().filter_map(|member| volumes.get(member.at)).collect();
        let names = newest.names(&id);
        made.volumes.push(Volume::of(&of, id, source, names));
        made.taken.extend(members.iter().map(|member| member.at));
    }
    Ok(made)
}

/// One array's members.
struct Set<'a> {
    id: &'a str,
    members: &'a [Member],
    newest: &'a Super,
    volumes: &'a [Volume],
    cx: &'a VolCx<'a>,
}

impl Set<'_> {
    /// The member for each role; `None` where there is none to be trusted.
    fn choose(&self, warnings: &mut Vec<String>) -> Vec<Option<&Member>> {
        let mut chosen: Vec<Option<&Member>> = Vec::new();
        chosen.resize_with(narrow(u64::from(self.newest.raid_disks.min(MAX_LEGS))), || None);
        // One that replaces another stands in only where that one is gone.
        let (second, first): (Vec<&Member>, Vec<&Member>) =
            self.members.iter().partition(|member| member.sb.is_replacement);
        for member in first.into_iter().chain(second) {
            let sb = &member.sb;
            let name = self.volumes.get(member.at).map_or("", |volume| &volume.id);
            let mut out = |why: String| warnings.push(format!("{}: {name} is left out: {why}", self.id));
            if sb.events.saturating_add(1) < self.newest.events {
                out(format!(
                    "it is out of date (event {}, the array is at {})",
                    sb.events, self.newest.events
                ));
                continue;
            }
            let Role::Active(number) = self.newest.role_of(sb) else { continue };
            if sb.is_rebuilding {
                out("it was not yet rebuilt".to_owned());
                continue;
            }
            if sb.has_bad_blocks {
                out("blocks of it are marked as bad".to_owned());
                continue;
            }
            match chosen.get_mut(narrow(u64::from(number))) {
                Some(place @ None) => *place = Some(member),
                Some(Some(_)) if sb.is_replacement => {}
                Some(Some(_)) => out(format!("another member has its place, {number}")),
                None => out(format!("place {number} of {}", self.newest.raid_disks)),
            }
        }
        let missing =
            || chosen.iter().enumerate().filter(|(_, place)| place.is_none()).map(|(number, _)| number);
        for number in missing().take(MAX_NAMED) {
            warnings.push(format!("{}: member {number} of {} is missing", self.id, self.newest.raid_disks));
        }
        if let Some(more) = missing().count().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            warnings.push(format!("{}: {more} members more are missing", self.id));
        }
        chosen
    }

    fn data(&self, member: &Member) -> Result<Arc<dyn BlockSource>> {
        let bad = |why: String| Error::corrupt(At::new("md", "superblock")).because(why);
        let volume = self.volumes.get(member.at).ok_or_else(|| bad("no such member".to_owned()))?;
        let (start, len) = (member.sb.data_start, member.sb.data_len);
        pieces::slice(&volume.source, start, len).map_err(|_| {
            bad(format!(
                "{}: {len} bytes of data from {start} on, it ends at {}: it was cut off",
                volume.id,
                volume.source.len()
            ))
        })
    }

    fn open(&self, chosen: &[Option<&Member>]) -> Result<Arc<dyn BlockSource>> {
        let sb = self.newest;
        if let Some(what) = sb.refused {
            return Err(Error::unsupported(what));
        }
        if sb.raid_disks == 0 || sb.raid_disks > MAX_LEGS {
            return Err(
                Error::corrupt(At::new("md", "superblock")).because(format!("{} members", sb.raid_disks))
            );
        }
        let mut legs: Vec<Leg> = Vec::new();
        for member in chosen {
            legs.push(member.map(|member| self.data(member)).transpose()?);
        }
        let is_degraded = legs.iter().any(Option::is_none);
        let all = |legs: Vec<Leg>| {
            let count = legs.iter().flatten().count();
            let complete: Option<Vec<_>> = legs.into_iter().collect();
            complete.ok_or_else(|| {
                Error::not_found(format!("{count} of {} members", sb.raid_disks))
                    .because(format!(
                        "{} needs all of its {} members, {count} are here",
                        sb.level, sb.raid_disks
                    ))
                    .help("give the images of all its disks together")
            })
        };
        let shape = match sb.level {
            Level::Linear => {
                let whole = |leg: Arc<dyn BlockSource>| {
                    let over = leg.len().checked_rem(sb.chunk).unwrap_or(0);
                    pieces::slice(&leg, 0, leg.len().saturating_sub(over))
                };
                let legs: Result<Vec<_>> = all(legs)?.into_iter().map(whole).collect();
                return Ok(pieces::concat(legs?, self.cx.mapper));
            }
            Level::Raid0 => {
                let zones = match sb.layout {
                    Some(1) => Zones::Original,
                    Some(2) => Zones::Alternate,
                    _ => Zones::Unknown,
                };
                return striped(all(legs)?, sb.chunk, zones, "md", self.cx.mapper);
            }
            Level::Raid1 => Shape::Mirror,
            Level::Raid4 => Shape::Single(5),
            Level::Raid5 => Shape::Single(sb.layout.unwrap_or(2)),
            Level::Raid6 => Shape::Double(sb.layout.unwrap_or(2)),
            Level::Raid10 => Shape::Copies(sb.layout.unwrap_or(0)),
            Level::Other(level) => return Err(Error::unsupported(format!("md level {level}"))),
        };
        if is_degraded && !sb.is_clean && matches!(shape, Shape::Single(_) | Shape::Double(_)) {
            return Err(Error::unsupported(format!("a degraded {} that was not shut down cleanly", sb.level))
                .help("its parity may not fit its data, so that what the missing member held cannot be told; Linux does not start it either"));
        }
        let array = Array { shape, legs, leg_len: sb.size, chunk: sb.chunk };
        array.open("md", self.cx.mapper)
    }
}

impl Super {
    /// The array's id, if it says how it is called.
    fn id(&self) -> Option<String> {
        if let Some(minor) = self.minor {
            return Some(format!("md{minor}"));
        }
        let name = self.plain_name();
        if name.is_empty() {
            None
        } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
            Some(format!("md{name}"))
        } else {
            Some(format!("md/{}", escape(name.as_bytes())))
        }
    }

    /// The name without the host's in front: `host:home`.
    fn plain_name(&self) -> &str {
        self.name.split_once(':').map_or(self.name.as_str(), |(_, name)| name)
    }

    fn names(&self, id: &str) -> Vec<String> {
        let words: Vec<String> =
            self.uuid.chunks(4).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        let mut names = vec![format!("/dev/{id}"), format!("/dev/disk/by-id/md-uuid-{}", words.join(":"))];
        if let Some(number) = id.strip_prefix("md").filter(|rest| !rest.starts_with('/')) {
            names.push(format!("/dev/md/{number}"));
        }
        if !self.name.is_empty() {
            names.push(format!("/dev/disk/by-id/md-name-{}", self.name));
        }
        names
    }

    /// How long the array is, where its level says it without the members.
    fn array_len(&self) -> Option<u64> {
        let legs = u64::from(self.raid_disks);
        let data = match self.level {
            Level::Raid1 => 1,
            Level::Raid4 | Level::Raid5 => legs.checked_sub(1)?,
            Level::Raid6 => legs.checked_sub(2)?,
            _ => return Some(self.data_len.saturating_mul(legs)),
        };
        self.size.checked_mul(data)
    }
}
