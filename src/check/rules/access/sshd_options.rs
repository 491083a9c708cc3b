//! Is sshd set up as the cloud wants it?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::sshd::{self, Config};

pub(in crate::check) struct SshdOptions;

impl Check for SshdOptions {
    fn id(&self) -> &'static str {
        "sshd-options"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Each option of sshd must have the wanted value (params: options, as UseDNS=no). The first value in sshd_config \
             counts, with Include where it stands; where nothing is set, OpenSSH's default of the installed version does.",
            "sshd 的每个选项都必须为要求的值（参数 options，如 UseDNS=no）。以 sshd_config 中第一个值为准，Include 在其所在位置展开；\
             未设置时采用所装 OpenSSH 版本的默认值。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("options", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        if !guest.fact::<Config>()?.exists {
            return Ok(Outcome::NotApplicable(words!("there is no sshd_config", "没有 sshd_config")));
        }
        let (mut wrong, mut wrong_zh, mut wants, mut places) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut unknown = None;
        for option in args.words("options")? {
            let Some((key, wanted)) = option.split_once('=') else {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("params.options: {option} has no value"),
                ));
            };
            let found = match sshd::effective(guest, key) {
                Ok(found) => found,
                Err(error) => {
                    unknown.get_or_insert(error);
                    continue;
                }
            };
            places.extend(found.evidence.clone());
            if found.value != sshd::canonical(wanted) {
                let value = crate::text::Text::from(found.value.as_str());
                let (default, default_zh) =
                    if found.evidence.is_none() { (" by default", "（默认值）") } else { ("", "") };
                wrong.push(format!("{key} is {value}{default}"));
                wrong_zh.push(format!("{key} 为 {value}{default_zh}"));
                wants.push(format!("{key} {wanted}"));
            }
        }
        if !wrong.is_empty() {
            let (en, zh, fix) = (wrong.join(", "), wrong_zh.join("，"), wants.join("; "));
            return Seen::new(words!("Of sshd's options, {en}.", "sshd 的选项中，{zh}。"))
                .all(places)
                .fix(words!("in /etc/ssh/sshd_config: {fix}", "在 /etc/ssh/sshd_config 中设置：{fix}"))
                .fail();
        }
        match unknown {
            Some(error) => Err(error),
            None => {
                Seen::new(words!("sshd's options are as wanted.", "sshd 的选项符合要求。")).all(places).pass()
            }
        }
    }
}
