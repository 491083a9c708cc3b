//! Is the virtual disk large enough?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, words};
use crate::error::Result;

pub(in crate::check) struct VirtualSizeMin;

impl Check for VirtualSizeMin {
    fn id(&self) -> &'static str {
        "virtual-size-min"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The virtual disk should have at least this size (params: min). A smaller one can be grown: the partitions stay as \
             they are, and the system gets the rest when it grows them.",
            "虚拟磁盘不应小于下限（参数：min）。较小的磁盘可以扩大：分区保持不变，系统扩展分区后即可使用其余空间。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("min", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let disk = subject.system_disk();
        let (size, min) = (disk.image.disk.len(), args.size("min")?);
        let evidence = Evidence::new(format!("virtual size: {size} bytes")).on(disk.id);
        let (has, limit, gib, name) =
            (human(size), human(min), min.div_ceil(1 << 30), subject.name_in_shell());
        if size < min {
            return Seen::new(words!(
                "The virtual disk has {has}, less than {limit}.",
                "虚拟磁盘大小为 {has}，小于下限 {limit}。"
            ))
            .at(evidence)
            .fix(match disk.image.format {
                format @ ("raw" | "qcow2") => words!(
                    "qemu-img resize -f {format} {name} {gib}G",
                    "qemu-img resize -f {format} {name} {gib}G"
                ),
                // qemu-img grows few other formats.
                format => words!(
                    "qemu-img convert -O qcow2 {name} new.qcow2 && qemu-img resize new.qcow2 {gib}G, and back with -O {format} if that is wanted",
                    "qemu-img convert -O qcow2 {name} new.qcow2 && qemu-img resize new.qcow2 {gib}G，需要时再用 -O {format} 转回"
                ),
            })
            .fail();
        }
        Seen::new(words!(
            "The virtual disk has {has} of at least {limit}.",
            "虚拟磁盘大小为 {has}，下限 {limit}。"
        ))
        .at(evidence)
        .pass()
    }
}
