//! Are updates installed that break a start?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::absent;
use crate::guest::windows::updates::Updates;

pub(in crate::check) struct WindowsHotfixesAbsent;

impl Check for WindowsHotfixesAbsent {
    fn id(&self) -> &'static str {
        "windows-hotfixes-absent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "None of some updates (params: names, such as KB5009624) may be installed.",
            "不得安装某些有问题的补丁（参数 names，如 KB5009624）。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("names", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let updates = guest.fact::<Updates>()?;
        let names = args.words("names")?;
        if let Some((name, evidence)) = names.iter().find_map(|name| Some((name, updates.get(name)?))) {
            let digits = name.trim_start_matches("KB");
            return Seen::new(words!(
                "The update {name} is installed, which is known to keep instances from starting.",
                "已安装补丁 {name}，该补丁会导致实例启动异常。"
            ))
            .at(evidence.clone())
            .fix(words!(
                "on the source: wusa /uninstall /kb:{digits}",
                "在源系统中执行：wusa /uninstall /kb:{digits}"
            ))
            .fail();
        }
        let build = guest.windows_product()?.build;
        if updates.listed == 0 && build.is_none_or(|build| build >= 6_000) {
            return Err(absent("the list of packages, Component Based Servicing\\Packages,"));
        }
        Seen::new(words!("None of the bad updates is installed.", "未安装有问题的补丁。")).pass()
    }
}
