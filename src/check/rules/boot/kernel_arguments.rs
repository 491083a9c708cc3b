//! Is the kernel told nothing that keeps the system from starting?

use super::entry::{change_arguments, default_entry};
use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::boot::Entry;
use crate::text::escape;

pub(in crate::check) struct KernelArguments;

/// Arguments that name modules not to be loaded (kernel-command-line(7), dracut.cmdline(7)).
const BLACKLISTS: &[&[u8]] =
    &[b"modprobe.blacklist=", b"module_blacklist=", b"rd.driver.blacklist=", b"rdblacklist="];
/// Drivers without which there is no disk or no network on a virtio machine.
const NEEDED: &[&str] = &["virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"];

impl Check for KernelArguments {
    fn id(&self) -> &'static str {
        "kernel-arguments"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel's line of the default entry must hold none of the given words (params: forbidden; one that ends \
             with = forbids every value), and must not forbid virtio's drivers (modprobe.blacklist=virtio_net).",
            "默认启动项的内核参数不得包含给定的词（参数 forbidden；以 = 结尾表示禁止任何值），也不得禁用 virtio 驱动\
             （例如 modprobe.blacklist=virtio_net）。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("forbidden", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let forbidden = if args.has("forbidden") { args.words("forbidden")? } else { Vec::new() };
        let is_forbidden = |arg: &[u8]| {
            forbidden.iter().any(|word| {
                arg == word.as_bytes() || (word.ends_with('=') && arg.starts_with(word.as_bytes()))
            })
        };
        let found = entry.args.iter().find(|arg| is_forbidden(arg) || blacklists(arg));
        let Some(arg) = found else {
            let count = entry.args.len();
            return Seen::new(words!(
                "None of the kernel's {count} arguments keeps the system from starting.",
                "内核的 {count} 个参数都不妨碍系统启动。"
            ))
            .at(entry.evidence.clone())
            .pass();
        };
        fail(guest, entry, arg)
    }
}

fn fail(guest: &crate::guest::Guest, entry: &Entry, arg: &[u8]) -> Result<Outcome> {
    let arg = escape(arg);
    Seen::new(words!(
        "The kernel is started with {arg}, which keeps the system from starting as it should.",
        "内核启动参数 {arg} 会妨碍系统正常启动。"
    ))
    .at(entry.evidence.clone())
    .fix(change_arguments(guest, entry, &arg.to_string(), ""))
    .fail()
}

/// Does it forbid a driver that the machine needs?
fn blacklists(arg: &[u8]) -> bool {
    let Some(list) = BLACKLISTS.iter().find_map(|key| arg.strip_prefix(*key)) else { return false };
    list.split(|byte| *byte == b',').any(|name| {
        let name = String::from_utf8_lossy(name).replace('-', "_");
        NEEDED.contains(&name.as_str())
    })
}
