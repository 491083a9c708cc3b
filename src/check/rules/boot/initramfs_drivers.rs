//! Are these drivers there before the default kernel sees its disk?

use super::early::{Early, list};
use super::entry::{default_entry, kernel, make_initramfs};
use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, Result};
use crate::text::escape;
use std::collections::BTreeSet;

pub(in crate::check) struct InitramfsDrivers;

impl Check for InitramfsDrivers {
    fn id(&self) -> &'static str {
        "initramfs-drivers"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Each of the drivers of params: all_of, and one of params: any_of, must be built into the kernel that boots by \
             default or be in its initramfs, with all that they depend on. Modules are matched by their exact name.",
            "参数 all_of 中的每个驱动以及参数 any_of 中的至少一个驱动，连同依赖，必须内置于默认启动的内核或包含在其 \
             initramfs 中。模块按准确名称匹配。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("any_of", ParamKind::Words), Param::optional("all_of", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let words_of = |name: &str| if args.has(name) { args.words(name) } else { Ok(Vec::new()) };
        let (any, all) = (words_of("any_of")?, words_of("all_of")?);
        let modules: Vec<&str> = all.iter().chain(&any).copied().collect();
        if modules.is_empty() {
            return Err(Error::unsupported("the profile names no driver"));
        }
        let entry = default_entry(guest)?;
        let file = or_outcome!(kernel(guest, entry)?);
        let release = guest.release(&file)?.ok_or_else(|| {
            Error::unsupported(format!("the release of kernel {} is not known", escape(&file.path)))
        })?;
        let early = Early::of(guest, &release, &entry.initrds, &modules)?;
        let mut missing: BTreeSet<String> = all.iter().flat_map(|name| early.lacks(name)).collect();
        if !any.is_empty() && !any.iter().any(|name| early.lacks(name).is_empty()) {
            missing.extend(any.iter().map(|name| (*name).to_owned()));
        }
        let name = escape(&release);
        if missing.is_empty() {
            let there: Vec<&str> =
                modules.iter().filter(|name| early.lacks(name).is_empty()).copied().collect();
            let there = list(&there);
            return Seen::new(words!(
                "Kernel {name} has {there} before it sees its disk.",
                "内核 {name} 在识别磁盘之前已具备 {there}。"
            ))
            .all(early.evidence)
            .at(entry.evidence.clone())
            .pass();
        }
        let phrase = early.missing(&missing);
        if !early.drivers.knows_built_in() {
            return Err(Error::unsupported(format!("{}, and what is built into it is not known", phrase.en)));
        }
        let (en, zh) = (phrase.en, phrase.zh);
        Seen::new(words!("Of kernel {name}, {en}.", "内核 {name}：{zh}。"))
            .all(early.evidence)
            .at(entry.evidence.clone())
            .fix(make_initramfs(guest, &release, &modules))
            .fail()
    }
}
