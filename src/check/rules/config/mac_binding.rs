//! Is the network bound to the hardware address of the source machine's card?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::network::{CloudNetwork, Interface, LinkFiles, Network};

pub(in crate::check) struct MacBinding;

impl Check for MacBinding {
    fn id(&self) -> &'static str {
        "mac-binding"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No configuration that is in force may name the hardware address or the connection of a card, to match it or \
             to set it: HWADDR and MACADDR of ifcfg files, match: macaddress of netplan, mac-address of NetworkManager, \
             MACAddress= of .network and .link files, hwaddress of ifupdown. The target's card has another one. A file of \
             cloud-init is written anew and does not count; rules of udev are persistent-net-rules.",
            "生效的网络配置不得绑定或设置网卡的 MAC 地址或连接位置：ifcfg 的 HWADDR、MACADDR，netplan 的 match: macaddress，\
             NetworkManager 的 mac-address，.network 和 .link 文件的 MACAddress=，ifupdown 的 hwaddress。目标机器的网卡地址不同。\
             由 cloud-init 重新生成的文件不计入；udev 规则见 persistent-net-rules。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let network = guest.fact::<Network>()?;
        let writes = guest.fact::<CloudNetwork>().is_ok_and(|cloud| cloud.writes.is_some());
        let is_kept = |one: &&Interface| one.at_boot && !(writes && one.is_of_cloud_init());
        let mut found = Vec::new();
        for binding in network.interfaces.iter().filter(is_kept).flat_map(|one| one.bindings.iter()) {
            found.push((binding.text.to_string(), binding.evidence.clone()));
        }
        for link in &guest.fact::<LinkFiles>()?.files {
            let is_of_cloud = writes && link.name.windows(10).any(|part| part == b"cloud-init");
            if let Some(bound) = link.bound.as_ref().filter(|_| !is_of_cloud) {
                found.push((crate::text::escape(bound.as_bytes()).to_string(), link.evidence.clone()));
            }
        }
        if let Some((_, first)) = found.first() {
            let path = first.path.clone().unwrap_or_default();
            let names = found.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(", ");
            return Seen::new(words!(
                "The network is bound to a card of the source machine: {names}.",
                "网络配置绑定了源机器的网卡：{names}。"
            ))
            .all(found.iter().map(|(_, evidence)| evidence.clone()))
            .fix(words!("remove that line from {path}", "从 {path} 中删除该行"))
            .fail();
        }
        match network.unclear.first() {
            Some(why) => Err(Error::unsupported(why.clone())),
            None => Seen::new(words!(
                "No configuration of the network is bound to a card.",
                "网络配置没有绑定网卡。"
            ))
            .pass(),
        }
    }
}
