//! Is every disk here that a volume of the system is made of?

use crate::check::survey::What;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, Words, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::guest::names::Found;
use crate::stack::Stack;
use std::collections::BTreeMap;

pub(in crate::check) struct VolumesComplete;

impl Check for VolumesComplete {
    fn id(&self) -> &'static str {
        "volumes-complete"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "A volume that the system needs must not lie partly on disks that are not in this image: logical volumes on several \
             physical ones, arrays of md, btrfs on several devices, dynamic disks and storage pools of Windows. What lacks is \
             named. An array that runs without the missing member passes, and is named; a btrfs does not, for it is not \
             mounted without its devices. A volume that the system does not mount is no obstacle.",
            "系统所需的卷不得有部分位于镜像之外的磁盘：跨多个物理卷的逻辑卷、md 阵列、多设备 btrfs、Windows 动态磁盘和存储池。会指出缺少的成员。\
             缺少成员仍可运行的阵列判为通过并说明；btrfs 缺少设备时无法挂载，判为失败。系统不挂载的卷不影响结果。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let stack = subject.stack;
        let lacking = lacking(subject);
        let guest = match subject.guest() {
            Ok(guest) => Some(guest),
            // Several systems: whose volumes count is not known. None: the root may be on what lacks.
            Err(outcome) if !stack.guests.is_empty() && !lacking.is_empty() => return Ok(outcome),
            Err(_) => None,
        };
        let mut needed = Vec::new();
        for lack in lacking.values() {
            if guest.map_or(Ok(true), |guest| is_needed(guest, &lack.volume, stack))? {
                needed.push(lack);
            }
        }
        let fatal: Vec<&&Lack> = needed.iter().filter(|lack| lack.is_fatal).collect();
        let evidence = |lacks: &[&Lack]| -> Vec<Evidence> {
            lacks
                .iter()
                .flat_map(|lack| lack.lines.iter().map(|line| Evidence::new(line.clone()).on(&lack.volume)))
                .take(16)
                .collect()
        };
        if let Some(first) = fatal.first() {
            let names: Vec<&str> = fatal.iter().map(|lack| lack.volume.as_str()).collect();
            let (all, why) = (names.join(", "), first.lines.first().cloned().unwrap_or_default());
            let own: Vec<&Lack> = fatal.iter().map(|lack| **lack).collect();
            return Seen::new(words!(
                "A part is on disks that are not in this image: {all} ({why}).",
                "有一部分位于镜像之外的磁盘上：{all}（{why}）。"
            ))
            .all(evidence(&own))
            .fix(fix(first))
            .fail();
        }
        if needed.is_empty() {
            if lacking.is_empty()
                && stack.guests.is_empty()
                && let Some(why) = subject.survey().unread.first()
            {
                return Err(Error::new(ErrorKind::Unsupported, why.clone()));
            }
            let not_needed: Vec<&str> = lacking.values().map(|lack| lack.volume.as_str()).collect();
            let all = not_needed.join(", ");
            let message: Words = if all.is_empty() {
                words!("Every volume is on the disks of this image.", "所有卷都在镜像所含的磁盘上。")
            } else {
                words!(
                    "Every volume that the system mounts is here; {all} is not whole, and is not mounted.",
                    "系统挂载的卷都在镜像中；{all} 不完整，但系统不挂载它。"
                )
            };
            let all: Vec<&Lack> = lacking.values().collect();
            return Seen::new(message).all(evidence(&all)).pass();
        }
        let names: Vec<&str> = needed.iter().map(|lack| lack.volume.as_str()).collect();
        let all = names.join(", ");
        Seen::new(words!(
            "{all} lacks a member that is not in this image; it runs without it.",
            "{all} 缺少一个不在镜像中的成员，但没有它仍可运行。"
        ))
        .all(evidence(&needed))
        .pass()
    }
}

/// A volume that lacks a member.
#[derive(Debug, Default)]
struct Lack {
    volume: String,
    /// What lacks, as the volume layer says it.
    lines: Vec<String>,
    /// It cannot be used without.
    is_fatal: bool,
}

