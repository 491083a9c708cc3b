//! Segments: the files that one image was cut into, how their names count, and one source made of all of them.
//!
//! | series | counts |
//! |---|---|
//! | `disk.001` | 001, 002, …, 999, 1000, with or without a word before: `disk.part1` |
//! | `disk.aa` | aa, ab, …, zz |
//! | `disk.E01` | E01, …, E99, EAA, …, EZZ, FAA, …, ZZZ; in the same way s01, Ex01 |

use super::OpenCx;
use crate::block::{BlockSource, Layout, Place, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Reference;
use std::sync::Arc;

/// Segments of one image; the gate's own bound on files is the same.
pub(super) const MAX_SEGMENTS: usize = 4096;

/// How far behind a missing segment a later one is looked for; of a server, where each look is a request, not as far.
const GAP: u64 = 8;
const REMOTE_GAP: u64 = 2;

/// How the names of a series count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Digits, at least so many.
    Digits(usize),
    /// So many letters.
    Letters { len: usize, upper: bool },
    /// Two digits, then letters that take the place of the digits and of the letter before them.
    Ewf { upper: bool },
}

/// The names of a set of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    /// What all names begin with.
    stem: String,
    count: Count,
}

impl Series {
    /// The series of raw segments that `name` belongs to, and which number it has there.
    pub(super) fn of(name: &str) -> Option<(Self, u64)> {
        let (stem, end) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
        let word = end.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = end.get(word.len()..)?;
        let width = digits.len();
        let is_part = word.eq_ignore_ascii_case("part");
        if (is_part && (1..=5).contains(&width)) || (word.is_empty() && (2..=5).contains(&width)) {
            let series = Self { stem: format!("{stem}.{word}"), count: Count::Digits(width) };
            return Some((series, digits.parse().ok()?));
        }
        // Only names near the first are taken for segments: any two letters would do for a later one.
        let upper = end.bytes().all(|b| b.is_ascii_uppercase());
        let lower = end.to_ascii_lowercase();
        let letters = upper || end.bytes().all(|b| b.is_ascii_lowercase());
        let (first, last) = lower.split_at_checked(lower.len().checked_sub(1)?)?;
        if letters && (1..=3).contains(&first.len()) && first.bytes().all(|b| b == b'a') {
            let count = Count::Letters { len: end.len(), upper };
            let number = u64::from(last.bytes().next()?.checked_sub(b'a')?);
            return Some((Self { stem: format!("{stem}."), count }, number));
        }
        None
    }

    /// The series whose first name is `name`, an EWF's: `x.E01`, `x.s01`, `x.Ex01`.
    pub(super) fn of_ewf(name: &str) -> Option<Self> {
        let (_, end) = name.rsplit_once('.')?;
        let word = end.strip_suffix("01")?;
        let fits = (1..=2).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphabetic());
        let upper = word.starts_with(|c: char| c.is_ascii_uppercase());
        fits.then(|| Self {
            stem: name.strip_suffix("01").unwrap_or(name).to_owned(),
            count: Count::Ewf { upper },
        })
    }

    /// The name of segment `number`: those of digits count as they are written, letters and EWF's from 0.
    pub(super) fn name(&self, number: u64) -> Option<String> {
        let Self { stem, count } = self;
        let spelled = |mut number: u64, len: usize, upper: bool| {
            let mut letters = Vec::new();
            for _ in 0..len {
                letters.push(u8::try_from(number % 26).ok()?.saturating_add(if upper { b'A' } else { b'a' }));
                number /= 26;
            }
            letters.reverse();
            (number == 0).then(|| String::from_utf8(letters).ok())?
        };
        match *count {
            Count::Digits(width) => Some(format!("{stem}{number:0width$}")),
            Count::Letters { len, upper } => Some(format!("{stem}{}", spelled(number, len, upper)?)),
            Count::Ewf { .. } if number < 99 => Some(format!("{stem}{:02}", number.saturating_add(1))),
            Count::Ewf { upper } => {
                let number = number.saturating_sub(99);
                let (rest, letter) = stem.split_at_checked(stem.len().checked_sub(1)?)?;
                let letter = letter.bytes().next()?;
                let last = if letter.is_ascii_uppercase() { b'Z' } else { b'z' };
                let letter = u64::from(letter).saturating_add(number / (26 * 26));
                let letter = u8::try_from(letter).ok().filter(|letter| *letter <= last)?;
                Some(format!("{rest}{}{}", char::from(letter), spelled(number % (26 * 26), 2, upper)?))
            }
        }
    }

    /// Is this the last name before `split` of GNU goes on with longer ones (`yz`, then `zaaa`; `89`, then `9000`)?
    fn may_lengthen(&self, number: u64) -> Option<String> {
        match self.count {
            Count::Digits(2) if number == 89 => Some(format!("{}9000", self.stem)),
            Count::Letters { len: 2, upper: false } if number == 26 * 25 - 1 => {
                Some(format!("{}zaaa", self.stem))
            }
            _ => None,
        }
    }
}

