//! Is the swap there that `fstab` names?

use super::lines::{comment_out, list, sort};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::file;
use crate::guest::fstab::Line;

pub(in crate::check) struct FstabSwap;

impl Check for FstabSwap {
    fn id(&self) -> &'static str {
        "fstab-swap"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Swap areas of /etc/fstab should be in the image. systemd waits 90 seconds for one that is not there, then \
             goes on without it: the boot is late, not broken. Swap files count too.",
            "/etc/fstab 中的 swap 应当在镜像中。缺少时 systemd 会等待 90 秒后继续启动：只是变慢，不会失败。swap 文件同样检查。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let fstab = guest.fstab()?;
        let waits = |line: &&Line| line.is_swap() && !line.has("noauto") && !line.has("nofail");
        let swaps = || fstab.lines.iter().filter(waits);
        let mut sorted = sort(guest, subject, swaps().filter(|line| line.is_local()));
        for line in swaps().filter(|line| line.spec.starts_with(b"/") && !line.spec.starts_with(b"/dev/")) {
            let is_there = file::exists(guest.facts(), &line.spec)?;
            if is_there { &mut sorted.present } else { &mut sorted.absent }.push(line);
        }
        if !sorted.absent.is_empty() {
            let names = list(&sorted.absent);
            let (en, zh, command) = (names.en, names.zh, comment_out(&sorted.absent));
            return Seen::new(words!(
                "/etc/fstab names swap that is not in this image, and each boot waits about 90 seconds for it: {en}.",
                "/etc/fstab 中的 swap 不在此镜像中，每次启动都会为它等待约 90 秒：{zh}。"
            ))
            .all(sorted.absent.iter().map(|line| line.evidence.clone()))
            .fix(words!("comment it out: {command}", "注释掉该行：{command}"))
            .fail();
        }
        if let Some(why) = sorted.unsure.into_iter().next() {
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let count = sorted.present.len();
        if count == 0 {
            return Seen::new(words!("/etc/fstab names no swap.", "/etc/fstab 中没有 swap。")).pass();
        }
        Seen::new(words!(
            "The swap that /etc/fstab names is there ({count}).",
            "/etc/fstab 中的 swap 都在镜像中（{count} 个）。"
        ))
        .all(sorted.present.iter().map(|line| line.evidence.clone()))
        .pass()
    }
}
