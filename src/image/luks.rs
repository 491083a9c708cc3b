//! LUKS: a disk, or a single volume, that is encrypted as a whole. The header is read by [`crate::crypt::luks`]; what
//! lies behind it, deciphered, is the disk.

use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::crypt::luks::{Luks, MAGIC};
use crate::error::Result;
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "luks",
    aliases: &["crypto_luks"],
    about: "LUKS encryption, versions 1 and 2, of a whole disk or volume: opened with a key",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (probe.has(0, MAGIC) && !super::has_trailer(probe)).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let luks = Luks::load(&*source, 0, source.len(), cx.budget)?;
    let disk: Arc<dyn BlockSource> = Arc::new(luks.open(source, cx.keys.of("disk"))?);
    let (facts, warnings) = (luks.facts(), luks.warnings().to_vec());
    let subformat = Some(format!("LUKS{}", luks.version()));
    Ok(Opened { subformat, facts, warnings, ..Opened::single(disk, FORMAT.name, cx) })
}
