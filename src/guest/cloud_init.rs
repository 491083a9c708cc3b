//! cloud-init in a guest, as four facts: installed, enabled, disabled, and the data sources it asks.

use super::boot::BootConfig;
use super::evidence::{Evidence, excerpt};
use super::file::{self, GuestFile, MAX_CONFIG};
use super::packages::Packages;
use super::services::Services;
use crate::error::{Error, Result};
use crate::fs::FileType;
use crate::fs::tree::Tree;
use crate::text::Text;

/// Files in `cloud.cfg.d`; a guest has a handful.
const MAX_FILES: usize = 256;
/// Data sources of one list; cloud-init has some 30.
const MAX_SOURCES: usize = 256;

/// What is known about cloud-init.
#[derive(Clone, Debug, Default)]
pub struct CloudInit {
    /// The package or the Python module, if it is installed. An error if neither was found but the packages could not
    /// be read.
    pub installed: Option<Evidence>,
    /// What starts it at boot.
    pub enabled: Option<Evidence>,
    /// What keeps it from running: the mask of one of its units, the marker file or the kernel's argument.
    pub disabled: Option<Evidence>,
    /// `datasource_list`, the last one that counts; `None` when no file sets it.
    pub datasources: Option<Datasources>,
    /// What it left behind when it last ran: the state of one instance.
    pub stale: Option<Evidence>,
}

impl CloudInit {
    /// Does it run at boot?
    #[must_use]
    pub const fn runs(&self) -> bool {
        self.installed.is_some() && self.enabled.is_some() && self.disabled.is_none()
    }
}

/// The data sources that are asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datasources {
    /// Their names.
    pub names: Vec<Text>,
    /// The line that sets them.
    pub evidence: Evidence,
}

/// Units of cloud-init by which it starts: systemd's of all versions, and the names of the older init systems.
const UNITS: &[&str] = &[
    "cloud-init-main.service",
    "cloud-init-network.service",
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init",
    "cloud-init-local",
];

/// What the package brings, in every distribution.
const PROGRAM: &str = "/usr/bin/cloud-init";

