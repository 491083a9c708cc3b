//! Are inodes left in the file systems of the system?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::State;

pub(in crate::check) struct InodeUsage;

impl Check for InodeUsage {
    fn id(&self) -> &'static str {
        "inode-usage"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No file system that the system mounts may have used more of its inodes than the limit (params: max_percent), counted \
             as df -i does. ext has a fixed number of them; xfs, btrfs and NTFS make them while there is space, which \
             disk-usage looks at.",
            "系统挂载的文件系统 inode 使用率不得超过上限（参数：max_percent），算法与 df -i 相同。ext 的 inode 数量固定；xfs、btrfs 和 NTFS \
             在有空间时动态分配，由 disk-usage 检查。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("max_percent", ParamKind::Number)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let mounted = or_outcome!(subject.mounted());
        let max = args.number("max_percent")?;
        let (mut evidence, mut undecided) = (Vec::new(), None);
        for mount in &mounted {
            let facts = mount.fs.facts();
            if !facts.kind.starts_with("ext") || facts.inodes == 0 {
                continue;
            }
            let (path, volume, all) = (&mount.path, mount.volume, facts.inodes);
            if facts.state == State::Dirty {
                let why = format!(
                    "{volume}: was not unmounted, so its count of free inodes is that of when it was mounted"
                );
                undecided = Some(
                    Error::new(ErrorKind::Unsupported, why)
                        .help("shut the guest down cleanly and image it again"),
                );
                continue;
            }
            let used = all.saturating_sub(facts.free_inodes);
            let percent = u128::from(used).saturating_mul(100).div_ceil(u128::from(all));
            let seen = Evidence::new(format!("{path}: {used} of {all} inodes used, {percent} %")).on(volume);
            if percent > u128::from(max) {
                return Seen::new(words!(
                    "{path} ({volume}) has used {percent} % of its inodes, and at most {max} % is allowed.",
                    "{path}（{volume}）的 inode 使用率为 {percent}%，上限为 {max}%。"
                ))
                .at(seen)
                .fix(words!(
                    "find the directory with very many small files and empty it: du --inodes -x {path} | sort -n | tail",
                    "找出小文件过多的目录并清理：du --inodes -x {path} | sort -n | tail"
                ))
                .fail();
            }
            evidence.push(seen);
        }
        if let Some(error) = undecided {
            return Err(error);
        }
        if evidence.is_empty() {
            return Ok(Outcome::NotApplicable(words!(
                "its file systems have no fixed number of inodes",
                "其文件系统的 inode 数量不固定"
            )));
        }
        Seen::new(words!(
            "Inodes are left (at most {max} % may be used).",
            "inode 充足（使用率上限 {max}%）。"
        ))
        .all(evidence)
        .pass()
    }
}
