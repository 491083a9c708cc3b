//! Is the network set up for the name that the target's card will have?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::{Error, Result};
use crate::guest::network::{CloudNetwork, Interface, LinkFiles, Naming, Network, Scheme};

pub(in crate::check) struct InterfaceNames;

impl Check for InterfaceNames {
    fn id(&self) -> &'static str {
        "interface-names"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The card of the target must get a configuration under the name that it will have. Where the kernel gives the \
             names (net.ifnames=0, or a system from before names by slot) it is eth0; else it is a name by the card's \
             slot, such as ens3, which cannot be known from the image. What is for any name passes: a pattern, \
             NetworkManager's or dhcpcd's own DHCP, cloud-init. With params: wanted the name must be one of these.",
            "目标机器网卡的名称必须有对应的网络配置。由内核命名时（net.ifnames=0，或尚未采用按插槽命名的旧系统）为 eth0；否则是按插槽的\
             名称（如 ens3），无法从镜像得知。适用于任意名称的配置视为通过：通配符、NetworkManager 或 dhcpcd 的自动 DHCP、cloud-init。\
             设置 params: wanted 时，名称必须是其中之一。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("wanted", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let wanted = if args.has("wanted") { args.words("wanted")? } else { Vec::new() };
        let network = guest.fact::<Network>()?;
        let any = |evidence: Evidence| {
            Seen::new(words!(
                "The network is set up whatever the card is called.",
                "无论网卡叫什么名称，网络都会被配置。"
            ))
            .at(evidence)
            .pass()
        };
        // A pattern takes names by slot and eth0 alike only if it is for both.
        let is_general = |one: &&Interface| {
            !one.is_bound() && one.fits(b"eth0") && one.fits(b"enp1s0") && one.fits(b"ens3")
        };
        if let Some(general) = network.cards().find(is_general) {
            return any(general.evidence.clone());
        }
        if let Some((_, evidence)) = network.automatic.first() {
            return any(evidence.clone());
        }
        let cloud = guest.fact::<CloudNetwork>();
        if let Some(starts) = cloud.as_ref().ok().and_then(|cloud| cloud.writes.clone()) {
            return any(starts);
        }
        if let Some(why) = network.unclear.first() {
            return Err(Error::unsupported(why.clone()));
        }
        let bound: Vec<&Interface> = network.cards().filter(|one| !one.names.is_empty()).collect();
        let Some(first) = bound.first() else {
            cloud?;
            return Ok(Outcome::NotApplicable(words!(
                "no card of the network is configured by its name",
                "没有按名称配置的网卡"
            )));
        };
        let names = bound.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
        let naming = guest.fact::<Naming>()?;
        let given = guest.fact::<LinkFiles>()?;
        let seen = |message| {
            Seen::new(message).all(bound.iter().map(|one| one.evidence.clone())).all(naming.evidence.clone())
        };
        let target = |name: &str| bound.iter().any(|one| one.fits(name.as_bytes()));
        if naming.scheme == Scheme::Kernel {
            let missing: Vec<&str> = if wanted.is_empty() { vec!["eth0"] } else { wanted.clone() };
            return if missing.iter().any(|name| target(name)) {
                seen(words!(
                    "The card will be called eth0, which is configured.",
                    "网卡名称将是 eth0，且已有配置。"
                ))
                .pass()
            } else {
                seen(words!(
                    "The card will be called eth0, but only {names} is configured.",
                    "网卡名称将是 eth0，但只配置了 {names}。"
                ))
                .fix(words!("configure eth0 instead of {names}", "改为配置 eth0，而不是 {names}"))
                .fail()
            };
        }
        let is_given = |one: &&&Interface| {
            given.files.iter().any(|link| {
                link.bound.is_none() && link.gives.as_ref().is_some_and(|name| one.fits(name.as_bytes()))
            })
        };
        if bound.iter().any(|one| is_given(&one)) {
            return any(first.evidence.clone());
        }
        let fix = words!(
            "add net.ifnames=0 biosdevname=0 to the kernel's line (/etc/default/grub), rebuild the boot menu, and configure eth0",
            "在内核参数中加入 net.ifnames=0 biosdevname=0（/etc/default/grub），重新生成引导菜单，并配置 eth0"
        );
        let only_kernel_names =
            bound.iter().all(|one| one.names.iter().all(|name| name.as_bytes().starts_with(b"eth")));
        if only_kernel_names {
            return seen(words!(
                "{names} is configured, but this guest names its cards by their slot, such as ens3.",
                "只配置了 {names}，但该系统按插槽命名网卡（例如 ens3）。"
            ))
            .fix(fix)
            .fail();
        }
        if !wanted.is_empty() {
            let wanted = wanted.join(", ");
            return seen(words!(
                "The card must be called {wanted}, but this guest names it by its slot, and {names} is configured.",
                "网卡名称须为 {wanted}，但该系统按插槽命名网卡，且只配置了 {names}。"
            ))
            .fix(fix)
            .fail();
        }
        Err(Error::unsupported(format!(
            "only {names} is configured, a name by the slot of the source machine's card; which slot the target's card has \
             is not known"
        )))
    }
}
