//! Does cloud-init ask a data source that the cloud has?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words};
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
            "cloud-init 的 datasource_list（/etc/cloud/cloud.cfg 及 cloud.cfg.d 中最后一个）必须包含云平台的数据源之一（参数 any_of）。\
             未设置列表时，cloud-init 会询问它所知道的全部数据源。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("any_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = guest.cloud_init()?;
        if found.installed.is_none() {
            return Ok(Outcome::NotApplicable(words!("cloud-init is not installed", "未安装 cloud-init")));
        }
        let wanted = args.words("any_of")?;
        let Some(sources) = &found.datasources else {
            return Seen::new(words!(
                "No datasource_list is set, so cloud-init asks every source that it knows.",
                "未设置 datasource_list，cloud-init 会询问它所知道的全部数据源。"
            ))
            .pass();
        };
        let names: Vec<String> = sources.names.iter().map(ToString::to_string).collect();
        let seen = |message: Words| Seen::new(message).at(sources.evidence.clone());
        if let Some(name) = names.iter().find(|name| wanted.contains(&name.as_str())) {
            return seen(words!("cloud-init asks {name}.", "cloud-init 会询问 {name}。")).pass();
        }
        let (asked, asked_zh) = match names.is_empty() {
            true => ("nothing".to_owned(), "不询问任何数据源".to_owned()),
            false => (names.join(", "), format!("询问 {}", names.join("、"))),
        };
        let (any, any_zh, list) = (wanted.join(" or "), wanted.join(" 或 "), wanted.join(", "));
        seen(words!("cloud-init asks {asked}, and not {any}.", "cloud-init {asked_zh}，而不是 {any_zh}。"))
            .fix(words!(
                "datasource_list: [ {list} ] in /etc/cloud/cloud.cfg.d/99-datasource.cfg",
                "在 /etc/cloud/cloud.cfg.d/99-datasource.cfg 中写入 datasource_list: [ {list} ]"
            ))
            .fail()
    }
}
