//! Is cloudbase-init away?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::cloudbase::Cloudbase;
use crate::guest::windows::programs::Programs;

pub(in crate::check) struct CloudbaseInitAbsent;

impl Check for CloudbaseInitAbsent {
    fn id(&self) -> &'static str {
        "cloudbase-init-absent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "cloudbase-init must not be installed: no service of that name, and not among the installed programs.",
            "不得安装 cloudbase-init：没有该服务，也不在已安装程序列表中。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let found = guest.fact::<Cloudbase>()?;
        let fix = words!(
            "on the source uninstall Cloudbase-Init (appwiz.cpl)",
            "在源系统中卸载 Cloudbase-Init（appwiz.cpl）"
        );
        let said = words!("cloudbase-init is installed.", "已安装 cloudbase-init。");
        if let Some(service) = &found.service {
            return Seen::new(said).at(service.evidence.clone()).fix(fix).fail();
        }
        if let Some(program) = guest.fact::<Programs>()?.find(&["cloudbase-init"])? {
            return Seen::new(said).at(program.evidence.clone()).fix(fix).fail();
        }
        Seen::new(words!("cloudbase-init is not installed.", "未安装 cloudbase-init。")).pass()
    }
}
