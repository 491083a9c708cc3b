//! `--resume FILE`: a check that was interrupted goes on. The file holds a line of JSON for each report, written as soon as
//! it is known; an image in the same state, asked the same by the same profiles, is not checked again.

use crate::check::profile::Profile;
use crate::check::report::record::Record;
use crate::check::report::{Form, Report, Style};
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

/// The longest line that is read: a report of every rule with all its places is far below that.
pub(in super::super) const MAX_LINE: u64 = 64 << 20;

/// What was done before, and the file to which more is added.
#[derive(Debug)]
pub(super) struct Resume {
    name: String,
    file: File,
    done: HashMap<String, Vec<Record>>,
    /// Lines that were no reports: the last one of a run that was ended by force.
    pub(super) odd: usize,
}

impl Resume {
    /// Reads the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = super::plan::shown(path.as_os_str());
        let failed = |error| Error::new(ErrorKind::Host, format!("--resume {name}")).caused_by(error);
        let mut file = File::options().read(true).append(true).create(true).open(path).map_err(failed)?;
        let (mut done, mut odd): (HashMap<String, Vec<Record>>, usize) = (HashMap::new(), 0);
        let mut ends_line = true;
        lines(&mut file, |line| {
            ends_line = line.ends_with(b"\n");
            match std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(Record::parse) {
                Ok(record) => {
                    let of_image = done.entry(record.image.clone()).or_default();
                    // The last word on an image counts.
                    of_image.retain(|other| other.profile != record.profile);
                    of_image.push(record);
                }
                Err(_) => odd = odd.saturating_add(1),
            }
        })
        .map_err(failed)?;
        if !ends_line {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { name, file, done, odd })
    }

    /// What is known of an image, if that is all that is asked.
    pub(super) fn known(
        &self,
        image: &str,
        version: Option<&str>,
        asked: &str,
        profiles: &[Arc<Profile>],
    ) -> Option<Vec<Record>> {
        let version = version?;
        let records = self.done.get(image)?;
        let find = |profile: &Arc<Profile>| {
            let mut fitting = records.iter().filter(|record| {
                record.profile == profile.id
                    && record.checked_on == profile.checked_on
                    && record.version.as_deref() == Some(version)
                    && record.asked.as_deref() == Some(asked)
                    && record.error.is_none()
            });
            fitting.next().cloned()
        };
        profiles.iter().map(find).collect()
    }

    /// Adds the reports of an image.
    pub(super) fn add(&mut self, reports: &[Report]) -> Result<()> {
        let form = Form::by_name("jsonl").expect("it is in the list");
        let text = form.text(reports, &Style::default());
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| Error::new(ErrorKind::Host, format!("--resume {}", self.name)).caused_by(error))
    }
}

/// Gives each line, its end included, of a file from its start.
fn lines(file: &mut File, take: impl FnMut(&[u8])) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    each_line(BufReader::new(file), take)
}

/// Gives each line, its end included. One that is too long is given in pieces, none of which makes sense.
pub(in super::super) fn each_line(
    mut from: impl std::io::BufRead,
    mut take: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut from).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        take(&line);
    }
}
