//! Is no volume inside the disk encrypted?

use crate::check::survey::What;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct VolumeEncryption;

impl Check for VolumeEncryption {
    fn id(&self) -> &'static str {
        "volume-encryption"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No volume of the disk may be encrypted: LUKS or BitLocker, opened with a key or not. Nobody types a passphrase \
             into a machine in a cloud that starts, and the import cannot change what is in it. A volume that VeraCrypt \
             encrypted cannot be told from noise, and is named by no rule.",
            "磁盘中不能有加密卷（LUKS 或 BitLocker），无论此处是否已用密钥打开。云主机启动时无人输入密码，导入过程也无法修改其内容。\
             VeraCrypt 加密的卷与随机数据无法区分，因此任何规则都不会指出它。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let mut locked = Vec::new();
        let mut failed: Option<(&str, &Error)> = None;
        for one in &subject.survey().volumes {
            let how = match &one.what {
                What::Foreign("crypto_LUKS") | What::Container("luks") => "LUKS",
                What::Foreign("BitLocker") | What::Container("bitlocker") => "BitLocker",
                What::Failed(error) => {
                    // One whose members lack says nothing about encryption; one that could not be looked at might.
                    if matches!(error.kind(), ErrorKind::Io | ErrorKind::Source | ErrorKind::Changed) {
                        failed = Some((&one.volume, error));
                    }
                    continue;
                }
                _ => continue,
            };
            locked.push((one.volume.as_str(), how));
        }
        if locked.is_empty() {
            if let Some((volume, error)) = failed {
                return Err(error.clone().context(volume));
            }
            return Seen::new(words!(
                "No volume is encrypted (LUKS, BitLocker).",
                "没有加密卷（LUKS、BitLocker）。"
            ))
            .pass();
        }
        let names: Vec<String> = locked.iter().map(|(volume, how)| format!("{volume} ({how})")).collect();
        let (all, is_windows) = (names.join(", "), locked.iter().any(|(_, how)| *how == "BitLocker"));
        let fix = if is_windows {
            words!(
                "in the guest: manage-bde -off C: and wait until manage-bde -status says 'Fully Decrypted'; then image it again",
                "在客户机内执行 manage-bde -off C:，待 manage-bde -status 显示已完全解密后重新制作镜像"
            )
        } else {
            words!(
                "decrypt it on a copy (cryptsetup reencrypt --decrypt), take its line out of /etc/crypttab, rebuild the initramfs; or install anew without encryption",
                "在副本上解密（cryptsetup reencrypt --decrypt），从 /etc/crypttab 删除对应行并重新生成 initramfs；或不加密重新安装"
            )
        };
        Seen::new(words!("Encrypted volumes are on the disk: {all}.", "磁盘中有加密卷：{all}。"))
            .all(
                locked.iter().map(|(volume, how)| Evidence::new(format!("{how} header")).on(*volume).byte(0)),
            )
            .fix(fix)
            .fail()
    }
}
