//! Does the guest name its disks by names that another machine gives differently?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::spec::Spec;
use crate::text::escape;

pub(in crate::check) struct DeviceNames;

impl Check for DeviceNames {
    fn id(&self) -> &'static str {
        "device-names"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/etc/fstab and root= should not use the kernel's names for disks, such as /dev/sda1: on a virtio disk it \
             becomes /dev/vda1. Names with the prefix that the target has (params: prefixes) and UUIDs stay.",
            "/etc/fstab 和 root= 不应使用 /dev/sda1 这样的内核设备名：在 virtio 磁盘上它会变成 /dev/vda1。\
             目标环境中不变的前缀（params: prefixes）和 UUID 不受影响。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("prefixes", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let prefixes = args.words("prefixes")?;
        let changes = |spec: &[u8]| {
            matches!(Spec::parse(spec), Spec::Kernel { .. })
                && !prefixes.iter().any(|prefix| spec.starts_with(prefix.as_bytes()))
        };
        let (mut names, mut evidence) = (Vec::new(), Vec::new());
        for line in guest.fstab()?.lines.iter().filter(|line| line.is_local() && changes(&line.spec)) {
            names.push(escape(&line.spec).to_string());
            evidence.push(line.evidence.clone());
        }
        // A boot menu that cannot be read is the matter of boot-files.
        let entry = guest.boot().ok().flatten().and_then(|boot| boot.default_entry());
        if let Some((entry, root)) =
            entry.and_then(|entry| Some((entry, entry.arg("root")?))).filter(|(_, root)| changes(root))
        {
            names.push(format!("root={}", escape(root)));
            evidence.push(entry.evidence.clone());
        }
        if names.is_empty() {
            return Seen::new(words!(
                "No disk is named in a way that changes with the machine.",
                "没有使用会随机器改变的磁盘设备名。"
            ))
            .pass();
        }
        let names = names.join(", ");
        Seen::new(words!(
            "Disks have other names on the target: {names}.",
            "这些磁盘设备名在目标环境中会改变：{names}。"
        ))
        .all(evidence)
        .fix(words!("write UUID=… instead; blkid shows it", "改写为 UUID=…（用 blkid 查看）"))
        .fail()
    }
}
