//! Is `root=` written in a way that does not change with the machine?

use super::entry::{by_uuid, default_entry, variable};
use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::text::escape;

pub(in crate::check) struct RootArgumentStyle;

impl Check for RootArgumentStyle {
    fn id(&self) -> &'static str {
        "root-argument-style"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The root= of the default entry must start with one of the given words (params: prefixes), such as UUID=. \
             Whether it names the right volume is the matter of root-argument.",
            "默认启动项的 root= 必须以给定的前缀之一开头（参数 prefixes），例如 UUID=。是否指向正确的卷由 root-argument 检查。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("prefixes", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let Some(root) = entry.arg("root") else {
            return Ok(Outcome::NotApplicable(words!(
                "the kernel's line has no root=",
                "内核参数中没有 root="
            )));
        };
        if root.contains(&b'$') {
            return Err(variable(root));
        }
        let prefixes = args.words("prefixes")?;
        let name = escape(root);
        if prefixes.iter().any(|prefix| root.starts_with(prefix.as_bytes())) {
            return Seen::new(words!(
                "root={name} means the same volume on every machine.",
                "root={name} 在任何机器上都指向同一个卷。"
            ))
            .at(entry.evidence.clone())
            .pass();
        }
        let (wanted, wanted_zh) = (prefixes.join(", "), prefixes.join("、"));
        Seen::new(words!(
            "root={name} may mean another device on the target; wanted is {wanted}.",
            "root={name} 在目标平台上可能指向其他设备；应使用 {wanted_zh}。"
        ))
        .at(entry.evidence.clone())
        .fix(by_uuid(subject, guest, entry))
        .fail()
    }
}
