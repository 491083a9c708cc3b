//! GRUB legacy's `menu.lst` and `grub.conf`: `title`, `kernel`, `module`, `initrd` lines and one `default` (GNU GRUB 0.97
//! manual, "Configuration").

use super::{BootConfig, Entry, without_device};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::text::{Text, escape};

/// Where it is; RHEL 6 has it beside the loader where it boots by UEFI.
const FILES: &[&str] = &[
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/efi/EFI/redhat/grub.conf",
    "/boot/efi/EFI/centos/grub.conf",
];
/// Where `savedefault` keeps the number of an entry: its first line.
const SAVED: &str = "/boot/grub/default";

pub(super) fn read(tree: &Tree) -> Result<Option<BootConfig>> {
    let Some(file) = file::read_first(tree, FILES, MAX_CONFIG)? else { return Ok(None) };
    let mut found = parse(&file);
    if found.why.ends_with("'saved'") {
        let saved = file::read(tree, SAVED, MAX_CONFIG)?;
        let number = saved.as_ref().and_then(|file| file.lines().next()).map(|(_, line)| line.trim_ascii());
        found.default = number.and_then(|line| std::str::from_utf8(line).ok()?.parse().ok()).or(Some(0));
        found.keep_to_entries();
    }
    Ok(Some(found))
}

impl BootConfig {
    /// A default that is no entry is none.
    fn keep_to_entries(&mut self) {
        self.default = self.default.filter(|at| *at < self.entries.len());
    }
}

fn parse(file: &GuestFile) -> BootConfig {
    let mut found = BootConfig {
        loader: "GRUB legacy",
        default: Some(0),
        why: "no default is set, so the first entry boots".to_owned(),
        ..BootConfig::default()
    };
    for (line, text) in file.lines() {
        let text = text.trim_ascii();
        let split = text.iter().position(|byte| b" \t=".contains(byte)).unwrap_or(text.len());
        let Some((command, rest)) = text.split_at_checked(split) else { continue };
        let rest = rest.trim_ascii_start();
        let rest = rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii();
        let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if command == b"default" {
            found.default = std::str::from_utf8(rest).ok().and_then(|number| number.parse().ok());
            found.why = format!("default is entry '{}'", escape(rest));
        }
        if command == b"title" {
            found.entries.push(Entry {
                title: Text::from(rest),
                number: found.entries.len().to_string(),
                evidence: file.evidence("boot menu entry").line(line, text),
                ..Entry::default()
            });
        }
        let Some(entry) = found.entries.last_mut() else { continue };
        match command {
            b"kernel" => {
                let mut words = words.skip_while(|word| word.starts_with(b"--"));
                entry.kernel = words.next().map(without_device).unwrap_or_default();
                entry.args = words.map(<[u8]>::to_vec).collect();
                entry.evidence = file.evidence("boots this kernel").line(line, text);
            }
            // What `kernel` named was a hypervisor, and this is the kernel, or then its initramfs.
            b"module" if entry.hypervisor.is_none() => {
                let kernel = words.next().map(without_device).unwrap_or_default();
                entry.hypervisor = Some(std::mem::replace(&mut entry.kernel, kernel));
                entry.args = words.map(<[u8]>::to_vec).collect();
                entry.evidence = file.evidence("boots this kernel").line(line, text);
            }
            b"module" => entry.initrds.extend(words.next().map(without_device)),
            b"initrd" => entry.initrds = words.map(without_device).collect(),
            _ => {}
        }
    }
    found.evidence = Some(file.evidence(found.why.clone()));
    if !found.why.ends_with("'saved'") {
        found.keep_to_entries();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    fn config(files: &[(&str, &str)]) -> BootConfig {
        read(&MemoryFs::tree(files)).unwrap().unwrap()
    }

    #[test]
    fn entries_are_counted_from_zero() {
        let menu = "default=1\ntitle A\nkernel (hd0,0)/vmlinuz-1 ro\ntitle B\nkernel /vmlinuz-2 root=/dev/sda2\ninitrd /initrd-2.img\n";
        let config = config(&[("/boot/grub/menu.lst", menu)]);
        let entry = config.default_entry().unwrap();
        assert_eq!((entry.kernel.as_slice(), entry.initrds.len()), (&b"/vmlinuz-2"[..], 1));
    }

    #[test]
    fn under_a_hypervisor_the_first_module_is_the_kernel() {
        // As RHEL 5 writes it for kernel-xen.
        let menu = "default=0\ntitle Red Hat (2.6.18-398.el5xen)\n\troot (hd0,0)\n\tkernel /xen.gz-2.6.18-398.el5\n\tmodule /vmlinuz-2.6.18-398.el5xen ro root=LABEL=/\n\tmodule /initrd-2.6.18-398.el5xen.img\n";
        let config = config(&[("/boot/grub/grub.conf", menu)]);
        let entry = config.default_entry().unwrap();
        assert_eq!(entry.kernel, b"/vmlinuz-2.6.18-398.el5xen");
        assert_eq!(entry.hypervisor.as_deref(), Some(&b"/xen.gz-2.6.18-398.el5"[..]));
        assert_eq!((entry.initrds.len(), entry.arg("root")), (1, Some(&b"LABEL=/"[..])));
    }

    #[test]
    fn a_saved_default_is_in_a_file_of_its_own() {
        let menu = "default saved\ntitle A\nkernel /a\ntitle B\nkernel /b\n";
        let with =
            |saved: &str| config(&[("/boot/grub/menu.lst", menu), ("/boot/grub/default", saved)]).default;
        assert_eq!((with("1\n#\n"), with("7\n")), (Some(1), None));
    }

    #[test]
    fn rhel_6_keeps_it_beside_the_loader_of_uefi() {
        let menu = "default=0\ntitle A\n\tkernel /vmlinuz-2.6.32 ro\n";
        assert_eq!(config(&[("/boot/efi/EFI/redhat/grub.conf", menu)]).default, Some(0));
    }
}
