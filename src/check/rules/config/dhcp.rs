//! Does the guest ask for its address by DHCP?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::network::{Backend, CloudNetwork, Interface, Method, Network};
use crate::text::escape;

pub(in crate::check) struct Dhcp;

impl Check for Dhcp {
    fn id(&self) -> &'static str {
        "dhcp"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The guest must ask for its IPv4 address by DHCP: a static one belongs to the network of the source machine. \
             Looked at are ifcfg files, /etc/network/interfaces, netplan, NetworkManager, systemd-networkd, wicked, \
             dhcpcd and connman, each only if its service starts at boot; and cloud-init, which writes the configuration \
             at the first boot on a new machine unless that is switched off.",
            "系统必须通过 DHCP 获取 IPv4 地址：静态地址属于源机器的网络。检查 ifcfg 文件、/etc/network/interfaces、netplan、\
             NetworkManager、systemd-networkd、wicked、dhcpcd、connman（仅当其服务开机启动时才计入），以及在新机器首次启动时\
             会写入网络配置的 cloud-init（未被关闭时）。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let network = guest.fact::<Network>()?;
        let cloud = guest.fact::<CloudNetwork>();
        let writes = cloud.as_ref().is_ok_and(|cloud| cloud.writes.is_some());
        let is_kept = |interface: &&Interface| !(writes && interface.is_of_cloud_init());
        let fixed: Vec<&Interface> =
            network.cards().filter(|one| one.v4 == Method::Static).filter(is_kept).collect();
        if !fixed.is_empty() {
            return is_static(&fixed, writes).fail();
        }
        if let Some(why) = network.unclear.first() {
            return Err(Error::unsupported(why.clone()));
        }
        if let Some(asks) = network.cards().find(|one| one.v4 == Method::Dhcp) {
            let (name, by) = (asks.name(), asks.backend.name());
            return Seen::new(words!(
                "{name} asks for its address by DHCP ({by}).",
                "{name} 通过 DHCP 获取地址（{by}）。"
            ))
            .at(asks.evidence.clone())
            .pass();
        }
        if let Some((backend, evidence)) = network.automatic.first() {
            let by = backend.name();
            return Seen::new(words!(
                "{by} asks for an address by DHCP on every card.",
                "{by} 会在每块网卡上通过 DHCP 获取地址。"
            ))
            .at(evidence.clone())
            .pass();
        }
        if let Some(starts) = cloud?.writes.clone() {
            return Seen::new(words!(
                "cloud-init sets the network up at the first boot, by DHCP unless the cloud says otherwise.",
                "cloud-init 会在首次启动时配置网络，云平台未另行指定时使用 DHCP。"
            ))
            .at(starts)
            .pass();
        }
        nothing(&network)
    }
}

fn is_static(fixed: &[&Interface], writes: bool) -> Seen {
    let name = |one: &&Interface| {
        let address = one.addresses.iter().find(|address| !address.is_v6());
        let address = address.map_or_else(String::new, |address| format!(" {}", address.text));
        format!("{}{address}", one.name())
    };
    let names = fixed.iter().map(name).collect::<Vec<_>>().join(", ");
    let message = if writes {
        words!(
            "An address is static: {names}. cloud-init sets the network up at the first boot, but leaves this file as it is.",
            "存在静态地址：{names}。cloud-init 会在首次启动时配置网络，但不会改动此文件。"
        )
    } else {
        words!(
            "An address is static, and on another network the guest cannot be reached: {names}.",
            "存在静态地址，换到其他网络后将无法访问系统：{names}。"
        )
    };
    let addresses = fixed.iter().flat_map(|one| one.addresses.iter().filter(|address| !address.is_v6()));
    let lines = fixed.iter().map(|one| one.evidence.clone());
    let mut evidence: Vec<_> = lines.chain(addresses.map(|address| address.evidence.clone())).collect();
    evidence.dedup();
    let seen = Seen::new(message).all(evidence);
    match fixed.first() {
        Some(first) => seen.fix(to_dhcp(first)),
        None => seen,
    }
}

/// How this guest's own tools ask for an address.
fn to_dhcp(one: &Interface) -> Words {
    let file = one.evidence.path.clone().unwrap_or_default();
    let shown = escape(file.as_bytes());
    let name = one.name();
    match one.backend {
        Backend::NetworkScripts | Backend::Wicked => words!(
            "set BOOTPROTO=dhcp in {shown} and remove IPADDR, NETMASK, PREFIX and GATEWAY",
            "在 {shown} 中设置 BOOTPROTO=dhcp，并删除 IPADDR、NETMASK、PREFIX、GATEWAY"
        ),
        Backend::Ifupdown => words!(
            "write 'iface {name} inet dhcp' in {shown} and remove address, netmask and gateway below it",
            "在 {shown} 中改为 'iface {name} inet dhcp'，并删除其下的 address、netmask、gateway"
        ),
        Backend::Netplan => words!(
            "set 'dhcp4: true' for {name} in {shown} and remove its addresses and routes, then: netplan generate",
            "在 {shown} 中为 {name} 设置 'dhcp4: true'，删除 addresses 和 routes，然后执行：netplan generate"
        ),
        Backend::NetworkManager => words!(
            "set method=auto below [ipv4] in {shown} and remove the lines address1=… there",
            "在 {shown} 的 [ipv4] 下设置 method=auto，并删除 address1=… 等行"
        ),
        Backend::Networkd => words!(
            "set DHCP=yes below [Network] in {shown} and remove Address= and Gateway=",
            "在 {shown} 的 [Network] 下设置 DHCP=yes，并删除 Address= 和 Gateway="
        ),
        Backend::Dhcpcd | Backend::Connman => {
            words!("remove the address from {shown}", "从 {shown} 中删除该地址")
        }
    }
}

fn nothing(network: &Network) -> Result<Outcome> {
    if let Some(off) = network.interfaces.iter().find(|one| !one.at_boot && one.v4 == Method::Dhcp) {
        let name = off.name();
        return Seen::new(words!(
            "{name} would ask for its address by DHCP, but is not started at boot.",
            "{name} 配置了 DHCP，但不会在开机时启用。"
        ))
        .at(off.evidence.clone())
        .fix(words!(
            "have it started at boot (ONBOOT=yes, auto {name}, autoconnect=true)",
            "设置为开机启用（ONBOOT=yes、auto {name}、autoconnect=true）"
        ))
        .fail();
    }
    if network.backends.is_empty() && network.unused.is_empty() {
        return Err(Error::unsupported(
            "nothing was found that is known to set up a network, and no cloud-init",
        ));
    }
    let names = network.backends.iter().map(|(backend, _)| backend.name()).collect::<Vec<_>>().join(", ");
    let (en, zh) = if names.is_empty() {
        ("no service for the network starts at boot".to_owned(), "没有开机启动的网络服务".to_owned())
    } else {
        (
            format!("{names} starts at boot without such a configuration"),
            format!("{names} 开机启动，但没有相应配置"),
        )
    };
    Seen::new(words!("Nothing asks for an address by DHCP: {en}.", "没有通过 DHCP 获取地址的配置：{zh}。"))
        .all(
            network
                .unused
                .iter()
                .cloned()
                .chain(network.backends.iter().map(|(_, evidence)| evidence.clone()))
                .take(8),
        )
        .fix(words!(
            "configure the first card for DHCP and have the service start at boot, or install cloud-init",
            "为第一块网卡配置 DHCP 并让网络服务开机启动，或安装 cloud-init"
        ))
        .fail()
}
