//! Does the guest say what it is?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;

pub(in crate::check) struct OsKnown;

impl Check for OsKnown {
    fn id(&self) -> &'static str {
        "os-known"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The guest must say what it is: by os-release or an older file of its distribution, a Windows by its \
             registry. What is not known is imported, if at all, as some other system, without drivers, passwords and \
             network being set up for it.",
            "系统必须表明自己的身份：Linux 通过 os-release 或发行版的旧版本文件，Windows 通过注册表。\
             无法识别的系统即使能导入，也只会被当作“其他”系统，云平台不会为其配置驱动、密码和网络。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.guest());
        let evidence = if guest.windows().is_some() {
            guest.windows_product()?;
            Vec::new()
        } else {
            let os = guest.os()?;
            if os.id.is_empty() {
                return Seen::new(words!(
                    "Nothing in the guest says which system it is: there is no os-release, and no release file of a \
                     distribution.",
                    "系统中没有任何文件表明它是什么系统：既没有 os-release，也没有发行版的 release 文件。"
                ))
                .fix(words!(
                    "restore /etc/os-release: reinstall the package that brings it (base-files, centos-release, ...)",
                    "恢复 /etc/os-release：重新安装提供该文件的软件包（base-files、centos-release 等）"
                ))
                .fail();
            }
            os.evidence.clone()
        };
        let name = guest.name();
        Seen::new(words!("The system is {name}.", "系统为 {name}。")).all(evidence).pass()
    }
}
