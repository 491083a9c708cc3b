//! Does the image start in the boot mode that the import is told?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;

pub(in crate::check) struct DeclaredBootMode;

/// What clouds call the two ways to start a machine, in lower case, and the firmware that each needs. With a preferred
/// mode the cloud takes the other where an instance type lacks it.
const MODES: &[(&str, &[&str])] = &[
    ("bios", &["bios"]),
    ("legacy", &["bios"]),
    ("legacy bios", &["bios"]),
    ("uefi", &["uefi"]),
    ("uefi-preferred", &["bios", "uefi"]),
];

impl Check for DeclaredBootMode {
    fn id(&self) -> &'static str {
        "declared-boot-mode"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The import is told a boot mode (--set bootMode=BIOS, Legacy, UEFI or UEFI-Preferred), and the image must \
             hold what that firmware starts: boot code in the first sector for BIOS, an EFI system partition for UEFI; \
             both for UEFI-Preferred. Without --set bootMode the question does not arise.",
            "导入时会填写启动模式（--set bootMode=BIOS、Legacy、UEFI 或 UEFI-Preferred），镜像中必须有对应固件可以启动的内容：\
             BIOS 需要第一个扇区的引导代码，UEFI 需要 EFI 系统分区，UEFI-Preferred 两者都需要。没有 --set bootMode 时不适用。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let Some(told) = subject.settings.get("bootMode") else {
            return Ok(Outcome::NotApplicable(words!(
                "no boot mode was told (--set bootMode=…)",
                "没有填写启动模式（--set bootMode=…）"
            )));
        };
        let wanted = MODES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(told))
            .map(|(_, wanted)| *wanted)
            .unwrap_or_default();
        let guest = or_outcome!(subject.guest());
        let has = if guest.firmware.is_empty() { "nothing".to_owned() } else { guest.firmware.join(", ") };
        let has_zh = if guest.firmware.is_empty() { "无" } else { has.as_str() };
        let table = &subject.stack.discovery.table;
        let (told, code) = (crate::text::escape(told.as_bytes()), table.boot_code);
        let seen = Seen::new(words!(
            "The import is told boot mode {told}, and the image starts by: {has}.",
            "导入时填写的启动模式是 {told}，镜像可用的启动方式：{has_zh}。"
        ))
        .at(Evidence::new(format!("{} partition table; boot code: {code}", table.kind.name())).byte(0));
        if wanted.iter().all(|firmware| guest.firmware.contains(firmware)) {
            return seen.pass();
        }
        match guest.firmware.as_slice() {
            ["bios"] => {
                seen.fix(words!("tell BIOS (Legacy) as the boot mode", "启动模式填写 BIOS（Legacy）")).fail()
            }
            ["uefi"] => seen.fix(words!("tell UEFI as the boot mode", "启动模式填写 UEFI")).fail(),
            _ => seen.fail(),
        }
    }
}

/// Is it the name of a boot mode?
pub(in crate::check) fn is_mode(name: &str) -> bool {
    MODES.iter().any(|(mode, _)| mode.eq_ignore_ascii_case(name))
}
