//! Does no firewall start at boot?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::firewall::Firewalls;

pub(in crate::check) struct Firewall;

impl Check for Firewall {
    fn id(&self) -> &'static str {
        "firewall"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No firewall of the guest may filter: firewalld, iptables, nftables, ufw, SuSEfirewall2 and others, by the \
             services that start at boot. One that starts with rules that refuse nothing, or ufw with ENABLED=no, does \
             not count.",
            "系统内不得启用会过滤流量的防火墙：按开机启动的服务判断 firewalld、iptables、nftables、ufw、SuSEfirewall2 等。\
             规则不拒绝任何流量的防火墙，以及 ENABLED=no 的 ufw 不计入。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let firewalls = guest.fact::<Firewalls>()?;
        let active: Vec<_> = firewalls.active.iter().filter(|one| one.filters()).collect();
        let Some(first) = active.first() else {
            return Seen::new(words!("No firewall filters after the boot.", "开机后没有启用防火墙。"))
                .all(firewalls.active.iter().flat_map(|one| one.evidence.clone()))
                .pass();
        };
        let names = active.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
        let service = first.service;
        let command = match first.name {
            "ufw" => "ufw disable".to_owned(),
            _ if service.ends_with(".service") => format!("systemctl disable {service}"),
            _ => format!("chkconfig {service} off"),
        };
        Seen::new(words!("A firewall starts at boot: {names}.", "防火墙会开机启动：{names}。"))
            .all(
                active.iter().flat_map(|one| std::iter::once(one.starts.clone()).chain(one.evidence.clone())),
            )
            .fix(words!("{command}", "{command}"))
            .fail()
    }
}
