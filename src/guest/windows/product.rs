//! What a Windows system calls itself: product, version, build, edition; and what its machine was called.
//!
//! ```text
//!   SOFTWARE  Microsoft\Windows NT\CurrentVersion     ProductName, CurrentBuildNumber, UBR, EditionID, ...
//!   SYSTEM    Select                                  Current: the number of the control set in use
//!             ControlSet00N\Control                   ComputerName\ComputerName, TimeZoneInformation
//! ```

use crate::error::{Error, Result};
use crate::guest::Evidence;
use crate::guest::registry::{Hive, Key};
use crate::text::Text;

/// The key in SOFTWARE that names the product.
pub(super) const CURRENT_VERSION: &str = "Microsoft\\Windows NT\\CurrentVersion";
/// The first build that is Windows 11; its registry goes on saying "Windows 10".
const WINDOWS_11: u32 = 22_000;
/// Seconds from 1601, where FILETIME begins, to 1970.
const FILETIME_EPOCH: u64 = 11_644_473_600;

/// What is called so where the registry does not say it: first build, name of the client, name of the server.
const BUILDS: &[(u32, &str, &str)] = &[
    (26_100, "Windows 11", "Windows Server 2025"),
    (25_398, "Windows 11", "Windows Server, version 23H2"),
    (22_000, "Windows 11", "Windows Server 2022"),
    (20_348, "Windows 10", "Windows Server 2022"),
    (17_763, "Windows 10", "Windows Server 2019"),
    (10_240, "Windows 10", "Windows Server 2016"),
    (9_600, "Windows 8.1", "Windows Server 2012 R2"),
    (9_200, "Windows 8", "Windows Server 2012"),
    (7_600, "Windows 7", "Windows Server 2008 R2"),
    (6_000, "Windows Vista", "Windows Server 2008"),
    (3_790, "Windows XP", "Windows Server 2003"),
    (2_600, "Windows XP", "Windows XP"),
    (2_195, "Windows 2000", "Windows 2000 Server"),
];

/// A Windows as it names itself. What is not written down is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// `Windows 11 Pro`: as written, but for the number that Windows 11 gets wrong.
    pub name: Text,
    /// Version of the kernel: `10.0`, `6.1`.
    pub version: Text,
    /// What the version is called: `22H2`, `1809`.
    pub release: Text,
    /// `19045`.
    pub build: Option<u32>,
    /// The number of its last update, UBR: the `3803` of `19045.3803`.
    pub revision: Option<u32>,
    /// `Professional`, `ServerStandard`.
    pub edition: Text,
    /// `Client`, `Server`, `Server Core`.
    pub installation: Text,
    /// `Service Pack 1`.
    pub service_pack: Text,
    /// When it was installed, in seconds since 1970.
    pub installed: Option<i64>,
    /// Where that is written.
    pub evidence: Option<Evidence>,
}

impl Product {
    /// Reads the key. `seen` is where: the hive as evidence.
    ///
    /// # Errors
    /// When the key is not there, or it cannot be read.
    pub(super) fn read(software: &Hive, seen: &Evidence) -> Result<Self> {
        let Some(key) = software.key(CURRENT_VERSION)? else {
            return Err(Error::not_found(format!("the key {CURRENT_VERSION}")));
        };
        let text = |name: &str| text(&key, name);
        let build: Option<u32> = number_in(&[text("CurrentBuildNumber")?, text("CurrentBuild")?]);
        let version =
            match (number(&key, "CurrentMajorVersionNumber")?, number(&key, "CurrentMinorVersionNumber")?) {
                (Some(major), Some(minor)) => Text::from(format!("{major}.{minor}").as_str()),
                _ => text("CurrentVersion")?,
            };
        let installation = text("InstallationType")?;
        let (name, release) = (text("ProductName")?, first(&[text("DisplayVersion")?, text("ReleaseId")?]));
        let is_server = installation.to_string().starts_with("Server") || name.to_string().contains("Server");
        // ReleaseId stands still at 2009 since there is a DisplayVersion; a server of 2022 has both.
        let name = named(&name, build, is_server);
        let evidence = Evidence { what: format!("{CURRENT_VERSION}: {name}"), ..seen.clone() };
        Ok(Self {
            version,
            release,
            build,
            revision: number(&key, "UBR")?.and_then(|number| u32::try_from(number).ok()),
            edition: text("EditionID")?,
            service_pack: text("CSDVersion")?,
            installed: installed(&key)?,
            installation,
            name,
            evidence: Some(evidence),
        })
    }

    /// `Windows 10 Pro 22H2`, `Windows 7 Professional Service Pack 1`.
    #[must_use]
    pub fn title(&self) -> Text {
        let mut words = self.name.as_bytes().to_vec();
        for more in [&self.release, &self.service_pack] {
            let is_new =
                !more.is_empty() && !words.windows(more.as_bytes().len()).any(|seen| seen == more.as_bytes());
            if is_new {
                words.push(b' ');
                words.extend_from_slice(more.as_bytes());
            }
        }
        Text::new(words)
    }

