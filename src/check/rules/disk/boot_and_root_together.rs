//! Are the partition that boots and the one with the system on the same disk?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::guest::Guest;
use crate::guest::file;
use crate::guest::names::Found;
use crate::text::escape;
use std::sync::Arc;

pub(in crate::check) struct BootAndRootTogether;

/// Mount points of a Linux from which it boots.
const BOOT: &[&[u8]] = &[b"/boot", b"/boot/efi", b"/efi"];
/// What Windows boots from.
const BOOTMGR: &[&str] = &["/bootmgr", "/EFI/Microsoft/Boot/bootmgfw.efi", "/ntldr"];

impl Check for BootAndRootTogether {
    fn id(&self) -> &'static str {
        "boot-and-root-together"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The partition that the machine boots from and the one with the system must be on one disk, the one that is \
             imported: of a Linux the root, /boot and the EFI system partition that fstab names; of a Windows the volume with \
             \\Windows and the one with bootmgr.",
            "引导分区和系统分区必须在同一块磁盘上，即被导入的磁盘：Linux 为根分区、fstab 中的 /boot 和 EFI 系统分区；Windows 为含 \\Windows 的卷\
             和含 bootmgr 的卷。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.guest());
        let root = guest.root.as_str();
        let Some(disk) = subject.stack.volume(root).and_then(|volume| volume.disk) else {
            return Seen::new(words!(
                "The root {root} is made of several disks.",
                "根卷 {root} 由多块磁盘组成。"
            ))
            .at(Evidence::new("on several disks").on(root))
            .fix(words!(
                "move the system onto one disk in the source machine, then image that disk",
                "在源机器上把系统移到同一块磁盘，再制作该磁盘的镜像"
            ))
            .fail();
        };
        if guest.windows().is_some() { windows(subject, root, disk) } else { linux(subject, guest, disk) }
    }
}

fn linux(subject: &Subject<'_>, guest: &Guest, disk: u32) -> Result<Outcome> {
    let root = &guest.root;
    let mut evidence = vec![Evidence::new("the root").on(root)];
    for line in &guest.fstab()?.lines {
        let dir = line.dir.strip_suffix(b"/").unwrap_or(&line.dir);
        if !BOOT.contains(&dir) || !line.is_local() {
            continue;
        }
        let (dir, spec) = (escape(dir), escape(&line.spec));
        match guest.find_device(&line.spec(), &subject.stack.devices) {
            Found::Device(device) => {
                let volume = &device.volume;
                let own = subject.stack.volume(volume).and_then(|volume| volume.disk);
                evidence.push(line.evidence.clone());
                if own != Some(disk) {
                    return Seen::new(words!(
                        "{dir} is on another disk ({volume}) than the root ({root}).",
                        "{dir}（{volume}）与根分区（{root}）不在同一块磁盘上。"
                    ))
                    .all(evidence)
                    .fix(fix())
                    .fail();
                }
            }
            Found::Absent => {
                return Seen::new(words!(
                    "{dir} ({spec}) is not on this disk; the root {root} is.",
                    "{dir}（{spec}）不在此磁盘上，而根分区 {root} 在。"
                ))
                .at(line.evidence.clone())
                .fix(fix())
                .fail();
            }
            Found::Unsure(why) => return Err(Error::new(ErrorKind::Unsupported, format!("{dir}: {why}"))),
        }
    }
    Seen::new(words!(
        "The root {root} and what it boots from are on one disk.",
        "根分区 {root} 与引导分区在同一块磁盘上。"
    ))
    .all(evidence)
    .pass()
}

fn windows(subject: &Subject<'_>, root: &str, disk: u32) -> Result<Outcome> {
    let mut elsewhere = None;
    for (volume, fs) in subject.stack.filesystems() {
        let tree = Tree::new(volume, Arc::clone(fs));
        for path in BOOTMGR {
            if !file::exists(&tree, path)? {
                continue;
            }
            if subject.stack.volume(volume).and_then(|volume| volume.disk) == Some(disk) {
                return Seen::new(words!(
                    "The system {root} and its boot manager on {volume} are on one disk.",
                    "系统卷 {root} 与启动管理器所在的 {volume} 在同一块磁盘上。"
                ))
                .at(Evidence::new("the boot manager").on(volume).path(path.as_bytes()))
                .pass();
            }
            elsewhere =
                Some(Evidence::new("the boot manager, on another disk").on(volume).path(path.as_bytes()));
        }
    }
    if elsewhere.is_none()
        && let Some(why) = subject.survey().unread.first()
    {
        return Err(Error::new(ErrorKind::Unsupported, format!("no boot manager was found, but {why}")));
    }
    Seen::new(words!(
        "The boot manager of the system on {root} is not on the same disk.",
        "{root} 上系统的启动管理器不在同一块磁盘上。"
    ))
    .all(elsewhere)
    .at(Evidence::new("Windows").on(root))
    .fix(words!(
        "in the source machine: bcdboot C:\\Windows /s S: with S: a system partition on the disk of C:, marked active; then image that disk",
        "在源机器上执行 bcdboot C:\\Windows /s S:（S: 为 C: 所在磁盘上的活动系统分区），再制作该磁盘的镜像"
    ))
    .fail()
}

fn fix() -> crate::check::Words {
    words!(
        "copy /boot into the root partition or onto its disk, correct /etc/fstab, and run grub-install on that disk",
        "将 /boot 复制到根分区或同一块磁盘，修正 /etc/fstab，并在该磁盘上执行 grub-install"
    )
}
