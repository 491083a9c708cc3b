//! Do the connections ask for their addresses?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::network::Interfaces;

pub(in crate::check) struct WindowsDhcp;

impl Check for WindowsDhcp {
    fn id(&self) -> &'static str {
        "windows-dhcp"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Every network connection must get its address by DHCP (EnableDHCP). One with a fixed address keeps it on the card that it was \
             made for. Adapters that are software alone (ROOT, SWD) do not count.",
            "所有网络连接都应通过 DHCP 获取地址（EnableDHCP）。手动设置的地址绑定在原网卡上。纯软件网卡（ROOT、SWD）不计。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let interfaces = guest.fact::<Interfaces>()?;
        let is_real = |device: &str| !device.starts_with("ROOT\\") && !device.starts_with("SWD\\");
        let real = || interfaces.0.iter().filter(|interface| is_real(&interface.device));
        let fixed: Vec<_> = real().filter(|interface| !interface.is_dhcp).collect();
        let Some(first) = fixed.first() else {
            let count = real().count();
            return Seen::new(words!(
                "No network connection has a fixed address ({count} known); a new card uses DHCP.",
                "没有网络连接使用固定地址（共 {count} 个连接）；新网卡默认使用 DHCP。"
            ))
            .all(real().map(|interface| interface.evidence.clone()))
            .pass();
        };
        let (name, address) = (&first.name, first.addresses.join(", "));
        Seen::new(words!(
            "The connection '{name}' has a fixed address ({address}) instead of DHCP.",
            "网络连接“{name}”使用固定地址（{address}），未启用 DHCP。"
        ))
        .all(fixed.iter().map(|interface| interface.evidence.clone()))
        .fix(words!(
            "on the source: netsh interface ip set address name=\"{name}\" source=dhcp",
            "在源系统中执行：netsh interface ip set address name=\"{name}\" source=dhcp"
        ))
        .fail()
    }
}
