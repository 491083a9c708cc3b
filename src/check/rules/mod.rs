//! The rules, one a file, in the groups in which reports list them.

use super::Check;

mod access;
mod boot;
mod config;
mod disk;
mod system;
mod windows;

/// Every rule, by group.
pub const GROUPS: &[(&str, &[&dyn Check])] = &[
    ("disk", disk::CHECKS),
    ("boot", boot::CHECKS),
    ("system", system::CHECKS),
    ("config", config::CHECKS),
    ("access", access::CHECKS),
    ("windows", windows::CHECKS),
];
