//! Was the volume of the system unmounted cleanly?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Error;
use crate::error::Result;
use crate::fs::State;

pub(in crate::check) struct WindowsDirty;

impl Check for WindowsDirty {
    fn id(&self) -> &'static str {
        "windows-dirty"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The file system of the system's volume must have been unmounted cleanly: no dirty flag in $Volume, and no log that waits.",
            "系统卷的文件系统必须已正常卸载：$Volume 中没有脏标志，也没有待重放的日志。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let device = subject.stack.devices.iter().find(|device| device.volume == guest.root);
        let fs = device.and_then(|device| device.system.as_ref());
        let fs = fs.ok_or_else(|| Error::not_found(format!("the file system of {}", guest.root)))?;
        let facts = fs.facts();
        let (volume, kind) = (&guest.root, facts.kind);
        let evidence = facts.warnings.iter().map(|line| Evidence::new(line).on(volume));
        if facts.state == State::Clean {
            return Seen::new(words!(
                "The {kind} file system of {volume} was unmounted cleanly.",
                "{volume} 的 {kind} 文件系统已正常卸载。"
            ))
            .at(Evidence::new(format!("{kind}: {}", facts.state.name())).on(volume))
            .pass();
        }
        let state = facts.state.name();
        Seen::new(words!(
            "The {kind} file system of {volume} was not unmounted cleanly ({state}): Windows checks or repairs it when it starts.",
            "{volume} 的 {kind} 文件系统未正常卸载（{state}）：Windows 启动时会检查或修复它。"
        ))
        .at(Evidence::new(format!("{kind}: {state}")).on(volume))
        .all(evidence)
        .fix(words!(
            "on the source: chkdsk C: /f, then shutdown /s /t 0, and make the image again",
            "在源系统中执行 chkdsk C: /f，再执行 shutdown /s /t 0 正常关机，然后重新制作镜像"
        ))
        .fail()
    }
}
