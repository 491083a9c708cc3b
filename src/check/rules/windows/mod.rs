//! What only a Windows has: drivers, services, registry, boot store.

use crate::check::Check;

/// In the order in which reports list them.
pub(in crate::check) const CHECKS: &[&dyn Check] = &[];
