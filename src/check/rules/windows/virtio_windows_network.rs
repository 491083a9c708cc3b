//! Would Windows find its network card on virtio?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::drivers::Lack;
use crate::guest::windows::keys::Keys;

pub(in crate::check) struct VirtioWindowsNetwork;

impl Check for VirtioWindowsNetwork {
    fn id(&self) -> &'static str {
        "virtio-windows-network"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "A driver for virtio network cards (params: services, such as netkvm) must be registered and not disabled, with its file for \
             the right machine, or lie in the driver store, from which it is installed when the card is found.",
            "必须已注册 virtio 网卡驱动（参数 services，如 netkvm），未被禁用，驱动文件存在且架构正确；或驱动位于驱动存储中，发现网卡时会自动安装。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("services", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let services = args.words("services")?;
        let (mut nearest, mut doubt): (Option<Lack>, _) = (None, None);
        for name in &services {
            match keys.demand_driver(name) {
                Ok(Ok(evidence)) => {
                    return Seen::new(words!(
                        "The network driver {name} is there for virtio's card.",
                        "virtio 网卡驱动 {name} 已就绪。"
                    ))
                    .all(evidence)
                    .pass();
                }
                Ok(Err(lack)) => {
                    if nearest.as_ref().is_none_or(|known| lack.nearness() > known.nearness()) {
                        nearest = Some(lack);
                    }
                }
                Err(error) => doubt = doubt.or(Some(error)),
            }
        }
        if let Some(error) = doubt {
            return Err(error);
        }
        said(&services, nearest.unwrap_or(Lack::Absent(None))).fail()
    }
}

/// Why there would be no network.
fn said(services: &[&str], lack: Lack) -> Seen {
    let first = services.first().copied().unwrap_or("netkvm");
    let install = words!(
        "on the source: pnputil /add-driver {first}.inf /install",
        "在源系统中执行：pnputil /add-driver {first}.inf /install"
    );
    match lack {
        Lack::Late(service) | Lack::HeldBack(service, _) | Lack::Unbound(service) => {
            let name = &service.name;
            let fix = words!(
                "on the source: sc.exe config {name} start= demand",
                "在源系统中执行：sc.exe config {name} start= demand"
            );
            Seen::new(words!(
                "The network driver {name} is installed, but disabled.",
                "网卡驱动 {name} 已安装，但被禁用。"
            ))
            .at(service.evidence)
            .fix(fix)
        }
        Lack::File(service, file) => {
            let (name, path) = (&service.name, &file.path);
            let seen = if file.is_there {
                words!(
                    "The network driver {name} is registered, but its file {path} is no program.",
                    "网卡驱动 {name} 已注册，但驱动文件 {path} 不是有效的程序。"
                )
            } else {
                words!(
                    "The network driver {name} is registered, but its file {path} is not there.",
                    "网卡驱动 {name} 已注册，但驱动文件 {path} 不存在。"
                )
            };
            Seen::new(seen).all([service.evidence, file.evidence]).fix(install)
        }
        Lack::Machine(service, file) => {
            let (path, machine) = (&file.path, file.machine.as_deref().unwrap_or_default());
            Seen::new(words!(
                "The file of the network driver, {path}, is for {machine}, which the system is not.",
                "网卡驱动文件 {path} 适用于 {machine}，与系统架构不符。"
            ))
            .all([service.evidence, file.evidence])
            .fix(install)
        }
        Lack::Absent(_) => {
            let names = services.join(", ");
            Seen::new(words!(
                "No virtio network driver is installed (looked for: {names}): the instance has no network.",
                "未安装 virtio 网卡驱动（已查找：{names}）：实例将没有网络。"
            ))
            .fix(install)
        }
    }
}
