//! What a BIOS starts: the code of the disk's first sector, and what that hands over to.

use super::grub::{self, Generation};
use super::sector::{contains, read};
use super::{Broken, Chain, End, partition};
use crate::check::{Evidence, Fact, Subject, words};
use crate::error::Result;
use crate::ondisk::get_le32;
use crate::volume::TableKind;

/// The way of a BIOS: `subject.fact::<Bios>()`.
#[derive(Debug)]
pub(in crate::check) struct Bios(pub(in crate::check) Chain);

impl Fact for Bios {
    fn read(subject: &Subject<'_>) -> Result<Self> {
        let mut steps = Vec::new();
        let end = follow(subject, &mut steps)?;
        Ok(Self(Chain { steps, end }))
    }
}

fn follow(subject: &Subject<'_>, steps: &mut Vec<Evidence>) -> Result<End> {
    let stack = subject.stack;
    let disk = &**stack.disk();
    let Some(sector) = read(disk, 0, 1)? else {
        return Ok(End::broken(words!("The disk has no first sector.", "磁盘没有首扇区。")));
    };
    if stack.discovery.table.kind == TableKind::None {
        return partition::follow(subject, "disk", 0, steps);
    }
    let code = stack.discovery.table.boot_code;
    steps.push(Evidence::new(format!("boot code of the first sector: {code}")).byte(0));
    match code {
        "" | "none" => {
            Ok(End::broken(words!("The disk's first sector holds no boot code.", "磁盘首扇区没有引导代码。")))
        }
        "GRUB 2" => grub::follow(disk, Generation::Two, &sector, steps),
        "GRUB legacy" => grub::follow(disk, Generation::Legacy, &sector, steps),
        "Windows" | "syslinux" | "install-mbr" | "parted" => active(subject, code, &sector, steps),
        other => {
            Ok(End::unknown(format!("what the boot code of the first sector ({other}) loads is not known")))
        }
    }
}

/// What code that only starts another partition finds.
fn active(subject: &Subject<'_>, code: &str, sector: &[u8], steps: &mut Vec<Evidence>) -> Result<End> {
    let discovery = &subject.stack.discovery;
    let all =
        || discovery.volumes.iter().filter_map(|volume| volume.partition.as_ref().zip(Some(&volume.id)));
    // syslinux has a variant that reads the GPT itself, by attribute bit 2.
    let reads_gpt = code == "syslinux" && contains(sector, b"Missing OS\r\n");
    if reads_gpt && discovery.table.kind == TableKind::Gpt {
        return match all().find(|(partition, _)| partition.bootable) {
            Some((found, id)) => partition::follow(subject, id, found.start, steps),
            None => Ok(End::Broken(Broken {
                why: words!(
                    "The boot code of {code} starts the partition that the GPT marks as bootable by a BIOS, and none is marked.",
                    "{code} 的引导代码启动 GPT 中标记为可由 BIOS 引导的分区，但没有分区带此标记。"
                ),
                fix: Some(words!(
                    "mark the boot partition: sgdisk --attributes=1:set:2 DISK",
                    "标记引导分区：sgdisk --attributes=1:set:2 DISK"
                )),
            })),
        };
    }
    let entries: Vec<&[u8]> = sector.get(0x1be..0x1fe).unwrap_or_default().chunks_exact(16).collect();
    // Another of its variants has the number of the partition as its last byte.
    let fixed = sector.get(439).copied().filter(|number| code == "syslinux" && (1..=4).contains(number));
    let chosen: Vec<&&[u8]> = match fixed {
        Some(number) => entries.iter().skip(usize::from(number).saturating_sub(1)).take(1).collect(),
        None => entries.iter().filter(|entry| entry.first() == Some(&0x80)).collect(),
    };
    let [entry] = chosen.as_slice() else {
        let why = if chosen.is_empty() {
            words!(
                "The boot code of {code} starts the active partition, and none is marked active.",
                "{code} 的引导代码启动活动分区，但没有分区被标记为活动。"
            )
        } else {
            words!(
                "The boot code of {code} starts the active partition, and more than one is marked active.",
                "{code} 的引导代码启动活动分区，但有多个分区被标记为活动。"
            )
        };
        let fix = words!(
            "mark the boot partition, and no other, active: sfdisk --activate DISK 1",
            "只将引导分区标记为活动：sfdisk --activate DISK 1"
        );
        return Ok(End::Broken(Broken { why, fix: Some(fix) }));
    };
    // 0x8 of an entry: its first sector.
    let start = get_le32(entry, 8).map_or(0, u64::from).saturating_mul(super::sector::SECTOR);
    let id = all().find(|(partition, _)| partition.start == start).map(|(_, id)| id.as_str());
    let Some(id) = id else {
        return Ok(End::broken(words!(
            "The boot code of {code} starts the active partition at byte {start}, where the disk has no partition.",
            "{code} 的引导代码启动位于字节 {start} 的活动分区，但磁盘在该处没有分区。"
        )));
    };
    partition::follow(subject, id, start, steps)
}
