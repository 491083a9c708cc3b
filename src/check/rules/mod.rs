//! The rules, one a file, in the groups in which reports list them.

use super::Check;

mod access;
mod boot;
mod config;
mod disk;
mod system;
mod windows;

pub(in crate::check) use boot::declared_boot_mode::is_mode as is_boot_mode;

/// Every rule, by group.
pub const GROUPS: &[(&str, &[&dyn Check])] = &[
    ("disk", disk::CHECKS),
    ("boot", boot::CHECKS),
    ("system", system::CHECKS),
    ("config", config::CHECKS),
    ("access", access::CHECKS),
    ("windows", windows::CHECKS),
];
