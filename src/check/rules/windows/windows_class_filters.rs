//! Do filters of the disk name drivers that are gone?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::{Keys, plain};

pub(in crate::check) struct WindowsClassFilters;

impl Check for WindowsClassFilters {
    fn id(&self) -> &'static str {
        "windows-class-filters"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The classes of disks, volumes and controllers list filters (UpperFilters, LowerFilters). A filter whose service or file is \
             gone, as a removed backup or antivirus program leaves it, keeps the class from starting: Windows stops with 0x7B.",
            "磁盘、卷和控制器设备类列有过滤驱动（UpperFilters、LowerFilters）。若过滤驱动的服务或文件已不存在（卸载备份或杀毒软件后的残留），该类设备将无法启动，Windows 会蓝屏 0x7B。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let mut passed = Vec::new();
        for (class, what) in CLASSES {
            let Some(key) = keys.current(&format!("Control\\Class\\{class}"))? else { continue };
            for value in ["UpperFilters", "LowerFilters"] {
                for name in key.texts(value)?.iter().map(plain).filter(|name| !name.is_empty()) {
                    let fix = words!(
                        "on the source remove '{name}' from {value} of HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{class}",
                        "在源系统的 HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{class} 中，从 {value} 删除 '{name}'"
                    );
                    let seen = key.says(value, &name);
                    let Some(service) = keys.service(&name)? else {
                        return Seen::new(words!(
                            "The {what} have a filter, {name}, that is not installed: Windows stops with 0x7B.",
                            "设备类 {what} 的过滤驱动 {name} 未安装：Windows 启动时会蓝屏 0x7B。"
                        ))
                        .at(seen)
                        .fix(fix)
                        .fail();
                    };
                    let file = keys.binary(&service)?;
                    if !file.is_there {
                        let path = &file.path;
                        return Seen::new(words!(
                            "The {what} have a filter, {name}, whose file {path} is not there: Windows stops with 0x7B.",
                            "设备类 {what} 的过滤驱动 {name} 的文件 {path} 不存在：Windows 启动时会蓝屏 0x7B。"
                        ))
                        .all([seen, file.evidence])
                        .fix(fix)
                        .fail();
                    }
                    passed.push(seen);
                }
            }
        }
        Seen::new(words!(
            "Every filter of disks, volumes and controllers has its driver.",
            "磁盘、卷和控制器的过滤驱动均存在。"
        ))
        .all(passed)
        .pass()
    }
}

/// The classes that the system's volume is reached through: Microsoft, "System-Defined Device Setup Classes".
const CLASSES: &[(&str, &str)] = &[
    ("{4d36e967-e325-11ce-bfc1-08002be10318}", "disks (DiskDrive)"),
    ("{71a27cdd-812a-11d0-bec7-08002be2092f}", "volumes (Volume)"),
    ("{4d36e97b-e325-11ce-bfc1-08002be10318}", "controllers (SCSIAdapter)"),
    ("{4d36e96a-e325-11ce-bfc1-08002be10318}", "controllers (HDC)"),
    ("{4d36e97d-e325-11ce-bfc1-08002be10318}", "buses (System)"),
];
