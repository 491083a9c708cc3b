//! A check from the first image to the last: several at a time, reported in order. One that is bad stops no other.

use super::super::{Common, Exit, out, plan};
use super::names::Name;
use super::progress::Progress;
use super::resume::Resume;
use super::targets::{self, Target};
use super::{FailOn, pool};
use crate::check::profile::{Finding, Level, Profile, Verdict};
use crate::check::report::causes::Causes;
use crate::check::report::record::{self, Record};
use crate::check::report::{About, Kind, Report, Style};
use crate::check::{Seen, Settings, Subject, diagnose};
use crate::error::{Error, ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What is asked of every image.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) profiles: Vec<Arc<Profile>>,
    pub(super) settings: &'a Settings,
    pub(super) ignored: &'a [String],
    pub(super) full_scan: bool,
    pub(super) fail_on: FailOn,
    pub(super) threads: usize,
    pub(super) all: bool,
    /// Count free space where it is not written down.
    pub(super) counts: bool,
    pub(super) common: Common,
}

/// What came of an image.
enum Done {
    /// It was checked now.
    Now(Vec<Report>),
    /// It had been, before.
    Before(Vec<Record>),
}

/// What was found in an image: the same about it for every profile, and each one's findings.
struct Looked {
    about: Option<Arc<About>>,
    diagnosis: Option<Arc<Seen>>,
    findings: Vec<Result<Vec<Finding>>>,
}

/// What all images come to.
#[derive(Debug, Default)]
struct Sum {
    images: usize,
    first_failed: Option<Exit>,
    failed: usize,
    is_no: bool,
    is_undecided: bool,
}

