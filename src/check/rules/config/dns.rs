//! Will the guest find a name server?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::network::Network;
use crate::guest::resolver::Resolver;

pub(in crate::check) struct Dns;

impl Check for Dns {
    fn id(&self) -> &'static str {
        "dns"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/etc/resolv.conf must name a server, or something that starts at boot must write it: a DHCP client, \
             NetworkManager, cloud-init. One that names the guest itself (127.0.0.53), or is a link of a service, needs \
             that service.",
            "/etc/resolv.conf 必须写有 DNS 服务器，或由开机启动的程序写入：DHCP 客户端、NetworkManager、cloud-init。\
             指向本机（127.0.0.53）或链接到某服务的文件，需要该服务开机启动。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let resolver = guest.fact::<Resolver>()?;
        let is_local = |server: &[u8]| server.starts_with(b"127.") || server == b"::1";
        let outside = resolver.servers.iter().find(|(server, _)| !is_local(server.as_bytes()));
        if let Some((server, evidence)) = outside {
            return Seen::new(words!(
                "/etc/resolv.conf names a server: {server}.",
                "/etc/resolv.conf 中有 DNS 服务器：{server}。"
            ))
            .at(evidence.clone())
            .pass();
        }
        if let Some(by) = resolver.written_by {
            return Seen::new(words!(
                "{by} writes /etc/resolv.conf at boot.",
                "{by} 会在开机时写入 /etc/resolv.conf。"
            ))
            .all(resolver.servers.iter().map(|(_, evidence)| evidence.clone()))
            .pass();
        }
        let is_its_own = !resolver.servers.is_empty() || resolver.link.is_some();
        if let Some(service) = resolver.local.clone().filter(|_| is_its_own) {
            return Seen::new(words!(
                "A service of the guest answers, which starts at boot.",
                "由开机启动的本机服务解析域名。"
            ))
            .at(service)
            .pass();
        }
        if let Some(why) = guest.fact::<Network>()?.unclear.first() {
            return Err(Error::unsupported(why.clone()));
        }
        let fix = words!(
            "have the service start (systemctl enable systemd-resolved), or write 'nameserver ADDRESS' into /etc/resolv.conf",
            "让该服务开机启动（systemctl enable systemd-resolved），或在 /etc/resolv.conf 中写入 'nameserver 地址'"
        );
        let seen = match (resolver.servers.first(), &resolver.link) {
            (Some((server, evidence)), _) => Seen::new(words!(
                "/etc/resolv.conf names {server}, where nothing answers that starts at boot.",
                "/etc/resolv.conf 指向 {server}，但没有开机启动的服务应答。"
            ))
            .at(evidence.clone()),
            (None, Some((target, evidence))) => Seen::new(words!(
                "/etc/resolv.conf leads to {target}, which nothing writes that starts at boot.",
                "/etc/resolv.conf 链接到 {target}，但没有开机启动的服务会写入它。"
            ))
            .at(evidence.clone()),
            (None, None) => Seen::new(words!(
                "/etc/resolv.conf names no server, and nothing writes it that starts at boot.",
                "/etc/resolv.conf 中没有 DNS 服务器，也没有开机启动的程序会写入它。"
            )),
        };
        seen.fix(fix).fail()
    }
}
