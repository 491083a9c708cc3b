//! bzip2: a wrapper whose blocks begin at any bit and are not listed anywhere. Never read in place: small it is one unit,
//! large it goes through a spool.
//!
//! Source of the layout: bzip2 1.0.8, `compress.c`. There is no specification.

use super::wrapper::{Wrapper, in_order, inside};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::Result;
use bzip2::read::MultiBzDecoder;
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "bzip2",
    aliases: &["bz2"],
    about: "a bzip2 file around any of these: unpacked as a whole if it is small, else by way of --spool",
    probe,
    open,
};

const WRAPPER: Wrapper = Wrapper {
    name: FORMAT.name,
    suffixes: &["bz2"],
    with: "bzip2 -dk",
    stream: |packed| Box::new(MultiBzDecoder::new(packed)),
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    // "BZh" alone are three letters; a digit and the magic of the first block (pi) or of the end (its root) follow.
    let level = probe.bytes::<4>(0).is_some_and(|[_, _, _, digit]| (b'1'..=b'9').contains(&digit));
    let block = probe.has(4, b"1AY&SY") || probe.has(4, b"\x17rE8P\x90");
    (probe.has(0, b"BZh") && level && block && !super::has_trailer(probe)).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let plain = in_order(&WRAPPER, source, None, "bzip2 files can only be unpacked from their start", cx)?;
    inside(&WRAPPER, plain, cx)
}
