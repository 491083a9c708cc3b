//! Is the virtual disk small enough?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, words};
use crate::error::Result;

pub(in crate::check) struct VirtualSize;

impl Check for VirtualSize {
    fn id(&self) -> &'static str {
        "virtual-size"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The virtual disk must not be larger than the limit (params: max). This is the size that the guest sees, the \
             line 'virtual size' of imgmount info. With --set systemDiskSizeGB=N it must also fit into that disk. Of a \
             machine with several disks, the one with the system is meant.",
            "虚拟磁盘不得大于上限（参数：max）。这是客户机看到的磁盘大小，即 imgmount info 的 'virtual size'。若指定 \
             --set systemDiskSizeGB=N，还必须能放入该系统盘。多磁盘虚拟机以系统所在磁盘为准。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("max", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let disk = subject.system_disk();
        let (size, max) = (disk.image.disk.len(), args.size("max")?);
        let evidence = Evidence::new(format!("virtual size: {size} bytes")).on(disk.id);
        let (has, limit) = (human(size), human(max));
        if size > max {
            return Seen::new(words!(
                "The virtual disk has {has}, more than {limit}.",
                "虚拟磁盘大小为 {has}，超过上限 {limit}。"
            ))
            .at(evidence)
            .fix(words!(
                "shrink the last file system and its partition, then the disk: qemu-img resize --shrink",
                "先缩小最后一个文件系统及其分区，再缩小磁盘：qemu-img resize --shrink"
            ))
            .fail();
        }
        if let Some(wanted) = subject.settings.size("systemDiskSizeGB").filter(|wanted| size > *wanted) {
            let wanted = wanted >> 30;
            return Seen::new(words!(
                "The virtual disk has {has}, more than the system disk of {wanted} GB.",
                "虚拟磁盘大小为 {has}，大于 {wanted} GB 的系统盘。"
            ))
            .at(evidence)
            .fix(words!("order a larger system disk, or shrink the image", "请选择更大的系统盘，或缩小镜像"))
            .fail();
        }
        Seen::new(words!(
            "The virtual disk has {has} of at most {limit}.",
            "虚拟磁盘大小为 {has}，上限 {limit}。"
        ))
        .at(evidence)
        .pass()
    }
}
