//! Which edition is it?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;

pub(in crate::check) struct WindowsEdition;

impl Check for WindowsEdition {
    fn id(&self) -> &'static str {
        "windows-edition"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Says which edition, build and installation type the Windows is; nothing fails.",
            "说明 Windows 的版本类型、内部版本号和安装类型；此项不会失败。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let product = guest.windows_product()?;
        let or_unknown = |text: String| if text.is_empty() { "?".to_owned() } else { text };
        let (title, build) = (product.title(), or_unknown(product.full_build()));
        let edition = or_unknown(product.edition.to_string());
        let (kind, arch) =
            (or_unknown(product.installation.to_string()), or_unknown(guest.arch().to_string()));
        Seen::new(words!(
            "It is {title}: build {build}, edition {edition}, installation {kind}, {arch}.",
            "系统为 {title}：内部版本 {build}，版本类型 {edition}，安装类型 {kind}，架构 {arch}。"
        ))
        .all(product.evidence.clone())
        .pass()
    }
}
