//! What the system is: distribution, machine, packages.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod distribution => Distribution;
    pub(in crate::check) mod architecture => Architecture;
}
