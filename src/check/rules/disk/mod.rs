//! The disk: its container, its sizes, its partitions, what stands on them.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod container_format => ContainerFormat;
    pub(in crate::check) mod container_complete => ContainerComplete;
    pub(in crate::check) mod standalone => Standalone;
    pub(in crate::check) mod container_encryption => ContainerEncryption;
    pub(in crate::check) mod checksum => Checksum;
    pub(in crate::check) mod virtual_size => VirtualSize;
    pub(in crate::check) mod virtual_size_min => VirtualSizeMin;
    pub(in crate::check) mod system_disk_size => SystemDiskSize;
    pub(in crate::check) mod file_size => FileSize;
    pub(in crate::check) mod format_by_size => FormatBySize;
    pub(in crate::check) mod qcow2_size => Qcow2Size;
    pub(in crate::check) mod partition_table => PartitionTable;
    pub(in crate::check) mod partition_layout => PartitionLayout;
    pub(in crate::check) mod root_partition => RootPartition;
    pub(in crate::check) mod system_disk => SystemDisk;
    pub(in crate::check) mod volume_encryption => VolumeEncryption;
    pub(in crate::check) mod volumes_complete => VolumesComplete;
    pub(in crate::check) mod boot_and_root_together => BootAndRootTogether;
    pub(in crate::check) mod root_filesystem => RootFilesystem;
    pub(in crate::check) mod filesystem_features => FilesystemFeatures;
    pub(in crate::check) mod root_not_lvm => RootNotLvm;
    pub(in crate::check) mod dynamic_disk => DynamicDisk;
    pub(in crate::check) mod disk_usage => DiskUsage;
    pub(in crate::check) mod inode_usage => InodeUsage;
    pub(in crate::check) mod filesystem_errors => FilesystemErrors;
    pub(in crate::check) mod filesystem_clean => FilesystemClean;
}
