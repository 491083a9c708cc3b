//! Will the default kernel find a virtio disk, and have a virtio network?

use super::early::{Early, list, not_there};
use super::entry::make_initramfs;
use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words,
};
use crate::error::{Error, Result};
use crate::guest::{BootFile, Guest};
use crate::text::escape;
use std::collections::BTreeSet;

pub(in crate::check) struct VirtioInitramfs;

impl Check for VirtioInitramfs {
    fn id(&self) -> &'static str {
        "virtio-initramfs"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel that boots by default must find its disk on the target: a disk driver (params: disk, any one) and \
             its transport (params: transport, all), each with all that it depends on, must be built into the kernel or be \
             in the initramfs. A network driver (params: network, any one) must be built in or be a module of that kernel. \
             Modules are matched by their exact name: an initramfs that lists virtio.ko and nd_virtio.ko, but not \
             virtio_blk.ko, does not boot from a virtio disk, although 'lsinitrd | grep virtio' shows lines. What is \
             built in is read from modules.builtin and the kernel's config; without both, nothing counts as missing and the \
             rule is undecided.",
            "默认启动的内核必须能在目标平台上找到磁盘：磁盘驱动（参数 disk，任一即可）及其传输层驱动（参数 transport，全部），\
             连同各自的依赖，必须内置于内核或包含在 initramfs 中。网卡驱动（参数 network，任一即可）必须内置于内核，\
             或是该内核的模块。模块按准确名称匹配：只有 virtio.ko 和 nd_virtio.ko 而没有 virtio_blk.ko 的 initramfs \
             无法从 virtio 磁盘启动，尽管 lsinitrd | grep virtio 会有输出。内核内置的驱动从 modules.builtin 和内核配置读取；\
             两者都没有时不判定为缺失，结果为无法判定。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const {
            &[
                Param::required("disk", ParamKind::Words),
                Param::required("transport", ParamKind::Words),
                Param::required("network", ParamKind::Words),
            ]
        }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let wants = Wants {
            disk: args.words("disk")?,
            transport: args.words("transport")?,
            network: args.words("network")?,
        };
        let boot = guest.boot()?;
        let entry = boot.and_then(|boot| boot.default_entry()).filter(|entry| !entry.kernel.is_empty());
        if let Some(entry) = entry {
            let Some(kernel) = guest.boot_file(&entry.kernel)? else {
                return Err(not_there(&entry.kernel));
            };
            let release = release(guest, &kernel)?;
            let mut judged = judge(guest, &release, &entry.initrds, &wants)?;
            judged.evidence.push(entry.evidence.clone());
            return Ok(judged.outcome(guest, &release, &wants));
        }
        every_kernel(
            guest,
            &wants,
            boot.map_or("no boot menu of a kind that is read was found", |boot| &boot.why),
        )
    }
}

/// Without a known default: the answer is known if it is the same for every kernel.
fn every_kernel(guest: &Guest, wants: &Wants<'_>, why: &str) -> Result<Outcome> {
    let mut answers = Vec::new();
    for kernel in guest.kernels()? {
        let Some(image) = &kernel.image else { continue };
        let Some(file) = guest.boot_file(image.as_bytes())? else { continue };
        // Its initramfs goes by the name of its image, its modules by its release: /boot/vmlinuz-linux of Arch.
        let named = kernel.release.as_bytes();
        let names: [(&[u8], &[u8]); 5] = [
            (b"/boot/initrd.img-", b""),
            (b"/boot/initramfs-", b".img"),
            (b"/boot/initramfs-", b""),
            (b"/boot/initrd-", b".img"),
            (b"/boot/initrd-", b""),
        ];
        let mut initrds = Vec::new();
        for (before, after) in names {
            let path = [before, named, after].concat();
            if guest.boot_file(&path)?.is_some() {
                initrds.push(path);
                break;
            }
        }
        let release = release(guest, &file)?;
        let judged = judge(guest, &release, &initrds, wants)?;
        if initrds.is_empty() && !judged.missing.is_empty() {
            return Err(Error::unsupported(format!(
                "which initramfs kernel {} loads is not known: {why}",
                escape(&release)
            )));
        }
        answers.push((release, judged));
    }
    let failed = answers.iter().filter(|(_, judged)| !judged.missing.is_empty()).count();
    if (failed == answers.len() || failed == 0)
        && let Some((release, judged)) = answers.into_iter().next()
    {
        return Ok(judged.outcome(guest, &release, wants));
    }
    Err(Error::unsupported(format!("which kernel boots is not known: {why}")))
}

/// The release of a kernel's image, by which its modules are found.
fn release(guest: &Guest, file: &BootFile) -> Result<Vec<u8>> {
    let unknown = || Error::unsupported(format!("the release of kernel {} is not known", escape(&file.path)));
    guest.release(file)?.ok_or_else(unknown)
}

