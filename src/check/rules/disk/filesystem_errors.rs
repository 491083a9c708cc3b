//! Has no file system recorded errors?

use crate::check::survey::What;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::{ErrorKind, Result};
use crate::fs::State;

pub(in crate::check) struct FilesystemErrors;

impl Check for FilesystemErrors {
    fn id(&self) -> &'static str {
        "filesystem-errors"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No file system of the disk may say of itself that errors were found on it (ext, btrfs, FAT, exFAT keep such a mark), \
             and none may be too damaged to be opened. Only what is recorded counts: this is no fsck.",
            "磁盘上的文件系统不得带有错误标记（ext、btrfs、FAT、exFAT 会记录），也不得损坏到无法打开。仅依据已有记录，并不执行 fsck。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let mut undecided = None;
        for one in &subject.survey().volumes {
            let volume = &one.volume;
            let What::Failed(error) = &one.what else { continue };
            if error.kind() != ErrorKind::Corrupt {
                undecided = Some(error.clone().context(volume));
                continue;
            }
            let why = error.chain();
            return Seen::new(words!(
                "The file system on {volume} is damaged: {why}.",
                "{volume} 上的文件系统已损坏：{why}。"
            ))
            .at(Evidence::new(why).on(volume))
            .fix(words!(
                "repair it on a copy (e2fsck -f, xfs_repair, chkdsk /f), or image the disk again",
                "在副本上修复（e2fsck -f、xfs_repair、chkdsk /f），或重新制作磁盘镜像"
            ))
            .fail();
        }
        let facts = subject.stack.facts();
        for (volume, facts) in &facts {
            if facts.state != State::Errors {
                continue;
            }
            let kind = facts.kind;
            let command = match kind {
                "btrfs" => "btrfs check".to_owned(),
                "vfat" => "fsck.vfat -a".to_owned(),
                "exfat" => "fsck.exfat -y".to_owned(),
                _ => "e2fsck -f".to_owned(),
            };
            return Seen::new(words!(
                "The {kind} file system on {volume} has recorded errors.",
                "{volume} 上的 {kind} 文件系统记录了错误。"
            ))
            .all(facts.warnings.iter().take(4).map(|line| Evidence::new(line.clone()).on(*volume)))
            .fix(words!(
                "repair it while it is not mounted: {command} DEVICE, then image it again",
                "在未挂载时修复：{command} DEVICE，然后重新制作镜像"
            ))
            .fail();
        }
        if let Some(error) = undecided {
            return Err(error);
        }
        if facts.is_empty() {
            return Ok(Outcome::NotApplicable(words!("there is no file system", "没有文件系统")));
        }
        Seen::new(words!("No file system has recorded errors.", "文件系统均未记录错误。"))
            .all(facts.iter().take(8).map(|(volume, facts)| {
                Evidence::new(format!("{}: {}", facts.kind, facts.state.name())).on(*volume)
            }))
            .pass()
    }
}
