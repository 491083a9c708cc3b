//! What OpenSSH's server does where nothing is set: it depends on its version, and some distributions changed it.

use crate::text::Text;

/// A version of OpenSSH: 9.2 of `9.2p1`.
pub type Version = (u32, u32);

/// What a distribution made of the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Nothing.
    Plain,
    /// Red Hat and its kin: OpenSSH 7.4 kept the older defaults (openssh-7.4p1-permit-root-login.patch,
    /// openssh-7.4p1-usedns-yes.patch).
    RedHat,
    /// SUSE up to 15: root may always log in by password (openssh-7.7p1-allow_root_password_login.patch), and PAM is on
    /// (openssh-7.7p1-enable_PAM_by_default.patch).
    Suse,
}

/// The version in that of a package (`1:9.2p1-2+deb12u10`) or in the server's own words (`9.2p1 Debian-2`).
#[must_use]
pub fn version(text: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.split_once(':').map_or(text, |(_, rest)| rest);
    let (major, rest) = text.split_once('.')?;
    let end = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

/// Of a distribution by its `ID` and version.
#[must_use]
pub fn vendor(id: &Text, like: &[Text], version: &Text) -> Vendor {
    let is_one = |names: &[&str]| {
        names
            .iter()
            .any(|name| std::iter::once(id).chain(like).any(|text| text.as_bytes() == name.as_bytes()))
    };
    if is_one(&["rhel", "centos", "fedora"]) {
        return Vendor::RedHat;
    }
    let major = version.as_bytes().split(|byte| *byte == b'.').next().unwrap_or_default();
    if is_one(&["sles", "sled", "suse", "opensuse", "opensuse-leap"])
        && [&b"11"[..], b"12", b"13", b"15", b"42"].contains(&major)
    {
        return Vendor::Suse;
    }
    Vendor::Plain
}

/// The keywords whose defaults are known and the same in every version, by their newer names in lower case.
const FIXED: &[(&str, &str)] = &[
    ("passwordauthentication", "yes"),
    ("pubkeyauthentication", "yes"),
    ("permitemptypasswords", "no"),
    ("kbdinteractiveauthentication", "yes"),
    ("gssapiauthentication", "no"),
    ("hostbasedauthentication", "no"),
    ("strictmodes", "yes"),
    ("port", "22"),
    ("x11forwarding", "no"),
    ("allowtcpforwarding", "yes"),
    ("allowagentforwarding", "yes"),
    ("tcpkeepalive", "yes"),
    ("maxauthtries", "6"),
    ("clientaliveinterval", "0"),
    ("permituserenvironment", "no"),
    ("ignorerhosts", "yes"),
];

/// Does the default of this keyword depend on the version?
#[must_use]
pub fn depends_on_version(key: &str) -> bool {
    matches!(key, "permitrootlogin" | "usedns")
}

/// The value of a keyword (in lower case) that no file sets; `None` when it is not known.
#[must_use]
pub fn of(key: &str, version: Option<Version>, vendor: Vendor) -> Option<&'static str> {
    let is_red_hat_7 = vendor == Vendor::RedHat && version == Some((7, 4));
    match key {
        "permitrootlogin" if is_red_hat_7 || vendor == Vendor::Suse => Some("yes"),
        // Release notes of OpenSSH 7.0.
        "permitrootlogin" => {
            version.map(|version| if version < (7, 0) { "yes" } else { "prohibit-password" })
        }
        "usedns" if is_red_hat_7 => Some("yes"),
        // Release notes of OpenSSH 6.8.
        "usedns" => version.map(|version| if version < (6, 8) { "yes" } else { "no" }),
        "usepam" => Some(if vendor == Vendor::Suse { "yes" } else { "no" }),
        _ => FIXED.iter().find(|(name, _)| *name == key).map(|(_, value)| *value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_packages_and_banners() {
        assert_eq!(version(b"1:9.2p1-2+deb12u10"), Some((9, 2)));
        assert_eq!(version(b"7.4p1"), Some((7, 4)));
        assert_eq!(version(b"10.0p1 Debian-5"), Some((10, 0)));
        assert_eq!(version(b"p1"), None);
    }

    /// Release notes of 6.8 and 7.0; 9.2p1 as `sshd -T -f /dev/null` says.
    #[test]
    fn defaults_changed_with_versions() {
        let root = |version, vendor| of("permitrootlogin", version, vendor);
        assert_eq!(root(Some((6, 6)), Vendor::Plain), Some("yes"));
        assert_eq!(root(Some((9, 2)), Vendor::Plain), Some("prohibit-password"));
        assert_eq!(root(None, Vendor::Plain), None);
        assert_eq!(root(Some((7, 4)), Vendor::RedHat), Some("yes"));
        assert_eq!(root(Some((8, 0)), Vendor::RedHat), Some("prohibit-password"));
        assert_eq!(root(None, Vendor::Suse), Some("yes"));
        assert_eq!(
            [of("usedns", Some((6, 7)), Vendor::Plain), of("usedns", Some((6, 8)), Vendor::Plain)],
            [Some("yes"), Some("no")]
        );
        assert_eq!(of("usedns", Some((7, 4)), Vendor::RedHat), Some("yes"));
        assert_eq!(
            (of("gssapiauthentication", None, Vendor::Plain), of("nonsense", None, Vendor::Plain)),
            (Some("no"), None)
        );
    }

    #[test]
    fn a_vendor_is_known_by_its_release_file() {
        let text = |text: &str| Text::from(text);
        assert_eq!(vendor(&text("rocky"), &[text("rhel"), text("centos")], &text("9.3")), Vendor::RedHat);
        assert_eq!(vendor(&text("sles"), &[text("suse")], &text("15.5")), Vendor::Suse);
        assert_eq!(
            vendor(&text("opensuse-tumbleweed"), &[text("opensuse")], &text("20240101")),
            Vendor::Plain
        );
        assert_eq!(vendor(&text("debian"), &[], &text("12")), Vendor::Plain);
    }
}
