//! Windows' firewall: which profiles filter, and which ports they let in.
//!
//! ```text
//!   HKLM\SYSTEM\CurrentControlSet\Services
//!     MpsSvc                                          the service that filters; Start = 4: it does not
//!     SharedAccess\Parameters\FirewallPolicy
//!       DomainProfile, StandardProfile, PublicProfile   EnableFirewall, DefaultInboundAction
//!       FirewallRules                                   v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=3389|…
//!   HKLM\SOFTWARE\Policies\Microsoft\WindowsFirewall    what a group policy says goes before that
//! ```
//! Microsoft, \[MS-GPFAS\] 2.2.2 (profiles) and 2.2.2.19 (the grammar of rules).

use super::keys::{Keys, plain};
use crate::error::Result;
use crate::guest::{Evidence, Fact, Guest};

const POLICY: &str = "Services\\SharedAccess\\Parameters\\FirewallPolicy";
const GROUP_POLICY: &str = "Policies\\Microsoft\\WindowsFirewall";
/// Key, key in a group policy, and what `netsh advfirewall` calls it.
const PROFILES: &[(&str, &str, &str)] = &[
    ("DomainProfile", "DomainProfile", "domain"),
    ("StandardProfile", "PrivateProfile", "private"),
    ("PublicProfile", "PublicProfile", "public"),
];

/// One profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `domain`, `private`, `public`.
    pub name: &'static str,
    /// Does it filter?
    pub is_on: bool,
    /// Where that is written.
    pub evidence: Evidence,
}

/// A rule that lets something in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The protocol's number; `None` for any.
    pub protocol: Option<u8>,
    /// Ports: `3389`, `5000-5020`. Empty for any.
    pub ports: Vec<String>,
    /// The profiles that it is for; empty for all.
    pub profiles: Vec<String>,
    /// It is for some programs, services, senders or addresses only, of which those that are Windows' own count.
    pub is_narrow: bool,
}

/// The firewall of a guest.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    /// Its service, when nothing starts it.
    pub disabled: Option<Evidence>,
    /// Its profiles.
    pub profiles: Vec<Profile>,
    allowed: Vec<(Allowed, Evidence)>,
}

impl Fact for Firewall {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let service = keys.first_service(&["MpsSvc", "SharedAccess"])?;
        let disabled = service.filter(super::services::Service::is_disabled).map(|service| service.evidence);
        let mut profiles = Vec::new();
        for (key, policy, name) in PROFILES {
            profiles.extend(profile(&keys, key, policy, name)?);
        }
        let mut allowed = Vec::new();
        if let Some(rules) = keys.current(&format!("{POLICY}\\FirewallRules"))? {
            for (name, text) in rules.values()? {
                let rule = text.as_ref().map(plain).and_then(|text| Some((allow(&text)?, text)));
                allowed.extend(rule.map(|(rule, text)| (rule, rules.says(&plain(&name), text))));
            }
        }
        Ok(Self { disabled, profiles, allowed })
    }
}

/// One profile, from the group policy or else from the machine itself. One that is written nowhere filters: that is how
/// Windows is installed.
fn profile(keys: &Keys<'_>, key: &str, policy: &str, name: &'static str) -> Result<Option<Profile>> {
    let told = match keys.software(&format!("{GROUP_POLICY}\\{policy}"))? {
        Some(found) => Some(found),
        None => keys.software(&format!("{GROUP_POLICY}\\{key}"))?,
    };
    for found in [told, keys.current(&format!("{POLICY}\\{key}"))?].into_iter().flatten() {
        if let Some(number) = found.number("EnableFirewall")? {
            return Ok(Some(Profile {
                name,
                is_on: number != 0,
                evidence: found.says("EnableFirewall", number),
            }));
        }
    }
    let Some(top) = keys.current("Services\\SharedAccess")? else { return Ok(None) };
    let evidence = top.lacks(&format!("EnableFirewall for the profile {name}"));
    Ok(Some(Profile { name, is_on: true, evidence }))
}

