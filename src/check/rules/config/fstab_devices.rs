//! Is every device there that `fstab` needs at boot?

use super::lines::{list, sort, switch_off};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct FstabDevices;

impl Check for FstabDevices {
    fn id(&self) -> &'static str {
        "fstab-devices"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Every device of /etc/fstab that is mounted at boot must be in the image: an absent one without nofail \
             leaves the guest in emergency mode. Not counted: nofail, noauto, automounts, network and kernel file \
             systems, and swap, which only delays the boot.",
            "/etc/fstab 中开机挂载的每个设备都必须在镜像中：缺少设备且没有 nofail 选项时，系统会停在紧急模式。\
             不计入：nofail、noauto、自动按需挂载、网络文件系统、内核文件系统，以及只会延迟启动的 swap。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let fstab = guest.fstab()?;
        let needed = fstab.lines.iter().filter(|line| line.is_needed_at_boot() && !line.is_swap());
        let sorted = sort(guest, subject, needed);
        if !sorted.absent.is_empty() {
            let names = list(&sorted.absent);
            let (en, zh) = (names.en, names.zh);
            return Seen::new(words!(
                "/etc/fstab mounts what is not in this image, and the guest would stop in emergency mode: {en}.",
                "/etc/fstab 挂载了镜像中不存在的设备，系统启动时会停在紧急模式：{zh}。"
            ))
            .all(sorted.absent.iter().map(|line| line.evidence.clone()))
            .fix(switch_off(&sorted.absent))
            .fail();
        }
        if let Some(why) = sorted.unsure.into_iter().next() {
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let present = sorted.present.len();
        Seen::new(words!(
            "Every device that /etc/fstab needs at boot is there ({present}).",
            "/etc/fstab 开机所需的设备都在镜像中（{present} 个）。"
        ))
        .all(fstab.lines.iter().map(|line| line.evidence.clone()).take(4))
        .pass()
    }
}