struct Wants<'a> {
    disk: Vec<&'a str>,
    transport: Vec<&'a str>,
    network: Vec<&'a str>,
}

/// What was found for one kernel.
#[derive(Default)]
struct Judged {
    /// What is missing, one phrase each; nothing if the kernel is fit.
    missing: Vec<Words>,
    /// How it is fit.
    found: Vec<Words>,
    evidence: Vec<Evidence>,
}

fn judge(guest: &Guest, release: &[u8], initrds: &[Vec<u8>], wants: &Wants<'_>) -> Result<Judged> {
    let mut judged = Judged::default();
    let all: Vec<&str> = wants.transport.iter().chain(&wants.disk).copied().collect();
    let early = Early::of(guest, release, initrds, &all)?;
    let disk = wants.disk.iter().find(|name| early.lacks(name).is_empty());
    match disk {
        Some(name) if early.is_built_in(name) => {
            judged.found.push(words!("{name} is built in", "{name} 已内置"));
        }
        Some(name) => judged.found.push(words!("{name} is in the initramfs", "{name} 在 initramfs 中")),
        None => {
            let first = wants.disk.first().map(|name| early.lacks(name)).unwrap_or_default();
            judged.missing.push(early.missing(&first));
        }
    }
    let lacking: BTreeSet<String> = wants.transport.iter().flat_map(|name| early.lacks(name)).collect();
    let transport = list(&wants.transport);
    if !lacking.is_empty() {
        judged.missing.push(early.missing(&lacking));
    } else if wants.transport.iter().all(|name| early.is_built_in(name)) {
        judged.found.push(words!("{transport} is built in", "{transport} 已内置"));
    } else {
        judged.found.push(words!("{transport} is there too", "{transport} 也在"));
    }
    let drivers = &early.drivers;
    if !judged.missing.is_empty() && !drivers.knows_built_in() {
        let missing = joined(&judged.missing, "; ", "；").en;
        return Err(Error::unsupported(format!("{missing}, and what is built into it is not known")));
    }
    judged.network(release, drivers, &wants.network)?;
    judged.evidence.extend(early.evidence);
    judged.evidence.extend(early.drivers.evidence.iter().cloned());
    judged.evidence.extend(early.drivers.config.iter().map(|config| config.evidence.clone()));
    Ok(judged)
}

/// Phrases in one line.
fn joined(phrases: &[Words], en: &str, zh: &str) -> Words {
    let line = |separator: &str, get: fn(&Words) -> &str| {
        phrases.iter().map(get).collect::<Vec<_>>().join(separator)
    };
    Words { en: line(en, |words| &words.en), zh: line(zh, |words| &words.zh) }
}

impl Judged {
    /// A network driver is loaded when the root is there already: it only has to belong to the kernel.
    fn network(
        &mut self,
        release: &[u8],
        drivers: &crate::guest::kernel::Drivers,
        wanted: &[&str],
    ) -> Result<()> {
        let has = |name: &&&str| drivers.has_built_in(name) || drivers.loadable.contains_key(**name);
        if let Some(name) = wanted.iter().find(has) {
            self.found.push(words!("{name} is a driver of this kernel", "该内核有驱动 {name}"));
            return Ok(());
        }
        // What is missing already decides; else a network driver that no list could show is not missing.
        if drivers.lists_loadable && drivers.knows_built_in() {
            let (names, names_zh) = (wanted.join(" or "), wanted.join(" 或 "));
            self.missing.push(words!("the kernel has no {names}", "内核没有 {names_zh}"));
        } else if self.missing.is_empty() {
            return Err(Error::unsupported(format!(
                "whether kernel {} has {} is not known: its lists of modules are not all there",
                escape(release),
                wanted.join(" or ")
            )));
        }
        Ok(())
    }

    fn outcome(self, guest: &Guest, release: &[u8], wants: &Wants<'_>) -> Outcome {
        let kernel = escape(release);
        if self.missing.is_empty() {
            let Words { en, zh } = joined(&self.found, ", ", "，");
            let seen = Seen::new(words!(
                "Kernel {kernel} drives virtio: {en}.",
                "内核 {kernel} 支持 virtio：{zh}。"
            ));
            return Outcome::Pass(seen.all(self.evidence));
        }
        let Words { en, zh } = joined(&self.missing, "; ", "；");
        let seen = Seen::new(words!(
            "Kernel {kernel} would not find its disk or network on the target: {en}.",
            "内核 {kernel} 在目标平台上找不到磁盘或网卡：{zh}。"
        ));
        let modules: Vec<&str> = wants.transport.iter().chain(wants.disk.first()).copied().collect();
        Outcome::Fail(seen.all(self.evidence).fix(make_initramfs(guest, release, &modules)))
    }
}
