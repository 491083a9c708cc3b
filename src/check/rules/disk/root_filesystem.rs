//! Is the root on a file system of a kind that is taken?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct RootFilesystem;

impl Check for RootFilesystem {
    fn id(&self) -> &'static str {
        "root-filesystem"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The root of the system must be on a file system of one of these kinds (params: linux, windows). For ext2, ext3 and \
             ext4 the kind is what the features make it, as blkid decides.",
            "系统根分区的文件系统必须是指定类型之一（参数：linux、windows）。ext2、ext3、ext4 按其特性区分，与 blkid 一致。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("linux", ParamKind::Words), Param::optional("windows", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.guest());
        let name = if guest.windows().is_some() { "windows" } else { "linux" };
        if !args.has(name) {
            return Ok(Outcome::NotApplicable(words!(
                "no kind of file system is asked of such a system",
                "对此类系统的文件系统类型没有要求"
            )));
        }
        let (kinds, root) = (args.words(name)?, guest.root.as_str());
        let device = subject.stack.devices.iter().find(|device| device.volume == root);
        let kind = device.map(|device| device.kind).filter(|kind| !kind.is_empty());
        let kind =
            kind.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{root}: no kind is known")))?;
        let evidence = Evidence::new(format!("the root is {kind}")).on(root);
        if kinds.contains(&kind) {
            return Seen::new(words!("The root {root} is {kind}.", "根分区 {root} 是 {kind}。"))
                .at(evidence)
                .pass();
        }
        let all = kinds.join(", ");
        let to = kinds.last().unwrap_or(&"ext4");
        Seen::new(words!(
            "The root {root} is {kind}, and only {all} is taken.",
            "根分区 {root} 是 {kind}，仅支持 {all}。"
        ))
        .at(evidence)
        .fix(words!(
            "copy the system onto a new {to} file system (mkfs.{to}, rsync -aHAX), correct UUID and type in /etc/fstab, rebuild the initramfs and the boot menu",
            "将系统复制到新的 {to} 文件系统（mkfs.{to}、rsync -aHAX），修正 /etc/fstab 中的 UUID 和类型，并重新生成 initramfs 和引导菜单"
        ))
        .fail()
    }
}
