//! Is this a whole disk that can be booted: a partition table, partitions, a boot loader?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, words};
use crate::error::{Error, ErrorKind, Result};
use crate::volume::TableKind;

pub(in crate::check) struct BootPartition;

/// Boot code that only starts the active partition.
const NEEDS_ACTIVE: &[&str] = &["Windows", "syslinux", "install-mbr", "parted"];

impl Check for BootPartition {
    fn id(&self) -> &'static str {
        "boot-partition"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image must be of a whole disk: with a partition table, at least one partition, and where there is a \
             system also the boot loader that starts it, for a firmware that is offered (params: firmware). An image of a \
             file system alone has no partition table. What the boot loader then finds is the matter of boot-loader.",
            "镜像必须是整块磁盘：有分区表、至少一个分区，并且有系统时还要有对应固件（参数 firmware）的引导程序。\
             单个文件系统的镜像没有分区表。引导程序之后能找到什么由 boot-loader 检查。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("firmware", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let stack = subject.stack;
        let (table, offered) = (&stack.discovery.table, args.words("firmware")?);
        let start = |what: String| Evidence::new(what).byte(0);
        if table.kind == TableKind::None {
            if let Some(warning) = stack.discovery.warnings.first() {
                return Ok(Outcome::Unknown(Error::new(ErrorKind::Corrupt, warning.clone())));
            }
            let device = stack.devices.iter().find(|device| device.volume == "disk");
            let what = device
                .map_or("something unknown", |device| if device.is_blank { "zeros" } else { device.what() });
            return Seen::new(words!(
                "The image has no partition table; it starts with {what}.",
                "镜像没有分区表，开头是 {what}。"
            ))
            .at(start(format!("no partition table, but {what}")))
            .fix(words!(
                "image the whole disk (/dev/sda), not one partition of it (/dev/sda1)",
                "对整块磁盘（/dev/sda）制作镜像，而不是其中一个分区（/dev/sda1）"
            ))
            .fail();
        }
        let partitions = stack.discovery.volumes.iter().filter(|volume| volume.partition.is_some());
        let count = partitions.clone().count();
        let kind = table.kind.name();
        if count == 0 {
            return Seen::new(words!(
                "The {kind} partition table has no partition.",
                "{kind} 分区表中没有分区。"
            ))
            .at(start("an empty partition table".to_owned()))
            .fix(words!("image the disk that the system boots from", "对系统启动所用的磁盘制作镜像"))
            .fail();
        }
        let partition = if count == 1 { "partition" } else { "partitions" };
        if stack.guests.is_empty() {
            return Ok(Outcome::NotApplicable(words!(
                "the disk has {count} {partition}, and no operating system for which a boot loader would be needed",
                "磁盘有 {count} 个分区，没有需要引导程序的操作系统"
            )));
        }
        let firmware: &[&str] = stack.guests.first().map_or(&[], |guest| &guest.firmware);
        let code = start(format!("boot code: {}", table.boot_code));
        if !firmware.iter().any(|firmware| offered.contains(firmware)) {
            let (own, wanted) = (firmware.join(", "), offered.join(", "));
            let message = if firmware.is_empty() {
                words!(
                    "The disk's first sector holds no boot loader, and there is no EFI system partition.",
                    "磁盘首扇区没有引导程序，也没有 EFI 系统分区。"
                )
            } else {
                words!(
                    "The disk boots by {own} only, and {wanted} is offered.",
                    "磁盘只能以 {own} 方式启动，而平台提供的是 {wanted}。"
                )
            };
            return Seen::new(message)
                .at(code)
                .fix(words!(
                    "install a boot loader for {wanted} on the disk",
                    "在磁盘上安装 {wanted} 引导程序"
                ))
                .fail();
        }
        let has_active =
            partitions.clone().any(|volume| volume.partition.as_ref().is_some_and(|part| part.bootable));
        if NEEDS_ACTIVE.contains(&table.boot_code) && firmware == ["bios"] && !has_active {
            let code_name = table.boot_code;
            return Seen::new(words!(
                "The boot code of {code_name} starts the active partition, and none is marked active.",
                "{code_name} 的引导代码启动活动分区，但没有分区被标记为活动。"
            ))
            .at(code)
            .fix(words!(
                "mark the boot partition active: sfdisk --activate DISK 1",
                "将引导分区标记为活动：sfdisk --activate DISK 1"
            ))
            .fail();
        }
        let own = firmware.join(", ");
        Seen::new(words!(
            "The disk has {count} {partition} and boots by {own}.",
            "磁盘有 {count} 个分区，以 {own} 方式启动。"
        ))
        .at(code)
        .pass()
    }
}
