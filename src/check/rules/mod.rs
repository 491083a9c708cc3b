//! The rules, one a file.

pub(super) mod architecture;
pub(super) mod boot_files;
pub(super) mod boot_partition;
pub(super) mod cloud_init;
pub(super) mod cloud_init_datasource;
pub(super) mod container_format;
pub(super) mod device_names;
pub(super) mod distribution;
pub(super) mod fstab_devices;
pub(super) mod partition_table;
pub(super) mod qcow2_size;
pub(super) mod root_argument;
pub(super) mod root_partition;
pub(super) mod virtio_initramfs;
pub(super) mod virtual_size;
