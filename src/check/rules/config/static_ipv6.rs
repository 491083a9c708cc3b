//! Has the guest no static IPv6 address?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::network::{Address, CloudNetwork, Interface, Network};

pub(in crate::check) struct StaticIpv6;

impl Check for StaticIpv6 {
    fn id(&self) -> &'static str {
        "static-ipv6"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No IPv6 address may be written down in the configuration of a card that is set up at boot: it belongs to the \
             network of the source machine, and some clouds have no IPv6. Router advertisements and DHCPv6 do not count, \
             nor does a file of cloud-init, which is written anew.",
            "开机启用的网卡配置中不得写有 IPv6 地址：它属于源机器的网络，而且有的云平台不支持 IPv6。路由器通告和 DHCPv6 不计入；\
             由 cloud-init 重新生成的文件也不计入。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let network = guest.fact::<Network>()?;
        let writes = guest.fact::<CloudNetwork>().is_ok_and(|cloud| cloud.writes.is_some());
        let is_kept = |interface: &&Interface| !(writes && interface.is_of_cloud_init());
        let found: Vec<(&Interface, &Address)> = network
            .cards()
            .filter(is_kept)
            .flat_map(|one| one.addresses.iter().map(move |address| (one, address)))
            .filter(|(_, address)| address.is_v6())
            .collect();
        if let Some((first, _)) = found.first() {
            let names: Vec<String> =
                found.iter().map(|(one, address)| format!("{} {}", one.name(), address.text)).collect();
            let names = names.join(", ");
            let path = first.evidence.path.clone().unwrap_or_default();
            return Seen::new(words!(
                "An IPv6 address is written down: {names}.",
                "配置了静态 IPv6 地址：{names}。"
            ))
            .all(found.iter().map(|(_, address)| address.evidence.clone()))
            .fix(words!("remove it from {path}", "从 {path} 中删除该地址"))
            .fail();
        }
        match network.unclear.first() {
            Some(why) => Err(Error::unsupported(why.clone())),
            None => Seen::new(words!("No IPv6 address is written down.", "没有配置静态 IPv6 地址。")).pass(),
        }
    }
}
