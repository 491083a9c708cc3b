//! A program of somebody else's in a Linux: an agent of a cloud, the tools of a hypervisor, a virus scanner. It is known by
//! its packages, by the services that it starts as, and by its files, since many are installed without a package.

use super::file;
use super::{Evidence, Guest};
use crate::error::Result;
use crate::fs::tree::Tree;

/// Where a service is defined, and what its file is called there besides its name.
const SERVICE_FILES: &[(&str, &str)] = &[
    ("/etc/systemd/system/", ".service"),
    ("/usr/lib/systemd/system/", ".service"),
    ("/lib/systemd/system/", ".service"),
    ("/etc/init.d/", ""),
    ("/etc/init/", ".conf"),
];
/// Where programs are.
pub const BIN: &[&str] =
    &["/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/", "/bin/", "/sbin/"];
/// Where rules of udev are that start services for a device.
const UDEV: &[&str] = &["/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];

/// By what a program is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Program<'a> {
    /// Its packages, in any distribution.
    pub packages: &'a [&'a str],
    /// Its services, without `.service`.
    pub services: &'a [&'a str],
    /// Its files and directories. A `*` at the end of a path stands for the rest of the name.
    pub files: &'a [&'a str],
}

/// What was found of a program.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    /// What shows that it is there.
    pub installed: Option<Evidence>,
    /// What starts it at boot.
    pub starts: Option<Evidence>,
}

impl Presence {
    /// Every place.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        let mut places: Vec<Evidence> = self.installed.iter().chain(&self.starts).cloned().collect();
        places.dedup();
        places
    }
}

/// The files that may define a service of this name, in any init system.
pub fn service_files(service: &str) -> impl Iterator<Item = String> {
    SERVICE_FILES.iter().map(move |(dir, suffix)| format!("{dir}{service}{suffix}"))
}

impl Program<'_> {
    /// Looks for it. One thing found is enough, whatever else cannot be read.
    ///
    /// # Errors
    /// When nothing was found, and something that could show it cannot be read.
    pub fn find(&self, guest: &Guest) -> Result<Presence> {
        let mut unread = None;
        let mut keep = |result: Result<Option<Evidence>>| {
            result.unwrap_or_else(|error| {
                unread.get_or_insert(error);
                None
            })
        };
        let mut starts = keep(self.start(guest));
        let installed =
            keep(self.package(guest)).or_else(|| keep(self.file(guest.facts()))).or_else(|| starts.clone());
        if installed.is_some() && starts.is_none() {
            starts = keep(self.started_by_udev(guest.facts()));
        }
        match unread {
            Some(error) if installed.is_none() => Err(error),
            _ => Ok(Presence { installed, starts }),
        }
    }

    fn package(&self, guest: &Guest) -> Result<Option<Evidence>> {
        if self.packages.is_empty() {
            return Ok(None);
        }
        let list = guest.packages()?;
        Ok(self.packages.iter().find_map(|name| list.get(name)).map(|package| package.evidence.clone()))
    }

    fn start(&self, guest: &Guest) -> Result<Option<Evidence>> {
        if self.services.is_empty() {
            return Ok(None);
        }
        let services = guest.services()?;
        let started = |name: &&str| {
            services.enabled(&format!("{name}.service")).or_else(|| services.enabled(name)).cloned()
        };
        Ok(self.services.iter().find_map(started))
    }

    /// A service may be started by the device that it serves: `ENV{SYSTEMD_WANTS}="qemu-guest-agent.service"` in a rule that
    /// is named as the service.
    fn started_by_udev(&self, tree: &Tree) -> Result<Option<Evidence>> {
        for dir in UDEV {
            for name in file::names(tree, dir)? {
                let named = |service: &&&str| {
                    let stem = name.strip_suffix(b".rules").unwrap_or_default();
                    stem.strip_suffix(service.as_bytes())
                        .is_some_and(|start| start.is_empty() || start.ends_with(b"-"))
                };
                let Some(service) = self.services.iter().find(named) else { continue };
                let path = [dir.as_bytes(), b"/", &name].concat();
                let Some(rules) = file::read(tree, path, file::MAX_CONFIG)? else { continue };
                let wants = format!("SYSTEMD_WANTS}}=\"{service}.service\"");
                let wants = wants.as_bytes();
                let line = rules.lines().find(|(_, line)| {
                    !line.trim_ascii().starts_with(b"#")
                        && line.windows(wants.len()).any(|text| text == wants)
                });
                if let Some((number, line)) = line {
                    return Ok(Some(rules.evidence("starts with its device").line(number, line)));
                }
            }
        }
        Ok(None)
    }

    fn file(&self, tree: &Tree) -> Result<Option<Evidence>> {
        for pattern in self.files {
            let paths = match pattern.strip_suffix('*') {
                None => vec![pattern.as_bytes().to_vec()],
                Some(start) => starting_with(tree, start)?,
            };
            for path in paths {
                if let Some(node) = tree.find(&path)? {
                    return Ok(Some(Evidence::new("its file").on(tree.volume(node)).path(&path)));
                }
            }
        }
        Ok(None)
    }
}

fn starting_with(tree: &Tree, start: &str) -> Result<Vec<Vec<u8>>> {
    let Some((dir, name)) = start.rsplit_once('/') else { return Ok(Vec::new()) };
    let names = file::names(tree, dir)?;
    let names = names.iter().filter(|found| found.starts_with(name.as_bytes()));
    Ok(names.map(|found| [dir.as_bytes(), b"/", found].concat()).collect())
}
