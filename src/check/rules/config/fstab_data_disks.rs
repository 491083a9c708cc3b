//! Does `fstab` mount other disks than the root's?

use super::lines::{comment_out, list};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::names::Found;
use crate::text::escape;

pub(in crate::check) struct FstabDataDisks;

impl Check for FstabDataDisks {
    fn id(&self) -> &'static str {
        "fstab-data-disks"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/etc/fstab must mount nothing at boot but what is on the disk of the root: an import brings the system \
             disk alone. What is on another disk of the image counts, and so does what is on none, with nofail too; \
             noauto does not.",
            "/etc/fstab 不得在开机时挂载系统盘以外的磁盘：导入只包含系统盘。位于其他磁盘或镜像中不存在的设备都计入，\
             即使带有 nofail；noauto 不计入。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let devices = &subject.stack.devices;
        let home = devices.iter().find(|device| device.volume == guest.root).map(|device| device.disk);
        let (mut foreign, mut unsure) = (Vec::new(), None);
        for line in guest.fstab()?.lines.iter().filter(|line| line.is_local() && !line.has("noauto")) {
            match guest.find_device(&line.spec(), devices) {
                Found::Device(device) if Some(device.disk) == home => {}
                Found::Device(_) | Found::Absent => foreign.push(line),
                Found::Unsure(why) => {
                    unsure.get_or_insert(format!("{}: {why}", escape(&line.spec)));
                }
            }
        }
        if !foreign.is_empty() {
            let names = list(&foreign);
            let (en, zh, command) = (names.en, names.zh, comment_out(&foreign));
            return Seen::new(words!(
                "/etc/fstab mounts what is not on the system disk: {en}.",
                "/etc/fstab 自动挂载了系统盘以外的设备：{zh}。"
            ))
            .all(foreign.iter().map(|line| line.evidence.clone()))
            .fix(words!("comment it out: {command}", "注释掉该行：{command}"))
            .fail();
        }
        match unsure {
            Some(why) => Err(Error::new(ErrorKind::Unsupported, why)),
            None => Seen::new(words!(
                "/etc/fstab mounts nothing but what is on the system disk.",
                "/etc/fstab 只挂载系统盘上的设备。"
            ))
            .pass(),
        }
    }
}
