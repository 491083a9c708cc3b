//! Is the file that the boot menu starts a kernel, whole, and for this machine?

use super::entry::{default_entry, kernel};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::kernel_image::{Form, KernelImage};
use crate::text::escape;

pub(in crate::check) struct KernelImageFits;

impl Check for KernelImageFits {
    fn id(&self) -> &'static str {
        "kernel-image"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel of the default entry must be of a form that a boot loader takes (a bzImage on x86, an Image or a \
             program for UEFI on ARM), at least as long as its header says, and for a machine that runs the guest's \
             programs. The packed kernel itself is not unpacked.",
            "默认启动项的内核必须是引导程序可加载的格式（x86 为 bzImage，ARM 为 Image 或 UEFI 程序），长度不小于其头部声明的长度，\
             且适用于能运行该系统程序的架构。不解压内核本身。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let file = or_outcome!(kernel(guest, entry)?);
        let image = guest.kernel_image(&file)?;
        let machine = guest.machine()?.map(|machine| machine.name.to_string()).unwrap_or_default();
        let path = escape(&file.path);
        let form = image.form.name();
        let own = image.machine.as_deref().unwrap_or("an unknown machine");
        let evidence = file.evidence(format!("{form}, {} bytes, for {own}", image.len));
        match judge(&image, &machine) {
            Fit::Yes => Seen::new(words!(
                "{path} is a kernel ({form}) that fits the machine.",
                "{path} 是适用于该架构的内核（{form}）。"
            ))
            .at(evidence)
            .pass(),
            Fit::No(why) => {
                let Words { en, zh } = why;
                Seen::new(words!("{path} {en}.", "{path} {zh}。"))
                    .at(evidence)
                    .at(entry.evidence.clone())
                    .fix(words!(
                        "install the kernel's package again, or boot another one by default",
                        "重新安装内核软件包，或将其他内核设为默认启动项"
                    ))
                    .fail()
            }
            Fit::Unknown(why) => Err(Error::unsupported(format!("{path}: {why}"))),
        }
    }
}

/// The header counts in 16 bytes; before Linux 2.6.30 the last of them need not be full.
const UNFILLED: u64 = 15;

enum Fit {
    Yes,
    No(Words),
    Unknown(String),
}

fn judge(image: &KernelImage, machine: &str) -> Fit {
    let (len, is_x86) = (image.len, matches!(machine, "x86_64" | "i386"));
    if len == 0 {
        return Fit::No(words!("is empty", "为空文件"));
    }
    if let Some(wants) = image.wants.filter(|wants| *wants > len.saturating_add(UNFILLED)) {
        return Fit::No(words!(
            "is cut short: its header says {wants} bytes, and it has {len}",
            "不完整：头部声明 {wants} 字节，实际只有 {len} 字节"
        ));
    }
    match (image.form, image.machine.as_deref()) {
        (Form::Unknown, _) if is_x86 => Fit::No(words!(
            "is no kernel: it does not have the header of a bzImage",
            "不是内核：没有 bzImage 头部"
        )),
        (Form::Unknown, _) => Fit::Unknown("not a form of kernel that is known".to_owned()),
        // Which of both kinds a loader takes depends on the loader and on what is inside.
        (Form::Gzip | Form::Elf, _) if is_x86 => Fit::Unknown(format!(
            "whether the boot loader takes a kernel of the form {} is not known",
            image.form.name()
        )),
        (_, Some(own)) if !machine.is_empty() && !runs(own, machine) => Fit::No(words!(
            "is a kernel for {own}, and the programs of the system are for {machine}",
            "是 {own} 架构的内核，而系统程序的架构为 {machine}"
        )),
        _ => Fit::Yes,
    }
}

/// A 64-bit kernel runs 32-bit programs of the same family.
fn runs(kernel: &str, programs: &str) -> bool {
    kernel == programs
        || matches!(
            (kernel, programs),
            ("x86_64", "i386" | "x32")
                | ("aarch64", "arm")
                | ("s390x", "s390")
                | ("ppc64", "ppc")
                | ("mips64", "mips")
                | ("mips64el", "mipsel")
        )
}
