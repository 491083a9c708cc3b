//! BitLocker on a volume: opened by itself while Windows has suspended its protection, or with a key that was given for it,
//! by the volume's id or by the id of what is opened; otherwise it stays as it is, a volume of kind `BitLocker`.
//!
//! What is opened is called `bitlk-GUID`, after the identifier that Windows gave it, as what LUKS holds is called `luks-UUID`.

use super::{Assembly, Makes, Manager, VolCx, Volume};
use crate::block::Probe;
use crate::crypt::bitlocker::{self, BitLocker};
use crate::error::{ErrorKind, Result};

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "bitlocker", nests: true, claims, seeks: None, makes: Makes::OfOne(assemble) };

fn claims(probe: &Probe<'_>) -> bool {
    bitlocker::is_locked(probe.head)
}

fn assemble(volume: &Volume, cx: &VolCx<'_>) -> Result<Assembly> {
    let mut made = Assembly::default();
    let locked = BitLocker::load(&*volume.source, cx.budget)?;
    made.warnings.extend(locked.warnings().iter().map(|line| format!("{}: {line}", volume.id)));
    let guid = locked.guid();
    let id = format!("bitlk-{guid}");
    let mut keys: Vec<&[u8]> = Vec::new();
    for key in cx.keys.of(&volume.id).chain(cx.keys.of(&id)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    // A password is stretched for a second or so; an image may have hundreds of volumes for one key.
    if !keys.is_empty() && cx.budget.is_late() {
        made.warnings.push(format!("{}: looking for volumes took too long; it is not opened", volume.id));
        return Ok(made);
    }
    let is_given = !keys.is_empty();
    let (plain, odd) = match locked.open(&volume.source, keys.into_iter()) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::Encrypted => {
            let said = match is_given {
                true => error.chain(),
                false => format!("{}, '{}', {guid}", locked.name(), locked.description()),
            };
            made.warnings.push(format!("{}: {said}; it is opened by: {}", volume.id, locked.protectors()));
            return Ok(made);
        }
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            made.warnings.push(format!("{}: {}", volume.id, error.chain()));
            return Ok(made);
        }
        Err(error) => return Err(error),
    };
    made.warnings.extend(odd.iter().map(|line| format!("{}: {line}", volume.id)));
    let hex: String = guid.chars().filter(|c| *c != '-').collect();
    let names = vec![
        format!("/dev/mapper/{id}"),
        format!("/dev/disk/by-id/dm-name-{id}"),
        format!("/dev/disk/by-id/dm-uuid-CRYPT-BITLK-{hex}-{id}"),
    ];
    made.volumes.push(Volume::of(&[volume], id, cx.mapper.map(plain), names));
    Ok(made)
}
