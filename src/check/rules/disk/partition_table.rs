//! Is the partition table of a kind that is taken?

use crate::check::table::TableEnd;
use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, words};
use crate::error::Result;
use crate::volume::TableKind;

pub(in crate::check) struct PartitionTable;

impl Check for PartitionTable {
    fn id(&self) -> &'static str {
        "partition-table"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The partition table must be of one of the kinds that are taken (params: kinds). A disk without one is the \
             matter of boot-partition. A hybrid MBR counts as GPT, which it is; a GPT that was left behind an MBR does not \
             count, for the kernel does not look at it either.",
            "分区表类型必须受支持（参数：kinds）。没有分区表的磁盘由 boot-partition 检查。混合 MBR（hybrid MBR）按 GPT 计；\
             MBR 之后残留的 GPT 不计，内核也不会使用它。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("kinds", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let disk = subject.system_disk();
        let table = &disk.discovery.table;
        let (kind, kinds) = (table.kind.name(), args.words("kinds")?);
        let byte = match table.kind {
            TableKind::None => {
                return Ok(Outcome::NotApplicable(words!(
                    "the disk has no partition table",
                    "磁盘没有分区表"
                )));
            }
            TableKind::Mbr => 0x1be,
            // The header stands in the second sector.
            TableKind::Gpt => u64::from(table.sector_size),
            TableKind::Sun => 0,
            TableKind::Bsd => 512,
        };
        let hybrid = if table.hybrid { ", with a hybrid MBR in front" } else { "" };
        let mut evidence =
            vec![Evidence::new(format!("{kind} partition table{hybrid}")).on(disk.id).byte(byte)];
        let stale = if table.kind == TableKind::Mbr { subject.fact::<TableEnd>()?.stale_gpt } else { None };
        evidence.extend(stale.map(|byte| {
            Evidence::new("a GPT of earlier times, which does not count").on(disk.id).byte(byte)
        }));
        let upper = kind.to_uppercase();
        if kinds.contains(&kind) {
            let message = if stale.is_some() {
                words!(
                    "The partition table is {upper}; a GPT was left behind it and does not count.",
                    "分区表为 {upper}；其后残留的 GPT 不起作用。"
                )
            } else {
                words!("The partition table is {upper}.", "分区表为 {upper}。")
            };
            return Seen::new(message).all(evidence).pass();
        }
        let wanted = kinds.join(", ").to_uppercase();
        let message = if table.hybrid {
            words!(
                "The partition table is {upper} with a hybrid MBR in front, and only {wanted} is taken.",
                "分区表为 {upper}（前有混合 MBR），仅支持 {wanted}。"
            )
        } else {
            words!(
                "The partition table is {upper}, and only {wanted} is taken.",
                "分区表为 {upper}，仅支持 {wanted}。"
            )
        };
        let seen = Seen::new(message).all(evidence);
        match (table.kind, kinds.contains(&"mbr")) {
            (TableKind::Gpt, true) => seen
                .fix(words!(
                    "convert it on a copy, then install the boot loader anew: sgdisk -m 1:2:3 DISK, in the system grub-install DISK",
                    "在副本上转换分区表，然后重新安装引导程序：sgdisk -m 1:2:3 DISK，再在系统内执行 grub-install DISK"
                ))
                .fail(),
            _ => seen.fail(),
        }
    }
}
