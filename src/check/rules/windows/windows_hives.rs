//! Can the registry be loaded?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::error::{Error, ErrorKind};

pub(in crate::check) struct WindowsHives;

impl Check for WindowsHives {
    fn id(&self) -> &'static str {
        "windows-hives"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The hives that Windows starts with (SYSTEM, SOFTWARE, SAM, SECURITY, DEFAULT) must be there, begin as hives do, and their \
             writing must be ended or be completed by their logs. The logs are laid over them as Windows would.",
            "Windows 启动所需的注册表配置单元（SYSTEM、SOFTWARE、SAM、SECURITY、DEFAULT）必须存在且格式正确，写入必须已完成，或可由日志补全。检查时会像 Windows 一样应用日志。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let Some(windows) = guest.windows() else { return Err(Error::unsupported("this")) };
        let directory = crate::text::escape(&windows.directory).to_string();
        let fix = words!(
            "from the source's recovery environment copy the hive back from C:\\Windows\\System32\\config\\RegBack, or restore a backup",
            "在源系统的恢复环境中，从 C:\\Windows\\System32\\config\\RegBack 恢复该配置单元，或从备份还原"
        );
        let (mut replayed, mut doubt, mut evidence) = (Vec::new(), None, Vec::new());
        for name in HIVES {
            let path = format!("{directory}/System32/config/{name}");
            let hive = match windows.hive(guest.facts(), name) {
                Ok(hive) => hive,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Seen::new(words!(
                        "The registry hive {name} is not there ({path}): Windows stops with 0xc0000218 or 0xc000014c.",
                        "注册表配置单元 {name} 不存在（{path}）：Windows 启动时会报错 0xc0000218 或 0xc000014c。"
                    ))
                    .at(windows.hive_file(name, "is not there"))
                    .fix(fix)
                    .fail();
                }
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotAnImage) => {
                    let why = error.chain();
                    return Seen::new(words!(
                        "The registry hive {name} is damaged: {why}.",
                        "注册表配置单元 {name} 已损坏：{why}。"
                    ))
                    .at(windows.hive_file(name, why))
                    .fix(fix)
                    .fail();
                }
                Err(error) => return Err(error),
            };
            if let Err(error) = hive.root() {
                let why = error.chain();
                return Seen::new(words!(
                    "The registry hive {name} is damaged: {why}.",
                    "注册表配置单元 {name} 已损坏：{why}。"
                ))
                .at(windows.hive_file(name, why))
                .fix(fix)
                .fail();
            }
            match (hive.is_dirty(), hive.replayed().first()) {
                (true, None) => {
                    let why = hive.warnings().join("; ");
                    doubt = doubt.or_else(|| Some(Error::new(ErrorKind::Corrupt, format!("{path}: {why}"))));
                }
                (true, Some(log)) => {
                    replayed.push(*name);
                    evidence.push(windows.hive_file(name, format!("completed from its log {}", log.log)));
                }
                (false, _) => evidence.push(windows.hive_file(name, "was written to the end")),
            }
        }
        if let Some(error) = doubt {
            return Err(error.help("shut the source down cleanly and make the image again"));
        }
        if replayed.is_empty() {
            return Seen::new(words!("All registry hives can be loaded.", "所有注册表配置单元均可加载。"))
                .all(evidence)
                .pass();
        }
        let names = replayed.join(", ");
        Seen::new(words!(
            "All registry hives can be loaded; {names} was being written when the disk was copied and is completed from its logs.",
            "所有注册表配置单元均可加载；复制磁盘时 {names} 正在写入，可由日志补全。"
        ))
        .all(evidence)
        .pass()
    }
}

/// What the kernel and the logon load; without one of them no Windows starts.
const HIVES: &[&str] = &["SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT"];
