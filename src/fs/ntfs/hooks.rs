//! Where further parts of the reader join in.

use super::file::File;
use super::volume::Volume;
use super::wof;
use crate::block::Run;
use crate::error::Result;
use crate::fs::State;

/// The volume's health, what else its facts should name, and what is odd.
pub(super) fn state(volume: &Volume) -> (State, Vec<String>, Vec<String>) {
    let health = super::state::of(volume);
    (health.state, health.features, health.warnings)
}

/// The content of a file with a reparse point, which is not as its unnamed `$DATA` has it. `None`: read that.
///
/// # Errors
/// `Unsupported` for content that is elsewhere; as [`wof::read`].
pub(super) fn read_reparsed(
    volume: &Volume,
    file: &File,
    buf: &mut [u8],
    offset: u64,
) -> Result<Option<usize>> {
    match super::reparse::packer(volume, file)? {
        Some(algorithm) => wof::read(volume, file, algorithm, buf, offset).map(Some),
        None => Ok(None),
    }
}

/// As [`read_reparsed`], for the map.
///
/// # Errors
/// As [`read_reparsed`].
pub(super) fn reparsed_run(volume: &Volume, file: &File, offset: u64) -> Result<Option<Run>> {
    match super::reparse::packer(volume, file)? {
        Some(algorithm) => wof::run(volume, file, algorithm, offset).map(Some),
        None => Ok(None),
    }
}
