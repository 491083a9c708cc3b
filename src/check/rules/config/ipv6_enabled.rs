//! Is IPv6 switched on?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::network::Ipv6;

pub(in crate::check) struct Ipv6Enabled;

impl Check for Ipv6Enabled {
    fn id(&self) -> &'static str {
        "ipv6-enabled"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "IPv6 must not be switched off for the whole guest: by ipv6.disable=1 on the kernel's line, by \
             net.ipv6.conf.all.disable_ipv6=1 in the files of sysctl (the last one counts), or by an option of the module \
             in modprobe.d.",
            "不得在全系统关闭 IPv6：包括内核参数 ipv6.disable=1、sysctl 文件中的 net.ipv6.conf.all.disable_ipv6=1（以最后一个为准），\
             以及 modprobe.d 中的模块选项。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        match &guest.fact::<Ipv6>()?.off {
            None => Seen::new(words!("Nothing switches IPv6 off.", "没有关闭 IPv6。")).pass(),
            Some(off) => {
                let line = off.excerpt.clone().unwrap_or_default();
                let path = off.path.clone().unwrap_or_default();
                Seen::new(words!("IPv6 is switched off in {path}: {line}.", "{path} 关闭了 IPv6：{line}。"))
                    .at(off.clone())
                    .fix(words!("remove that from {path}", "从 {path} 中删除该设置"))
                    .fail()
            }
        }
    }
}
