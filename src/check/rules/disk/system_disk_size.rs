//! Is the size of the system disk that the import will be told allowed, and does the image fit into it?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, words};
use crate::error::Result;

pub(in crate::check) struct SystemDiskSize;

impl Check for SystemDiskSize {
    fn id(&self) -> &'static str {
        "system-disk-size"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "With --set systemDiskSizeGB=N, N must lie within the limits (params: min, max) and be no less than the virtual disk. \
             A GB here is 2^30 bytes, as clouds count disks. Without the setting there is nothing to compare.",
            "若指定 --set systemDiskSizeGB=N，N 必须在范围内（参数：min、max），且不小于虚拟磁盘。此处 1 GB 为 2^30 字节，与云平台的磁盘计量一致。\
             未指定时不作比较。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("min", ParamKind::Size), Param::required("max", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let Some(told) = subject.settings.size("systemDiskSizeGB") else {
            return Ok(Outcome::NotApplicable(words!(
                "no size of the system disk was given (--set systemDiskSizeGB=N)",
                "未指定系统盘大小（--set systemDiskSizeGB=N）"
            )));
        };
        let disk = subject.system_disk();
        let (size, min, max) = (disk.image.disk.len(), args.size("min")?, args.size("max")?);
        let evidence =
            Evidence::new(format!("virtual size: {size} bytes; system disk: {told} bytes")).on(disk.id);
        let (gb, least, most, has) = (told >> 30, min >> 30, max >> 30, human(size));
        if told < min || told > max {
            return Seen::new(words!(
                "A system disk of {gb} GB is not allowed: {least} to {most} GB are.",
                "不允许 {gb} GB 的系统盘：范围为 {least} 至 {most} GB。"
            ))
            .at(evidence)
            .fix(words!("ask for {least} to {most} GB", "请指定 {least} 至 {most} GB"))
            .fail();
        }
        if size > told {
            let fits = size.div_ceil(1 << 30).max(least);
            return Seen::new(words!(
                "The virtual disk has {has} and does not fit into a system disk of {gb} GB.",
                "虚拟磁盘大小为 {has}，放不进 {gb} GB 的系统盘。"
            ))
            .at(evidence)
            .fix(words!("systemDiskSizeGB={fits}", "systemDiskSizeGB={fits}"))
            .fail();
        }
        Seen::new(words!(
            "The virtual disk of {has} fits into the system disk of {gb} GB.",
            "虚拟磁盘（{has}）可放入 {gb} GB 的系统盘。"
        ))
        .at(evidence)
        .pass()
    }
}
