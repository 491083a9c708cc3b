//! `--why CODE`: what a cloud may mean by a code, held against images; without an image, what it means.

use super::super::{Common, Exit, explain, out, plan};
use super::{Args, targets};
use crate::check::profile::Profile;
use crate::check::report::{About, Report, why};
use crate::check::{Outcome, Settings, Subject, handbook};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

pub(super) fn run(code: &str, profiles: &[Profile], args: &Args, common: &Common) -> Result<Exit> {
    let behind: Vec<Arc<Profile>> =
        profiles.iter().filter_map(|profile| profile.behind(code)).map(Arc::new).collect();
    if behind.is_empty() {
        let shown = crate::text::escape(code.as_bytes());
        return Err(Error::new(ErrorKind::Usage, format!("--why: no profile here knows a code '{shown}'"))
            .help(format!("codes: {}", explain::codes(profiles))));
    }
    if args.images.is_empty() {
        explain::answer(&[code.to_owned()], profiles, handbook::code, common)?;
        return Ok(Exit::OK);
    }
    let settings = Settings::parse(&args.set)?;
    let mut reports = Vec::new();
    let mut exits = out::Tally::default();
    for image in &args.images {
        let opened = plan::open(image, common);
        if let Err(error) = &opened {
            exits.failed(error);
            out::report(error, &Common { json: false, ..common.clone() });
        } else {
            exits.done();
        }
        let about = opened.as_ref().ok().map(|stack| Arc::new(About::of(stack, false)));
        for profile in &behind {
            let run = |stack| profile.run(&Subject::new(stack, &settings, args.full_scan), &args.ignore);
            reports.push(Report {
                image: plan::shown(image),
                version: None,
                asked: None,
                about: about.clone(),
                diagnosis: None,
                profile: Arc::clone(profile),
                findings: opened.as_ref().map(run).map_err(Error::clone),
            });
        }
    }
    let style = targets::style(true, common);
    out::data(&if common.json { why::document(code, &reports) } else { why::text(code, &reports, &style) });
    let outcomes = || reports.iter().flat_map(Report::findings).map(|finding| &finding.outcome);
    if outcomes().any(|outcome| matches!(outcome, Outcome::Fail(_))) {
        exits.no();
    } else if outcomes().any(|outcome| matches!(outcome, Outcome::Unknown(_))) {
        exits.partial();
    }
    Ok(exits.exit())
}
