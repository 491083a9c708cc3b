//! Does `fstab` name devices by what stays the same on another machine?

use super::lines::list;
use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::names::Found;
use crate::guest::spec::Spec;
use crate::text::escape;

pub(in crate::check) struct FstabIdentifiers;

impl Check for FstabIdentifiers {
    fn id(&self) -> &'static str {
        "fstab-identifiers"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/etc/fstab should name devices by UUID or label, or by the names of LVM: names of the kernel such as \
             /dev/sda1 and names by the connection or serial number of a disk (/dev/disk/by-path, by-id) change with \
             the machine. Names with a prefix that the target has (params: prefixes) stay.",
            "/etc/fstab 应使用 UUID、卷标或 LVM 名称：/dev/sda1 这样的内核设备名，以及按连接位置或序列号的名称\
             （/dev/disk/by-path、by-id）会随机器改变。目标环境中不变的前缀（params: prefixes）除外。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("prefixes", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let prefixes = if args.has("prefixes") { args.words("prefixes")? } else { Vec::new() };
        let changes = |spec: &[u8]| match Spec::parse(spec) {
            Spec::Kernel { .. } => !prefixes.iter().any(|prefix| spec.starts_with(prefix.as_bytes())),
            Spec::Hardware { .. } => true,
            _ => false,
        };
        let fstab = guest.fstab()?;
        let local = || fstab.lines.iter().filter(|line| line.is_local());
        let named: Vec<_> = local().filter(|line| changes(&line.spec)).collect();
        if named.is_empty() {
            let count = local().count();
            return Seen::new(words!(
                "/etc/fstab names its devices by what stays the same on another machine ({count}).",
                "/etc/fstab 使用的设备标识不随机器改变（{count} 个）。"
            ))
            .all(local().map(|line| line.evidence.clone()).take(4))
            .pass();
        }
        // The UUIDs to write, where the devices are there to tell.
        let mut instead = Vec::new();
        for line in &named {
            if let Found::Device(device) = guest.find_device(&line.spec(), &subject.stack.devices)
                && let Some(uuid) = &device.uuid
            {
                instead.push(format!("{} -> UUID={}", escape(&line.spec), escape(uuid.as_bytes())));
            }
        }
        let (instead, names) = (instead.join(", "), list(&named));
        let (en, zh) = (names.en, names.zh);
        let fix = if instead.is_empty() {
            words!("write UUID=… instead; blkid shows it", "改写为 UUID=…（用 blkid 查看）")
        } else {
            words!("write into /etc/fstab: {instead}", "在 /etc/fstab 中改为：{instead}")
        };
        Seen::new(words!(
            "/etc/fstab names devices in a way that changes with the machine: {en}.",
            "/etc/fstab 使用了会随机器改变的设备名：{zh}。"
        ))
        .all(named.iter().map(|line| line.evidence.clone()))
        .fix(fix)
        .fail()
    }
}
