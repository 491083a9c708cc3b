//! Is cloud-init installed, and will it run?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::admin::Admin;
use crate::text::Text;

pub(in crate::check) struct CloudInit;

impl Check for CloudInit {
    fn id(&self) -> &'static str {
        "cloud-init"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "cloud-init must be installed (as a package or as a Python module), start at boot, and not be disabled by its \
             marker file or the kernel's argument. Configuration files left behind by a removed package do not count.",
            "必须安装 cloud-init（软件包或 Python 模块）、开机启动，且未被标记文件或内核参数禁用。软件包卸载后残留的配置文件不算。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = guest.cloud_init()?;
        let admin = guest.fact::<Admin>()?;
        let Some(installed) = &found.installed else {
            let list = guest.packages()?;
            let (why, why_zh) = match list.manager {
                None => ("there is no package list".to_owned(), "没有软件包列表".to_owned()),
                Some(manager) if list.get("cloud-init").is_some() => (
                    format!("{manager} lists it, but its program is gone"),
                    format!("{manager} 中有记录，但程序已不存在"),
                ),
                Some(manager) => {
                    let count = list.installed.len();
                    (
                        format!("it is not among the {count} packages of {manager}"),
                        format!("{manager} 的 {count} 个软件包中没有它"),
                    )
                }
            };
            let install = admin.install("cloud-init");
            return Seen::new(words!(
                "cloud-init is not installed: {why}, and no Python has its module.",
                "未安装 cloud-init：{why_zh}，Python 中也没有其模块。"
            ))
            .fix(words!("{install}", "{install}"))
            .fail();
        };
        if let Some(disabled) = &found.disabled {
            let seen =
                Seen::new(words!("cloud-init is installed but disabled.", "cloud-init 已安装，但被禁用。"))
                    .all([installed.clone(), disabled.clone()]);
            let path = disabled.path.clone().unwrap_or_default();
            let name =
                path.as_bytes().rsplit(|byte| *byte == b'/').next().map(Text::from).unwrap_or_default();
            return match path.as_bytes() {
                b"/etc/cloud/cloud-init.disabled" => seen.fix(words!("rm {path}", "rm {path}")),
                mask if mask.starts_with(b"/etc/systemd/") => {
                    seen.fix(words!("systemctl unmask {name}", "systemctl unmask {name}"))
                }
                _ => seen.fix(words!(
                    "take cloud-init=disabled out of the kernel's line in {path}",
                    "从 {path} 的内核命令行中去掉 cloud-init=disabled"
                )),
            }
            .fail();
        }
        let Some(enabled) = &found.enabled else {
            let enable = admin.enable(&["cloud-init-local", "cloud-init", "cloud-config", "cloud-final"]);
            return Seen::new(words!(
                "cloud-init is installed, but nothing starts it at boot.",
                "cloud-init 已安装，但没有设置开机启动。"
            ))
            .at(installed.clone())
            .fix(words!("{enable}", "{enable}"))
            .fail();
        };
        Seen::new(words!("cloud-init is installed and starts at boot.", "cloud-init 已安装并会开机启动。"))
            .all([installed.clone(), enabled.clone()])
            .pass()
    }
}
