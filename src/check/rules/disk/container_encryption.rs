//! Is the container itself unencrypted?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;

pub(in crate::check) struct ContainerEncryption;

impl Check for ContainerEncryption {
    fn id(&self) -> &'static str {
        "container-encryption"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The container must not be encrypted: a QCOW2 with AES or LUKS, a LUKS container around the whole disk. An image \
             that is locked and for which no key is given cannot be opened at all, which the report says in front of all rules. \
             Encrypted volumes inside the disk are the matter of volume-encryption.",
            "镜像容器本身不能加密：例如带 AES 或 LUKS 加密的 QCOW2，或整盘 LUKS 容器。未提供密钥的加密镜像根本无法打开，报告会首先说明。\
             磁盘内部的加密卷由 volume-encryption 检查。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let image = subject.system_disk().image;
        let format = image.format;
        let how = image.facts.iter().find(|(name, _)| *name == "encryption").map(|(_, how)| how.as_str());
        if let Some(how) = how.or((format == "luks").then_some("LUKS")) {
            let name = &subject.stack.name;
            return Seen::new(words!(
                "The container is encrypted: {format}, {how}.",
                "镜像容器已加密：{format}，{how}。"
            ))
            .at(Evidence::new(format!("{format}: encryption {how}")).byte(0))
            .fix(words!(
                "write it out decrypted with qemu-img convert (--object secret,id=k,file=KEYFILE --image-opts driver={format},file.filename={name},...)",
                "用 qemu-img convert 解密后另存（--object secret,id=k,file=KEYFILE --image-opts driver={format},file.filename={name},...）"
            ))
            .fail();
        }
        Seen::new(words!("The container is not encrypted.", "镜像容器未加密。"))
            .at(Evidence::new(format!("{format}, without encryption")))
            .pass()
    }
}
