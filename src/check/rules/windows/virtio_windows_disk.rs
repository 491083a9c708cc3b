//! Would Windows find its disk on virtio?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::drivers::{Lack, device};
use crate::guest::windows::keys::Keys;

pub(in crate::check) struct VirtioWindowsDisk;

impl Check for VirtioWindowsDisk {
    fn id(&self) -> &'static str {
        "virtio-windows-disk"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "A driver for virtio disks (params: services, such as viostor or vioscsi) must be registered, start with the boot loader \
             (Start 0, no StartOverride), have its file for the right machine, and be bound to a device (params: devices, PCI ids such \
             as 1001; else those of virtio-blk and virtio-scsi): by CriticalDeviceDatabase up to Windows 7, by the driver database \
             from Windows 8 on, or because the device was there before.",
            "必须已注册 virtio 磁盘驱动（参数 services，如 viostor、vioscsi），由引导加载程序启动（Start 为 0 且无 StartOverride），驱动文件存在且架构正确，并与设备绑定（参数 devices，PCI 编号如 1001；默认为 virtio-blk 和 virtio-scsi）：Windows 7 及更早依据 CriticalDeviceDatabase，Windows 8 起依据驱动数据库，或该设备曾经存在过。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("services", ParamKind::Words), Param::optional("devices", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let services = args.words("services")?;
        let devices = if args.has("devices") { args.words("devices")? } else { DISKS.to_vec() };
        let devices: Vec<String> = devices.into_iter().map(device).collect();
        let (mut nearest, mut doubt): (Option<Lack>, _) = (None, None);
        for name in &services {
            match keys.boot_driver(name, &devices) {
                Ok(Ok(evidence)) => {
                    return Seen::new(words!(
                        "The disk driver {name} is installed, starts with the boot loader and is bound to virtio's device.",
                        "磁盘驱动 {name} 已安装，随引导加载程序启动，并已绑定 virtio 设备。"
                    ))
                    .all(evidence)
                    .pass();
                }
                Ok(Err(lack)) => {
                    let is_nearer = nearest.as_ref().is_none_or(|known| lack.nearness() > known.nearness());
                    if is_nearer {
                        nearest = Some(lack);
                    }
                }
                Err(error) => doubt = doubt.or(Some(error)),
            }
        }
        if let Some(error) = doubt {
            return Err(error);
        }
        said(&services, &devices, nearest.unwrap_or(Lack::Absent(None))).fail()
    }
}

/// virtio-blk and virtio-scsi, each as a legacy and as a modern device (virtio 1.2, 4.1.2).
const DISKS: &[&str] = &["1001", "1042", "1004", "1048"];

/// Why Windows would not find its disk.
fn said(services: &[&str], devices: &[String], lack: Lack) -> Seen {
    let attach = |name: &str| {
        words!(
            "on the source attach a second disk of type virtio and start it once, or: pnputil /add-driver {name}.inf /install",
            "在源虚拟机上挂载一块 virtio 类型的数据盘并启动一次，或执行：pnputil /add-driver {name}.inf /install"
        )
    };
    let stop = "0x7B INACCESSIBLE_BOOT_DEVICE";
    match lack {
        Lack::Absent(staged) => {
            let names = services.join(", ");
            let seen = if staged.is_some() {
                words!(
                    "No virtio disk driver is installed, it only lies in the driver store: Windows stops with {stop}.",
                    "未安装 virtio 磁盘驱动，驱动仅存在于驱动存储中：Windows 启动时会蓝屏 {stop}。"
                )
            } else {
                words!(
                    "No virtio disk driver is installed (looked for: {names}): Windows stops with {stop}.",
                    "未安装 virtio 磁盘驱动（已查找：{names}）：Windows 启动时会蓝屏 {stop}。"
                )
            };
            Seen::new(seen).all(staged).fix(attach(services.first().copied().unwrap_or("viostor")))
        }
        Lack::File(service, file) => {
            let (name, path) = (&service.name, &file.path);
            let seen = if file.is_there {
                words!(
                    "The disk driver {name} is registered, but its file {path} is no program.",
                    "磁盘驱动 {name} 已注册，但驱动文件 {path} 不是有效的程序。"
                )
            } else {
                words!(
                    "The disk driver {name} is registered, but its file {path} is not there.",
                    "磁盘驱动 {name} 已注册，但驱动文件 {path} 不存在。"
                )
            };
            Seen::new(seen)
                .all([service.evidence, file.evidence])
                .fix(words!("install the virtio drivers again", "重新安装 virtio 驱动"))
        }
        Lack::Machine(service, file) => {
            let (path, machine) = (&file.path, file.machine.as_deref().unwrap_or_default());
            Seen::new(words!(
                "The file of the disk driver, {path}, is for {machine}, which the system is not.",
                "磁盘驱动文件 {path} 适用于 {machine}，与系统架构不符。"
            ))
            .all([service.evidence, file.evidence])
            .fix(words!(
                "install the virtio drivers of the system's own architecture",
                "安装与系统架构一致的 virtio 驱动"
            ))
        }
        Lack::Late(service) => {
            let (name, when) = (&service.name, service.when());
            let fix = words!(
                "on the source: sc.exe config {name} start= boot",
                "在源系统中执行：sc.exe config {name} start= boot"
            );
            Seen::new(words!(
                "The disk driver {name} is installed, but its start is '{when}' and must be 'boot': Windows stops with {stop}.",
                "磁盘驱动 {name} 已安装，但启动类型为 '{when}'，应为 'boot'：Windows 启动时会蓝屏 {stop}。"
            ))
            .at(service.evidence)
            .fix(fix)
        }
        Lack::HeldBack(service, over) => {
            let name = &service.name;
            let fix = words!(
                "on the source: reg delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\{name}\\StartOverride /f",
                "在源系统中执行：reg delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\{name}\\StartOverride /f"
            );
            Seen::new(words!(
                "The disk driver {name} has Start 0, but its StartOverride keeps the boot loader from starting it.",
                "磁盘驱动 {name} 的 Start 为 0，但 StartOverride 使引导加载程序不启动它。"
            ))
            .all([service.evidence, over])
            .fix(fix)
        }
        Lack::Unbound(service) => {
            let (name, ids) = (&service.name, devices.join(", "));
            let fix = attach(name);
            Seen::new(words!(
                "The disk driver {name} starts at boot, but nothing binds it to virtio's device ({ids}): Windows stops with {stop}.",
                "磁盘驱动 {name} 会在引导时启动，但未与 virtio 设备（{ids}）绑定：Windows 启动时会蓝屏 {stop}。"
            ))
            .at(service.evidence)
            .fix(fix)
        }
    }
}
