//! The entry of the boot menu that boots if nobody chooses, for rules that ask about it.

use crate::check::{Outcome, Subject, Words, words};
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
    if has("/etc/update-extlinux.conf") {
        return words!("write the menu anew: update-extlinux", "重新生成引导菜单：update-extlinux");
    }
    for (tool, folder) in [("grub2-mkconfig", "/boot/grub2"), ("grub-mkconfig", "/boot/grub")] {
        if has(&format!("/usr/sbin/{tool}"))
            || has(&format!("/usr/bin/{tool}"))
            || has(&format!("/sbin/{tool}"))
        {
            // Red Hat before 9 keeps it on the EFI system partition, where it boots by UEFI.
            let own = guest.boot().ok().flatten().filter(|boot| boot.loader == "GRUB 2");
            let own = own.and_then(|boot| boot.evidence.as_ref()?.path.clone());
            let menu = own.map_or_else(|| format!("{folder}/grub.cfg"), |path| path.to_string());
            return words!("write the menu anew: {tool} -o {menu}", "重新生成引导菜单：{tool} -o {menu}");
        }
    }
    words!("write the boot loader's menu anew in the source system", "在源系统中重新生成引导菜单")
}

/// How to take arguments away from the kernel, and give it others, in this guest.
pub(super) fn change_arguments(guest: &Guest, entry: &Entry, remove: &str, add: &str) -> Words {
    let has = |path: &str| guest.has(path).unwrap_or(false);
    // Entries of the Boot Loader Specification do not follow /etc/default/grub.
    if has("/usr/sbin/grubby") || has("/sbin/grubby") || has("/usr/bin/grubby") {
        let option = |name: &str, args: &str| match args {
            "" => String::new(),
            args => format!(" --{name}=\"{args}\""),
        };
        let (remove, add) = (option("remove-args", remove), option("args", add));
        return words!("grubby --update-kernel=ALL{remove}{add}", "grubby --update-kernel=ALL{remove}{add}");
    }
    let (en, zh) = match (remove, add) {
        ("", add) => (format!("add {add} to"), format!("中加入 {add}")),
        (remove, "") => (format!("remove {remove} from"), format!("中删除 {remove}")),
        (remove, add) => (format!("replace {remove} by {add} in"), format!("中将 {remove} 改为 {add}")),
    };
    let variable =
        [("/etc/default/grub", "GRUB_CMDLINE_LINUX"), ("/etc/update-extlinux.conf", "default_kernel_opts")];
    let is_generated =
        guest.boot().ok().flatten().is_some_and(|boot| matches!(boot.loader, "GRUB 2" | "syslinux"));
    if let Some((path, name)) = variable.iter().find(|(path, _)| is_generated && has(path)) {
        let Words { en: again, zh: again_zh } = write_menu(guest);
        return words!("{en} {name} in {path}, then {again}", "在 {path} 的 {name} {zh}，然后{again_zh}");
    }
    let path = entry.evidence.path.clone().unwrap_or_default();
    words!("{en} the kernel's line in {path}", "在 {path} 的内核行{zh}")
}

/// How to name the root by its file system's UUID in this guest's boot menu.
pub(super) fn by_uuid(subject: &Subject<'_>, guest: &Guest, entry: &Entry) -> Words {
    let own = subject.stack.devices.iter().find(|device| device.volume == guest.root);
    let uuid = own.and_then(|device| device.uuid.clone()).unwrap_or_else(|| "…".to_owned());
    let has = |path: &str| guest.has(path).unwrap_or(false);
    let is_grub = guest.boot().ok().flatten().is_some_and(|boot| boot.loader == "GRUB 2");
    let has_grubby = has("/usr/sbin/grubby") || has("/sbin/grubby") || has("/usr/bin/grubby");
    if is_grub && !has_grubby && has("/etc/default/grub") {
        // The tool that writes the menu names it so by itself.
        let Words { en, zh } = write_menu(guest);
        return words!(
            "name it by root=UUID={uuid} (remove GRUB_DISABLE_LINUX_UUID from /etc/default/grub), then {en}",
            "改用 root=UUID={uuid}（从 /etc/default/grub 删除 GRUB_DISABLE_LINUX_UUID），然后{zh}"
        );
    }
    let root = entry.arg("root").map(|root| format!("root={}", escape(root))).unwrap_or_default();
    change_arguments(guest, entry, &root, &format!("root=UUID={uuid}"))
}

/// The command that makes the initramfs of a kernel anew, with modules added; by the tool that the guest has.
pub(super) fn make_initramfs(guest: &Guest, release: &[u8], modules: &[&str]) -> Words {
    let kernel = escape(release);
    let (spaced, lines) = (modules.join(" "), modules.join("\\n"));
    let has = |path: &str| guest.has(path).unwrap_or(false);
    let listed = |en: &str, zh: &str, command: &str| {
        if modules.is_empty() {
            return words!("{command}", "{command}");
        }
        words!("add {spaced} to {en}, then: {command}", "在 {zh} 中加入 {spaced}，然后执行：{command}")
    };
    if has("/usr/bin/dracut") || has("/usr/sbin/dracut") || has("/sbin/dracut") {
        let add = if modules.is_empty() { String::new() } else { format!(" --add-drivers \"{spaced}\"") };
        // The dracut of RHEL 6 knows no --kver, and elsewhere the file may not have the name that dracut would give it.
        let names = [
            format!("/boot/initramfs-{kernel}.img"),
            format!("/boot/initrd.img-{kernel}"),
            format!("/boot/initrd-{kernel}"),
        ];
        let of = names.iter().find(|file| has(file));
        let of = of.map_or_else(|| format!("--kver {kernel}"), |file| format!("{file} {kernel}"));
        return words!("dracut -f{add} {of}", "dracut -f{add} {of}");
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
        return listed("MODULES in /etc/mkinitcpio.conf", "/etc/mkinitcpio.conf 的 MODULES", "mkinitcpio -P");
    }
    if has("/etc/booster.yaml") || has("/usr/bin/booster") {
        let command = "/usr/lib/booster/regenerate_images";
        return listed(
            "modules_force_load in /etc/booster.yaml",
            "/etc/booster.yaml 的 modules_force_load",
            command,
        );
    }
    if has("/etc/mkinitfs/mkinitfs.conf") {
        // Alpine names groups of modules; that of virtio has them all.
        return words!(
            "name virtio among the features in /etc/mkinitfs/mkinitfs.conf, then: mkinitfs {kernel}",
            "在 /etc/mkinitfs/mkinitfs.conf 的 features 中加入 virtio，然后执行：mkinitfs {kernel}"
        );
    }
    if has("/sbin/mkinitrd") && has("/etc/sysconfig/kernel") && has("/etc/SuSE-release") {
        let command = format!("mkinitrd -k vmlinuz-{kernel} -i initrd-{kernel}");
        return listed(
            "INITRD_MODULES in /etc/sysconfig/kernel",
            "/etc/sysconfig/kernel 的 INITRD_MODULES",
            &command,
        );
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
