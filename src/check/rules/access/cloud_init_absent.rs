//! Is cloud-init not installed?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::admin::Admin;

pub(in crate::check) struct CloudInitAbsent;

impl Check for CloudInitAbsent {
    fn id(&self) -> &'static str {
        "cloud-init-absent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "cloud-init must not be installed, neither as a package nor as a Python module: it would work against the cloud's \
             own agent. That it is disabled is not enough. Configuration files left behind do not count.",
            "不得安装 cloud-init，无论是软件包还是 Python 模块：它会与云平台自己的组件冲突。仅禁用是不够的。残留的配置文件不算。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = guest.cloud_init()?;
        let Some(installed) = &found.installed else {
            return Seen::new(words!("cloud-init is not installed.", "未安装 cloud-init。")).pass();
        };
        let by_package = guest.packages().is_ok_and(|list| list.get("cloud-init").is_some());
        let remove = match by_package {
            true => guest.fact::<Admin>()?.remove("cloud-init"),
            false => "pip uninstall cloud-init".to_owned(),
        };
        Seen::new(match found.runs() {
            true => words!("cloud-init is installed and starts at boot.", "cloud-init 已安装并会开机启动。"),
            false => words!(
                "cloud-init is installed, though it does not run.",
                "cloud-init 已安装，虽然不会运行。"
            ),
        })
        .at(installed.clone())
        .all(found.enabled.clone())
        .fix(words!("{remove}; rm -rf /var/lib/cloud", "{remove}; rm -rf /var/lib/cloud"))
        .fail()
    }
}
