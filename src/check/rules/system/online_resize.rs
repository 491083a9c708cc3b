//! Can the root grow when the disk does?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::guest::packages;

pub(in crate::check) struct OnlineResize;

/// What makes a partition larger: cloud-utils' and systemd's.
const PARTITION: &[&str] = &["/usr/bin/growpart", "/usr/bin/systemd-repart", "/bin/systemd-repart"];

/// What makes a file system larger: its kinds, the programs, and the package that brings them.
const FILE_SYSTEM: &[(&[&str], &[&str], &str)] = &[
    (&["ext2", "ext3", "ext4"], &["/sbin/resize2fs", "/usr/sbin/resize2fs"], "e2fsprogs"),
    (&["xfs"], &["/usr/sbin/xfs_growfs", "/sbin/xfs_growfs", "/usr/bin/xfs_growfs"], "xfsprogs"),
    (&["btrfs"], &["/sbin/btrfs", "/usr/sbin/btrfs", "/usr/bin/btrfs"], "btrfs-progs"),
];

impl Check for OnlineResize {
    fn id(&self) -> &'static str {
        "online-resize"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "When a system disk is made larger than the image, the root must be able to follow: growpart or \
             systemd-repart for its partition, and for its file system resize2fs, xfs_growfs or btrfs.",
            "系统盘大于镜像时，根分区必须能够随之扩容：扩展分区需要 growpart 或 systemd-repart，\
             扩展文件系统需要 resize2fs、xfs_growfs 或 btrfs。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        guest.fstab()?;
        let tree = guest.facts();
        let kind = tree.mounts().first().map(|root| root.fs.facts().kind).unwrap_or_default();
        let Some((_, programs, package)) = FILE_SYSTEM.iter().find(|(kinds, ..)| kinds.contains(&kind))
        else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("what makes a {kind} larger is not known"),
            ));
        };
        let partition = first(tree, PARTITION)?;
        let system = first(tree, programs)?;
        if let (Some(partition), Some(system)) = (&partition, &system) {
            return Seen::new(words!(
                "The partition and the {kind} of the root can grow with the disk.",
                "根分区及其 {kind} 文件系统可以随磁盘扩容。"
            ))
            .all([partition.clone(), system.clone()])
            .pass();
        }
        let growpart = match guest.packages().ok().and_then(|list| list.manager) {
            Some("rpm")
                if guest.os().is_ok_and(|os| os.like.iter().any(|like| like.as_bytes() == b"suse")) =>
            {
                "growpart"
            }
            Some("dpkg") => "cloud-guest-utils",
            Some("rpm") => "cloud-utils-growpart",
            _ => "cloud-utils",
        };
        let mut needed = Vec::new();
        let mut lacking = Vec::new();
        if partition.is_none() {
            needed.push(growpart);
            lacking.push("growpart");
        }
        if system.is_none() {
            let program = programs.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            needed.push(package);
            lacking.push(program);
        }
        let lacking = lacking.join(", ");
        let command = packages::install(guest, &needed.join(" "));
        Seen::new(words!(
            "The root cannot grow with the disk: {lacking} is not installed.",
            "根分区无法随磁盘扩容：未安装 {lacking}。"
        ))
        .fix(words!("{command}", "{command}"))
        .fail()
    }
}

fn first(tree: &Tree, paths: &[&str]) -> Result<Option<Evidence>> {
    for path in paths {
        if let Some(node) = tree.find(path.as_bytes())? {
            return Ok(Some(Evidence::new("there").on(tree.volume(node)).path(path.as_bytes())));
        }
    }
    Ok(None)
}
