//! `--why CODE`: what a cloud may mean by a code, held against images; without an image, what it means.

use super::super::{Common, Exit, explain, out, plan};
use super::{Args, targets};
use crate::check::profile::Profile;
use crate::check::report::{About, Report, why};
use crate::check::{Outcome, Settings, Subject, diagnose, handbook};
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
        let shown = plan::shown(image);
        let opened = plan::open_or_tell(image, common);
        let diagnosis = match &opened {
            Err((error, file)) => {
                exits.failed(error);
                out::report(error, &Common { json: false, ..common.clone() });
                diagnose::of_error(error, file.as_deref(), &shown).map(Arc::new)
            }
            Ok(_) => {
                exits.done();
                None
            }
        };
        let opened = opened.map_err(|(error, _)| error);
        let about = opened.as_ref().ok().map(|stack| Arc::new(About::of(stack, false)));
        // What one profile's rules have read, the next one's need not read again.
        let subject = opened.as_ref().map(|stack| Subject::new(stack, &settings, args.full_scan));
        for profile in &behind {
            reports.push(Report {
                image: shown.clone(),
                version: None,
                asked: None,
                about: about.clone(),
                diagnosis: diagnosis.clone(),
                profile: Arc::clone(profile),
                findings: match &subject {
                    Ok(subject) => Ok(profile.run(subject, &args.ignore)),
                    Err(error) => Err((*error).clone()),
                },
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
