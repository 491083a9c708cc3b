//! Who gets in and what runs there: accounts, sshd, cloud-init, agents.

use crate::check::Check;

registry! {
    /// In the order in which reports list them.
    pub(in crate::check) const CHECKS: &[&dyn Check];
    pub(in crate::check) mod login_possible => LoginPossible;
    pub(in crate::check) mod root_account => RootAccount;
    pub(in crate::check) mod root_password => RootPassword;
    pub(in crate::check) mod shadow_writable => ShadowWritable;
    pub(in crate::check) mod passwd_command => PasswdCommand;
    pub(in crate::check) mod sshd_enabled => SshdEnabled;
    pub(in crate::check) mod sshd_root_login => SshdRootLogin;
    pub(in crate::check) mod sshd_options => SshdOptions;
    pub(in crate::check) mod cloud_init => CloudInit;
    pub(in crate::check) mod cloud_init_absent => CloudInitAbsent;
    pub(in crate::check) mod cloud_init_datasource => CloudInitDatasource;
    pub(in crate::check) mod cloud_init_stale => CloudInitStale;
    pub(in crate::check) mod guest_agent => GuestAgent;
    pub(in crate::check) mod guest_agent_absent => GuestAgentAbsent;
    pub(in crate::check) mod agent => Agent;
    pub(in crate::check) mod conflicting_tools => ConflictingTools;
    pub(in crate::check) mod hostname => Hostname;
}
