//! May drivers be installed?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::Keys;

pub(in crate::check) struct WindowsDeviceInstall;

impl Check for WindowsDeviceInstall {
    fn id(&self) -> &'static str {
        "windows-device-install"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "DeviceInstallDisabled must not be set (Services\\DeviceInstall\\Parameters, Services\\PlugPlay\\Parameters): the new machine's \
             devices would get no drivers.",
            "不得设置 DeviceInstallDisabled（Services\\DeviceInstall\\Parameters、Services\\PlugPlay\\Parameters）：否则新硬件无法安装驱动。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        for service in ["DeviceInstall", "PlugPlay"] {
            let Some(key) = keys.current(&format!("Services\\{service}\\Parameters"))? else { continue };
            let Some(number) = key.number(DISABLED)?.filter(|number| *number != 0) else { continue };
            return Seen::new(words!(
                "The installation of drivers is switched off (DeviceInstallDisabled is {number}).",
                "已禁止安装驱动（DeviceInstallDisabled 为 {number}）。"
            ))
            .at(key.says(DISABLED, number))
            .fix(words!(
                "on the source: reg delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\{service}\\Parameters /v {DISABLED} /f",
                "在源系统中执行：reg delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\{service}\\Parameters /v {DISABLED} /f"
            ))
            .fail();
        }
        Seen::new(words!("Drivers may be installed.", "允许安装驱动。")).pass()
    }
}

const DISABLED: &str = "DeviceInstallDisabled";
