//! Are there rules of udev that keep the name `eth0` for the source machine's card?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::Result;
use crate::guest::file::GuestFile;
use crate::guest::initramfs::DefaultInitramfs;
use crate::guest::network::{NetRules, bindings};

pub(in crate::check) struct PersistentNetRules;

impl Check for PersistentNetRules {
    fn id(&self) -> &'static str {
        "persistent-net-rules"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Files such as /etc/udev/rules.d/70-persistent-net.rules name interfaces by the hardware addresses of the \
             source machine's cards, so the target's card becomes eth1 and stays without configuration. They must be \
             absent or hold comments only; with params: initramfs also inside the initramfs that boots by default.",
            "/etc/udev/rules.d/70-persistent-net.rules 之类的文件按源机器网卡的 MAC 地址命名网卡，目标机器的网卡会变成 eth1 \
             而没有配置。此类文件必须不存在或只含注释；设置 params: initramfs 时，默认启动项的 initramfs 内也要检查。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("initramfs", ParamKind::Flag)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let rules = guest.fact::<NetRules>()?;
        let mut found: Vec<Evidence> = rules.files.iter().flat_map(|file| file.lines.clone()).collect();
        let (outside, mut inside) = (!found.is_empty(), false);
        let own: Vec<String> = rules
            .files
            .iter()
            .filter(|file| !file.lines.is_empty())
            .map(|file| crate::text::escape(&file.path).to_string())
            .collect();
        let mut names = own.clone();
        if args.flag("initramfs") {
            let loaded = match guest.fact::<DefaultInitramfs>() {
                Ok(loaded) => Some(loaded),
                // What was found already fails it.
                Err(_) if outside => None,
                Err(error) => return Err(error),
            };
            for (file, packed) in loaded.iter().flat_map(|loaded| loaded.net_rules()) {
                let text = GuestFile {
                    path: file.path.clone(),
                    volume: file.volume.clone(),
                    bytes: packed.bytes.clone(),
                };
                let lines = bindings(&text);
                if !lines.is_empty() {
                    inside = true;
                    names.push(format!(
                        "{} in {}",
                        crate::text::escape(&packed.path),
                        crate::text::escape(&file.path)
                    ));
                    let within = format!("in its {}", crate::text::escape(&packed.path));
                    found.extend(lines.into_iter().map(|line| Evidence { what: within.clone(), ..line }));
                }
            }
        }
        if !outside && !inside {
            return Seen::new(words!(
                "No rule of udev keeps a name for a card of the source machine.",
                "没有 udev 规则为源机器的网卡保留名称。"
            ))
            .pass();
        }
        let names = names.join(", ");
        let remove = if own.is_empty() { String::new() } else { format!("rm {}", own.join(" ")) };
        let rebuild = if guest.has("/etc/initramfs-tools")? { "update-initramfs -u" } else { "dracut -f" };
        let command = match (outside, inside) {
            (true, true) => format!("{remove} && {rebuild}"),
            (false, true) => rebuild.to_owned(),
            _ => remove,
        };
        Seen::new(words!(
            "Rules of udev name network cards by the source machine's hardware addresses: {names}.",
            "udev 规则按源机器的 MAC 地址命名网卡：{names}。"
        ))
        .all(found)
        .fix(words!("{command}", "{command}"))
        .fail()
    }
}