impl Batch<'_> {
    /// Checks, and reports.
    pub(super) fn run(
        &self,
        names: &[Name],
        targets: &mut [Target],
        mut resume: Option<Resume>,
    ) -> Result<Exit> {
        let many = names.len() > 1;
        // Of many images, people get a line each as it is known, and at the end what the lines have in common.
        let brief =
            targets.iter().position(|target| many && target.is_stdout() && target.form.name == "text");
        let keeps = targets
            .iter()
            .enumerate()
            .any(|(at, target)| target.is_whole() && (brief != Some(at) || self.all));
        let lines = targets::style(brief.is_some(), &self.common);
        let (mut kept, mut causes, mut sum) = (Vec::new(), Causes::default(), Sum::default());
        let mut progress = Progress::new(names.len(), &self.common);
        if let Some(odd) = resume.as_ref().map(|resume| resume.odd).filter(|odd| *odd > 0) {
            out::say(&self.common, &format!("--resume: {odd} lines are no reports, and were passed over"));
        }
        let asked = self.asked();
        let known: Vec<Option<Vec<Record>>> = names
            .iter()
            .map(|name| {
                let shown = plan::shown(&name.image);
                resume.as_ref()?.known(&shown, name.version.as_deref(), &asked, &self.profiles)
            })
            .collect();
        let items: Vec<(&Name, Option<Vec<Record>>)> = names.iter().zip(known).collect();
        let work = |(name, known): &(&Name, Option<Vec<Record>>)| match known {
            Some(records) => Done::Before(records.clone()),
            None => Done::Now(self.one(name, &asked)),
        };
        pool::ordered(&items, self.threads, work, |done| {
            let records: Vec<Record> = match &done {
                Done::Now(reports) => reports.iter().map(Record::of).collect(),
                Done::Before(records) => records.clone(),
            };
            progress.clear();
            if let Done::Now(reports) = done {
                if let Some(resume) = &mut resume {
                    resume.add(&reports)?;
                }
                sum.complain(&reports, many, &self.common);
                for target in targets.iter_mut() {
                    target.each(&reports)?;
                }
                if keeps {
                    kept.extend(reports);
                }
            }
            sum.add(&records, self.fail_on.level());
            if many {
                let line = record::line(&records, &lines);
                match brief.and_then(|at| targets.get_mut(at)) {
                    Some(target) => target.put(&format!("{line}\n"))?,
                    None => out::say(&self.common, &line),
                }
                records.iter().for_each(|record| causes.add(record));
            }
            progress.step();
            Ok(())
        })?;
        progress.clear();
        for (at, target) in targets.iter_mut().enumerate() {
            if brief == Some(at) {
                target.put(&format!("\n{}", causes.text(&Style { all: self.all, ..lines.clone() })))?;
                if !self.all {
                    continue;
                }
                target.put("\n")?;
            }
            target.whole(&kept)?;
        }
        Ok(sum.exit(self.fail_on))
    }

    /// What was asked besides the profiles: reports that were made otherwise do not stand for this one.
    fn asked(&self) -> String {
        let mut asked = format!("imgmount {}", env!("CARGO_PKG_VERSION"));
        for (name, value) in self.settings.all() {
            asked.push_str(&format!(" --set {name}={value}"));
        }
        for rule in self.ignored {
            asked.push_str(&format!(" --ignore {rule}"));
        }
        if self.full_scan {
            asked.push_str(" --full-scan");
        }
        asked
    }

    /// Checks one image. A fault of ours spoils that one only.
    fn one(&self, name: &Name, asked: &str) -> Vec<Report> {
        let image = plan::shown(&name.image);
        let checked = catch_unwind(AssertUnwindSafe(|| self.looked_at(name, &image)));
        let Looked { about, diagnosis, findings } = checked.unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Internal, format!("{image}: the check broke off"));
            Looked {
                about: None,
                diagnosis: None,
                findings: self.profiles.iter().map(|_| Err(error.clone())).collect(),
            }
        });
        let reports = self.profiles.iter().zip(findings).map(|(profile, findings)| Report {
            image: image.clone(),
            version: name.version.clone(),
            asked: Some(asked.to_owned()),
            about: about.clone(),
            profile: Arc::clone(profile),
            findings,
            diagnosis: diagnosis.clone(),
        });
        reports.collect()
    }

    fn looked_at(&self, name: &Name, image: &str) -> Looked {
        let stack = match plan::open_or_tell(&name.image, &self.common) {
            Ok(stack) => stack,
            Err((error, file)) => {
                let diagnosis = diagnose::of_error(&error, file.as_deref(), image).map(Arc::new);
                let findings = self.profiles.iter().map(|_| Err(error.clone())).collect();
                return Looked { about: None, diagnosis, findings };
            }
        };
        // What one profile's rules have read, the next one's need not read again.
        let subject = Subject::new(&stack, self.settings, self.full_scan);
        let findings = self.profiles.iter().map(|profile| Ok(profile.run(&subject, self.ignored))).collect();
        Looked { about: Some(Arc::new(About::of(&stack, self.counts))), diagnosis: None, findings }
    }
}

impl Sum {
    /// An image that could not be opened: with a report on stdout, the error stands in it; this is for who reads along.
    fn complain(&mut self, reports: &[Report], many: bool, common: &Common) {
        let Some(Err(error)) = reports.first().map(|report| &report.findings) else { return };
        self.first_failed.get_or_insert(Exit::of(error));
        if !many {
            out::report(error, &Common { json: false, ..common.clone() });
        }
    }

    fn add(&mut self, records: &[Record], level: Option<Level>) {
        self.images = self.images.saturating_add(1);
        if records.iter().any(|record| record.error.is_some()) {
            self.failed = self.failed.saturating_add(1);
            return;
        }
        let Some(level) = level else { return };
        for record in records {
            self.is_no |= record.has(Kind::Blocker, level);
            self.is_undecided |= record.has(Kind::Undecided, level) || record.verdict == Verdict::Undecided;
        }
    }

    /// 1 wins over everything but a run in which nothing could be opened; undecided wins over 0.
    fn exit(&self, fail_on: FailOn) -> Exit {
        match self.first_failed {
            Some(exit) if self.failed == self.images => exit,
            _ if self.is_no => Exit::NO,
            _ if self.failed > 0 => Exit::PARTIAL,
            _ if self.is_undecided && fail_on != FailOn::Never => Exit::PARTIAL,
            _ => Exit::OK,
        }
    }
}
