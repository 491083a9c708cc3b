//! The volume's health as `$Volume` says it, and what else was going on when the disk was taken: a guest that sleeps, copies
//! of earlier states, the journal of changes.
//!
//! ```text
//! $VOLUME_INFORMATION   a flags
//! \hiberfil.sys         0 signature: HIBR, hibr asleep; RSTR, rstr waking up; WAKE, wake and zeros awake
//! ```

use super::attribute::kind;
use super::volume::Volume;
use super::{file::File, mft};
use crate::error::Result;
use crate::fs::State;
use crate::ondisk::get_le16;
use std::sync::Arc;

/// Flags of `$VOLUME_INFORMATION` that say something to a reader, each with what.
const FLAGS: &[(u16, &str)] = &[
    (
        0x0001,
        "the volume is marked dirty: Windows checks it when it next starts, and what was written last may be damaged",
    ),
    (0x0002, "the log was to be resized when Windows next mounts the volume"),
    (0x0004, "the volume was to be upgraded to a newer version of NTFS when Windows next mounts it"),
    (0x0010, "the journal of changes was being deleted"),
    (0x0020, "object identifiers were to be repaired"),
    (0x4000, "chkdsk was at work on the volume"),
];
/// Flags that make it [`State::Dirty`].
const DIRTY: u16 = 0x4001;

/// The name of the catalogue of shadow copies, and the end of the names of the copies: libvshadow, "Volume Shadow Snapshot (VSS)
/// format".
const SHADOWS: &str = "{3808876b-c176-4e48-b7ae-04046e6cc752}";
/// A file of the system volume is longer; on another volume it says that the system's is asleep (`ntfs-3g`).
const LEAST_HIBERFIL: u64 = 4096;

/// The volume's health.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) state: State,
    pub(super) features: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// What can be said of a volume after a few look-ups.
pub(super) fn of(volume: &Volume) -> Health {
    let mut health = Health::default();
    match flags(volume) {
        Ok(Some(flags)) => {
            let said = FLAGS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, what)| (*what).to_owned());
            health.warnings.extend(said);
            if flags & DIRTY != 0 {
                health.state = State::Dirty;
            }
        }
        Ok(None) => health.warnings.push("`$Volume` does not say its state".to_owned()),
        Err(error) => health.warnings.push(format!("`$Volume` cannot be read: {error}")),
    }
    if volume.log.state == State::Dirty {
        health.state = State::Dirty;
    }
    health.warnings.extend(volume.log.warnings.iter().cloned());
    if let Some(warning) = sleep(volume) {
        health.state = State::Dirty;
        health.warnings.push(warning.to_owned());
    }
    if matches!(at(volume, &["System Volume Information", SHADOWS]), Ok(Some(_))) {
        health.features.push("volume shadow copies".to_owned());
    }
    if matches!(in_dir(volume, mft::EXTEND, "$UsnJrnl"), Ok(Some(_))) {
        health.features.push("usn journal".to_owned());
    }
    health
}

/// The volume's flags.
fn flags(volume: &Volume) -> Result<Option<u16>> {
    let file = volume.file(mft::VOLUME)?;
    Ok(file.resident(kind::VOLUME_INFORMATION)?.and_then(|bytes| get_le16(bytes, 0xa)))
}

/// Is Windows asleep, as far as `hiberfil.sys` says it?
fn sleep(volume: &Volume) -> Option<&'static str> {
    let file = at(volume, &["hiberfil.sys"]).ok()??;
    let data = file.find(kind::DATA, &[]).ok()??;
    if data.size() < LEAST_HIBERFIL {
        return Some(
            "a system on another volume hibernates: what it changed here last may be in its memory only",
        );
    }
    let mut signature = [0; 4];
    volume.read_attribute(&file, data, &mut signature, 0).ok()?;
    match &signature {
        b"HIBR" | b"hibr" => Some(
            "Windows hibernates, or was shut down with fast startup: what it changed last may be in `hiberfil.sys` only",
        ),
        b"RSTR" | b"rstr" => {
            Some("Windows was waking up from hibernation: what it changed last may be in `hiberfil.sys` only")
        }
        _ => None,
    }
}

/// The file at a path of names.
fn at(volume: &Volume, path: &[&str]) -> Result<Option<Arc<File>>> {
    let mut file = volume.file(mft::ROOT)?;
    for name in path {
        let Some(next) = in_dir(volume, file.number, name)? else { return Ok(None) };
        file = next;
    }
    Ok(Some(file))
}

fn in_dir(volume: &Volume, dir: u64, name: &str) -> Result<Option<Arc<File>>> {
    let name: Vec<u16> = name.encode_utf16().collect();
    volume.child(dir, &name)?.map(|reference| volume.referred(reference)).transpose()
}
