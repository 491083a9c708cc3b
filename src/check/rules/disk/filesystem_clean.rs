//! Was every file system unmounted before the image was taken?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;
use crate::fs::State;

pub(in crate::check) struct FilesystemClean;

impl Check for FilesystemClean {
    fn id(&self) -> &'static str {
        "filesystem-clean"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Every file system of the disk should have been unmounted: no journal or log waits to be played back, no Windows \
             hibernates. The system would come up all the same, as after a power failure; but what programs had not written is \
             lost, and an import that changes files may refuse such a file system.",
            "磁盘上的文件系统应已正常卸载：没有待回放的日志，Windows 没有休眠。系统仍可像断电后那样启动，但程序尚未写入的数据会丢失，\
             需要修改文件的导入过程也可能拒绝这样的文件系统。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let facts = subject.stack.facts();
        if facts.is_empty() {
            return Ok(Outcome::NotApplicable(words!("there is no file system", "没有文件系统")));
        }
        let dirty: Vec<_> = facts.iter().filter(|(_, facts)| facts.state == State::Dirty).collect();
        if dirty.is_empty() {
            return Seen::new(words!("Every file system was unmounted.", "文件系统均已正常卸载。"))
                .all(facts.iter().take(8).map(|(volume, facts)| {
                    Evidence::new(format!("{}: {}", facts.kind, facts.state.name())).on(*volume)
                }))
                .pass();
        }
        let names: Vec<String> =
            dirty.iter().map(|(volume, facts)| format!("{volume} ({})", facts.kind)).collect();
        let (all, is_windows) = (names.join(", "), dirty.iter().any(|(_, facts)| facts.kind == "ntfs"));
        let evidence = dirty.iter().flat_map(|(volume, facts)| {
            let state = Evidence::new(format!("{}: {}", facts.kind, facts.state.name())).on(*volume);
            std::iter::once(state)
                .chain(facts.warnings.iter().take(3).map(|line| Evidence::new(line.clone()).on(*volume)))
        });
        let fix = if is_windows {
            words!(
                "in the guest: powercfg /h off, then shutdown /s /t 0 (not restart), then image the disk again",
                "在客户机内执行 powercfg /h off，再执行 shutdown /s /t 0（不是重启），然后重新制作镜像"
            )
        } else {
            words!(
                "shut the guest down (systemctl poweroff) and image the disk again",
                "请先关机（systemctl poweroff），再重新制作镜像"
            )
        };
        Seen::new(words!(
            "The image was taken of a running system: {all} was not unmounted.",
            "镜像取自正在运行的系统：{all} 未卸载。"
        ))
        .all(evidence.take(12))
        .fix(fix)
        .fail()
    }
}