    /// `19045.3803`; empty where the build is not known.
    #[must_use]
    pub fn full_build(&self) -> String {
        let revision = self.revision.map(|revision| format!(".{revision}")).unwrap_or_default();
        self.build.map(|build| format!("{build}{revision}")).unwrap_or_default()
    }

    /// Version and build: `10.0.19045.3803`.
    #[must_use]
    pub fn full_version(&self) -> Text {
        let build = self.full_build();
        let dot = if build.is_empty() || self.version.is_empty() { "" } else { "." };
        Text::new([self.version.as_bytes(), dot.as_bytes(), build.as_bytes()].concat())
    }
}

/// The name that people know it by.
fn named(written: &Text, build: Option<u32>, is_server: bool) -> Text {
    let build = build.unwrap_or(0);
    if written.is_empty() {
        let known = BUILDS.iter().find(|(first, ..)| build >= *first);
        return Text::from(
            known.map_or("Windows", |(_, client, server)| if is_server { server } else { client }),
        );
    }
    match written.as_bytes().strip_prefix(b"Windows 10") {
        Some(rest) if build >= WINDOWS_11 && !is_server => Text::new([b"Windows 11", rest].concat()),
        _ => written.clone(),
    }
}

/// When the system was installed: FILETIME of Windows 10 and later, else seconds.
fn installed(key: &Key) -> Result<Option<i64>> {
    let exact = number(key, "InstallTime")?.map(|ticks| ticks / 10_000_000);
    let secs = match exact.and_then(|secs| secs.checked_sub(FILETIME_EPOCH)) {
        Some(secs) => Some(secs),
        None => number(key, "InstallDate")?,
    };
    // The images that Microsoft makes are at 0 until they are set up.
    Ok(secs.filter(|secs| *secs > 0).and_then(|secs| i64::try_from(secs).ok()))
}

/// The machine that a system ran in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Computer {
    /// The control set in use: the 1 of `ControlSet001`.
    pub control_set: u32,
    /// Its name.
    pub name: Text,
    /// `Pacific Standard Time`.
    pub time_zone: Text,
    /// Where that is written.
    pub evidence: Option<Evidence>,
}

impl Computer {
    /// Reads the current control set. `seen` is where: the hive as evidence.
    ///
    /// # Errors
    /// When it cannot be read, or nothing says which control set is the current one.
    pub(super) fn read(system: &Hive, seen: &Evidence) -> Result<Self> {
        let select = system.key("Select")?.ok_or_else(|| Error::not_found("the key Select"))?;
        let current = number(&select, "Current")?.and_then(|number| u32::try_from(number).ok());
        let control_set = current.ok_or_else(|| Error::not_found("the value Current of the key Select"))?;
        let set = format!("ControlSet{control_set:03}");
        let value = |path: &str, name: &str| -> Result<Text> {
            let key = system.key(&format!("{set}\\Control\\{path}"))?;
            key.map_or_else(|| Ok(Text::default()), |key| text(&key, name))
        };
        let zone = value("TimeZoneInformation", "TimeZoneKeyName")?;
        Ok(Self {
            control_set,
            name: value("ComputerName\\ComputerName", "ComputerName")?,
            // Before Vista there is only the name in the system's own language.
            time_zone: if zone.is_empty() { value("TimeZoneInformation", "StandardName")? } else { zone },
            evidence: Some(Evidence { what: format!("Select: Current is {control_set}"), ..seen.clone() }),
        })
    }
}

/// A value that is a text; empty where there is none.
pub(super) fn text(key: &Key, name: &str) -> Result<Text> {
    key.value(name)?.map_or_else(|| Ok(Text::default()), |value| value.text())
}

/// A value that is a number.
fn number(key: &Key, name: &str) -> Result<Option<u64>> {
    key.value(name)?.map(|value| value.number()).transpose()
}

fn first(texts: &[Text]) -> Text {
    texts.iter().find(|text| !text.is_empty()).cloned().unwrap_or_default()
}

fn number_in(texts: &[Text]) -> Option<u32> {
    texts.iter().find_map(|text| text.as_utf8()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_11_calls_itself_10() {
        let named = |name: &str, build: u32, is_server: bool| {
            named(&Text::from(name), Some(build), is_server).to_string()
        };
        assert_eq!(named("Windows 10 Pro", 22_631, false), "Windows 11 Pro");
        assert_eq!(named("Windows 10 Pro", 19_045, false), "Windows 10 Pro");
        assert_eq!(named("Windows Server 2025 Standard", 26_100, true), "Windows Server 2025 Standard");
        assert_eq!(named("", 9_600, true), "Windows Server 2012 R2");
        assert_eq!(named("", 7_601, false), "Windows 7");
    }

    #[test]
    fn a_title_has_what_the_name_lacks() {
        let product = Product {
            name: Text::from("Windows 7 Professional"),
            service_pack: Text::from("Service Pack 1"),
            version: Text::from("6.1"),
            build: Some(7601),
            ..Product::default()
        };
        assert_eq!(product.title(), Text::from("Windows 7 Professional Service Pack 1"));
        assert_eq!(product.full_version(), Text::from("6.1.7601"));
    }
}
