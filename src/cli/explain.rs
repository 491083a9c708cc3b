//! `imgmount explain`: what a rule asks, or what a code of a cloud means, at length.

use super::{Common, Exit, check, out, plan};
use crate::check::handbook::{self, Page};
use crate::check::profile::{self, Profile};
use crate::error::{Error, ErrorKind, Result};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rules of check --list-rules, or codes that a cloud reports
    #[arg(value_name = "RULE|CODE", required = true)]
    topics: Vec<String>,
    /// Only what these clouds ask [default: all]
    #[arg(short, long = "profile", value_name = "LIST", value_delimiter = ',')]
    profiles: Vec<String>,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let profiles = match args.profiles.as_slice() {
        [] => profile::all()?,
        names => profile::by_names(names)?,
    };
    let either = |topic: &str, profiles: &[Profile], page: Page| {
        handbook::rule(topic, profiles, page).or_else(|| handbook::code(topic, profiles, page))
    };
    answer(&args.topics, &profiles, either, common)?;
    Ok(Exit::OK)
}

/// Prints what the handbook says of some topics.
pub(super) fn answer(
    topics: &[String],
    profiles: &[Profile],
    look_up: impl Fn(&str, &[Profile], Page) -> Option<String>,
    common: &Common,
) -> Result<()> {
    let page = check::page(common);
    let (mut texts, mut documents) = (Vec::new(), Vec::new());
    for topic in topics {
        texts.push(look_up(topic, profiles, page).ok_or_else(|| unknown(topic, profiles))?);
        documents.extend(handbook::topic_json(topic, profiles));
    }
    if common.json {
        out::json(&serde_json::json!({"schema": "imgmount.explain/1", "topics": documents}));
    } else {
        out::data(&texts.join("\n"));
    }
    Ok(())
}

/// Nothing is called that; what nearly is, or every code that there is.
fn unknown(topic: &str, profiles: &[Profile]) -> Error {
    let shown = crate::text::escape(topic.as_bytes());
    let rules = profiles.iter().flat_map(|profile| profile.rules.iter().map(profile::Rule::id));
    let near = rules
        .chain(profiles.iter().flat_map(Profile::codes))
        .map(|name| (plan::edits(&topic.to_lowercase(), &name.to_lowercase()), name))
        .min()
        .filter(|(edits, _)| *edits <= 3);
    let help = match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("codes: {}; rules: imgmount check --list-rules", codes(profiles)),
    };
    Error::new(ErrorKind::Usage, format!("no rule and no code '{shown}'")).help(help)
}

/// Every code of some profiles, once.
pub(super) fn codes(profiles: &[Profile]) -> String {
    let codes: std::collections::BTreeSet<&str> = profiles.iter().flat_map(Profile::codes).collect();
    codes.into_iter().collect::<Vec<&str>>().join(", ")
}
