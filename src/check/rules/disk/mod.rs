//! The disk: its container, its sizes, its partitions, what stands on them.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod container_format => ContainerFormat;
    pub(in crate::check) mod virtual_size => VirtualSize;
    pub(in crate::check) mod qcow2_size => Qcow2Size;
    pub(in crate::check) mod partition_table => PartitionTable;
    pub(in crate::check) mod root_partition => RootPartition;
}
