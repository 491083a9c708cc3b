//! Is there a boot menu, and is it known what it starts?

use super::entry::write_menu;
use crate::check::firmware::{Bios, End};
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use std::sync::Arc;

pub(in crate::check) struct BootMenu;

/// Where GRUB 2's menu is on a file system of its own or on the root's.
const MENUS: &[&str] = &[
    "/grub/grub.cfg",
    "/grub2/grub.cfg",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/@/boot/grub/grub.cfg",
];

impl Check for BootMenu {
    fn id(&self) -> &'static str {
        "boot-menu"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The boot loader must find a menu with an entry that boots if nobody chooses: GRUB 2 (grub.cfg, grubenv, boot \
             loader entries), GRUB legacy (menu.lst, grub.conf), syslinux and extlinux, systemd-boot, unified kernel \
             images. GRUB 2 without any grub.cfg stops at its prompt. The script of GRUB 2 is not run; if only running it \
             would tell the default, the rule is undecided.",
            "引导程序必须能找到菜单，且有无人选择时启动的默认项：GRUB 2（grub.cfg、grubenv、BLS 启动项）、\
             GRUB legacy（menu.lst、grub.conf）、syslinux 和 extlinux、systemd-boot、统一内核映像（UKI）。\
             没有 grub.cfg 的 GRUB 2 会停在命令提示符。不执行 GRUB 2 的脚本；如只有执行脚本才能得知默认项，则无法判定。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let Some(boot) = guest.boot()? else { return without(subject, guest) };
        let place = boot.evidence.clone();
        if boot.entries.iter().all(|entry| entry.kernel.is_empty()) {
            return Seen::new(words!(
                "The boot menu has no entry that starts a kernel.",
                "引导菜单中没有启动内核的启动项。"
            ))
            .all(place)
            .fix(write_menu(guest))
            .fail();
        }
        let Some(entry) = boot.default_entry() else {
            return Err(Error::unsupported(format!("the default boot entry is not known: {}", boot.why)));
        };
        if entry.kernel.is_empty() {
            let title = &entry.title;
            return Err(Error::unsupported(format!("the default boot entry, '{title}', starts no kernel")));
        }
        let (title, loader) = (&entry.title, boot.loader);
        let (count, why) = (boot.entries.len(), Evidence::new(boot.why.clone()));
        Seen::new(words!(
            "The menu of {loader} has {count} entries and boots '{title}' by default.",
            "{loader} 的菜单有 {count} 个启动项，默认启动“{title}”。"
        ))
        .at(place.unwrap_or(why))
        .at(entry.evidence.clone())
        .pass()
    }
}

/// No menu in the system's own tree.
fn without(subject: &Subject<'_>, guest: &crate::guest::Guest) -> Result<Outcome> {
    let is_grub = matches!(&subject.fact::<Bios>()?.0.end, End::Loader("GRUB 2"));
    if !is_grub {
        return Err(Error::unsupported("no boot menu of a kind that is read was found"));
    }
    for (volume, fs) in subject.stack.filesystems() {
        let tree = Tree::new(volume, Arc::clone(fs));
        for path in MENUS {
            if tree.find(path.as_bytes())?.is_some() {
                return Err(Error::unsupported(format!(
                    "there is a boot menu on {volume}, {path}, but the system does not mount it"
                )));
            }
        }
    }
    if let Some(why) = subject.survey().unread.first() {
        return Err(Error::unsupported(format!("no boot menu was found, but {why}")));
    }
    Seen::new(words!(
        "There is no grub.cfg, so GRUB stops at its prompt.",
        "没有 grub.cfg，GRUB 会停在命令提示符。"
    ))
    .all(subject.fact::<Bios>()?.0.steps.clone())
    .fix(write_menu(guest))
    .fail()
}
