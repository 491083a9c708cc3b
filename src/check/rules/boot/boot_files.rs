//! Are the kernel and the initramfs there that the boot menu starts?

use super::entry::{default_entry, make_initramfs, variable, write_menu};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::Result;
use crate::guest::Guest;
use crate::guest::boot::Entry;
use crate::text::escape;

pub(in crate::check) struct BootFiles;

impl Check for BootFiles {
    fn id(&self) -> &'static str {
        "boot-files"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel and the initramfs files named by the default entry of the boot menu must be there and not empty. \
             The menu's script is not run; if only running it would tell the default, the rule is undecided.",
            "引导菜单默认启动项所指定的内核和 initramfs 文件必须存在且不为空。不执行菜单脚本；\
             如只有执行脚本才能得知默认项，则无法判定。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let (mut seen, mut unsure) = (Vec::new(), None);
        for (at, named) in std::iter::once(&entry.kernel).chain(&entry.initrds).enumerate() {
            let path = escape(named);
            let wrong = match guest.boot_file(named)? {
                Some(file) if file.size > 0 => {
                    seen.push(file.evidence(format!("{} bytes", file.size)));
                    continue;
                }
                Some(_) => words!(
                    "{path}, which the boot menu starts, is empty.",
                    "引导菜单启动的 {path} 为空文件。"
                ),
                None if named.contains(&b'$') => {
                    unsure.get_or_insert(named);
                    continue;
                }
                None => words!(
                    "{path}, which the boot menu starts, is not there.",
                    "引导菜单启动的 {path} 不存在。"
                ),
            };
            let fix = if at == 0 { again_kernel(guest) } else { again_initramfs(guest, entry)? };
            return Seen::new(wrong).at(entry.evidence.clone()).all(seen).fix(fix).fail();
        }
        if let Some(named) = unsure {
            return Err(variable(named));
        }
        let kernel = escape(&entry.kernel);
        Seen::new(words!(
            "The boot menu starts {kernel}, which is there.",
            "引导菜单启动的内核 {kernel} 存在。"
        ))
        .at(entry.evidence.clone())
        .all(seen)
        .pass()
    }
}

fn again_kernel(guest: &Guest) -> Words {
    let Words { en, zh } = write_menu(guest);
    words!("install the kernel's package again, then {en}", "重新安装内核软件包，然后{zh}")
}

/// The initramfs of the kernel that the entry starts.
fn again_initramfs(guest: &Guest, entry: &Entry) -> Result<Words> {
    let file = guest.boot_file(&entry.kernel)?;
    let release = file.map_or(Ok(None), |file| guest.release(&file))?;
    Ok(release.map_or_else(|| write_menu(guest), |release| make_initramfs(guest, &release, &[])))
}
