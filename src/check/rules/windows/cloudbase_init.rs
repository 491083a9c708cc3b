//! Is cloudbase-init installed, and will it run?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::cloudbase::Cloudbase;
use crate::guest::windows::services::Start;

pub(in crate::check) struct CloudbaseInit;

impl Check for CloudbaseInit {
    fn id(&self) -> &'static str {
        "cloudbase-init"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "cloudbase-init must be registered as a service that is not disabled, and its program be there.",
            "cloudbase-init 必须注册为未被禁用的服务，且程序文件存在。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let found = guest.fact::<Cloudbase>()?;
        let Some(service) = &found.service else {
            return Seen::new(words!(
                "cloudbase-init is not installed: there is no such service.",
                "未安装 cloudbase-init：没有该服务。"
            ))
            .all(found.config.clone())
            .fix(words!(
                "install CloudbaseInitSetup_x64.msi on the source, with its service set to start at boot",
                "在源系统中安装 CloudbaseInitSetup_x64.msi，并设为开机启动"
            ))
            .fail();
        };
        if let Some(program) = &found.missing {
            return Seen::new(words!(
                "cloudbase-init is registered, but its program is not there: {program}.",
                "cloudbase-init 已注册，但程序文件不存在：{program}。"
            ))
            .at(service.evidence.clone())
            .fix(words!("install cloudbase-init again on the source", "在源系统中重新安装 cloudbase-init"))
            .fail();
        }
        if service.start != Some(Start::Auto) {
            let when = service.when();
            return Seen::new(words!(
                "cloudbase-init is installed, but its start is '{when}', not 'auto'.",
                "cloudbase-init 已安装，但启动类型为 '{when}'，不是 'auto'。"
            ))
            .at(service.evidence.clone())
            .fix(words!(
                "on the source: sc.exe config cloudbase-init start= auto",
                "在源系统中执行：sc.exe config cloudbase-init start= auto"
            ))
            .fail();
        }
        Seen::new(words!(
            "cloudbase-init is installed and starts at boot.",
            "cloudbase-init 已安装并开机启动。"
        ))
        .at(service.evidence.clone())
        .all(found.config.clone())
        .pass()
    }
}
