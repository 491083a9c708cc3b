//! `imgmount report`: what keeps many images out, cause by cause, from the lines of JSON that `check --report jsonl` or
//! `check --resume` wrote.

use super::check::{resume, targets};
use super::out::Tally;
use super::{Common, Exit, out, plan};
use crate::check::report::causes::Causes;
use crate::check::report::record::Record;
use crate::check::report::{Style, html, markdown};
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::BufReader;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of JSON lines, by check --report jsonl=FILE or check --resume FILE; - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,
    /// Write a report, to stdout or to FILE; repeatable
    #[arg(long, value_name = "text|json|md|html[=FILE]")]
    report: Vec<String>,
    /// Name every image of a cause
    #[arg(long)]
    all: bool,
}

/// A form: its name and how it is written.
type Form = (&'static str, fn(&Causes, &Style) -> String);

const FORMS: &[Form] = &[
    ("text", |causes, style| causes.text(style)),
    ("json", |causes, _| causes.json()),
    ("md", markdown::causes),
    ("html", html::causes),
];

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let targets = targets(args, common)?;
    let (mut tally, mut latest) = (Tally::default(), Latest::default());
    for file in &args.files {
        match read(file, &mut latest) {
            Ok(0) => tally.done(),
            Ok(odd) => {
                tally.partial();
                out::say(
                    common,
                    &format!("{}: {odd} lines are no reports, and were passed over", plan::shown(file)),
                );
            }
            Err(error) => {
                out::complain(&error);
                tally.failed(&error);
            }
        }
    }
    if latest.order.is_empty() {
        let error = Error::new(ErrorKind::NotAnImage, "there is no report in what was given");
        return Err(error.help("imgmount check --report jsonl=FILE writes them"));
    }
    let causes = latest.causes();
    for ((_, write), file) in targets {
        let text = write(&causes, &Style { all: args.all, ..targets::style(file.is_none(), common) });
        match file {
            None => out::data(&text),
            Some(file) => std::fs::write(file, text).map_err(|error| {
                Error::new(ErrorKind::Host, format!("the report cannot be written to {file}"))
                    .caused_by(error)
            })?,
        }
    }
    Ok(tally.exit())
}

/// What `--report` words mean.
fn targets<'a>(args: &'a Args, common: &Common) -> Result<Vec<(Form, Option<&'a str>)>> {
    let find = |name: &str| FORMS.iter().find(|(form, _)| *form == name).copied();
    let mut found = Vec::new();
    for word in &args.report {
        let (name, file) =
            word.split_once('=').map_or((word.as_str(), None), |(name, file)| (name, Some(file)));
        let form = find(name).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("--report {}: no such report", escape(word.as_bytes())))
                .help("one of: text, json, md, html; each may have =FILE")
        })?;
        found.push((form, file));
    }
    match found.iter().filter(|(_, file)| file.is_none()).count() {
        0 => {
            found
                .push((find(if common.json { "json" } else { "text" }).expect("both are in the list"), None));
        }
        1 => {}
        _ => {
            return Err(Error::new(ErrorKind::Usage, "several reports to stdout")
                .help("give all but one a file: --report json=FILE"));
        }
    }
    Ok(found)
}

/// The last record of each image and profile: an image that was checked twice counts as it is now.
#[derive(Debug, Default)]
struct Latest {
    /// Images in the order in which they came.
    order: Vec<String>,
    records: BTreeMap<String, BTreeMap<String, Record>>,
}

impl Latest {
    fn add(&mut self, record: Record) {
        let of_image = self.records.entry(record.image.clone()).or_insert_with(|| {
            self.order.push(record.image.clone());
            BTreeMap::new()
        });
        of_image.insert(record.profile.clone(), record);
    }

    fn causes(&self) -> Causes {
        let mut causes = Causes::default();
        let records =
            self.order.iter().filter_map(|image| self.records.get(image)).flat_map(BTreeMap::values);
        records.for_each(|record| causes.add(record));
        causes
    }
}

/// Reads a file; how many of its lines are no reports.
fn read(file: &OsStr, latest: &mut Latest) -> Result<usize> {
    let shown = plan::shown(file);
    let failed = |error| Error::new(ErrorKind::Source, shown.clone()).caused_by(error);
    let mut odd = 0_usize;
    let take = |line: &[u8]| {
        let line = line.trim_ascii();
        match std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(Record::parse) {
            Ok(record) => latest.add(record),
            Err(_) if line.is_empty() => {}
            Err(_) => odd = odd.saturating_add(1),
        }
    };
    if file == "-" {
        resume::each_line(BufReader::new(std::io::stdin().lock()), take).map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        resume::each_line(BufReader::new(opened), take).map_err(failed)?;
    }
    Ok(odd)
}
