//! Does the boot manager find this Windows?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::Result;
use crate::error::{Error, ErrorKind};
use crate::fs::tree::Tree;
use crate::guest::file;
use crate::guest::windows::{StoreSeen, Windows};
use crate::text::escape;
use std::sync::Arc;

pub(in crate::check) struct WindowsBoot;

impl Check for WindowsBoot {
    fn id(&self) -> &'static str {
        "windows-boot"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The chain after the first sectors must be whole: a boot store (BCD; boot.ini of old systems), the boot manager beside it, a \
             default entry that leads to this system by the partition's place or GUID, and the loader that the entry names.",
            "首扇区之后的引导链必须完整：启动配置（BCD，旧系统为 boot.ini）、旁边的启动管理器、按分区位置或 GUID 指向此系统的默认启动项，以及该项指定的加载程序。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let Some(windows) = guest.windows() else { return Err(Error::unsupported("this")) };
        let starters = &windows.starters;
        let (place, fix) = (guest.place(), repair(windows));
        if starters.stores.is_empty() {
            return no_store(subject, windows);
        }
        let defaults: Vec<_> = windows.entries.iter().filter(|entry| entry.is_default).collect();
        let faults = || starters.faults.iter().map(Evidence::new);
        let stores = || starters.stores.iter().map(|store| store.seen("a boot store"));
        if defaults.is_empty() {
            if let Some(error) = starters.unread.first() {
                return Err(error.clone());
            }
            if !windows.entries.is_empty() && starters.faults.is_empty() && subject.stack.guests.len() == 1 {
                let entries = windows.entries.iter().map(|entry| entry.evidence.clone());
                return Seen::new(words!(
                    "The boot menu has an entry for {place}, but none is its default; Windows starts the first.",
                    "启动菜单中有 {place} 的启动项，但没有默认项；Windows 会启动第一项。"
                ))
                .all(entries)
                .pass();
            }
            return Seen::new(words!(
                "No default entry of a boot store starts the Windows in {place}: it ends in error 0xc000000e or 0xc0000225.",
                "没有默认启动项指向 {place} 中的 Windows：启动时会报错 0xc000000e 或 0xc0000225。"
            ))
            .all(faults())
            .all(stores())
            .fix(fix)
            .fail();
        }
        if !starters.faults.is_empty() {
            return Seen::new(words!(
                "The boot store and the disk do not fit together: what the default entry starts from is not as it is written there.",
                "启动配置与磁盘不符：默认启动项记录的位置与实际分区不一致。"
            ))
            .all(faults())
            .fix(fix)
            .fail();
        }
        let (mut evidence, mut missing) = (Vec::new(), Vec::new());
        for entry in &defaults {
            let own = |store: &&StoreSeen| {
                let at = &entry.evidence;
                at.volume.as_deref() == Some(&store.volume) && at.path.as_ref() == Some(&store.path)
            };
            let Some(store) = starters.stores.iter().find(own) else { continue };
            let lost = lost(subject, guest.facts(), store, &entry.loader)?;
            if lost.is_empty() {
                evidence.push(entry.evidence.clone());
            }
            missing.extend(lost);
        }
        if evidence.is_empty() {
            let names = missing.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            return Seen::new(words!(
                "The boot store leads to {place}, but of the programs that it needs these are not there: {names}.",
                "启动配置指向 {place}，但缺少所需的程序：{names}。"
            ))
            .all(missing.into_iter().map(|(_, evidence)| evidence))
            .fix(fix)
            .fail();
        }
        Seen::new(words!(
            "The boot manager starts the Windows in {place}.",
            "启动管理器会启动 {place} 中的 Windows。"
        ))
        .all(evidence)
        .pass()
    }
}

/// What writes a new store, from the installation medium's command line.
fn repair(windows: &Windows) -> Words {
    let directory = escape(&windows.directory).to_string().replace('/', "\\");
    words!(
        "from the source's recovery environment: bcdboot C:{directory} /f ALL, for a BIOS disk also: bootrec /fixmbr and bootrec /fixboot",
        "在源系统的恢复环境中执行：bcdboot C:{directory} /f ALL；BIOS 磁盘还需执行 bootrec /fixmbr 和 bootrec /fixboot"
    )
}

/// The outcome where no store could be read.
fn no_store(subject: &Subject<'_>, windows: &Windows) -> Result<Outcome> {
    if let Some(error) = windows.starters.unread.first() {
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotAnImage) {
            return Err(error.clone());
        }
        let why = error.chain();
        return Seen::new(words!("The boot store is damaged: {why}.", "启动配置已损坏：{why}。"))
            .fix(repair(windows))
            .fail();
    }
    if let Some(why) = subject.survey().unread.first() {
        let what = format!("no boot store was found, but {why}");
        return Ok(Outcome::Unknown(Error::new(ErrorKind::Unsupported, what)));
    }
    Seen::new(words!(
        "No boot store is in this image: neither Boot\\BCD nor EFI\\Microsoft\\Boot\\BCD nor boot.ini.",
        "镜像中没有启动配置：Boot\\BCD、EFI\\Microsoft\\Boot\\BCD 和 boot.ini 均不存在。"
    ))
    .fix(repair(windows))
    .fail()
}

/// The programs that a start through this store needs and that are not there.
fn lost(
    subject: &Subject<'_>,
    system: &Tree,
    store: &StoreSeen,
    loader: &[u8],
) -> Result<Vec<(String, Evidence)>> {
    let device = subject.stack.devices.iter().find(|device| device.volume == store.volume);
    let fs = device.and_then(|device| device.system.as_ref());
    let fs = fs.ok_or_else(|| Error::not_found(format!("the file system of {}", store.volume)))?;
    let own = Tree::new(&store.volume, Arc::clone(fs));
    let managers: &[&str] = match store.path.as_bytes() {
        b"/boot.ini" => &["/ntldr"],
        _ if store.firmware == "uefi" => &["/EFI/Microsoft/Boot/bootmgfw.efi"],
        _ => &["/bootmgr"],
    };
    let mut lost = Vec::new();
    let gone = |volume: &str, path: &[u8]| {
        let shown = escape(path).to_string();
        (shown, Evidence::new("is not there").on(volume).path(path))
    };
    for path in managers {
        if !file::exists(&own, path)? {
            lost.push(gone(&store.volume, path.as_bytes()));
        }
    }
    let is_beside = store.path.as_bytes() == b"/boot.ini";
    if !is_beside && !loader.is_empty() && !file::exists(system, loader)? {
        lost.push(gone(system.volume(system.root()), loader));
    }
    Ok(lost)
}
