//! Is a guest agent of the platform there?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::Keys;
use crate::guest::windows::programs::Programs;

pub(in crate::check) struct WindowsGuestAgent;

impl Check for WindowsGuestAgent {
    fn id(&self) -> &'static str {
        "windows-guest-agent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "One of some guest agents (params: any_of, names of services or of installed programs, such as QEMU-GA) must be installed; a \
             service must not be disabled.",
            "必须安装其中一个客户机代理（参数 any_of，服务名或已安装程序名，如 QEMU-GA）；其服务不得被禁用。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("any_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let wanted = args.words("any_of")?;
        let mut disabled = None;
        for name in &wanted {
            if let Some(service) = keys.service(name)? {
                if service.is_disabled() {
                    disabled = Some(service);
                    continue;
                }
                return Seen::new(words!(
                    "The guest agent {name} is installed.",
                    "已安装客户机代理 {name}。"
                ))
                .at(service.evidence)
                .pass();
            }
        }
        if let Some(service) = disabled {
            let name = &service.name;
            let fix = words!(
                "on the source: sc.exe config {name} start= auto",
                "在源系统中执行：sc.exe config {name} start= auto"
            );
            return Seen::new(words!(
                "The guest agent {name} is installed, but disabled.",
                "客户机代理 {name} 已安装，但被禁用。"
            ))
            .at(service.evidence)
            .fix(fix)
            .fail();
        }
        if let Some(program) = guest.fact::<Programs>()?.find(&wanted)? {
            let name = &program.name;
            return Seen::new(words!("The guest agent {name} is installed.", "已安装客户机代理 {name}。"))
                .at(program.evidence.clone())
                .pass();
        }
        let wanted = wanted.join(", ");
        Seen::new(words!(
            "No guest agent is installed (any of: {wanted}).",
            "未安装客户机代理（任一即可：{wanted}）。"
        ))
        .fail()
    }
}
