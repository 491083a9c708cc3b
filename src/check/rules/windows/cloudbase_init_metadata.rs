//! Does cloudbase-init ask a source that the cloud has?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::error::{Error, ErrorKind};
use crate::guest::windows::cloudbase::Cloudbase;

pub(in crate::check) struct CloudbaseInitMetadata;

impl Check for CloudbaseInitMetadata {
    fn id(&self) -> &'static str {
        "cloudbase-init-metadata"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The configuration of cloudbase-init must list a source that the cloud offers (params: any_of, such as ConfigDrive) in \
             metadata_services. Without that line it asks its own defaults.",
            "cloudbase-init 配置文件的 metadata_services 中必须有云平台提供的数据源（参数 any_of，如 ConfigDrive）。没有该行时使用默认列表。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("any_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let found = guest.fact::<Cloudbase>()?;
        if found.service.is_none() {
            return Ok(Outcome::NotApplicable(words!(
                "cloudbase-init is not installed",
                "未安装 cloudbase-init"
            )));
        }
        let Some(config) = &found.config else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "cloudbase-init.conf is not where its service looks for it",
            ));
        };
        let wanted = args.words("any_of")?;
        if let Some(source) = found.source(&wanted) {
            return Seen::new(words!(
                "cloudbase-init asks {source}.",
                "cloudbase-init 使用数据源 {source}。"
            ))
            .at(config.clone())
            .pass();
        }
        let (wanted, asked) = (wanted.join(", "), found.sources.join(", "));
        Seen::new(words!(
            "cloudbase-init asks none of {wanted}, but: {asked}.",
            "cloudbase-init 的数据源中没有 {wanted}，现有：{asked}。"
        ))
        .at(config.clone())
        .fix(words!(
            "in cloudbase-init.conf set metadata_services to a source that the cloud has",
            "在 cloudbase-init.conf 中将 metadata_services 设为云平台的数据源"
        ))
        .fail()
    }
}
