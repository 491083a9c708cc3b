//! Was it shut down, or only put to sleep?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::power::{Power, Sleep};

pub(in crate::check) struct WindowsHibernation;

impl Check for WindowsHibernation {
    fn id(&self) -> &'static str {
        "windows-hibernation"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "hiberfil.sys must not hold a sleeping system (its first bytes are hibr): another machine cannot wake it. With fast startup a \
             plain shutdown sleeps too.",
            "hiberfil.sys 中不得有休眠的系统（开头为 hibr）：其他机器无法唤醒它。启用快速启动时，普通关机也是休眠。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let power = guest.fact::<Power>()?;
        let seen = |words: Words| Seen::new(words).all(power.file.clone()).all(power.fast_startup.clone());
        let fix = words!(
            "on the source: powercfg /h off, then shutdown /s /t 0, and make the image again",
            "在源系统中执行 powercfg /h off 和 shutdown /s /t 0，再重新制作镜像"
        );
        match (power.sleep, &power.fast_startup) {
            (Sleep::Asleep, Some(_)) => seen(words!(
                "Windows is asleep in hiberfil.sys (fast startup): another machine cannot wake it.",
                "Windows 处于休眠状态（hiberfil.sys，快速启动）：其他机器无法唤醒它。"
            ))
            .fix(fix)
            .fail(),
            (Sleep::Asleep, None) => seen(words!(
                "Windows is hibernated in hiberfil.sys: another machine cannot wake it.",
                "Windows 处于休眠状态（hiberfil.sys）：其他机器无法唤醒它。"
            ))
            .fix(fix)
            .fail(),
            (Sleep::Waking, _) => seen(words!(
                "The disk was copied while Windows was waking from hiberfil.sys.",
                "复制磁盘时 Windows 正在从 hiberfil.sys 唤醒。"
            ))
            .fix(fix)
            .fail(),
            (Sleep::Awake, _) => {
                seen(words!("Windows is not hibernated.", "Windows 未处于休眠状态。")).pass()
            }
        }
    }
}
