//! Do the firewalls of the guest let a connection to a port in?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::firewall::{Firewalls, Passage};
use crate::guest::network::Network;

pub(in crate::check) struct SshPortOpen;

impl Check for SshPortOpen {
    fn id(&self) -> &'static str {
        "ssh-port-open"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "A new TCP connection to the port (params: port) must get past every firewall that starts at boot. Followed \
             are the rules of iptables and ufw, the default zone of firewalld, and SuSEfirewall2; of nftables only \
             whether it refuses anything at all. Rules that depend on more than the port leave it undecided.",
            "到指定端口（params: port）的新 TCP 连接必须能通过每个开机启动的防火墙。会逐条分析 iptables 和 ufw 的规则、firewalld 的默认区域、\
             SuSEfirewall2；对 nftables 只判断是否拒绝任何流量。取决于端口以外条件的规则无法判定。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("port", ParamKind::Number)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let port = u16::try_from(args.number("port")?)
            .map_err(|_| Error::new(ErrorKind::Internal, "the profile's params.port is no port"))?;
        let firewalls = guest.fact::<Firewalls>()?;
        let mut unclear = None;
        for one in &firewalls.active {
            match one.passage(port) {
                Passage::Open => {}
                Passage::Unknown(why) => {
                    unclear.get_or_insert(why);
                }
                Passage::Blocked => {
                    let name = one.name;
                    let command = match name {
                        "firewalld" => format!("firewall-offline-cmd --add-port={port}/tcp"),
                        "ufw" => format!("ufw allow {port}/tcp"),
                        "SuSEfirewall2" => {
                            format!("add {port} to FW_SERVICES_EXT_TCP in /etc/sysconfig/SuSEfirewall2")
                        }
                        _ => format!("iptables -I INPUT -p tcp --dport {port} -j ACCEPT"),
                    };
                    return Seen::new(words!(
                        "{name} starts at boot and lets no connection to TCP port {port} in.",
                        "{name} 会开机启动，且不放行 TCP {port} 端口。"
                    ))
                    .at(one.starts.clone())
                    .all(one.evidence.clone())
                    .fix(words!("{command}", "{command}"))
                    .fail();
                }
            }
            // A card may be put into another zone than the default one that was judged.
            if let Some(zone) = one.zone()
                && let Some(other) = guest
                    .fact::<Network>()?
                    .cards()
                    .find_map(|card| card.zone.clone().filter(|own| own.as_bytes() != zone.as_bytes()))
            {
                unclear.get_or_insert(format!("a card is in zone {other} of firewalld, which is not judged"));
            }
        }
        if let Some(why) = unclear {
            return Err(Error::unsupported(why));
        }
        let names = firewalls.active.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
        let seen = if names.is_empty() {
            Seen::new(words!(
                "No firewall starts at boot, so TCP port {port} is open.",
                "没有开机启动的防火墙，TCP {port} 端口是开放的。"
            ))
        } else {
            Seen::new(words!(
                "The rules of {names} let connections to TCP port {port} in.",
                "{names} 的规则放行了 TCP {port} 端口。"
            ))
        };
        seen.all(firewalls.active.iter().flat_map(|one| one.evidence.clone())).pass()
    }
}
