//! Does the kernel talk on a serial line?

use super::entry::{change_arguments, default_entry};
use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::text::escape;

pub(in crate::check) struct SerialConsole;

impl Check for SerialConsole {
    fn id(&self) -> &'static str {
        "serial-console"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel's line of the default entry must have console= with one of the given devices (params: console), \
             whatever its speed: console=ttyS0,115200n8.",
            "默认启动项的内核参数必须包含 console=，其设备为给定之一（参数 console），速率不限：console=ttyS0,115200n8。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("console", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let wanted = args.words("console")?;
        let device = |arg: &[u8]| {
            let value = arg.strip_prefix(b"console=")?;
            let name = value.split(|byte| *byte == b',').next()?;
            wanted.iter().find(|wanted| wanted.as_bytes() == name).copied()
        };
        if let Some(found) = entry.args.iter().find_map(|arg| device(arg)) {
            return Seen::new(words!("The kernel talks on {found}.", "内核在 {found} 上输出控制台。"))
                .at(entry.evidence.clone())
                .pass();
        }
        if let Some(unsure) = entry.args.iter().find(|arg| arg.starts_with(b"$")) {
            let error = super::entry::variable(unsure);
            return Ok(Outcome::Unknown(error));
        }
        let first = wanted.first().copied().unwrap_or("ttyS0");
        let kernel = escape(&entry.kernel);
        Seen::new(words!(
            "The default entry starts {kernel} without console={first}.",
            "默认启动项启动 {kernel} 时没有 console={first}。"
        ))
        .at(entry.evidence.clone())
        .fix(change_arguments(guest, entry, "", &format!("console=tty0 console={first},115200")))
        .fail()
    }
}
