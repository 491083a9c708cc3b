//! How a Linux starts: boot code, boot menu, kernel, initramfs, root.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod boot_partition => BootPartition;
    pub(in crate::check) mod boot_loader => BootLoader;
    pub(in crate::check) mod uefi_fallback_path => UefiFallbackPath;
    pub(in crate::check) mod boot_files => BootFiles;
    pub(in crate::check) mod root_argument => RootArgument;
    pub(in crate::check) mod virtio_initramfs => VirtioInitramfs;
    pub(in crate::check) mod declared_boot_mode => DeclaredBootMode;
}
