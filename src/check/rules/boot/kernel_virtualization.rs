//! Can the default kernel start on a machine without the hypervisor that it was made for?

use super::entry::{default_entry, kernel, write_menu};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, Result};
use crate::text::{Text, escape};

pub(in crate::check) struct KernelVirtualization;

/// Options of kernels that know no machine but a paravirtual one of Xen: those of the ports before Linux 2.6.37.
const ONLY_XEN: &[&str] = &["CONFIG_X86_XEN", "CONFIG_X86_64_XEN"];

impl Check for KernelVirtualization {
    fn id(&self) -> &'static str {
        "kernel-virtualization"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel that boots by default must start on a fully virtualized machine. One that knows only a \
             paravirtual machine of Xen (kernel-xen of RHEL 5 and SLES 11, by its config or by the release's ending) does \
             not, nor does an entry that starts the hypervisor itself. A kernel of later times runs on both.",
            "默认启动的内核必须能在全虚拟化的机器上启动。只支持 Xen 半虚拟化的内核（RHEL 5、SLES 11 的 kernel-xen，\
             依据内核配置或版本号后缀判断）以及启动 Xen hypervisor 本身的启动项都不行。较新的内核两者都支持。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let file = or_outcome!(kernel(guest, entry)?);
        let release = guest.release(&file)?.ok_or_else(|| {
            Error::unsupported(format!("the release of kernel {} is not known", escape(&file.path)))
        })?;
        let drivers = guest.drivers(&release)?;
        let name = escape(&release);
        let by_config =
            drivers.config.as_ref().map(|config| ONLY_XEN.iter().any(|option| config.yes.contains(*option)));
        if by_config.unwrap_or_else(|| release.ends_with(b"xen")) {
            let is_other = |other: &&Text| other.as_bytes() != release && !contains_xen(other.as_bytes());
            let others = guest.kernels()?.iter().map(|kernel| &kernel.release).find(is_other);
            let again = write_menu(guest);
            let (en, zh) = (again.en, again.zh);
            let fix = match others {
                Some(other) => words!(
                    "make kernel {other} the default one (default= in the menu), then {en}",
                    "将内核 {other} 设为默认启动项（菜单中的 default=），然后{zh}"
                ),
                None => words!(
                    "install the distribution's ordinary kernel (yum install kernel, zypper install kernel-default), then {en}",
                    "安装发行版的普通内核（yum install kernel、zypper install kernel-default），然后{zh}"
                ),
            };
            let failed = Seen::new(words!(
                "Kernel {name} starts only as a paravirtual guest of Xen.",
                "内核 {name} 只能作为 Xen 半虚拟化客户机启动。"
            ));
            let config = drivers.config.as_ref().map(|config| config.evidence.clone());
            return failed.at(entry.evidence.clone()).all(config).fix(fix).fail();
        }
        if let Some(hypervisor) = &entry.hypervisor {
            let hypervisor = escape(hypervisor);
            return Seen::new(words!(
                "The default entry starts the hypervisor {hypervisor}, and the kernel only on top of it.",
                "默认启动项启动的是 hypervisor {hypervisor}，内核运行于其上。"
            ))
            .at(entry.evidence.clone())
            .fix(words!("boot the kernel itself by default", "将直接启动内核的启动项设为默认"))
            .fail();
        }
        Seen::new(words!(
            "Kernel {name} starts on a fully virtualized machine.",
            "内核 {name} 可在全虚拟化的机器上启动。"
        ))
        .at(file.evidence(format!("kernel {name}")))
        .all(drivers.config.as_ref().map(|config| config.evidence.clone()))
        .pass()
    }
}

fn contains_xen(release: &[u8]) -> bool {
    release.windows(3).any(|part| part == b"xen")
}
