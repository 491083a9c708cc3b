//! How a Linux is set up: mounts, network, firewall, SELinux.

use crate::check::Check;

mod lines;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod fstab_devices => FstabDevices;
    pub(in crate::check) mod fstab_swap => FstabSwap;
    pub(in crate::check) mod fstab_data_disks => FstabDataDisks;
    pub(in crate::check) mod fstab_identifiers => FstabIdentifiers;
    pub(in crate::check) mod device_names => DeviceNames;
    pub(in crate::check) mod crypttab => Crypttab;
    pub(in crate::check) mod mount_units => MountUnits;
    pub(in crate::check) mod dhcp => Dhcp;
    pub(in crate::check) mod static_ipv6 => StaticIpv6;
    pub(in crate::check) mod ipv6_enabled => Ipv6Enabled;
    pub(in crate::check) mod mac_binding => MacBinding;
    pub(in crate::check) mod persistent_net_rules => PersistentNetRules;
    pub(in crate::check) mod interface_names => InterfaceNames;
    pub(in crate::check) mod network_manager_disabled => NetworkManagerDisabled;
    pub(in crate::check) mod firewall => Firewall;
    pub(in crate::check) mod ssh_port_open => SshPortOpen;
    pub(in crate::check) mod selinux => Selinux;
    pub(in crate::check) mod dns => Dns;
}
