//! Rules of the group `windows`.
//! What only a Windows has: drivers, services, registry, boot store.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod windows_version => WindowsVersion;
    pub(in crate::check) mod windows_edition => WindowsEdition;
    pub(in crate::check) mod windows_boot => WindowsBoot;
    pub(in crate::check) mod windows_hives => WindowsHives;
    pub(in crate::check) mod virtio_windows_disk => VirtioWindowsDisk;
    pub(in crate::check) mod virtio_windows_network => VirtioWindowsNetwork;
    pub(in crate::check) mod windows_class_filters => WindowsClassFilters;
    pub(in crate::check) mod windows_xen_leftovers => WindowsXenLeftovers;
    pub(in crate::check) mod windows_sha2 => WindowsSha2;
    pub(in crate::check) mod windows_hotfixes_absent => WindowsHotfixesAbsent;
    pub(in crate::check) mod windows_pending_update => WindowsPendingUpdate;
    pub(in crate::check) mod windows_sysprep => WindowsSysprep;
    pub(in crate::check) mod windows_hibernation => WindowsHibernation;
    pub(in crate::check) mod windows_dirty => WindowsDirty;
    pub(in crate::check) mod windows_dhcp => WindowsDhcp;
    pub(in crate::check) mod windows_connection_name => WindowsConnectionName;
    pub(in crate::check) mod windows_firewall => WindowsFirewall;
    pub(in crate::check) mod windows_rdp => WindowsRdp;
    pub(in crate::check) mod windows_activation => WindowsActivation;
    pub(in crate::check) mod windows_oem => WindowsOem;
    pub(in crate::check) mod windows_device_install => WindowsDeviceInstall;
    pub(in crate::check) mod cloudbase_init => CloudbaseInit;
    pub(in crate::check) mod cloudbase_init_absent => CloudbaseInitAbsent;
    pub(in crate::check) mod cloudbase_init_metadata => CloudbaseInitMetadata;
    pub(in crate::check) mod windows_guest_agent => WindowsGuestAgent;
    pub(in crate::check) mod windows_guest_agent_absent => WindowsGuestAgentAbsent;
    pub(in crate::check) mod windows_agent => WindowsAgent;
    pub(in crate::check) mod windows_conflicting_tools => WindowsConflictingTools;
}