/// Directories below which a Python has its modules.
const PYTHONS: &[&str] = &["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

/// Collects the four facts.
///
/// # Errors
/// When something that decides one of them is there but cannot be read.
pub fn read(
    tree: &Tree,
    packages: &Result<Packages>,
    services: &Result<Services>,
    boot: &Result<Option<BootConfig>>,
) -> Result<CloudInit> {
    let mut found = CloudInit::default();
    let package = packages.as_ref().ok().and_then(|packages| packages.get("cloud-init"));
    found.installed = match package {
        // The list alone is no proof: the program itself may have been deleted.
        Some(package) if file::exists(tree, PROGRAM)? => Some(package.evidence.clone()),
        _ => python_module(tree)?,
    };
    if found.installed.is_none() {
        // Not found, but only a package list that was read can say that it is not there.
        packages.as_ref().map_err(Clone::clone)?;
        return Ok(found);
    }
    let services = services.as_ref().map_err(Clone::clone)?;
    found.enabled = UNITS.iter().find_map(|unit| services.enabled(unit)).cloned();
    let masked = UNITS.iter().find_map(|unit| services.masked.get(&Text::from(*unit)));
    found.disabled = match masked.cloned().map_or_else(|| disabled(tree, boot), |mask| Ok(Some(mask))) {
        // What nothing starts is off, whatever the boot menu says.
        Err(_) if found.enabled.is_none() => None,
        found => found?,
    };
    found.datasources = datasources(tree)?;
    found.stale = stale(tree)?;
    Ok(found)
}

/// The link to the instance that it ran for, or the directory of one. `cloud-init clean` removes both.
fn stale(tree: &Tree) -> Result<Option<Evidence>> {
    let link = "/var/lib/cloud/instance";
    if let Some(node) = file::entry(tree, link)? {
        let evidence = Evidence::new("state of an instance").on(tree.volume(node)).path(link.as_bytes());
        let target =
            if tree.stat(node)?.kind == FileType::Symlink { tree.readlink(node)? } else { Vec::new() };
        return Ok(Some(Evidence { excerpt: (!target.is_empty()).then(|| excerpt(&target)), ..evidence }));
    }
    let dir = "/var/lib/cloud/instances";
    let names = file::names(tree, dir)?;
    let Some(name) = names.first() else { return Ok(None) };
    let path = [dir.as_bytes(), b"/", name].concat();
    let volume = tree.find(&path)?.map(|node| tree.volume(node).to_owned()).unwrap_or_default();
    Ok(Some(Evidence::new("state of an instance").on(volume).path(&path)))
}

/// The module in the directories of any Python, also as `setup.py install` places it: `cloud_init-17.1-py2.7.egg/cloudinit`.
fn python_module(tree: &Tree) -> Result<Option<Evidence>> {
    for lib in PYTHONS {
        for name in file::names(tree, lib)?.iter().filter(|name| name.starts_with(b"python")) {
            for packages in ["dist-packages", "site-packages"] {
                let dir = [lib.as_bytes(), b"/", name, b"/", packages.as_bytes()].concat();
                let mut paths = vec![[dir.as_slice(), b"/cloudinit"].concat()];
                let eggs = file::names(tree, &dir)?;
                let eggs =
                    eggs.iter().filter(|name| name.starts_with(b"cloud_init-") && name.ends_with(b".egg"));
                paths.extend(eggs.map(|egg| [dir.as_slice(), b"/", egg, b"/cloudinit"].concat()));
                for path in paths {
                    if let Some(node) = tree.find(&path)? {
                        let evidence = Evidence::new("Python module of cloud-init");
                        return Ok(Some(evidence.on(tree.volume(node)).path(&path)));
                    }
                }
            }
        }
    }
    Ok(None)
}

/// `/etc/cloud/cloud-init.disabled` or `cloud-init=disabled` on the kernel's line (cloud-init manual, "How to disable
/// cloud-init").
fn disabled(tree: &Tree, boot: &Result<Option<BootConfig>>) -> Result<Option<Evidence>> {
    let marker = "/etc/cloud/cloud-init.disabled";
    if let Some(node) = tree.find(marker.as_bytes())? {
        return Ok(Some(Evidence::new("disables cloud-init").on(tree.volume(node)).path(marker.as_bytes())));
    }
    let entry = boot.as_ref().map_err(Clone::clone)?.as_ref().and_then(BootConfig::default_entry);
    Ok(entry.filter(|entry| entry.has_arg("cloud-init=disabled")).map(|entry| Evidence {
        what: "the kernel's argument cloud-init=disabled".to_owned(),
        ..entry.evidence.clone()
    }))
}

/// `cloud.cfg`, then `cloud.cfg.d/*.cfg` by name: a later file's list replaces an earlier one's.
fn datasources(tree: &Tree) -> Result<Option<Datasources>> {
    let mut paths = vec![b"/etc/cloud/cloud.cfg".to_vec()];
    let names = file::names(tree, "/etc/cloud/cloud.cfg.d")?;
    let names = names.iter().filter(|name| name.ends_with(b".cfg"));
    paths.extend(names.map(|name| [b"/etc/cloud/cloud.cfg.d/", name.as_slice()].concat()));
    let mut found = None;
    if paths.len() > MAX_FILES {
        return Err(Error::limit(format!("/etc/cloud/cloud.cfg.d: more than {MAX_FILES} files")));
    }
    for path in paths {
        if let Some(file) = file::read(tree, path, MAX_CONFIG)? {
            found = datasource_list(&file)?.or(found);
        }
    }
    Ok(found)
}

/// The top-level key `datasource_list` of a YAML file, as `[ A, B ]` or as `- A` lines. Of YAML no more is needed, and
/// cloud-init's own `ds-identify` reads no more.
fn datasource_list(file: &GuestFile) -> Result<Option<Datasources>> {
    let mut found: Option<Datasources> = None;
    let mut open = false;
    for (number, line) in file.lines() {
        let line = without_comment(line);
        if let Some(value) = line.strip_prefix(b"datasource_list:") {
            let evidence = file.evidence("data sources of cloud-init").line(number, line);
            found = Some(Datasources { names: items(value), evidence });
            let value = value.trim_ascii();
            open = value.is_empty() || (value.starts_with(b"[") && !value.ends_with(b"]"));
            continue;
        }
        let text = line.trim_ascii();
        let Some(list) = found.as_mut().filter(|_| open && !text.is_empty()) else { continue };
        if let Some(item) = text.strip_prefix(b"- ") {
            list.names.extend(items(item));
        } else if line.starts_with(b" ") || text.starts_with(b"]") {
            list.names.extend(items(text));
            open = !text.ends_with(b"]");
        } else {
            open = false;
        }
    }
    if found.as_ref().is_some_and(|list| list.names.len() > MAX_SOURCES) {
        let path = crate::text::escape(&file.path);
        return Err(Error::limit(format!("{path}: more than {MAX_SOURCES} data sources")));
    }
    Ok(found)
}

fn items(text: &[u8]) -> Vec<Text> {
    let strip = |item: &[u8]| {
        item.trim_ascii_start().iter().copied().filter(|byte| !b"[]'\"".contains(byte)).collect::<Vec<u8>>()
    };
    let items = text.split(|byte| *byte == b',').map(|item| Text::from(strip(item).trim_ascii()));
    items.filter(|item| !item.is_empty()).collect()
}

/// A `#` at the start or after white space begins a comment.
fn without_comment(line: &[u8]) -> &[u8] {
    let starts = |at: usize| {
        at.checked_sub(1).is_none_or(|before| line.get(before).is_some_and(u8::is_ascii_whitespace))
    };
    let at = line.iter().enumerate().position(|(at, byte)| *byte == b'#' && starts(at));
    at.and_then(|at| line.get(..at)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFs;
    use super::super::{packages, services};
    use super::*;

    const INSTALLED: (&str, &str) =
        ("/var/lib/dpkg/status", "Package: cloud-init\nStatus: install ok installed\n");
    const PROGRAM_FILE: (&str, &str) = (PROGRAM, "#!/usr/bin/python3\n");

    fn cloud_init(files: &[(&str, &str)]) -> Result<CloudInit> {
        let tree = MemoryFs::tree(files);
        read(&tree, &packages::read(&tree), &services::read(&tree), &super::super::boot::read(&tree, ""))
    }

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let sources = cloud_init(files).unwrap().datasources.unwrap();
        sources.names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_later_file_replaces_the_list() {
        let files = [
            INSTALLED,
            PROGRAM_FILE,
            ("/etc/cloud/cloud.cfg", "datasource_list: [ NoCloud ]\n"),
            (
                "/etc/cloud/cloud.cfg.d/90_dpkg.cfg",
                "# to update this file\ndatasource_list: [ ConfigDrive, \"OpenStack\" ] # x\n",
            ),
        ];
        assert_eq!(names(&files), ["ConfigDrive", "OpenStack"]);
    }

    #[test]
    fn a_block_list_is_a_list() {
        assert_eq!(
            names(&[
                INSTALLED,
                PROGRAM_FILE,
                PROGRAM_FILE,
                (
                    "/etc/cloud/cloud.cfg",
                    "datasource_list:\n  - ConfigDrive\n- TencentCloud\nusers:\n - default\n"
                )
            ]),
            ["ConfigDrive", "TencentCloud"]
        );
    }

    #[test]
    fn a_module_without_a_package_is_installed() {
        let found = cloud_init(&[
            ("/usr/lib/python3/dist-packages/cloudinit/version.py", ""),
            ("/var/lib/rpm/Packages", "x"),
        ]);
        assert!(found.unwrap().installed.is_some());
    }

    #[test]
    fn an_unread_package_database_is_no_proof_of_absence() {
        assert!(cloud_init(&[("/var/lib/rpm/Packages", "x")]).is_err());
    }

    #[test]
    fn configuration_files_left_behind_are_not_installed() {
        let found = cloud_init(&[
            ("/var/lib/dpkg/status", "Package: cloud-init\nStatus: deinstall ok config-files\n"),
            ("/etc/cloud/cloud.cfg", "x: y\n"),
        ]);
        assert!(found.unwrap().installed.is_none());
    }

    #[test]
    fn a_listed_package_without_its_program_is_not_installed() {
        assert!(cloud_init(&[INSTALLED]).unwrap().installed.is_none());
    }

    #[test]
    fn an_unread_boot_menu_is_no_proof_that_nothing_disables_it() {
        let service = ("/etc/systemd/system/cloud-init.target.wants/cloud-init.service", "-> /x.service");
        let files = [INSTALLED, PROGRAM_FILE, service, ("/x.service", "[Unit]\n")];
        assert!(cloud_init(&files).unwrap().enabled.is_some());
        let menu = [("/boot/grub/grub.cfg", "!")];
        assert!(cloud_init(&[&files[..], &menu].concat()).is_err());
    }

    #[test]
    fn one_installed_from_its_sources_is_an_egg() {
        let found = |path: &str| cloud_init(&[("/var/lib/dpkg/status", ""), (path, "")]).unwrap().installed;
        assert!(
            found("/usr/lib/python2.7/site-packages/cloud_init-17.1-py2.7.egg/cloudinit/version.py")
                .is_some()
        );
        assert!(found("/usr/lib/python2.7/site-packages/cloud_init-17.1-py2.7.egg-info/PKG-INFO").is_none());
    }

    #[test]
    fn a_masked_unit_of_several_keeps_it_from_running() {
        let link = "/etc/systemd/system/cloud-init.target.wants/cloud-init-local.service";
        let unit = ("/lib/systemd/system/cloud-init-local.service", "[Unit]\n");
        let files =
            [INSTALLED, PROGRAM_FILE, unit, (link, "-> /lib/systemd/system/cloud-init-local.service")];
        assert!(cloud_init(&files).unwrap().runs());
        let mask = [("/etc/systemd/system/cloud-init.service", "-> /dev/null")];
        assert!(!cloud_init(&[&files[..], &mask].concat()).unwrap().runs());
    }

    #[test]
    fn an_older_init_system_starts_it_too() {
        let runs =
            |path: &str| cloud_init(&[INSTALLED, PROGRAM_FILE, (path, "start on x\n")]).unwrap().runs();
        assert!(runs("/etc/rc3.d/S50cloud-init") && runs("/etc/init/cloud-init.conf"));
        assert!(!runs("/etc/rc3.d/K50cloud-init"));
    }

    #[test]
    fn an_instance_that_it_ran_for_is_left_behind() {
        let stale =
            |files: &[(&str, &str)]| cloud_init(&[&[INSTALLED, PROGRAM_FILE], files].concat()).unwrap().stale;
        let found = stale(&[("/var/lib/cloud/instance", "-> /var/lib/cloud/instances/i-1")]).unwrap();
        assert_eq!(found.excerpt.unwrap().as_bytes(), b"/var/lib/cloud/instances/i-1");
        assert!(stale(&[("/var/lib/cloud/instances/i-1/x", "")]).is_some());
        assert!(stale(&[("/var/lib/cloud/instances/", ""), ("/var/lib/cloud/seed/x", "")]).is_none());
    }

    #[test]
    fn lists_longer_than_any_are_undecided() {
        let many = format!("datasource_list: [{}]\n", "None,".repeat(10_000));
        let found = cloud_init(&[INSTALLED, PROGRAM_FILE, ("/etc/cloud/cloud.cfg", &many)]);
        assert_eq!(found.unwrap_err().to_string(), "/etc/cloud/cloud.cfg: more than 256 data sources");
    }

    #[test]
    fn the_marker_file_disables_it() {
        let found = cloud_init(&[INSTALLED, PROGRAM_FILE, ("/etc/cloud/cloud-init.disabled", "")]).unwrap();
        assert!(found.disabled.is_some());
    }
}
