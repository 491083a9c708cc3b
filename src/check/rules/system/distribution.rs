//! Is the distribution among those that are listed, and the one that the import will be told?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct Distribution;

impl Check for Distribution {
    fn id(&self) -> &'static str {
        "distribution"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The distribution should be one of those that are listed (params: ids, as ID or ID_LIKE of os-release). With \
         --set platform=P and --set osVersion=V it must also be what the import will be told.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("ids", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let (os, ids) = (guest.os()?, args.words("ids")?);
        if os.id.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "nothing in the guest says which distribution it is",
            ));
        }
        let seen = |message: String| Seen::new(message).all(os.evidence.clone());
        let is =
            |id: &str| std::iter::once(&os.id).chain(&os.like).any(|name| name.as_bytes() == id.as_bytes());
        if let Some(told) = subject.settings.get("platform") {
            let told = told.to_ascii_lowercase();
            let says = os.pretty.to_string().to_ascii_lowercase();
            if !says.contains(&told) && os.id.as_bytes() != told.as_bytes() {
                return seen(format!("The import will be told {told}, but the system is {}.", os.pretty))
                    .fail();
            }
        }
        if let Some(told) = subject.settings.get("osVersion") {
            let full = os.full_version.to_string();
            let matches = |version: &str| {
                version == told || version.strip_prefix(told).is_some_and(|rest| rest.starts_with('.'))
            };
            if !matches(&full) && os.version.as_bytes() != told.as_bytes() {
                return seen(format!("The import will be told version {told}, but the system has {full}."))
                    .fail();
            }
        }
        match ids.iter().find(|id| is(id)) {
            Some(id) if os.id.as_bytes() == id.as_bytes() => seen(format!("{} is listed.", os.pretty)).pass(),
            Some(id) => seen(format!("{} is based on {id}, which is listed.", os.pretty)).pass(),
            None => seen(format!("{} is not among the listed distributions: {}.", os.pretty, ids.join(", ")))
                .fail(),
        }
    }
}
