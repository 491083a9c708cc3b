//! Which kernel boots, and is it new enough?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words,
};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::{Guest, packages, version};
use crate::text::{Text, escape};
use std::cmp::Ordering;

pub(in crate::check) struct KernelVersion;

impl Check for KernelVersion {
    fn id(&self) -> &'static str {
        "kernel-version"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel that boots by default must be at least of a version (params: min, one word such as 3.10); without \
             it, the rule only says which kernel boots. Where no default entry is known, every kernel must be new enough.",
            "默认启动的内核版本不得低于下限（参数 min，例如 3.10）；没有该参数时只说明启动哪个内核。\
             无法确定默认启动项时，全部内核都必须满足要求。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("min", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let min = if args.has("min") { args.words("min")?.first().copied() } else { None };
        let kernels = releases(guest)?;
        let evidence = || kernels.iter().map(|(_, evidence)| evidence.clone()).take(4);
        let names: Vec<String> = kernels.iter().map(|(release, _)| release.to_string()).collect();
        let all = names.join(", ");
        let seen = |message: Words| Seen::new(message).all(evidence());
        let Some(min) = min else {
            return seen(words!("The kernel is {all}.", "内核版本为 {all}。")).pass();
        };
        let is_old = |name: &&String| version::compare(name, min) == Some(Ordering::Less);
        let old = names.iter().filter(is_old).count();
        if old == 0 {
            return seen(words!("The kernel {all} is {min} or later.", "内核 {all} 不低于 {min}。")).pass();
        }
        if old < names.len() {
            let what =
                format!("of the kernels {all} some are older than {min}, and which boots is not known");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let command = packages::install(guest, "kernel");
        seen(words!("The kernel {all} is older than {min}.", "内核 {all} 低于 {min}。"))
            .fix(words!(
                "install a newer kernel of the distribution ({command}), and make it the default entry",
                "安装发行版的新版内核（{command}），并设为默认启动项"
            ))
            .fail()
    }
}

/// The release of the default kernel, or those of all.
fn releases(guest: &Guest) -> Result<Vec<(Text, Evidence)>> {
    let entry = guest.boot()?.and_then(|boot| boot.default_entry()).filter(|entry| !entry.kernel.is_empty());
    if let Some(entry) = entry {
        let path = escape(&entry.kernel);
        let file = guest.boot_file(&entry.kernel)?;
        let file =
            file.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("the kernel {path} is not there")))?;
        let release = guest.release(&file)?;
        let none = || {
            Error::new(
                ErrorKind::NotFound,
                format!("neither the name nor the header of {path} has a release"),
            )
        };
        return Ok(vec![(Text::new(release.ok_or_else(none)?), file.evidence("the kernel"))]);
    }
    let kernels = guest.kernels()?.iter().filter(|kernel| kernel.image.is_some());
    let found: Vec<_> = kernels.map(|kernel| (kernel.release.clone(), kernel.evidence.clone())).collect();
    if found.is_empty() { Err(Error::new(ErrorKind::NotFound, "no kernel was found")) } else { Ok(found) }
}
