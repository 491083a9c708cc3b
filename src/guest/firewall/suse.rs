//! SuSEfirewall2: one file of variables.

use super::Passage;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::syntax::variables::Variables;

/// What comes in from the outer zone.
#[derive(Debug)]
pub(super) struct Suse {
    /// `FW_SERVICES_EXT_TCP`: ports and names of services.
    tcp: Vec<String>,
    /// `FW_CONFIGURATIONS_EXT`: files of services.
    configurations: Vec<String>,
    pub(super) evidence: Evidence,
}

/// Reads it; `None` when there is no such file.
pub(super) fn read(tree: &Tree) -> Result<Option<Suse>> {
    let path = "/etc/sysconfig/SuSEfirewall2";
    let Some(variables) = Variables::read(tree, path)? else { return Ok(None) };
    let words = |name: &str| variables.value(name).split_whitespace().map(str::to_owned).collect();
    let line = variables.get("FW_SERVICES_EXT_TCP").or_else(|| variables.get("FW_CONFIGURATIONS_EXT"));
    let evidence =
        line.map_or_else(|| Evidence::new("rules").path(path.as_bytes()), |line| line.evidence.clone());
    Ok(Some(Suse {
        tcp: words("FW_SERVICES_EXT_TCP"),
        configurations: words("FW_CONFIGURATIONS_EXT"),
        evidence,
    }))
}

impl Suse {
    pub(super) fn passage(&self, port: u16) -> Passage {
        let is_it = |word: &String| {
            let number = |text: &str| text.parse::<u16>().ok();
            match word.split_once(':') {
                Some((from, to)) => {
                    number(from) <= Some(port) && Some(port) <= number(to) && number(from).is_some()
                }
                None => number(word) == Some(port) || (word == "ssh" && port == 22),
            }
        };
        if self.tcp.iter().any(is_it) || (port == 22 && self.configurations.iter().any(|name| name == "sshd"))
        {
            Passage::Open
        } else if port == 22 || self.configurations.is_empty() {
            Passage::Blocked
        } else {
            Passage::Unknown("which ports its services have is not read".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    #[test]
    fn ports_and_services_are_open() {
        let of = |text: &str| {
            read(&MemoryFs::tree(&[("/etc/sysconfig/SuSEfirewall2", text)])).unwrap().unwrap().passage(22)
        };
        assert_eq!(of("FW_SERVICES_EXT_TCP=\"80 ssh\"\n"), Passage::Open);
        assert_eq!(of("FW_CONFIGURATIONS_EXT=\"sshd\"\n"), Passage::Open);
        assert_eq!(of("FW_SERVICES_EXT_TCP=\"20:25\"\n"), Passage::Open);
        assert_eq!(of("FW_SERVICES_EXT_TCP=\"\"\n"), Passage::Blocked);
    }
}
