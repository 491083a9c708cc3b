//! LUKS on a volume: a partition, a logical volume, an array. Opened with a key that was given for it, by the volume's id or
//! by the id of what is opened; without one it stays as it is, a volume of kind `crypto_LUKS`.
//!
//! What is opened is called `luks-UUID`, the name that Debian's, Fedora's and SUSE's installers and `systemd` give it in
//! `/dev/mapper` and `crypttab`.

use super::{Assembly, Makes, Manager, VolCx, Volume};
use crate::block::{BlockSource, Probe};
use crate::crypt::luks::{Luks, MAGIC};
use crate::error::{ErrorKind, Result};
use crate::text::escape;
use std::sync::Arc;

/// The manager.
pub const MANAGER: Manager =
    Manager { name: "luks", nests: true, claims, seeks: None, makes: Makes::OfOne(assemble) };

fn claims(probe: &Probe<'_>) -> bool {
    probe.has(0, MAGIC)
}

fn assemble(volume: &Volume, cx: &VolCx<'_>) -> Result<Assembly> {
    let mut made = Assembly::default();
    let luks = Luks::load(&*volume.source, 0, volume.source.len(), cx.budget)?;
    made.warnings.extend(luks.warnings().iter().map(|line| format!("{}: {line}", volume.id)));
    let uuid = luks.uuid().to_string();
    let id = format!("luks-{}", escape(uuid.as_bytes()));
    let mut keys: Vec<&[u8]> = Vec::new();
    for key in cx.keys.of(&volume.id).chain(cx.keys.of(&id)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Ok(made);
    }
    // A key is stretched for a second or two; an image may have hundreds of volumes for one key.
    if cx.budget.is_late() {
        made.warnings.push(format!("{}: looking for volumes took too long; it is not opened", volume.id));
        return Ok(made);
    }
    let opened: Arc<dyn BlockSource> = match luks.open(Arc::clone(&volume.source), keys.into_iter()) {
        Ok(opened) => Arc::new(opened),
        Err(error) if error.kind() == ErrorKind::Encrypted => {
            made.warnings.push(format!("{}: {}", volume.id, error.chain()));
            return Ok(made);
        }
        Err(error) => return Err(error),
    };
    let plain: String = uuid.chars().filter(|c| *c != '-').collect();
    let names = vec![
        format!("/dev/mapper/{id}"),
        format!("/dev/disk/by-id/dm-name-{id}"),
        format!("/dev/disk/by-id/dm-uuid-CRYPT-LUKS{}-{plain}-{id}", luks.version()),
    ];
    made.volumes.push(Volume::of(&[volume], id, opened, names));
    Ok(made)
}
