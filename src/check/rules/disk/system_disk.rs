//! Is this a system disk?

use crate::check::cause::no_system;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;

pub(in crate::check) struct SystemDisk;

impl Check for SystemDisk {
    fn id(&self) -> &'static str {
        "system-disk"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image must be of a system disk: an operating system must be on it. A data disk is imported in another way, \
             if at all. Decided as root-partition decides.",
            "镜像必须是系统盘：其中必须有操作系统。数据盘需以其他方式导入（若支持）。判断方法与 root-partition 相同。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        if subject.stack.guests.is_empty() {
            return no_system(subject, &words!("This is not a system disk.", "这不是系统盘。"));
        }
        let disk = subject.system_disk();
        let (id, names) = (
            disk.id,
            subject.stack.guests.iter().map(|guest| guest.title()).collect::<Vec<String>>().join(", "),
        );
        let message = words!("It is a system disk: {names}.", "这是系统盘：{names}。");
        Seen::new(message).at(Evidence::new("an operating system is on it").on(id)).pass()
    }
}
