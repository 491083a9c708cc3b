//! split: an image cut into files that count on (`.001`, `.002`; `.000`; `.aa`, `.ab`; `.part1`). Joined, they are a raw
//! disk or any other format.
//!
//! The bytes of a segment say nothing of this, and its first bytes are those of the image that was cut. So the name is
//! asked before the signatures, and what decides is whether a next segment lies beside it: a lone `disk.001` is opened as
//! what its bytes say.

use super::segments::{Joined, Looked, Series, behind, look, shown};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "split",
    aliases: &["splitraw"],
    about: "an image cut into .001, .002, ... (also .000, .aa, .part1): joined, then read as what it is",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    Series::of(probe.name).map(|_| Confidence::Name)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    let name = cx.locator.file_name();
    let Some((series, number)) = Series::of(&name) else {
        let error = "is not a segment of a split image: its name does not end in .001, .000, .aa or .part1";
        return Err(Error::new(ErrorKind::NotAnImage, error));
    };
    let first_length = source.len();
    let (files, may_look) = match earlier(&series, number, cx)? {
        Some(first) => {
            let error = format!("is a later segment of a split image, whose first is '{}'", shown(&first));
            return Err(Error::new(ErrorKind::NotAnImage, error)
                .help(format!("open '{}'; or, if it is an image of its own: --format raw", shown(&first))));
        }
        None => behind(Arc::clone(&source), &series, number, cx)?,
    };
    let count = files.len();
    let last =
        series.name(number.saturating_add(crate::num::wide(count.saturating_sub(1)))).unwrap_or_default();
    if count == 1 {
        let inner = super::detect_by_content(&*source, &name)?;
        let mut opened = (inner.open)(source, cx)?;
        if !may_look {
            opened.warnings.push(format!(
                "'{}' looks like one segment of several, but what it lies in or behind is good for one file only",
                shown(&name)
            ));
        }
        return Ok(opened);
    }
    let uneven = uneven(&files, first_length);
    let disk = cx.mapper.map(Joined::new(files)?);
    let locator = joined_locator(cx.locator);
    let inner = super::detect_by_content(&*disk, &locator.file_name())?;
    let mut opened = (inner.open)(disk, &cx.below(&locator))?;
    if let Some(top) = opened.layers.first_mut() {
        top.name = cx.locator.to_string();
    }
    let variant = opened.subformat.take().map(|variant| format!(", {variant}")).unwrap_or_default();
    opened.subformat = Some(format!("{}{variant}", opened.format));
    opened.format = FORMAT.name;
    let segments = format!("{count}: {} to {}", shown(&name), shown(&last));
    opened.facts.insert(0, ("segments", segments));
    opened.facts.insert(1, ("segment size", first_length.to_string()));
    opened.warnings.extend(uneven);
    Ok(opened)
}

/// The first segment's name, if this is a later one.
fn earlier(series: &Series, number: u64, cx: &OpenCx<'_>) -> Result<Option<String>> {
    // Digits count from 1 or from 0, letters from 0.
    for first in [0, 1].into_iter().filter(|first| *first < number) {
        let Some(name) = series.name(first) else { continue };
        if matches!(look(&name, cx)?, Looked::There(_)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// What a cut leaves are segments of one size and a last that is no larger. Others may be no set at all.
fn uneven(files: &[Arc<dyn BlockSource>], first: u64) -> Option<String> {
    let (last, others) = files.split_last()?;
    let even = last.len() <= first && others.iter().all(|file| file.len() == first);
    (!even).then(|| {
        "the segments differ in size, as those of one image do not: a set with a damaged segment, or several images \
         whose names count? (one of them alone: --format raw)"
            .to_owned()
    })
}

/// Where the joined image would lie: beside its segments, without what counts.
fn joined_locator(locator: &Locator) -> Locator {
    match locator {
        Locator::Path(path) => Locator::Path(path.with_extension("")),
        Locator::Url(url) => Locator::Url(url.clone()),
    }
}
