//! Is the firewall off?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::firewall::Firewall;

pub(in crate::check) struct WindowsFirewall;

impl Check for WindowsFirewall {
    fn id(&self) -> &'static str {
        "windows-firewall"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No profile of Windows' firewall may filter: EnableFirewall is 0 for domain, private and public, by group policy or else by the \
             machine's own setting, or nothing starts the firewall's service.",
            "Windows 防火墙的所有配置文件都不得启用：域、专用、公用的 EnableFirewall 均为 0（组策略优先于本机设置），或防火墙服务未启动。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let firewall = guest.fact::<Firewall>()?;
        let on: Vec<_> = firewall.on().collect();
        if on.is_empty() {
            return Seen::new(words!("The firewall is off.", "防火墙已关闭。"))
                .all(firewall.disabled.clone())
                .all(firewall.profiles.iter().map(|profile| profile.evidence.clone()))
                .pass();
        }
        let names = on.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ");
        Seen::new(words!("The firewall is on for: {names}.", "防火墙已启用：{names}。"))
            .all(on.iter().map(|profile| profile.evidence.clone()))
            .fix(words!(
                "on the source: netsh advfirewall set allprofiles state off",
                "在源系统中执行：netsh advfirewall set allprofiles state off"
            ))
            .fail()
    }
}
