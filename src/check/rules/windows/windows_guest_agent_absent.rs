//! Is the QEMU guest agent away?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::Keys;
use crate::guest::windows::programs::Programs;

pub(in crate::check) struct WindowsGuestAgentAbsent;

impl Check for WindowsGuestAgentAbsent {
    fn id(&self) -> &'static str {
        "windows-guest-agent-absent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The QEMU guest agent must not be installed: neither its services (QEMU-GA, its VSS provider) nor the program.",
            "不得安装 QEMU 客户机代理：没有其服务（QEMU-GA 及 VSS 提供程序），也没有该程序。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let fix = words!(
            "on the source uninstall \"QEMU guest agent\" (appwiz.cpl)",
            "在源系统中卸载“QEMU guest agent”（appwiz.cpl）"
        );
        let said = words!("The QEMU guest agent is installed.", "已安装 QEMU 客户机代理（qemu-ga）。");
        if let Some(service) = keys.first_service(SERVICES)? {
            return Seen::new(said).at(service.evidence).fix(fix).fail();
        }
        if let Some(program) = guest.fact::<Programs>()?.find(&["QEMU guest agent"])? {
            return Seen::new(said).at(program.evidence.clone()).fix(fix).fail();
        }
        Seen::new(words!("The QEMU guest agent is not installed.", "未安装 QEMU 客户机代理（qemu-ga）。"))
            .pass()
    }
}

const SERVICES: &[&str] = &["QEMU-GA", "QEMU Guest Agent VSS Provider", "qemu-ga"];
