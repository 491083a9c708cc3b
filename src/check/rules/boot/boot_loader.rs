//! Does the way from the firmware lead to a boot loader that is whole?

use crate::check::firmware::{Bios, Chain, End, Uefi};
use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, words};
use crate::error::{Error, Result};

pub(in crate::check) struct BootLoader;

impl Check for BootLoader {
    fn id(&self) -> &'static str {
        "boot-loader"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The boot loader is followed behind the first sector, for each firmware that is offered (params: firmware; \
             one that leads to a loader is enough). BIOS: GRUB's core image is looked for where the first sector points, \
             each of its sectors is read, and none may lie past the end of the disk or be blank; code that starts the \
             active partition needs one, with a boot sector and the file that this loads (bootmgr, ldlinux.sys). UEFI: \
             the EFI system partition must hold a loader for the machine of the system, and GRUB's configuration there \
             must name a file system of this image. What code of an unknown kind does is undecided.",
            "沿首扇区之后的引导过程逐步检查，针对所提供的每种固件（参数 firmware，任一种能到达引导程序即可）。\
             BIOS：在首扇区所指的位置查找 GRUB 核心映像，读取其每个扇区，任何扇区都不得位于磁盘末尾之外或为空；\
             启动活动分区的引导代码要求存在活动分区、其引导扇区以及所加载的文件（bootmgr、ldlinux.sys）。\
             UEFI：EFI 系统分区必须包含适用于该系统架构的引导程序，其中的 GRUB 配置必须指向此镜像中的文件系统。\
             未知类型的引导代码无法判定。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("firmware", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let Some(first) = subject.stack.guests.first() else {
            // Which of the two it is, nothing or nobody knows what, decides what is said.
            return Ok(subject
                .guest()
                .err()
                .unwrap_or(Outcome::NotApplicable(words!("no system", "没有系统"))));
        };
        let machine = first.arch().to_string();
        let (mut broken, mut unknown) = (Vec::new(), None);
        for firmware in args.words("firmware")? {
            let Chain { steps, end } = match firmware {
                "bios" => subject.fact::<Bios>()?.0.clone(),
                "uefi" => subject.fact::<Uefi>()?.chain(subject, &machine),
                other => return Err(Error::unsupported(format!("no firmware is called {other}"))),
            };
            let name = firmware.to_uppercase();
            match end {
                End::Loader(loader) => {
                    return Seen::new(words!(
                        "{name} finds a boot loader: {loader}.",
                        "{name} 固件能找到引导程序：{loader}。"
                    ))
                    .all(steps)
                    .pass();
                }
                End::Broken(why) => broken.push((firmware, why, steps)),
                End::Unknown(error) => unknown = unknown.or(Some(error)),
            }
        }
        if let Some(error) = unknown {
            return Ok(Outcome::Unknown(error));
        }
        // What got furthest is what was meant to work.
        let Some((firmware, why, steps)) = broken.into_iter().max_by_key(|(.., steps)| steps.len()) else {
            return Err(Error::unsupported("the profile offers no firmware"));
        };
        let fix = why.fix.unwrap_or_else(|| install(subject, firmware));
        Seen::new(why.why).all(steps).fix(fix).fail()
    }
}

/// The command that installs the boot loader anew, by the tool that the guest has.
fn install(subject: &Subject<'_>, firmware: &str) -> crate::check::Words {
    let has = |path: &str| {
        subject
            .stack
            .guests
            .first()
            .is_some_and(|guest| guest.windows().is_none() && guest.has(path).unwrap_or(false))
    };
    if subject.stack.guests.first().is_some_and(|guest| guest.windows().is_some()) {
        return words!(
            "repair it with the installation medium: bootrec /fixmbr, bootrec /fixboot, bcdboot C:\\Windows",
            "使用安装介质修复：bootrec /fixmbr、bootrec /fixboot、bcdboot C:\\Windows"
        );
    }
    let is_gpt = subject.stack.discovery.table.kind == crate::volume::TableKind::Gpt;
    let bios_boot = "21686148-6449-6e6f-744e-656564454649";
    let has_place =
        subject.stack.discovery.volumes.iter().any(|volume| {
            volume.partition.as_ref().is_some_and(|partition| partition.type_code == bios_boot)
        });
    let grub = if has("/usr/sbin/grub2-install") || has("/sbin/grub2-install") {
        "grub2-install"
    } else {
        "grub-install"
    };
    match firmware {
        "uefi" => words!(
            "make an EFI system partition if there is none, mount it at /boot/efi, then: {grub} --target=x86_64-efi --efi-directory=/boot/efi --removable",
            "如没有 EFI 系统分区请先创建，并挂载到 /boot/efi，然后执行：{grub} --target=x86_64-efi --efi-directory=/boot/efi --removable"
        ),
        _ if is_gpt && !has_place => words!(
            "make a BIOS boot partition of 1 MiB (sgdisk --new=0:0:+1M --typecode=0:ef02 DISK), then install the boot loader: {grub} --target=i386-pc DISK",
            "创建 1 MiB 的 BIOS 引导分区（sgdisk --new=0:0:+1M --typecode=0:ef02 DISK），再安装引导程序：{grub} --target=i386-pc DISK"
        ),
        _ => words!(
            "install the boot loader anew in the source system: {grub} --target=i386-pc DISK",
            "在源系统中重新安装引导程序：{grub} --target=i386-pc DISK"
        ),
    }
}
