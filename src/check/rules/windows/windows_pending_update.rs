//! Does an update wait for the next start?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::updates::Pending;

pub(in crate::check) struct WindowsPendingUpdate;

impl Check for WindowsPendingUpdate {
    fn id(&self) -> &'static str {
        "windows-pending-update"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Servicing must not be in the middle of something: RebootPending, PackagesPending, RebootRequired or WinSxS\\pending.xml mean \
             that the next start goes on with it. Files that wait to be renamed alone are said and do no harm.",
            "系统更新不得处于未完成状态：RebootPending、PackagesPending、RebootRequired 或 WinSxS\\pending.xml 表示下次启动会继续更新。仅有待重命名的文件时给出说明，不影响导入。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let pending = guest.fact::<Pending>()?;
        if let Some(first) = pending.servicing.first() {
            let what = first
                .path
                .as_ref()
                .filter(|_| first.what == "is there")
                .map_or_else(|| first.what.clone(), ToString::to_string);
            return Seen::new(words!(
                "An update waits for the next start ({what}): in the cloud it goes on with other hardware, or goes wrong.",
                "有更新等待下次启动时完成（{what}）：在云上会更换硬件环境继续更新，可能失败。"
            ))
            .all(pending.servicing.iter().cloned())
            .fix(words!(
                "restart the source until no update waits, shut it down, and make the image again",
                "重启源系统直至没有待完成的更新，正常关机后重新制作镜像"
            ))
            .fail();
        }
        if let Some(renames) = &pending.renames {
            return Seen::new(words!(
                "No update waits; some files are to be renamed or deleted at the next start.",
                "没有待完成的更新；有文件将在下次启动时重命名或删除。"
            ))
            .at(renames.clone())
            .pass();
        }
        Seen::new(words!("No update waits for the next start.", "没有待完成的更新。")).pass()
    }
}
