//! Is every device there that an enabled mount or swap unit of systemd needs?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::names::Found;
use crate::guest::units::Units;
use crate::text::escape;

pub(in crate::check) struct MountUnits;

impl Check for MountUnits {
    fn id(&self) -> &'static str {
        "mount-units"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Every device that an enabled .mount or .swap unit of systemd names must be in the image. One that \
             local-fs.target requires stops the boot in emergency mode; one that is only wanted delays it by 90 seconds. \
             Automounts, nofail and network file systems do not count.",
            "已启用的 systemd .mount 或 .swap 单元所用的设备都必须在镜像中。被 local-fs.target 要求（requires）的单元缺少设备时，\
             系统会停在紧急模式；仅被 wants 的会延迟约 90 秒。自动按需挂载、nofail、网络文件系统不计入。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let units = guest.fact::<Units>()?;
        let mut unsure = None;
        let (mut names, mut evidence, mut first, mut stops) = (Vec::new(), Vec::new(), None, false);
        let waited = |line: &crate::guest::fstab::Line| line.is_local() && line.is_needed_at_boot();
        for unit in units.units.iter().filter(|unit| !unit.is_automatic && waited(&unit.line)) {
            match guest.find_device(&unit.line.spec(), &subject.stack.devices) {
                Found::Device(_) => {}
                Found::Unsure(why) => {
                    unsure.get_or_insert(format!("{}: {why}", unit.name));
                }
                Found::Absent => {
                    names.push(format!("{} ({})", unit.name, escape(&unit.line.spec)));
                    evidence.push(unit.line.evidence.clone());
                    first.get_or_insert(&unit.name);
                    stops |= unit.is_required;
                }
            }
        }
        if let Some(first) = first {
            let names = names.join(", ");
            let message = if stops {
                words!(
                    "Units of systemd mount what is not in this image, and the guest would stop in emergency mode: {names}.",
                    "systemd 单元挂载了镜像中不存在的设备，系统启动时会停在紧急模式：{names}。"
                )
            } else {
                words!(
                    "Units of systemd mount what is not in this image, and each boot waits about 90 seconds: {names}.",
                    "systemd 单元挂载了镜像中不存在的设备，每次启动会等待约 90 秒：{names}。"
                )
            };
            return Seen::new(message)
                .all(evidence)
                .fix(words!("systemctl disable '{first}'", "systemctl disable '{first}'"))
                .fail();
        }
        match unsure {
            Some(why) => Err(Error::new(ErrorKind::Unsupported, why)),
            None => {
                let count = units.units.len();
                Seen::new(words!(
                    "Every device is there that enabled mount units need ({count}).",
                    "已启用的挂载单元所需的设备都在镜像中（{count} 个）。"
                ))
                .all(units.units.iter().map(|unit| unit.line.evidence.clone()).take(4))
                .pass()
            }
        }
    }
}
