//! `imgmount check`: would a cloud's private-image import accept this image?

use super::{Common, Exit, out, plan};
use crate::check::profile::{self, Level, Profile};
use crate::check::{Settings, handbook};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::io::Read as _;
use std::sync::Arc;

mod batch;
mod names;
mod pool;
mod progress;
pub(super) mod resume;
pub(super) mod targets;
mod why;

/// Images that are checked at a time, if nobody says: more would mostly wait for the disk.
const MOST_THREADS: usize = 4;
/// Bytes of a profile at most; those that are built in have some 40 KiB.
const MAX_PROFILE: u64 = 4 << 20;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images to check
    #[arg(value_name = "IMAGE", required_unless_present_any = ["list_profiles", "list_rules", "from", "why"])]
    images: Vec<OsString>,
    /// Clouds to check against, or all [default: all; none beside --profile-file]
    #[arg(short, long = "profile", value_name = "LIST", value_delimiter = ',', env = "IMGMOUNT_PROFILE")]
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
    /// Check the images that FILE names, one a line (- for standard input), or all files below a folder; repeatable
    #[arg(long, value_name = "FILE|DIR|-", help_heading = "Many images")]
    from: Vec<OsString>,
    /// Of --from, take the images whose names fit; with a slash in it, the whole name must
    #[arg(long, value_name = "PATTERN", requires = "from", help_heading = "Many images")]
    glob: Option<String>,
    /// Check N images at a time [default: the processors, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Many images")]
    jobs: Option<u16>,
    /// Write each report to FILE as a line of JSON, and leave out the images that stand there already, unchanged; reports of other forms than text have those that were checked now
    #[arg(long, value_name = "FILE", help_heading = "Many images")]
    resume: Option<std::path::PathBuf>,
    /// Read the whole disk where that decides a rule
    #[arg(long)]
    full_scan: bool,
    /// List the rules that passed, too, all places of a finding and all images of a cause
    #[arg(long)]
    all: bool,
    /// Every rule behind a code that a cloud reported, and which of them fired; without an image, what the code means
    #[arg(long, value_name = "CODE")]
    why: Option<String>,
    /// List the profiles
    #[arg(long)]
    list_profiles: bool,
    /// List the rules of the profiles, and what no image can tell
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
        match common.json {
            true => out::json(&handbook::profiles_json(&profiles)),
            false => out::data(&handbook::profiles(&profiles, page(common))),
        }
        return Ok(Exit::OK);
    }
    if args.list_rules {
        match common.json {
            true => out::json(&handbook::rules_json(&profiles)),
            false => out::data(&handbook::rules(&profiles, page(common))),
        }
        return Ok(Exit::OK);
    }
    let settings = Settings::parse(&args.set)?;
    // Files here and there, and each read to its end at most: what is read ahead of that was fetched for nothing.
    let reads_all = args.full_scan || settings.get("sha256").is_some();
    let readahead = common.readahead.or((!reads_all).then_some(0));
    let common = &Common { readahead, ..common.clone() };
    if let Some(code) = &args.why {
        return why::run(code, &profiles, args, common);
    }
    let mut targets = targets::open(&args.report, args.all, args.fail_on.level(), common)?;
    let ids: Vec<&str> = profiles.iter().flat_map(|profile| &profile.rules).map(profile::Rule::id).collect();
    if let Some(unknown) = args.ignore.iter().find(|rule| !ids.contains(&rule.as_str())) {
        return Err(Error::new(ErrorKind::Usage, format!("--ignore: no rule '{unknown}'"))
            .help(format!("rules: {}", ids.join(", "))));
    }
    let names = names::all(&args.images, &args.from, args.glob.as_deref())?;
    let threads = args.jobs.map_or_else(|| threads(names.len()), usize::from);
    let batch = batch::Batch {
        profiles: profiles.into_iter().map(Arc::new).collect(),
        settings: &settings,
        ignored: &args.ignore,
        full_scan: args.full_scan,
        fail_on: args.fail_on,
        threads,
        all: args.all,
        // Only the picture of a page is worth counting the free space for.
        counts: targets.iter().any(|target| target.form.name == "html"),
        // What one image may keep in memory, those of all threads may together.
        common: Common {
            cache: common.cache.checked_div(crate::num::wide(threads)).unwrap_or(0),
            ..common.clone()
        },
    };
    let resume = args.resume.as_deref().map(resume::Resume::open).transpose()?;
    batch.run(&names, &mut targets, resume)
}

/// How many images are checked at a time, if nobody says.
fn threads(images: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(images.max(1))
}

/// How lists and explanations are written.
pub(super) fn page(common: &Common) -> handbook::Page {
    let style = targets::style(true, common);
    handbook::Page { lang: style.lang, width: style.width }
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
        let unread = |error| {
            Error::new(ErrorKind::Source, format!("{shown}: the profile cannot be read")).caused_by(error)
        };
        let mut text = String::new();
        let mut file = std::fs::File::open(path).map_err(unread)?.take(MAX_PROFILE);
        file.read_to_string(&mut text).map_err(unread)?;
        if file.limit() == 0 {
            let what = format!("{shown}: longer than any profile, more than {MAX_PROFILE} bytes");
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let own = Profile::parse(&text).map_err(|error| error.context(&shown))?;
        if found.iter().any(|profile| profile.id == own.id) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{shown}: a profile '{}' is there already", own.id),
            ));
        }
        found.push(own);
    }
    Ok(found)
}
