//! Is setup finished, or sealed by sysprep?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::error::{Error, ErrorKind};
use crate::guest::windows::setup::{Setup, Stage};

pub(in crate::check) struct WindowsSysprep;

impl Check for WindowsSysprep {
    fn id(&self) -> &'static str {
        "windows-sysprep"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Setup must be finished (IMAGE_STATE_COMPLETE), or sysprep must have ended its work (the states that end in RESEAL_TO_OOBE or \
             RESEAL_TO_AUDIT). IMAGE_STATE_UNDEPLOYABLE is left by a setup or sysprep that was interrupted.",
            "安装必须已完成（IMAGE_STATE_COMPLETE），或 sysprep 已正常结束（以 RESEAL_TO_OOBE 或 RESEAL_TO_AUDIT 结尾的状态）。IMAGE_STATE_UNDEPLOYABLE 表示安装或 sysprep 被中断。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let setup = guest.fact::<Setup>()?;
        let (state, evidence) = (&setup.state, setup.evidence.iter().cloned());
        match setup.stage {
            Stage::Complete => Seen::new(words!("Setup is finished.", "系统安装已完成。")).all(evidence).pass(),
            Stage::Sealed => Seen::new(words!(
                "It is sealed by sysprep ({state}) and is set up anew at the first start.",
                "系统已由 sysprep 封装（{state}），首次启动时会重新初始化。"
            ))
            .all(evidence)
            .pass(),
            Stage::Unfinished => Seen::new(words!(
                "Setup or sysprep was interrupted ({state}): Windows does not start as it is.",
                "安装或 sysprep 被中断（{state}）：Windows 无法正常启动。"
            ))
            .all(evidence)
            .fix(words!(
                "let sysprep end on the source (sysprep /generalize /oobe /shutdown), and make the image again",
                "在源系统中完整执行 sysprep /generalize /oobe /shutdown，再重新制作镜像"
            ))
            .fail(),
            Stage::Unknown => {
                Err(Error::new(ErrorKind::Unsupported, format!("the state of setup, '{state}', is none that is known")))
            }
        }
    }
}
