//! How a Linux is set up: mounts, network, firewall, SELinux.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod fstab_devices => FstabDevices;
    pub(in crate::check) mod device_names => DeviceNames;
}