/// What a rule lets in; `None` if it is none that does.
fn allow(text: &str) -> Option<Allowed> {
    let (mut rule, mut is_active, mut is_allow, mut is_in) = (Allowed::default(), false, false, false);
    for part in text.split('|') {
        let Some((name, value)) = part.split_once('=') else { continue };
        match name {
            "Active" => is_active = value.eq_ignore_ascii_case("TRUE"),
            "Action" => is_allow = value.eq_ignore_ascii_case("Allow"),
            "Dir" => is_in = value.eq_ignore_ascii_case("In"),
            "Protocol" => rule.protocol = Some(value.parse().ok()?),
            "LPort" | "LPort2_10" => rule.ports.push(value.to_owned()),
            "Profile" => rule.profiles.push(value.to_ascii_lowercase()),
            "RA4" | "RA6" | "RA42" | "RA62" | "LA4" | "LA6" | "IF" | "IFType" => rule.is_narrow = true,
            _ => {}
        }
    }
    (is_active && is_allow && is_in).then_some(rule)
}

impl Allowed {
    /// Does it let this TCP port in, for a profile, whoever asks?
    fn admits(&self, port: u64, profile: &str) -> bool {
        let is_tcp = self.protocol.is_none_or(|protocol| protocol == 6);
        let has_port = self.ports.is_empty() || self.ports.iter().any(|ports| has(ports, port));
        let is_for = self.profiles.is_empty() || self.profiles.iter().any(|own| own == profile);
        is_tcp && has_port && is_for && !self.is_narrow
    }
}

/// Is a port one of these: `3389`, `5000-5020`?
fn has(ports: &str, port: u64) -> bool {
    match ports.split_once('-') {
        Some((first, last)) => {
            let bounds = (first.parse::<u64>(), last.parse::<u64>());
            matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&port))
        }
        None => ports.parse() == Ok(port),
    }
}

impl Firewall {
    /// The profiles that filter.
    pub fn on(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.iter().filter(|profile| self.disabled.is_none() && profile.is_on)
    }

    /// The rule that lets a TCP port in while a profile filters. Only one that names the port counts: one for a program
    /// lets in what that program listens to.
    #[must_use]
    pub fn admits(&self, port: u64, profile: &str) -> Option<&Evidence> {
        let lets = |rule: &Allowed| !rule.ports.is_empty() && rule.admits(port, profile);
        self.allowed.iter().find(|(rule, _)| lets(rule)).map(|(_, evidence)| evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lets_in_what_it_says() {
        // "Remote Desktop - User Mode (TCP-In)" as Windows Server 2016 has it.
        let text = "v2.26|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=3389|App=%SystemRoot%\\system32\\svchost.exe|\
            Svc=termservice|Name=@FirewallAPI.dll,-28775|Desc=@FirewallAPI.dll,-28756|EmbedCtxt=@FirewallAPI.dll,-28752|";
        let rule = allow(text).unwrap();
        assert!(rule.admits(3389, "public") && !rule.admits(3390, "public"));
        let narrow =
            allow(&text.replace("LPort=3389|", "LPort=3000-4000|Profile=Domain|Profile=Private|")).unwrap();
        assert!(narrow.admits(3389, "private") && !narrow.admits(3389, "public"));
        assert!(!allow(&text.replace("LPort", "RA4=LocalSubnet|LPort")).unwrap().admits(3389, "public"));
        assert!(!allow(&text.replace("Protocol=6", "Protocol=17")).unwrap().admits(3389, "public"));
    }

    #[test]
    fn what_blocks_sleeps_or_goes_out_lets_nothing_in() {
        let rule = "v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=3389|";
        for (own, other) in [("Allow", "Block"), ("TRUE", "FALSE"), ("Dir=In", "Dir=Out"), ("=6", "=6000")] {
            assert_eq!(allow(&rule.replace(own, other)), None, "{other}");
        }
        assert_eq!(allow(""), None);
    }
}
