//! The entry of the boot menu that boots if nobody chooses, for rules that ask about it.

use crate::check::{Outcome, Words, words};
use crate::error::{Error, Result};
use crate::guest::boot::Entry;
use crate::guest::{BootFile, Guest};
use crate::text::escape;

/// The default entry.
///
/// # Errors
/// When there is no menu that is read, or its default is not known.
pub(super) fn default_entry(guest: &Guest) -> Result<&Entry> {
    let boot =
        guest.boot()?.ok_or_else(|| Error::unsupported("no boot menu of a kind that is read was found"))?;
    let entry = boot.default_entry().filter(|entry| !entry.kernel.is_empty());
    entry.ok_or_else(|| Error::unsupported(format!("the default boot entry is not known: {}", boot.why)))
}

/// The kernel of an entry, or the outcome of a rule that cannot do without: `boot-files` is the one that fails then.
///
/// # Errors
/// When it cannot be looked for.
pub(super) fn kernel(guest: &Guest, entry: &Entry) -> Result<std::result::Result<BootFile, Outcome>> {
    if let Some(file) = guest.boot_file(&entry.kernel)? {
        return Ok(Ok(file));
    }
    if entry.kernel.contains(&b'$') {
        return Err(variable(&entry.kernel));
    }
    let path = escape(&entry.kernel);
    Ok(Err(Outcome::NotApplicable(words!("the kernel {path} is not there", "内核 {path} 不存在"))))
}

/// Why a word of the menu says nothing.
pub(super) fn variable(word: &[u8]) -> Error {
    Error::unsupported(format!("{} has a variable of the menu's script in it", escape(word)))
}

/// The command that writes the menu anew, by the tool that the guest has.
pub(super) fn write_menu(guest: &Guest) -> Words {
    let has = |path: &str| guest.has(path).unwrap_or(false);
    if has("/usr/sbin/update-grub") {
        return words!("write the menu anew: update-grub", "重新生成引导菜单：update-grub");
    }
    for (tool, folder) in [("grub2-mkconfig", "/boot/grub2"), ("grub-mkconfig", "/boot/grub")] {
        if has(&format!("/usr/sbin/{tool}"))
            || has(&format!("/usr/bin/{tool}"))
            || has(&format!("/sbin/{tool}"))
        {
            return words!(
                "write the menu anew: {tool} -o {folder}/grub.cfg",
                "重新生成引导菜单：{tool} -o {folder}/grub.cfg"
            );
        }
    }
    words!("write the boot loader's menu anew in the source system", "在源系统中重新生成引导菜单")
}

/// The command that makes the initramfs of a kernel anew, with modules added; by the tool that the guest has.
pub(super) fn make_initramfs(guest: &Guest, release: &[u8], modules: &[&str]) -> Words {
    let kernel = escape(release);
    let (spaced, lines) = (modules.join(" "), modules.join("\\n"));
    let has = |path: &str| guest.has(path).unwrap_or(false);
    if has("/usr/bin/dracut") || has("/usr/sbin/dracut") || has("/sbin/dracut") {
        let add = if modules.is_empty() { String::new() } else { format!(" --add-drivers \"{spaced}\"") };
        return words!("dracut -f{add} --kver {kernel}", "dracut -f{add} --kver {kernel}");
    }
    if has("/etc/initramfs-tools") {
        let add = if modules.is_empty() {
            String::new()
        } else {
            format!("printf '{lines}\\n' >> /etc/initramfs-tools/modules; ")
        };
        return words!("{add}update-initramfs -u -k {kernel}", "{add}update-initramfs -u -k {kernel}");
    }
    if has("/etc/mkinitcpio.conf") {
        return if modules.is_empty() {
            words!("mkinitcpio -P", "mkinitcpio -P")
        } else {
            words!(
                "add {spaced} to MODULES in /etc/mkinitcpio.conf, then: mkinitcpio -P",
                "在 /etc/mkinitcpio.conf 的 MODULES 中加入 {spaced}，然后执行：mkinitcpio -P"
            )
        };
    }
    if has("/sbin/mkinitrd") {
        let add: String = modules.iter().map(|module| format!(" --with={module}")).collect();
        return words!(
            "mkinitrd -f{add} /boot/initrd-{kernel}.img {kernel}",
            "mkinitrd -f{add} /boot/initrd-{kernel}.img {kernel}"
        );
    }
    if modules.is_empty() {
        return words!("make the initramfs of kernel {kernel} anew", "重新生成内核 {kernel} 的 initramfs");
    }
    words!(
        "make the initramfs of kernel {kernel} anew, with {spaced} in it",
        "重新生成内核 {kernel} 的 initramfs，并包含 {spaced}"
    )
}
