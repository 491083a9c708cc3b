//! Does cloud-init ask a data source that the cloud has?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome};
use crate::error::Result;

pub(in crate::check) struct CloudInitDatasource;

impl Check for CloudInitDatasource {
    fn id(&self) -> &'static str {
        "cloud-init-datasource"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The datasource_list of cloud-init, the last one of /etc/cloud/cloud.cfg and cloud.cfg.d, must have one of the \
         cloud's sources (params: any_of). Without a list cloud-init asks all that it knows.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("any_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = guest.cloud_init()?;
        if found.installed.is_none() {
            return Ok(Outcome::NotApplicable("cloud-init is not installed".into()));
        }
        let wanted = args.words("any_of")?;
        let Some(sources) = &found.datasources else {
            return Seen::new("No datasource_list is set, so cloud-init asks every source that it knows.")
                .pass();
        };
        let names: Vec<String> = sources.names.iter().map(ToString::to_string).collect();
        let seen = |message: String| Seen::new(message).at(sources.evidence.clone());
        match names.iter().find(|name| wanted.contains(&name.as_str())) {
            Some(name) => seen(format!("cloud-init asks {name}.")).pass(),
            None => seen(format!("cloud-init asks {}, and not {}.", names.join(", "), wanted.join(" or ")))
                .fix(format!(
                    "datasource_list: [ {} ] in /etc/cloud/cloud.cfg.d/99-datasource.cfg",
                    wanted.join(", ")
                ))
                .fail(),
        }
    }
}
