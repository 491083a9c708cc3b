//! Has no file system of the system a feature that is not taken?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::Result;

pub(in crate::check) struct FilesystemFeatures;

impl Check for FilesystemFeatures {
    fn id(&self) -> &'static str {
        "filesystem-features"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No file system that the system mounts may have one of these features (params: forbidden). A word is the kind and the \
             feature's name as its own tools spell it: ext4:64bit, ext4:metadata_csum, xfs:crc (also V5). With a plus, all of \
             them together are meant: ext4:project+quota.",
            "系统挂载的文件系统不得启用指定特性（参数：forbidden）。写法为“类型:特性”，特性名与其自带工具一致：ext4:64bit、\
             ext4:metadata_csum、xfs:crc（即 V5）。用加号连接表示同时启用：ext4:project+quota。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("forbidden", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let mounted = or_outcome!(subject.mounted());
        let forbidden = args.words("forbidden")?;
        let mut found = Vec::new();
        for mount in &mounted {
            let facts = mount.fs.facts();
            let has = |wanted: &str| facts.features.iter().any(|name| name.eq_ignore_ascii_case(wanted));
            for word in &forbidden {
                let Some((kind, names)) = word.split_once(':') else { continue };
                if kind == facts.kind && names.split('+').all(has) {
                    found.push((mount.volume, facts.kind, names));
                }
            }
        }
        let Some((volume, kind, names)) = found.first().copied() else {
            let all = forbidden.join(", ");
            let evidence = mounted.iter().map(|mount| {
                let facts = mount.fs.facts();
                Evidence::new(format!("{}: {}", facts.kind, facts.features.join(", "))).on(mount.volume)
            });
            return Seen::new(words!(
                "No file system of the system has one of {all}.",
                "系统的文件系统均未启用：{all}。"
            ))
            .all(evidence.take(4))
            .pass();
        };
        let fix = match kind {
            "xfs" => words!(
                "make the file system anew without it (mkfs.xfs -m crc=0) and copy the system over",
                "不带该特性重新创建文件系统（mkfs.xfs -m crc=0）并复制系统"
            ),
            _ if names == "64bit" => words!(
                "on the unmounted file system: e2fsck -f DEVICE && resize2fs -s DEVICE",
                "在未挂载的文件系统上执行：e2fsck -f DEVICE && resize2fs -s DEVICE"
            ),
            _ => {
                let first = names.split('+').next().unwrap_or(names);
                words!(
                    "on the unmounted file system: e2fsck -f DEVICE && tune2fs -O ^{first} DEVICE",
                    "在未挂载的文件系统上执行：e2fsck -f DEVICE && tune2fs -O ^{first} DEVICE"
                )
            }
        };
        Seen::new(words!(
            "The {kind} file system on {volume} has the feature {names}, which is not taken.",
            "{volume} 上的 {kind} 文件系统启用了不受支持的特性 {names}。"
        ))
        .all(
            found
                .iter()
                .map(|(volume, kind, names)| Evidence::new(format!("{kind} has {names}")).on(*volume)),
        )
        .fix(fix)
        .fail()
    }
}
