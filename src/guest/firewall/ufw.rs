//! ufw: whether it is on stands in `ufw.conf`, what comes in by default in `/etc/default/ufw`, the user's own rules in
//! `user.rules`, which are in the format of iptables.

use super::Passage;
use super::iptables::Table;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::syntax::variables::Variables;

/// It before version 0.33 had them in /lib.
const RULES: &[&str] = &["/etc/ufw/user.rules", "/lib/ufw/user.rules", "/var/lib/ufw/user.rules"];
/// The chain of the user's rules.
const CHAIN: &str = "ufw-user-input";

/// An ufw that is on.
#[derive(Debug)]
pub(super) struct Ufw {
    rules: Table,
    /// Is what no rule lets in refused?
    refuses: bool,
    pub(super) evidence: Evidence,
}

/// Reads it; `None` where it is off.
pub(super) fn read(tree: &Tree) -> Result<Option<Ufw>> {
    let Some(config) = Variables::read(tree, "/etc/ufw/ufw.conf")? else { return Ok(None) };
    let Some(on) = config.get("ENABLED").filter(|on| on.value.eq_ignore_ascii_case("yes")) else {
        return Ok(None);
    };
    let defaults = Variables::read(tree, "/etc/default/ufw")?.unwrap_or_default();
    let rules =
        file::read_first(tree, RULES, MAX_CONFIG)?.map(|file| Table::parse(&file)).unwrap_or_default();
    Ok(Some(Ufw {
        rules,
        refuses: defaults.value("DEFAULT_INPUT_POLICY") != "ACCEPT",
        evidence: on.evidence.clone(),
    }))
}

impl Ufw {
    pub(super) fn passage(&self, port: u16) -> Passage {
        // The chain has no policy of its own: one that refuses at its end stands for the default.
        self.rules.passage_or(CHAIN, port, self.refuses)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    /// `user.rules` as `ufw allow 22/tcp` of ufw 0.36 writes it, shortened.
    #[test]
    fn a_port_that_the_user_allowed_is_open() {
        let rules = "*filter\n:ufw-user-input - [0:0]\n### RULES ###\n\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n\nCOMMIT\n";
        let of = |on: &str, rules: &str| {
            read(&MemoryFs::tree(&[
                ("/etc/ufw/ufw.conf", &format!("ENABLED={on}\n")),
                ("/etc/default/ufw", "DEFAULT_INPUT_POLICY=\"DROP\"\n"),
                ("/etc/ufw/user.rules", rules),
            ]))
            .unwrap()
        };
        let ufw = of("yes", rules).unwrap();
        assert_eq!((ufw.passage(22), ufw.passage(80)), (Passage::Open, Passage::Blocked));
        assert!(of("no", rules).is_none());
    }
}
