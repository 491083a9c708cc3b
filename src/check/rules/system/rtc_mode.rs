//! Does the guest keep its hardware clock in UTC?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::Evidence;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::os_release;

pub(in crate::check) struct RtcMode;

/// A file of an init system before systemd, and the values of a key in it that say local time.
struct Older {
    path: &'static str,
    key: &'static [u8],
    local: &'static [&'static [u8]],
}

const OLDER: &[Older] = &[
    Older { path: "/etc/sysconfig/clock", key: b"UTC", local: &[b"false", b"no", b"0"] },
    Older { path: "/etc/sysconfig/clock", key: b"HWCLOCK", local: &[b"--localtime"] },
    Older { path: "/etc/default/rcS", key: b"UTC", local: &[b"no"] },
    Older { path: "/etc/conf.d/hwclock", key: b"clock", local: &[b"local"] },
];

impl Check for RtcMode {
    fn id(&self) -> &'static str {
        "rtc-mode"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The hardware clock of a cloud's machine is in UTC. The third line of /etc/adjtime must not say LOCAL \
             (hwclock(8)); without that file the clock is taken for UTC, unless a file of an older init system says \
             local time.",
            "云平台虚拟机的硬件时钟使用 UTC。/etc/adjtime 的第三行不能是 LOCAL（见 hwclock(8)）；没有该文件时按 UTC 处理，\
             除非旧版 init 的配置文件指定了本地时间。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        guest.fstab()?;
        let tree = guest.facts();
        if let Some(file) = file::read(tree, "/etc/adjtime", MAX_CONFIG)?
            && let Some((line, text)) = file.lines().nth(2).filter(|(_, text)| !text.trim_ascii().is_empty())
        {
            let evidence = file.evidence("mode of the hardware clock").line(line, text);
            return match text.trim_ascii() {
                b"LOCAL" => local(evidence),
                _ => Seen::new(words!("The hardware clock is kept in UTC.", "硬件时钟使用 UTC。"))
                    .at(evidence)
                    .pass(),
            };
        }
        if let Some(evidence) = older(tree)? {
            return local(evidence);
        }
        Seen::new(words!(
            "Nothing says that the hardware clock is in local time, so it is taken for UTC.",
            "没有配置将硬件时钟设为本地时间，按 UTC 处理。"
        ))
        .pass()
    }
}

fn local(evidence: Evidence) -> Result<Outcome> {
    Seen::new(words!(
        "The hardware clock is taken for local time; on a machine whose clock is in UTC the time would be wrong.",
        "系统把硬件时钟当作本地时间；在硬件时钟为 UTC 的虚拟机上，系统时间会出错。"
    ))
    .at(evidence)
    .fix(words!(
        "timedatectl set-local-rtc 0   (without systemd: hwclock --systohc --utc)",
        "timedatectl set-local-rtc 0（没有 systemd 时：hwclock --systohc --utc）"
    ))
    .fail()
}

/// The line of an older file that says local time.
fn older(tree: &Tree) -> Result<Option<Evidence>> {
    for older in OLDER {
        let Some(file) = file::read(tree, older.path, MAX_CONFIG)? else { continue };
        // The last assignment counts: these files are read by a shell.
        let lines = file.lines().filter_map(|(line, text)| {
            let (name, value) = os_release::assignment(text)?;
            (name == older.key).then(|| (line, text, value.to_ascii_lowercase()))
        });
        if let Some((line, text, value)) = lines.last()
            && older.local.contains(&value.as_slice())
        {
            return Ok(Some(file.evidence("mode of the hardware clock").line(line, text)));
        }
    }
    Ok(None)
}
