//! Where further parts of the reader join in.

use super::attribute::Attribute;
use super::file::File;
use super::volume::Volume;
use crate::block::Run;
use crate::error::{Error, Result};
use crate::fs::State;

/// (logfile) The volume's health, what else its facts should name, and what is odd.
pub(super) fn state(volume: &Volume) -> (State, Vec<String>, Vec<String>) {
    let health = super::state::of(volume);
    (health.state, health.features, health.warnings)
}

/// (packed) Called before the unnamed `$DATA` of a file with a reparse point is read. `None`: read as it is stored.
/// Else what was read: WOF; or an error for content that is elsewhere.
pub(super) fn read_reparsed(
    volume: &Volume,
    file: &File,
    _buf: &mut [u8],
    _offset: u64,
) -> Result<Option<usize>> {
    super::reparse::check_content_is_here(volume, file)?;
    Ok(None)
}

/// (packed) As [`read_reparsed`], for the map.
pub(super) fn reparsed_run(volume: &Volume, file: &File, _offset: u64) -> Result<Option<Run>> {
    super::reparse::check_content_is_here(volume, file)?;
    Ok(None)
}

/// (packed) Fills `buf`, which ends at the value's end at the latest, from an attribute with the compressed flag.
pub(super) fn read_compressed(
    _volume: &Volume,
    _file: &File,
    _attribute: &Attribute,
    _buf: &mut [u8],
    _offset: u64,
) -> Result<()> {
    Err(Error::unsupported("LZNT1"))
}

/// (packed) Where the byte at `offset` of such a value lies.
pub(super) fn packed_run(
    _volume: &Volume,
    _file: &File,
    _attribute: &Attribute,
    _offset: u64,
) -> Result<Run> {
    Err(Error::unsupported("the map of an LZNT1 file"))
}
