//! Has the connection a name that the cloud looks for?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::network::Interfaces;

pub(in crate::check) struct WindowsConnectionName;

impl Check for WindowsConnectionName {
    fn id(&self) -> &'static str {
        "windows-connection-name"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "One network connection must have the name that the cloud's tools look for (params: names, such as 本地连接); without the \
             limit the names are said and nothing fails.",
            "应有一个网络连接使用云平台工具查找的名称（参数 names，如“本地连接”）；未给出参数时仅列出名称，不会失败。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("names", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let interfaces = guest.fact::<Interfaces>()?;
        let names: Vec<&str> = interfaces.0.iter().map(|interface| interface.name.as_str()).collect();
        let evidence = || interfaces.0.iter().map(|interface| interface.named.clone());
        let shown = names.join(", ");
        if names.is_empty() {
            return Ok(Outcome::NotApplicable(words!(
                "no network connection is recorded",
                "没有网络连接的记录"
            )));
        }
        let wanted = if args.has("names") { args.words("names")? } else { Vec::new() };
        let is_wanted = |name: &&str| wanted.iter().any(|wanted| name.starts_with(wanted));
        if wanted.is_empty() || names.iter().any(is_wanted) {
            return Seen::new(words!("The network connections are: {shown}.", "网络连接：{shown}。"))
                .all(evidence())
                .pass();
        }
        let wanted = wanted.join(", ");
        Seen::new(words!(
            "No network connection is called {wanted}; there are: {shown}.",
            "没有名为 {wanted} 的网络连接；现有：{shown}。"
        ))
        .all(evidence())
        .fail()
    }
}
