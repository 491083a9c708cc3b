//! How is it licensed, and will the cloud activate it?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::license::License;

pub(in crate::check) struct WindowsActivation;

impl Check for WindowsActivation {
    fn id(&self) -> &'static str {
        "windows-activation"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Says through which channel the Windows was licensed (retail, volume, OEM). Clouds do not activate what is imported; nothing \
             fails.",
            "说明 Windows 的授权渠道（零售、批量、OEM）。云平台不激活导入的系统；此项不会失败。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let license = guest.fact::<License>()?;
        let channel = &license.channel;
        let words = if channel.is_empty() {
            words!(
                "Its licence channel is not written; the instance has to be activated with a key of your own.",
                "未记录授权渠道；实例需使用自有密钥激活。"
            )
        } else {
            words!(
                "Its licence channel is {channel}; the instance has to be activated with a licence of your own.",
                "授权渠道为 {channel}；实例需使用自有授权激活。"
            )
        };
        Seen::new(words).all(license.evidence.clone()).pass()
    }
}
