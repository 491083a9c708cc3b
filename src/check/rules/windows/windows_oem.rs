//! Was it sold with another machine?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::absent;
use crate::guest::windows::license::License;

pub(in crate::check) struct WindowsOem;

impl Check for WindowsOem {
    fn id(&self) -> &'static str {
        "windows-oem"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The Windows must not be licensed through a machine's maker: the channel in DigitalProductId4 must not begin with OEM, nor \
             ProductId contain OEM. Such a licence is bound to the hardware.",
            "Windows 不得为 OEM 授权：DigitalProductId4 中的渠道不得以 OEM 开头，ProductId 中不得含 OEM。此类授权与硬件绑定。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let license = guest.fact::<License>()?;
        let channel = &license.channel;
        let seen = |words: Words| Seen::new(words).all(license.evidence.clone());
        if license.is_oem() {
            return seen(words!(
                "It is an OEM system ({channel}), whose licence is bound to the machine that it was sold with.",
                "系统为 OEM 版（{channel}），其授权与原机器硬件绑定。"
            ))
            .fix(words!(
                "change to a volume or retail key on the source: slmgr /ipk KEY",
                "在源系统中更换为批量或零售密钥：slmgr /ipk KEY"
            ))
            .fail();
        }
        if channel.is_empty() {
            return Err(absent("the licence channel, in DigitalProductId4,"));
        }
        seen(words!(
            "It is no OEM system: its channel is {channel}.",
            "系统不是 OEM 版：授权渠道为 {channel}。"
        ))
        .pass()
    }
}
