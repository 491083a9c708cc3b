//! Is QEMU's guest agent not installed?

use super::guest_agent::QEMU;
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::admin::Admin;

pub(in crate::check) struct GuestAgentAbsent;

impl Check for GuestAgentAbsent {
    fn id(&self) -> &'static str {
        "guest-agent-absent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "QEMU's guest agent must not be installed, neither as a package nor without one: it would work against the cloud's \
             own agent.",
            "不得安装 QEMU guest agent（qemu-ga），无论是否来自软件包：它会与云平台自己的组件冲突。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = QEMU.find(guest)?;
        if found.installed.is_none() {
            return Seen::new(words!("qemu-ga is not installed.", "未安装 qemu-ga。")).pass();
        }
        let remove = guest.fact::<Admin>()?.remove("qemu-guest-agent");
        Seen::new(words!("qemu-ga is installed.", "已安装 qemu-ga。"))
            .all(found.evidence())
            .fix(words!("{remove}", "{remove}"))
            .fail()
    }
}
