//! Is there room left in the file systems of the system?

use crate::check::disks::Mounted;
use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, or_outcome, words,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FsFacts, State};

pub(in crate::check) struct DiskUsage;

/// File systems that are full by their nature, and the FAT of an EFI system partition, which nobody fills.
const NOT_FILLED: &[&str] = &["squashfs", "erofs", "iso9660", "udf", "vfat"];

impl Check for DiskUsage {
    fn id(&self) -> &'static str {
        "disk-usage"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No file system that the system mounts from its disk may be fuller than the limit (params: max_percent), counted as df \
             does: what only root may fill does not count as room. With params min_free, so many bytes must be left, too. An ext \
             file system that was not unmounted knows its free space only as of when it was mounted; then the rule is undecided.",
            "系统从磁盘挂载的文件系统使用率不得超过上限（参数：max_percent），算法与 df 相同：仅 root 可用的保留空间不计为可用。\
             若给出参数 min_free，还必须剩余相应字节数。未正常卸载的 ext 文件系统只记录了挂载时的空闲空间，此时为未定。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("max_percent", ParamKind::Number), Param::optional("min_free", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let mounted = or_outcome!(subject.mounted());
        let max = args.number("max_percent")?;
        let least = if args.has("min_free") { args.size("min_free")? } else { 0 };
        let (mut full, mut evidence, mut undecided) = (Vec::new(), Vec::new(), None);
        for mount in &mounted {
            match Usage::of(subject, mount) {
                Ok(Some(usage)) => {
                    evidence.push(usage.evidence(mount));
                    if usage.percent > max || usage.free < least {
                        full.push((mount, usage));
                    }
                }
                Ok(None) => {}
                Err(error) => undecided = Some(error),
            }
        }
        if let Some((mount, usage)) = full.first() {
            let (path, volume, percent, free) = (&mount.path, mount.volume, usage.percent, human(usage.free));
            let message = if percent > max {
                words!(
                    "{path} ({volume}) is {percent} % full, and at most {max} % is allowed.",
                    "{path}（{volume}）使用率为 {percent}%，上限为 {max}%。"
                )
            } else {
                let least = human(least);
                words!(
                    "{path} ({volume}) has {free} left, and {least} are needed.",
                    "{path}（{volume}）仅剩 {free}，至少需要 {least}。"
                )
            };
            return Seen::new(message)
                .all(full.iter().map(|(mount, usage)| usage.evidence(mount)))
                .fix(words!(
                    "free space in the guest (old kernels, logs, package caches: du -xh --max-depth=2 {path} | sort -h), or grow disk and file system",
                    "在客户机内清理空间（旧内核、日志、软件包缓存：du -xh --max-depth=2 {path} | sort -h），或扩大磁盘和文件系统"
                ))
                .fail();
        }
        if let Some(error) = undecided {
            return Err(error);
        }
        let most = evidence.len();
        if most == 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "no file system of the system says how full it is",
            ));
        }
        Seen::new(words!(
            "There is room left (at most {max} % may be used).",
            "空间充足（使用率上限 {max}%）。"
        ))
        .all(evidence)
        .pass()
    }
}

/// How full a file system is, as `df` says it.
struct Usage {
    percent: u64,
    free: u64,
    size: u64,
}

impl Usage {
    /// `None` where the question makes no sense.
    fn of(subject: &Subject<'_>, mount: &Mounted<'_>) -> Result<Option<Self>> {
        let facts = mount.fs.facts();
        if NOT_FILLED.contains(&facts.kind) {
            return Ok(None);
        }
        if facts.state == State::Dirty && facts.kind.starts_with("ext") {
            let why = format!(
                "{}: was not unmounted, so its count of free blocks is that of when it was mounted",
                mount.volume
            );
            return Err(Error::new(ErrorKind::Unsupported, why)
                .help("shut the guest down cleanly and image it again, or look in the guest with df"));
        }
        let free = mount.fs.free().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("{}: its free space cannot be counted", mount.volume))
        })?;
        let own = Own::of(subject, mount, &facts)?;
        let size = facts.size.saturating_sub(own.overhead);
        let used = size.saturating_sub(free);
        let free = free.saturating_sub(facts.reserved).saturating_sub(own.kept);
        let all = used.saturating_add(free);
        // Rounded up, as df rounds.
        let percent =
            if all == 0 { 100 } else { u128::from(used).saturating_mul(100).div_ceil(u128::from(all)) };
        Ok(Some(Self { percent: u64::try_from(percent).unwrap_or(100), free, size }))
    }

    fn evidence(&self, mount: &Mounted<'_>) -> Evidence {
        let (percent, free, size) = (self.percent, self.free, self.size);
        Evidence::new(format!("{}: {percent} % used, {free} of {size} bytes free", mount.path))
            .on(mount.volume)
    }
}

/// What a file system keeps for itself, in bytes.
#[derive(Default)]
struct Own {
    /// Of ext its tables and its journal, of xfs its log: `statfs` does not count them.
    overhead: u64,
    /// Free, but kept back by the kernel for what it must not fail to write.
    kept: u64,
}

impl Own {
    /// ext: `s_overhead_clusters` and `s_log_cluster_size` of the superblock at byte 1024, 0 where an old mke2fs did not
    /// count; with extents the kernel keeps a fiftieth back, 4096 clusters at most (linux/fs/ext4/super.c, `ext4_statfs`,
    /// `ext4_set_resv_clusters`). xfs: `sb_logblocks` (`xfs_format.h`).
    fn of(subject: &Subject<'_>, mount: &Mounted<'_>, facts: &FsFacts) -> Result<Self> {
        const EXT: u64 = 1024;
        let Some(volume) = subject.stack.volume(mount.volume) else { return Ok(Self::default()) };
        let read = |at: u64| -> Result<[u8; 4]> {
            let mut bytes = [0; 4];
            volume.source.read_at(&mut bytes, at)?;
            Ok(bytes)
        };
        Ok(match facts.kind {
            "ext4" | "ext3" | "ext2" => {
                let clusters = u32::from_le_bytes(read(EXT.saturating_add(0x248))?);
                let cluster = 1024_u64 << u32::from_le_bytes(read(EXT.saturating_add(0x1c))?).min(20);
                let has_extents = facts.features.iter().any(|name| name == "extent" || name == "extents");
                let fiftieth = facts.size.checked_div(cluster.saturating_mul(50)).unwrap_or(0).min(4096);
                Self {
                    overhead: u64::from(clusters).saturating_mul(cluster),
                    kept: if has_extents { fiftieth.saturating_mul(cluster) } else { 0 },
                }
            }
            "xfs" => {
                let blocks = u32::from_be_bytes(read(0x60)?);
                Self { overhead: u64::from(blocks).saturating_mul(u64::from(facts.block_size)), kept: 0 }
            }
            _ => Self::default(),
        })
    }
}
