//! How a Linux starts: boot code, boot menu, kernel, initramfs, root.

use crate::check::Check;

mod early;
mod entry;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod boot_partition => BootPartition;
    pub(in crate::check) mod boot_loader => BootLoader;
    pub(in crate::check) mod uefi_fallback_path => UefiFallbackPath;
    pub(in crate::check) mod boot_menu => BootMenu;
    pub(in crate::check) mod boot_files => BootFiles;
    pub(in crate::check) mod kernel_image => KernelImageFits;
    pub(in crate::check) mod initramfs_readable => InitramfsReadable;
    pub(in crate::check) mod root_argument => RootArgument;
    pub(in crate::check) mod root_argument_style => RootArgumentStyle;
    pub(in crate::check) mod virtio_initramfs => VirtioInitramfs;
    pub(in crate::check) mod initramfs_drivers => InitramfsDrivers;
    pub(in crate::check) mod kernel_virtualization => KernelVirtualization;
    pub(in crate::check) mod kernel_arguments => KernelArguments;
    pub(in crate::check) mod serial_console => SerialConsole;
    pub(in crate::check) mod declared_boot_mode => DeclaredBootMode;
}
