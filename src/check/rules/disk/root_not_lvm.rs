//! Is the root on no logical volume?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;

pub(in crate::check) struct RootNotLvm;

impl Check for RootNotLvm {
    fn id(&self) -> &'static str {
        "root-not-lvm"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The root of the system must not be on a logical volume of LVM: an import that changes files in the image, or a \
             cloud that grows the root, looks for it in a plain partition. Logical volumes elsewhere are no obstacle.",
            "系统根分区不能位于 LVM 逻辑卷上：导入时向镜像注入文件或扩容根分区，都要求根在普通分区中。其他位置的逻辑卷不影响结果。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let root = guest.root.as_str();
        let physical = subject.below(root).into_iter().find(|volume| volume.claimed_by == Some("lvm2"));
        match physical {
            Some(volume) => {
                let id = &volume.id;
                Seen::new(words!(
                    "The root is the logical volume {root} (LVM, on {id}).",
                    "根分区是逻辑卷 {root}（LVM，位于 {id}）。"
                ))
                .at(Evidence::new("a physical volume of LVM").on(id))
                .fix(words!(
                    "copy the system into a plain partition (rsync -aHAX), correct /etc/fstab, rebuild the boot menu and the initramfs; or install anew without LVM",
                    "将系统复制到普通分区（rsync -aHAX），修正 /etc/fstab，重新生成引导菜单和 initramfs；或不使用 LVM 重新安装"
                ))
                .fail()
            }
            None => {
                Seen::new(words!("The root {root} is on no logical volume.", "根分区 {root} 不在逻辑卷上。"))
                    .at(Evidence::new("the root").on(root))
                    .pass()
            }
        }
    }
}
