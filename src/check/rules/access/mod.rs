//! Who gets in and what runs there: accounts, sshd, cloud-init, agents.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod cloud_init => CloudInit;
    pub(in crate::check) mod cloud_init_datasource => CloudInitDatasource;
}
