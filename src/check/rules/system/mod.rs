//! What the system is: distribution, machine, packages.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod os_known => OsKnown;
    pub(in crate::check) mod distribution => Distribution;
    pub(in crate::check) mod architecture => Architecture;
    pub(in crate::check) mod kernel_version => KernelVersion;
    pub(in crate::check) mod native_kernel => NativeKernel;
    pub(in crate::check) mod package_database => PackageDatabase;
    pub(in crate::check) mod packages_present => PackagesPresent;
    pub(in crate::check) mod packages_absent => PackagesAbsent;
    pub(in crate::check) mod online_resize => OnlineResize;
    pub(in crate::check) mod rtc_mode => RtcMode;
    pub(in crate::check) mod lib_links => LibLinks;
    pub(in crate::check) mod issue_file => IssueFile;
}
