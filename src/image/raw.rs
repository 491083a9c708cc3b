//! raw: the disk's bytes as they are. It has no signature, so probing takes it only when nothing else fits, and it
//! never follows anything.

use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::Result;
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "raw",
    aliases: &["img", "dd"],
    about: "the disk's bytes as they are; what nobody else claims",
    probe,
    open,
};

fn probe(_probe: &Probe<'_>) -> Option<Confidence> {
    Some(Confidence::Fallback)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let rest = source.len() % 512;
    let mut opened = Opened::single(source, FORMAT.name, cx);
    if rest != 0 {
        opened
            .warnings
            .push(format!("the size is no multiple of 512: the last {rest} bytes are not a whole sector"));
    }
    Ok(opened)
}
