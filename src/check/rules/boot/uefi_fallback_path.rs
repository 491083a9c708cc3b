//! Is there a loader where a UEFI firmware looks that knows nothing of this disk?

use crate::check::firmware::{EfiFile, Esp, Uefi, removable_name};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;

pub(in crate::check) struct UefiFallbackPath;

impl Check for UefiFallbackPath {
    fn id(&self) -> &'static str {
        "uefi-fallback-path"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "An EFI system partition must hold a loader at \\EFI\\BOOT (BOOTX64.EFI, BOOTAA64.EFI), for the machine of the \
             system. What else the firmware was told to start stands in the old machine's memory, which does not travel \
             with the image. A disk without such a partition is not concerned.",
            "EFI 系统分区的 \\EFI\\BOOT 目录必须包含适用于该系统架构的引导程序（BOOTX64.EFI、BOOTAA64.EFI）。\
             其他启动项记录在原机器的 NVRAM 中，不会随镜像迁移。没有 EFI 系统分区的磁盘不适用。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let uefi = subject.fact::<Uefi>()?;
        if uefi.partitions.is_empty() {
            return Ok(Outcome::NotApplicable(words!(
                "the disk has no EFI system partition",
                "磁盘没有 EFI 系统分区"
            )));
        }
        let machine = subject.stack.guests.first().map(|guest| guest.arch().to_string()).unwrap_or_default();
        let name = removable_name(&machine);
        let mut seen: Vec<EfiFile> = Vec::new();
        for Esp { programs, .. } in &uefi.partitions {
            seen.extend(programs.clone()?);
        }
        let is_named = |file: &&EfiFile| {
            file.is_removable() && file.path.to_ascii_uppercase().ends_with(name.as_bytes())
        };
        let fix = words!(
            "put a loader there: grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable, or copy the one of \\EFI",
            "在该处放置引导程序：grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable，或从 \\EFI 的其他目录复制"
        );
        match seen.iter().find(is_named) {
            Some(file) if file.machine.is_some() => {
                Seen::new(words!("\\EFI\\BOOT\\{name} is there.", "\\EFI\\BOOT\\{name} 存在。"))
                    .at(file.evidence())
                    .pass()
            }
            Some(file) => Seen::new(words!(
                "\\EFI\\BOOT\\{name} is no program.",
                "\\EFI\\BOOT\\{name} 不是可执行程序。"
            ))
            .at(file.evidence())
            .fix(fix)
            .fail(),
            None => Seen::new(words!(
                "There is no \\EFI\\BOOT\\{name}, where a new machine's firmware looks for a loader.",
                "没有 \\EFI\\BOOT\\{name}，而新机器的固件会到该处寻找引导程序。"
            ))
            .all(seen.iter().take(4).map(EfiFile::evidence))
            .fix(fix)
            .fail(),
        }
    }
}