/// What is known of a segment that was looked for.
pub(super) enum Looked {
    /// It is there.
    There(Arc<dyn BlockSource>),
    /// There is none.
    Missing,
    /// It may not be looked for: the image lies behind a link that is good for one file, or in another file.
    Barred,
}

/// Looks for a segment beside the image.
pub(super) fn look(name: &str, cx: &OpenCx<'_>) -> Result<Looked> {
    match cx.gate.open(cx.locator, name.as_bytes(), Reference::Segment) {
        Ok(found) => Ok(Looked::There(found.source)),
        // What the gate says of a file that it would open if it were there.
        Err(error) if error.kind() == ErrorKind::NotAnImage => Ok(Looked::Missing),
        // A file of ours that the gate refuses is there, as a link perhaps, and is no reason to go on without it.
        Err(error)
            if error.kind() == ErrorKind::ExternalRef && (cx.locator.as_path().is_none() || cx.depth > 0) =>
        {
            Ok(Looked::Barred)
        }
        Err(error) => Err(error),
    }
}

/// The segments behind `first`, which has the number `from`, up to the first that is missing; and whether the gate may look
/// for them at all.
///
/// # Errors
/// `NotAnImage` with the name of one that is missing while a later one is there.
pub(super) fn behind(
    first: Arc<dyn BlockSource>,
    series: &Series,
    from: u64,
    cx: &OpenCx<'_>,
) -> Result<(Vec<Arc<dyn BlockSource>>, bool)> {
    let mut files = vec![first];
    let mut number = from;
    loop {
        cx.budget.step("segments")?;
        let next = number.saturating_add(1);
        let Some(name) = series.name(next) else { break };
        match look(&name, cx)? {
            Looked::There(source) => files.push(source),
            Looked::Missing => {
                no_later(series, next, &name, cx)?;
                break;
            }
            Looked::Barred => return Ok((files, false)),
        }
        if files.len() > MAX_SEGMENTS {
            return Err(Error::limit(format!("the image has more than {MAX_SEGMENTS} segments")));
        }
        number = next;
    }
    if let Some(longer) = series.may_lengthen(number)
        && matches!(look(&longer, cx)?, Looked::There(_))
    {
        let error = Error::unsupported(format!("a set of segments whose names grow longer ('{longer}')"));
        return Err(error.help("join them: cat, in the order of their names"));
    }
    Ok((files, true))
}

/// Refuses a set in which a segment is missing that has others behind it.
fn no_later(series: &Series, missing: u64, name: &str, cx: &OpenCx<'_>) -> Result<()> {
    let gap = if cx.locator.as_path().is_some() { GAP } else { REMOTE_GAP };
    for later in (missing..missing.saturating_add(gap)).skip(1) {
        let Some(later) = series.name(later) else { break };
        if matches!(look(&later, cx)?, Looked::There(_)) {
            let error = format!("segment '{}' is missing, but '{}' is there", shown(name), shown(&later));
            return Err(Error::new(ErrorKind::NotAnImage, error).help("put all segments into one directory"));
        }
    }
    Ok(())
}

