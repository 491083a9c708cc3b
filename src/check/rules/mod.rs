//! The rules, one a file.

use super::Check;

registry! {
    /// Every rule, in the order in which reports list them.
    pub const CHECKS: &[&dyn Check];
    pub(super) mod container_format => ContainerFormat;
    pub(super) mod virtual_size => VirtualSize;
    pub(super) mod qcow2_size => Qcow2Size;
    pub(super) mod partition_table => PartitionTable;
    pub(super) mod boot_partition => BootPartition;
    pub(super) mod root_partition => RootPartition;
    pub(super) mod boot_files => BootFiles;
    pub(super) mod root_argument => RootArgument;
    pub(super) mod virtio_initramfs => VirtioInitramfs;
    pub(super) mod fstab_devices => FstabDevices;
    pub(super) mod device_names => DeviceNames;
    pub(super) mod cloud_init => CloudInit;
    pub(super) mod cloud_init_datasource => CloudInitDatasource;
    pub(super) mod distribution => Distribution;
    pub(super) mod architecture => Architecture;
}
