//! `imgmount check`: would a cloud's private-image import accept this image?

use super::{Common, Exit, out, plan};
use crate::check::profile::{self, Level, Profile, Verdict};
use crate::check::report::{About, Report};
use crate::check::{Settings, Subject, checks, diagnose};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::sync::Arc;

mod targets;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images to check
    #[arg(value_name = "IMAGE", required_unless_present_any = ["list_profiles", "list_rules"])]
    images: Vec<OsString>,
    /// Clouds to check against, or all [default: all; none beside --profile-file]
    #[arg(
        short,
        long = "profile",
        value_name = "LIST",
        value_delimiter = ',',
        env = "IMGMOUNT_PROFILE"
    )]
    profiles: Vec<String>,
    /// Check against a profile of your own, a file like those of --list-profiles; repeatable
    #[arg(long, value_name = "FILE")]
    profile_file: Vec<std::path::PathBuf>,
    /// What the cloud's import call will be told (diskFormat=vhd, platform=CentOS, forceImport=true); repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Exit with 1 at this level
    #[arg(long, value_name = "LEVEL", default_value = "blocker")]
    fail_on: FailOn,
    /// Leave this rule out of the verdict; repeatable
    #[arg(long, value_name = "RULE")]
    ignore: Vec<String>,
    /// Write a report, to stdout or to FILE; repeatable
    #[arg(long, value_name = "text|json|jsonl|sarif|junit|md|html[=FILE]")]
    report: Vec<String>,
    /// Read the whole disk where that decides a rule
    #[arg(long)]
    full_scan: bool,
    /// List the rules that passed, too
    #[arg(long)]
    all: bool,
    /// List the profiles
    #[arg(long)]
    list_profiles: bool,
    /// List the rules
    #[arg(long)]
    list_rules: bool,
}

/// When a check ends with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// A blocker failed
    Blocker,
    /// A blocker or a warning failed
    Warning,
    /// Never; nor with 6
    Never,
}

impl FailOn {
    const fn level(self) -> Option<Level> {
        match self {
            Self::Blocker => Some(Level::Blocker),
            Self::Warning => Some(Level::Warning),
            Self::Never => None,
        }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let profiles = profiles(args)?;
    if args.list_profiles {
        list_profiles(&profiles, common);
        return Ok(Exit::OK);
    }
    if args.list_rules {
        list_rules(common);
        return Ok(Exit::OK);
    }
    let settings = Settings::parse(&args.set)?;
    let mut targets = targets::open(&args.report, args.all, args.fail_on.level(), common)?;
    let ids: Vec<&str> =
        profiles.iter().flat_map(|profile| &profile.rules).map(profile::Rule::id).collect();
    if let Some(unknown) = args.ignore.iter().find(|rule| !ids.contains(&rule.as_str())) {
        return Err(Error::new(ErrorKind::Usage, format!("--ignore: no rule '{unknown}'"))
            .help(format!("rules: {}", ids.join(", "))));
    }
    // Only the picture of a page is worth counting the free space for.
    let counts = targets.iter().any(|target| target.form.name == "html");
    let mut reports = Vec::new();
    let mut failed: Vec<Exit> = Vec::new();
    let profiles: Vec<Arc<Profile>> = profiles.into_iter().map(Arc::new).collect();
    for image in &args.images {
        let opened = plan::open_or_tell(image, common);
        let name = plan::shown(image);
        let mut diagnosis = None;
        if let Err((error, file)) = &opened {
            diagnosis = diagnose::of_error(error, file.as_deref(), &name).map(Arc::new);
            failed.push(Exit::of(error));
            // With a report on stdout, the error stands in it; here it is for who reads along.
            out::report(error, &Common { json: false, ..common.clone() });
        }
        let about = opened.as_ref().ok().map(|stack| Arc::new(About::of(stack, counts)));
        for profile in &profiles {
            let findings = match &opened {
                Ok(stack) => {
                    let subject = Subject::new(stack, &settings, args.full_scan);
                    Ok(profile.run(&subject, &args.ignore))
                }
                Err((error, _)) => Err(error.clone()),
            };
            reports.push(Report {
                image: name.clone(),
                version: None,
                about: about.clone(),
                profile: Arc::clone(profile),
                findings,
                diagnosis: diagnosis.clone(),
            });
        }
    }
    for target in &mut targets {
        target.each(&reports)?;
        target.whole(&reports)?;
    }
    Ok(exit(&reports, &failed, args.images.len(), args.fail_on))
}

/// Those of `--profile`, then those of `--profile-file`.
fn profiles(args: &Args) -> Result<Vec<Profile>> {
    let names = match args.profiles.as_slice() {
        [] if args.profile_file.is_empty() => &["all".to_owned()][..],
        names => names,
    };
    let mut found = profile::by_names(names)?;
    for path in &args.profile_file {
        let shown = plan::shown(path.as_os_str());
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Source, format!("{shown}: the profile cannot be read")).caused_by(error)
        })?;
        let own = Profile::parse(&text).map_err(|error| error.context(&shown))?;
        if found.iter().any(|profile| profile.id == own.id) {
            return Err(Error::new(ErrorKind::Usage, format!("{shown}: a profile '{}' is there already", own.id)));
        }
        found.push(own);
    }
    Ok(found)
}

/// 1 wins over everything but a run in which nothing could be opened; undecided wins over 0.
fn exit(reports: &[Report], failed: &[Exit], images: usize, fail_on: FailOn) -> Exit {
    if failed.len() == images
        && let Some(exit) = failed.first()
    {
        return *exit;
    }
    let Some(level) = fail_on.level() else {
        return if failed.is_empty() { Exit::OK } else { Exit::PARTIAL };
    };
    let findings = || reports.iter().filter_map(|report| report.findings.as_ref().ok()).flatten();
    if findings().any(|finding| finding.fails_at(level)) {
        return Exit::NO;
    }
    let undecided = findings().any(|finding| finding.is_undecided_at(level))
        || reports.iter().any(|report| report.verdict() == Verdict::Undecided);
    if undecided || !failed.is_empty() { Exit::PARTIAL } else { Exit::OK }
}

fn list_profiles(profiles: &[Profile], common: &Common) {
    if common.json {
        let list: Vec<_> = profiles
            .iter()
            .map(|profile| {
                serde_json::json!({
                    "id": profile.id, "title": profile.title, "document": profile.document, "url": profile.url,
                    "document_date": profile.document_date, "checked_on": profile.checked_on,
                    "rules": profile.rules.iter().map(|rule| rule.check.as_str()).collect::<Vec<&str>>(),
                })
            })
            .collect();
        out::json(&serde_json::json!({"schema": "imgmount.profiles/1", "profiles": list}));
        return;
    }
    for profile in profiles {
        out::data(&format!(
            "{:<12} {}\n{:<12} {} rules; {} ({}), compared {}\n",
            profile.id,
            profile.title,
            "",
            profile.rules.len(),
            profile.url,
            profile.document_date,
            profile.checked_on
        ));
    }
}

fn list_rules(common: &Common) {
    if common.json {
        let list: Vec<_> = checks()
            .map(|check| serde_json::json!({"id": check.id(), "explain": check.explain().en}))
            .collect();
        out::json(&serde_json::json!({"schema": "imgmount.rules/1", "rules": list}));
        return;
    }
    for check in checks() {
        out::data(&format!("{}\n", check.id()));
        for line in wrap(check.explain().en, 96) {
            out::data(&format!("    {line}\n"));
        }
    }
}

/// Lines of at most `width` characters, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len().saturating_add(word.len()) < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
