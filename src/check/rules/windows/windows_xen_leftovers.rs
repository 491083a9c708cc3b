//! Are drivers of Xen left that hide the new devices?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::{Keys, plain};
use crate::guest::windows::services::Start;

pub(in crate::check) struct WindowsXenLeftovers;

impl Check for WindowsXenLeftovers {
    fn id(&self) -> &'static str {
        "windows-xen-leftovers"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Services\\XenPCI\\Parameters hide_devices makes the drivers of an old Xen host hide the emulated disk and network; it must be \
             empty. Xen's other drivers must not start with the boot loader.",
            "Services\\XenPCI\\Parameters 的 hide_devices 会让旧的 Xen 驱动隐藏模拟磁盘和网卡，必须为空。其他 Xen 驱动不得随引导加载程序启动。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        if let Some(key) = keys.current("Services\\XenPCI\\Parameters")? {
            let hidden: Vec<String> = match key.texts("hide_devices") {
                Ok(texts) => texts.iter().map(plain).filter(|text| !text.is_empty()).collect(),
                // Of another type than text, it hides nothing only when it has no bytes.
                Err(_) => key
                    .data("hide_devices")?
                    .filter(|data| data.iter().any(|byte| *byte != 0))
                    .map(|_| "?".to_owned())
                    .into_iter()
                    .collect(),
            };
            if let Some(first) = hidden.first() {
                return Seen::new(words!(
                    "The driver XenPCI hides devices ({first}): the disk or the network is not found.",
                    "XenPCI 驱动隐藏了设备（{first}）：将找不到磁盘或网卡。"
                ))
                .at(key.says("hide_devices", first))
                .fix(words!(
                    "on the source: reg delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\XenPCI\\Parameters /v hide_devices /f",
                    "在源系统中执行：reg delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\XenPCI\\Parameters /v hide_devices /f"
                ))
                .fail();
            }
        }
        for name in DRIVERS {
            let Some(service) = keys.service(name)? else { continue };
            if service.start != Some(Start::Boot) {
                continue;
            }
            let name = &service.name;
            let fix = words!(
                "uninstall the Xen tools on the source, or: sc.exe config {name} start= disabled",
                "在源系统中卸载 Xen 工具，或执行：sc.exe config {name} start= disabled"
            );
            return Seen::new(words!(
                "The Xen driver {name} still starts with the boot loader.",
                "Xen 驱动 {name} 仍随引导加载程序启动。"
            ))
            .at(service.evidence)
            .fix(fix)
            .fail();
        }
        Seen::new(words!(
            "No driver of Xen starts at boot or hides devices.",
            "没有残留的 Xen 驱动随引导启动或隐藏设备。"
        ))
        .pass()
    }
}

/// Drivers of XenServer, of the Xen Project and of a cloud's old hosts.
const DRIVERS: &[&str] =
    &["XenPCI", "xenbus", "xenvbd", "xenfilt", "xenvif", "xencrsh", "rhelscsi", "xensvc"];
