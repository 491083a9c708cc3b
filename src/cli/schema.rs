//! `imgmount schema`: the JSON schemas of what `--json` prints. A document names its own in the field `schema`.

use super::{Common, Exit, out};
use crate::error::{Error, ErrorKind, Result};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A document's name, as in its field schema: check, info, serve; without it, the names there are
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Every schema by its name.
const SCHEMAS: &[(&str, &str)] = &[
    ("check", include_str!("schema/check.json")),
    ("causes", include_str!("schema/causes.json")),
    ("error", include_str!("schema/error.json")),
    ("info", include_str!("schema/info.json")),
    ("list", include_str!("schema/list.json")),
    ("serve", include_str!("schema/serve.json")),
    ("stats", include_str!("schema/stats.json")),
];

pub(super) fn run(args: &Args, _: &Common) -> Result<Exit> {
    let Some(name) = &args.name else {
        SCHEMAS.iter().for_each(|(name, _)| out::data(&format!("{name}\n")));
        return Ok(Exit::OK);
    };
    let wanted = name.strip_prefix("imgmount.").unwrap_or(name);
    let wanted = wanted.strip_suffix("/1").unwrap_or(wanted);
    let Some((_, text)) = SCHEMAS.iter().find(|(name, _)| *name == wanted) else {
        let names: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
        let shown = crate::text::escape(name.as_bytes());
        let error = Error::new(ErrorKind::Usage, format!("no schema '{shown}'"));
        return Err(error.help(format!("one of: {}", names.join(", "))));
    };
    out::data(text);
    Ok(Exit::OK)
}
