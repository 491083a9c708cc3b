//! Is the system on few enough partitions?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::Result;
use crate::guest::names::Found;

pub(in crate::check) struct PartitionLayout;

/// What a system needs before it mounts anything.
const NEEDED: &[&[u8]] = &[b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib64", b"/etc"];
/// Where an EFI system partition is mounted: firmware needs it by itself.
const ESP: &[&[u8]] = &[b"/boot/efi", b"/efi", b"/boot/EFI"];

impl Check for PartitionLayout {
    fn id(&self) -> &'static str {
        "partition-layout"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "A system whose /usr (or /etc, /bin, /lib) is a file system of its own starts only if its initramfs mounts that. \
             With params single_root, everything must be in the root partition: no separate /boot, /var, /home either. An EFI \
             system partition and swap are not counted. Decided by what fstab mounts.",
            "若 /usr（或 /etc、/bin、/lib）是独立的文件系统，则只有 initramfs 会挂载它时系统才能启动。若给出参数 single_root，\
             则所有内容必须在一个根分区中，/boot、/var、/home 也不能独立。EFI 系统分区和交换分区不计。依据 fstab 判断。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("single_root", ParamKind::Flag)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let single = args.flag("single_root");
        let fstab = guest.fstab()?;
        let mut separate = Vec::new();
        for line in
            fstab.lines.iter().filter(|line| line.is_local() && !line.is_swap() && !line.has("noauto"))
        {
            let dir = line.dir.strip_suffix(b"/").unwrap_or(&line.dir);
            if dir.is_empty() || !dir.starts_with(b"/") || ESP.contains(&dir) {
                continue;
            }
            if !single && !NEEDED.contains(&dir) {
                continue;
            }
            // A subvolume of the root's own file system is no partition.
            let own = match guest.find_device(&line.spec(), &subject.stack.devices) {
                Found::Device(device) => device.volume == guest.root,
                Found::Absent | Found::Unsure(_) => false,
            };
            if !own {
                separate.push((crate::text::escape(dir).to_string(), line.evidence.clone()));
            }
        }
        let names: Vec<&str> = separate.iter().map(|(name, _)| name.as_str()).collect();
        let (all, root) = (names.join(", "), &guest.root);
        if names.is_empty() {
            let message = if single {
                words!("The whole system is in the root partition {root}.", "整个系统都在根分区 {root} 中。")
            } else {
                words!(
                    "What the system starts from is in the root partition {root}.",
                    "系统启动所需的内容都在根分区 {root} 中。"
                )
            };
            return Seen::new(message).at(Evidence::new("the root").on(root)).pass();
        }
        Seen::new(words!(
            "Not everything is in the root partition: {all} is mounted from elsewhere.",
            "并非所有内容都在根分区中：{all} 位于其他分区。"
        ))
        .all(separate.into_iter().map(|(_, evidence)| evidence))
        .fix(words!(
            "copy {all} into the root partition (cp -a), take its line out of /etc/fstab, rebuild the boot menu and the initramfs",
            "将 {all} 复制到根分区（cp -a），从 /etc/fstab 删除对应行，并重新生成引导菜单和 initramfs"
        ))
        .fail()
    }
}
