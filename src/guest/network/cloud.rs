//! Will cloud-init write the network's configuration at the first boot on a new machine? It does unless it is told not to
//! (cloud-init manual, "Network configuration", "Disabling network configuration").

use crate::error::Result;
use crate::guest::Guest;
use crate::guest::evidence::Evidence;
use crate::guest::fact::Fact;
use crate::guest::file::{self, MAX_CONFIG};

/// Whether cloud-init sets the network up: `guest.fact::<CloudNetwork>()`.
#[derive(Clone, Debug, Default)]
pub struct CloudNetwork {
    /// What starts cloud-init, if it does write the configuration.
    pub writes: Option<Evidence>,
    /// What keeps it from that, though it runs.
    pub kept_off: Option<Evidence>,
}

impl Fact for CloudNetwork {
    fn read(guest: &Guest) -> Result<Self> {
        let cloud = guest.cloud_init()?;
        let Some(starts) =
            cloud.enabled.clone().filter(|_| cloud.installed.is_some() && cloud.disabled.is_none())
        else {
            return Ok(Self::default());
        };
        let kept_off = match guest.kernel_argument(|arg| arg == b"network-config=disabled")? {
            Some(evidence) => Some(evidence),
            None => disabled(guest)?,
        };
        Ok(if kept_off.is_some() {
            Self { writes: None, kept_off }
        } else {
            Self { writes: Some(starts), kept_off }
        })
    }
}

/// `network: {config: disabled}` in the configuration; of several files the last that says something of the network.
fn disabled(guest: &Guest) -> Result<Option<Evidence>> {
    let mut paths = vec![b"/etc/cloud/cloud.cfg".to_vec()];
    let names = file::names(guest.facts(), "/etc/cloud/cloud.cfg.d")?;
    let names = names.iter().filter(|name| name.ends_with(b".cfg"));
    paths.extend(names.map(|name| [b"/etc/cloud/cloud.cfg.d/", name.as_slice()].concat()));
    let mut found = None;
    for path in paths {
        let Some(file) = file::read(guest.facts(), path, MAX_CONFIG)? else { continue };
        // The files have templates and anchors in them; the key and its value are looked for, no more.
        let mut open = false;
        for (number, line) in file.lines() {
            let text = String::from_utf8_lossy(line);
            let text = text.split(" #").next().unwrap_or_default();
            if let Some(rest) = text.strip_prefix("network:") {
                found = None;
                open = rest.trim().is_empty();
                let plain: String =
                    rest.chars().filter(|c| !c.is_whitespace() && !"'\"{}".contains(*c)).collect();
                if plain == "config:disabled" {
                    found = Some(file.evidence("keeps cloud-init off the network").line(number, line));
                }
            } else if open && text.starts_with(' ') {
                let plain: String =
                    text.chars().filter(|c| !c.is_whitespace() && !"'\"".contains(*c)).collect();
                if plain == "config:disabled" {
                    found = Some(file.evidence("keeps cloud-init off the network").line(number, line));
                }
            } else if !text.trim().is_empty() && !text.starts_with('#') {
                open = false;
            }
        }
    }
    Ok(found)
}
