//! Does an agent run that the host talks to?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::Guest;
use crate::guest::admin::Admin;
use crate::guest::program::{BIN, Presence, Program, service_files};

pub(in crate::check) struct GuestAgent;

/// The name of QEMU's agent among the wanted.
const QEMU_GA: &str = "qemu-ga";

/// QEMU's guest agent, in every distribution.
pub(super) const QEMU: Program<'_> = Program {
    packages: &["qemu-guest-agent"],
    services: &["qemu-guest-agent", "qemu-ga"],
    files: &["/usr/bin/qemu-ga", "/usr/sbin/qemu-ga", "/usr/local/bin/qemu-ga"],
};

impl Check for GuestAgent {
    fn id(&self) -> &'static str {
        "guest-agent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "One of the wanted agents (params: any_of) must be installed and start at boot or with its device. qemu-ga stands \
             for QEMU's guest agent; any other name is looked for as a package, a service and a program of that name.",
            "必须安装要求的组件之一（参数 any_of），并随开机或其设备启动。qemu-ga 指 QEMU guest agent；其他名称按同名的软件包、服务和程序查找。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("any_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let wanted = args.words("any_of")?;
        let (mut idle, mut unread) = (None, None);
        for name in &wanted {
            let found = match find(guest, name) {
                Ok(found) => found,
                Err(error) => {
                    unread.get_or_insert(error);
                    continue;
                }
            };
            if found.starts.is_some() {
                return Seen::new(words!("{name} is installed and starts.", "{name} 已安装并会启动。"))
                    .all(found.evidence())
                    .pass();
            }
            if found.installed.is_some() {
                idle.get_or_insert((*name, found));
            }
        }
        if let Some(error) = unread {
            return Err(error);
        }
        let admin = guest.fact::<Admin>()?;
        if let Some((name, found)) = idle {
            let service = if name == QEMU_GA { "qemu-guest-agent" } else { name };
            let enable = admin.enable(&[service]);
            return Seen::new(words!(
                "{name} is installed, but nothing starts it.",
                "{name} 已安装，但没有任何设置会启动它。"
            ))
            .all(found.evidence())
            .fix(words!("{enable}", "{enable}"))
            .fail();
        }
        let (any, any_zh) = (wanted.join(" or "), wanted.join(" 或 "));
        let seen = Seen::new(words!("No {any} is installed.", "未安装 {any_zh}。"));
        match wanted.first() {
            Some(&QEMU_GA) => {
                let install = admin.install("qemu-guest-agent");
                seen.fix(words!("{install}", "{install}")).fail()
            }
            _ => seen.fail(),
        }
    }
}

fn find(guest: &Guest, name: &str) -> Result<Presence> {
    if name == QEMU_GA {
        return QEMU.find(guest);
    }
    let files: Vec<String> =
        BIN.iter().map(|dir| format!("{dir}{name}")).chain(service_files(name)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    Program { packages: &[name], services: &[name], files: &files }.find(guest)
}
