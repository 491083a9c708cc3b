//! Is none of some packages installed?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::packages;

pub(in crate::check) struct PackagesAbsent;

impl Check for PackagesAbsent {
    fn id(&self) -> &'static str {
        "packages-absent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "None of the packages that are listed (params: names) may be installed, by the list of the guest's own \
             package manager.",
            "列出的软件包（参数 names）都不能安装，以系统自身包管理器的记录为准。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("names", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let unwanted = args.words("names")?;
        let list = guest.packages()?;
        let found: Vec<_> = unwanted.iter().filter_map(|name| list.get(name)).collect();
        if !found.is_empty() {
            let named: Vec<String> = found.iter().map(|package| package.name.to_string()).collect();
            let names = named.join(", ");
            let command = packages::remove(guest, &named.join(" "));
            return Seen::new(words!(
                "Installed and not wanted: {names}.",
                "已安装不应存在的软件包：{names}。"
            ))
            .all(found.into_iter().map(|package| package.evidence.clone()))
            .fix(words!("{command}", "{command}"))
            .fail();
        }
        let Some(manager) = list.manager else {
            return Err(Error::new(ErrorKind::NotFound, "there is no package database in the guest"));
        };
        let (count, names) = (list.installed.len(), unwanted.join(", "));
        Seen::new(words!(
            "None of these is among the {count} packages of {manager}: {names}.",
            "{manager} 的 {count} 个软件包中没有以下任何一个：{names}。"
        ))
        .pass()
    }
}
