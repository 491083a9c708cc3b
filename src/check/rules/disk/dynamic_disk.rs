//! Is the disk a basic one, not a dynamic disk of Windows?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;

pub(in crate::check) struct DynamicDisk;

/// Partition types of a dynamic disk: MBR, and GPT for its database and its data (`winioctl.h`).
const TYPES: &[&str] =
    &["0x42", "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "af9b60a0-1431-4f62-bc68-3311714a69ad"];

impl Check for DynamicDisk {
    fn id(&self) -> &'static str {
        "dynamic-disk"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The disk of a Windows must be a basic disk: a dynamic one (Logical Disk Manager) keeps its volumes in a database of \
             its own, which imports do not read. Known by the type of its partitions and by that database.",
            "Windows 的磁盘必须是基本磁盘：动态磁盘（逻辑磁盘管理器）把卷信息保存在自己的数据库中，导入过程无法读取。依据分区类型和该数据库判断。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let stack = subject.stack;
        let dynamic: Vec<&str> = stack
            .volumes()
            .filter(|volume| {
                let code = volume.partition.as_ref().map(|partition| partition.type_code.as_str());
                volume.claimed_by == Some("ldm") || code.is_some_and(|code| TYPES.contains(&code))
            })
            .map(|volume| volume.id.as_str())
            .collect();
        if !dynamic.is_empty() {
            let all = dynamic.join(", ");
            return Seen::new(words!(
                "This is a dynamic disk of Windows ({all}).",
                "这是 Windows 动态磁盘（{all}）。"
            ))
            .all(dynamic.iter().map(|volume| Evidence::new("a partition of a dynamic disk").on(*volume)))
            .fix(words!(
                "make it a basic disk: back the data up, delete the volumes in diskpart, then 'convert basic', and restore; or clone the system onto a basic disk",
                "转换为基本磁盘：备份数据，在 diskpart 中删除卷后执行 convert basic，再恢复；或将系统克隆到基本磁盘"
            ))
            .fail();
        }
        if !stack.guests.is_empty() && stack.guests.iter().all(|guest| guest.windows().is_none()) {
            return Ok(Outcome::NotApplicable(words!("the system is not a Windows", "该系统不是 Windows")));
        }
        Seen::new(words!("The disk is a basic disk.", "磁盘是基本磁盘。")).pass()
    }
}
