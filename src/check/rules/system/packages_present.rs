//! Is one of some packages installed?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::packages;

pub(in crate::check) struct PackagesPresent;

impl Check for PackagesPresent {
    fn id(&self) -> &'static str {
        "packages-present"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "One of the packages that are listed (params: any_of) must be installed, by the list of the guest's own \
             package manager.",
            "列出的软件包（参数 any_of）至少要安装一个，以系统自身包管理器的记录为准。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("any_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let wanted = args.words("any_of")?;
        let list = guest.packages()?;
        if let Some(package) = wanted.iter().find_map(|name| list.get(name)) {
            let (name, version) = (&package.name, &package.version);
            return Seen::new(words!("{name} {version} is installed.", "已安装 {name} {version}。"))
                .at(package.evidence.clone())
                .pass();
        }
        let Some(manager) = list.manager else {
            return Err(Error::new(ErrorKind::NotFound, "there is no package database in the guest"));
        };
        let (count, names) = (list.installed.len(), wanted.join(", "));
        let command = packages::install(guest, wanted.first().copied().unwrap_or_default());
        Seen::new(words!(
            "None of these is among the {count} packages of {manager}: {names}.",
            "{manager} 的 {count} 个软件包中没有以下任何一个：{names}。"
        ))
        .fix(words!("{command}", "{command}"))
        .fail()
    }
}
