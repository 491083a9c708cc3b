//! Can the boot open what `crypttab` names?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::crypttab::Crypttab as Table;
use crate::guest::file;
use crate::guest::names::Found;
use crate::text::escape;

pub(in crate::check) struct Crypttab;

impl Check for Crypttab {
    fn id(&self) -> &'static str {
        "crypttab"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "What /etc/crypttab opens at boot must be in the image, and open without anybody at the console: with a key \
             file of the guest or, for swap, a random key. noauto, nofail and _netdev do not count. What a TPM or \
             a token opens cannot be judged.",
            "/etc/crypttab 在开机时打开的设备必须在镜像中，并且无需在控制台输入口令：使用系统内的密钥文件，swap 可用随机密钥。\
             noauto、nofail、_netdev 不计入。由 TPM 或令牌解锁的设备无法判断。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let table = guest.fact::<Table>()?;
        if table.lines.is_empty() {
            return Seen::new(words!(
                "Nothing is opened by /etc/crypttab.",
                "/etc/crypttab 没有要打开的设备。"
            ))
            .pass();
        }
        let mut unsure = None;
        let mut later = |why: String| {
            unsure.get_or_insert(why);
        };
        for line in table.lines.iter().filter(|line| line.is_needed_at_boot()) {
            let (spec, name) = (escape(&line.spec), escape(&line.name));
            let number = line.evidence.line.unwrap_or_default();
            let fix = words!(
                "comment it out: sed -i '{number}s/^/#/' /etc/crypttab, then rebuild the initramfs; or add nofail",
                "注释掉该行：sed -i '{number}s/^/#/' /etc/crypttab，然后重建 initramfs；或加上 nofail"
            );
            match guest.find_device(&line.spec(), &subject.stack.devices) {
                Found::Absent => {
                    return Seen::new(words!(
                        "/etc/crypttab opens {spec} as {name}, which is not in this image; the boot waits for it and fails.",
                        "/etc/crypttab 要把 {spec} 打开为 {name}，但它不在此镜像中，启动会等待并失败。"
                    ))
                    .at(line.evidence.clone())
                    .fix(fix)
                    .fail();
                }
                Found::Unsure(why) => later(format!("{spec}: {why}")),
                Found::Device(_) if line.is_made_anew() => {}
                Found::Device(_) if line.is_opened_by_device() => {
                    later(format!("{spec} is opened by a device or a program that is not in the image"));
                }
                Found::Device(_) => {
                    let has_key = match &line.key {
                        Some(key) => file::exists(guest.facts(), key)?,
                        None => false,
                    };
                    if !has_key {
                        return Seen::new(words!(
                            "The boot stops and asks for the passphrase of {name} ({spec}), as /etc/crypttab says.",
                            "按 /etc/crypttab 的配置，启动时会停下来要求输入 {name}（{spec}）的口令。"
                        ))
                        .at(line.evidence.clone())
                        .fix(fix)
                        .fail();
                    }
                }
            }
        }
        match unsure {
            Some(why) => Err(Error::new(ErrorKind::Unsupported, why)),
            None => Seen::new(words!(
                "The boot can open all that /etc/crypttab names.",
                "/etc/crypttab 中的设备开机时都能打开。"
            ))
            .all(table.lines.iter().map(|line| line.evidence.clone()).take(4))
            .pass(),
        }
    }
}