/// Every volume that lacks a member, by its id.
fn lacking(subject: &Subject<'_>) -> BTreeMap<String, Lack> {
    let mut found: BTreeMap<String, Lack> = BTreeMap::new();
    let mut add = |volume: &str, line: String, is_fatal: bool| {
        let lack = found.entry(volume.to_owned()).or_default();
        volume.clone_into(&mut lack.volume);
        lack.is_fatal |= is_fatal;
        if !lack.lines.contains(&line) {
            lack.lines.push(line);
        }
    };
    let stack = subject.stack;
    for one in &subject.survey().volumes {
        let is_made = stack.volume(&one.volume).is_some_and(|volume| !volume.made_of.is_empty());
        match &one.what {
            What::Failed(error)
                if error.kind() == ErrorKind::NotFound || (is_made && speaks_of_lack(&error.chain())) =>
            {
                add(&one.volume, own_part(&one.volume, &error.chain()).to_owned(), true);
            }
            What::Foreign("storage_spaces") => {
                add(
                    &one.volume,
                    "a member of a Windows storage pool, whose disks are not put together".to_owned(),
                    true,
                );
            }
            What::Foreign(
                kind @ ("LVM2_member" | "linux_raid_member" | "isw_raid_member" | "ddf_raid_member"),
            ) => {
                add(
                    &one.volume,
                    format!(
                        "{kind}: what it belongs to could not be put together of the disks that are here"
                    ),
                    true,
                );
            }
            _ => {}
        }
    }
    for (volume, facts) in stack.facts() {
        // Not mounted without its devices, unless somebody says `degraded`.
        for line in facts.warnings.iter().filter(|line| speaks_of_lack(line)) {
            add(volume, line.clone(), facts.kind == "btrfs");
        }
    }
    for line in &stack.warnings {
        let Some((volume, rest)) = line.split_once(": ") else { continue };
        if stack.volume(volume).is_some_and(|volume| volume.partition.is_none()) && speaks_of_lack(rest) {
            add(volume, own_part(volume, rest).to_owned(), false);
        }
    }
    found
}

/// The words of the volume layer for a member that is not there.
fn speaks_of_lack(line: &str) -> bool {
    ["is missing", "are missing", "is not here", "was missing"].iter().any(|words| line.contains(words))
}

/// The message without the volume's name in front.
fn own_part<'a>(volume: &str, line: &'a str) -> &'a str {
    line.strip_prefix(volume).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(line)
}

/// Does the system mount it, or is its root on it?
fn is_needed(guest: &Guest, volume: &str, stack: &Stack) -> Result<bool> {
    if guest.tree.mounts().iter().any(|mount| mount.volume == volume) || guest.root == volume {
        return Ok(true);
    }
    if guest.windows().is_some() {
        return Ok(false);
    }
    let lines = &guest.fstab()?.lines;
    Ok(lines.iter().filter(|line| line.is_needed_at_boot()).any(|line| {
        matches!(guest.find_device(&line.spec(), &stack.devices), Found::Device(device) if device.volume == volume)
    }))
}

fn fix(lack: &Lack) -> Words {
    let volume = &lack.volume;
    if lack.lines.iter().any(|line| line.contains("physical volume")) {
        return words!(
            "move the volume onto one disk in the source machine (pvmove, then vgreduce), or give the images of all its disks",
            "在源机器上把卷移到同一块磁盘（pvmove，再 vgreduce），或提供全部磁盘的镜像"
        );
    }
    if lack.lines.iter().any(|line| line.starts_with("device ")) {
        return words!(
            "in the source machine: btrfs device remove DEVICE /, so that one disk holds all; then image that disk",
            "在源机器上执行 btrfs device remove DEVICE /，使数据集中到一块磁盘，再制作该磁盘的镜像"
        );
    }
    words!(
        "put {volume} on one disk in the source machine, or give the images of all its disks",
        "在源机器上把 {volume} 放到同一块磁盘，或提供全部磁盘的镜像"
    )
}