/// A name for people.
pub(super) fn shown(name: &str) -> String {
    crate::text::escape(name.as_bytes()).to_string()
}

/// Sources one behind the other.
#[derive(Debug)]
pub(super) struct Joined {
    size: u64,
    /// Where each begins; empty ones are left out.
    starts: Vec<(u64, usize)>,
    files: Vec<Arc<dyn BlockSource>>,
}

impl Joined {
    /// One behind the other, in this order.
    ///
    /// # Errors
    /// `Limit` when they are longer than 2^64 bytes together.
    pub(super) fn new(files: Vec<Arc<dyn BlockSource>>) -> Result<Self> {
        let mut size = 0_u64;
        let mut starts = Vec::new();
        for (index, file) in files.iter().enumerate() {
            if !file.is_empty() {
                starts.push((size, index));
            }
            let longer = size.checked_add(file.len());
            size = longer.ok_or_else(|| Error::limit("the segments together exceed 2^64 bytes"))?;
        }
        Ok(Self { size, starts, files })
    }
}

impl Layout for Joined {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Arc<dyn BlockSource>] {
        &self.files
    }

    fn run_at(&self, offset: u64) -> Result<Run> {
        let after = self.starts.partition_point(|(start, _)| *start <= offset);
        let found = after.checked_sub(1).and_then(|index| self.starts.get(index));
        let (start, file) = *found.ok_or_else(|| Error::out_of_range(offset, 1, self.size))?;
        let end = self.starts.get(after).map_or(self.size, |(next, _)| *next);
        let place = Place::Stored { file, offset: offset.saturating_sub(start) };
        Ok(Run { len: end.saturating_sub(offset), place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(first: &str, numbers: &[u64]) -> Vec<String> {
        let (series, _) = Series::of(first).unwrap();
        numbers.iter().map(|number| series.name(*number).unwrap()).collect()
    }

    #[test]
    fn raw_segments_count_on_past_their_width() {
        assert_eq!(names("d.img.001", &[2, 999, 1000]), ["d.img.002", "d.img.999", "d.img.1000"]);
        assert_eq!(names("d.part9", &[10]), ["d.part10"]);
        assert_eq!(names("d.aa", &[1, 25, 26, 675]), ["d.ab", "d.az", "d.ba", "d.zz"]);
        assert_eq!(Series::of("d.aa").unwrap().0.name(676), None);
        assert_eq!(names("d.AAA", &[26]), ["d.ABA"]);
    }

    #[test]
    fn a_name_has_its_number() {
        let number = |name: &str| Series::of(name).map(|(_, number)| number);
        assert_eq!((number("d.000"), number("d.007"), number("d.ac")), (Some(0), Some(7), Some(2)));
        for other in ["d.img", "d.7z", "d.E01", "d", ".001", "d.1", "d.mp3", "d.a"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn ewf_goes_on_with_letters() {
        let name = |first: &str, number| Series::of_ewf(first).unwrap().name(number);
        assert_eq!(name("d.E01", 98).as_deref(), Some("d.E99"));
        assert_eq!(name("d.E01", 99).as_deref(), Some("d.EAA"));
        assert_eq!(name("d.E01", 99 + 676).as_deref(), Some("d.FAA"));
        assert_eq!(name("d.s01", 99).as_deref(), Some("d.saa"));
        assert_eq!(name("d.Ex01", 99 + 676).as_deref(), Some("d.EyAA"));
        assert_eq!(name("d.E01", 99 + 22 * 676), None);
        assert_eq!(Series::of_ewf("d.E02"), None);
    }
}
