//! Drivers that Windows finds for a device of the machine when it starts: what binds a device's name to a service.
//!
//! ```text
//!   up to 7      Control\CriticalDeviceDatabase\pci#ven_1af4&dev_1001…   Service
//!   8 and later  DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_1001…         values: names of .inf files
//!                DriverDatabase\DriverInfFiles\<inf>                     Active: the package
//!                DriverDatabase\DriverPackages\<package>\Configurations\<section>   Service
//!   any          Enum\PCI\VEN_1AF4&DEV_1001…\<instance>                  Service: the device was there before
//! ```
//! A driver that is only in the store is found and installed by the running system, which for the disk is too late.

use super::keys::{KeyAt, Keys, plain};
use super::services::{Binary, Service, Start};
use crate::error::Result;
use crate::guest::{Evidence, file};
use crate::text::escape;

/// Packages of one `.inf`, and sections of one package, that are looked at; a package has a few.
const MAX_SECTIONS: usize = 64;

/// A PCI device as the registry names it: `VEN_1AF4&DEV_1001`. Four digits are a device of virtio's vendor.
#[must_use]
pub fn device(word: &str) -> String {
    let word = word.to_ascii_uppercase();
    if word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return format!("VEN_1AF4&DEV_{word}");
    }
    word.trim_start_matches("PCI\\").to_owned()
}

/// Further names of virtio's own devices: subsystem and revision of the legacy ones, and of the modern ones.
fn names(device: &str) -> Vec<String> {
    let legacy = match device {
        "VEN_1AF4&DEV_1000" => "0001",
        "VEN_1AF4&DEV_1001" => "0002",
        "VEN_1AF4&DEV_1004" => "0008",
        _ => "1100",
    };
    let revision = if legacy == "1100" { "01" } else { "00" };
    vec![device.to_owned(), format!("{device}&SUBSYS_{legacy}1AF4&REV_{revision}")]
}

/// Why a driver would not drive the device that the system is on. In the order of what is nearer to working.
#[derive(Clone, Debug)]
pub enum Lack {
    /// It is not installed; perhaps its package lies in the driver store.
    Absent(Option<Evidence>),
    /// Its file is not where it should be, or no program.
    File(Service, Binary),
    /// Its file is for another machine.
    Machine(Service, Binary),
    /// It starts too late, or never.
    Late(Service),
    /// The boot loader is told to leave it out.
    HeldBack(Service, Evidence),
    /// Nothing says that it is for these devices.
    Unbound(Service),
}

impl Lack {
    /// How near to working it is.
    #[must_use]
    pub const fn nearness(&self) -> u8 {
        match self {
            Self::Absent(None) => 0,
            Self::Absent(Some(_)) => 1,
            Self::File(..) => 2,
            Self::Machine(..) => 3,
            Self::Late(_) => 4,
            Self::HeldBack(..) => 5,
            Self::Unbound(_) => 6,
        }
    }
}

/// A driver that works: what shows it.
pub type Works = Vec<Evidence>;

impl Keys<'_> {
    /// Would this driver be started at boot for one of these devices?
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn boot_driver(&self, name: &str, devices: &[String]) -> Result<std::result::Result<Works, Lack>> {
        let (service, file) = match self.driver(name)? {
            Ok(found) => found,
            Err(lack) => return Ok(Err(lack)),
        };
        if service.start != Some(Start::Boot) {
            return Ok(Err(Lack::Late(service)));
        }
        if let Some(held_back) = service.held_back.clone() {
            return Ok(Err(Lack::HeldBack(service, held_back)));
        }
        Ok(match self.binding(&service.name, devices)? {
            Some(binding) => Ok(vec![service.evidence, file.evidence, binding]),
            None => Err(Lack::Unbound(service)),
        })
    }

    /// Would this driver be started when its device is found? One in the driver store is installed then.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn demand_driver(&self, name: &str) -> Result<std::result::Result<Works, Lack>> {
        Ok(match self.driver(name)? {
            Ok((service, _)) if service.is_disabled() => Err(Lack::Late(service)),
            Ok((service, file)) => Ok(vec![service.evidence, file.evidence]),
            Err(Lack::Absent(Some(package))) => Ok(vec![package]),
            Err(lack) => Err(lack),
        })
    }

    /// A driver that is registered and whose file is there, for the machine of the system.
    fn driver(&self, name: &str) -> Result<std::result::Result<(Service, Binary), Lack>> {
        let Some(service) = self.service(name)? else { return Ok(Err(Lack::Absent(self.staged(name)?))) };
        let file = self.binary(&service)?;
        let own = self.guest.machine()?.map(|machine| machine.name.to_string());
        Ok(match &file.machine {
            None => Err(Lack::File(service, file)),
            Some(machine) if own.is_some_and(|own| own != *machine) => Err(Lack::Machine(service, file)),
            Some(_) => Ok((service, file)),
        })
    }

    /// What binds one of these devices to a service; the first that is found.
    ///
    /// # Errors
    /// When none was found and something that may hold it could not be read.
    pub fn binding(&self, service: &str, devices: &[String]) -> Result<Option<Evidence>> {
        let is_named = |key: &KeyAt| {
            let name = plain(key.name()).to_ascii_uppercase().replace('#', "\\");
            let name = name.trim_start_matches("PCI\\").to_owned();
            devices.iter().any(|device| name.starts_with(device))
        };
        if self.has_driver_database()? {
            for device in devices {
                for name in names(device) {
                    if let Some(ids) = self.driver_database(&format!("DeviceIds\\PCI\\{name}"))?
                        && self.installs(&ids, service)?
                    {
                        return Ok(Some(ids.seen()));
                    }
                }
            }
            // Packages of clouds name the subsystem that their devices have.
            if let Some(all) = self.driver_database("DeviceIds\\PCI")? {
                for ids in all.subkeys() {
                    let ids = ids?;
                    if is_named(&ids) && self.installs(&ids, service)? {
                        return Ok(Some(ids.seen()));
                    }
                }
            }
        } else if let Some(database) = self.current("Control\\CriticalDeviceDatabase")? {
            for entry in database.subkeys() {
                let entry = entry?;
                if is_named(&entry) && is_same(&entry, service)? {
                    return Ok(Some(entry.says("Service", service)));
                }
            }
        }
        let Some(seen) = self.current("Enum\\PCI")? else { return Ok(None) };
        for entry in seen.subkeys() {
            let entry = entry?;
            if !is_named(&entry) {
                continue;
            }
            for instance in entry.subkeys() {
                let instance = instance?;
                if is_same(&instance, service)? {
                    return Ok(Some(instance.says("Service", service)));
                }
            }
        }
        Ok(None)
    }

    fn has_driver_database(&self) -> Result<bool> {
        Ok(self.driver_database("DeviceIds")?.is_some())
    }

    /// Is one of the `.inf` files that know a device of a package that installs this service?
    fn installs(&self, ids: &KeyAt, service: &str) -> Result<bool> {
        for (inf, _) in ids.values()?.into_iter().take(MAX_SECTIONS) {
            let Some(inf) = self.driver_database(&format!("DriverInfFiles\\{}", plain(&inf)))? else {
                continue;
            };
            let active = plain(&inf.text("Active")?);
            let packages =
                if active.is_empty() { inf.texts("")?.iter().map(plain).collect() } else { vec![active] };
            for package in packages.iter().take(MAX_SECTIONS) {
                let sections = self.driver_database(&format!("DriverPackages\\{package}\\Configurations"))?;
                let Some(sections) = sections else { continue };
                for section in sections.subkeys().take(MAX_SECTIONS) {
                    if is_same(&section?, service)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// The package of a driver in the driver store, by the name of its `.inf`: there to be installed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn staged(&self, name: &str) -> Result<Option<Evidence>> {
        let store = [self.windows.directory.as_slice(), b"/System32/DriverStore/FileRepository"].concat();
        let start = format!("{name}.inf_");
        let found = file::names(self.tree(), &store)?.into_iter().find(|found| {
            let found = String::from_utf8_lossy(found).to_ascii_lowercase();
            found.starts_with(&start.to_ascii_lowercase())
        });
        Ok(found.map(|found| {
            let path = [store.as_slice(), b"/", &found].concat();
            Evidence::new(format!("the package {}", escape(&found))).on(&self.windows.volume).path(&path)
        }))
    }
}

/// Does a key's `Service` name this one?
fn is_same(key: &KeyAt, service: &str) -> Result<bool> {
    Ok(plain(&key.text("Service")?).eq_ignore_ascii_case(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_the_registry_names_them() {
        assert_eq!(device("1042"), "VEN_1AF4&DEV_1042");
        assert_eq!(device("PCI\\ven_1af4&dev_1001"), "VEN_1AF4&DEV_1001");
        assert_eq!(device("VEN_5853&DEV_0001"), "VEN_5853&DEV_0001");
        // The names in viostor.inf, netkvm.inf and vioscsi.inf of virtio-win.
        assert_eq!(names("VEN_1AF4&DEV_1001")[1], "VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00");
        assert_eq!(names("VEN_1AF4&DEV_1042")[1], "VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01");
        assert_eq!(names("VEN_1AF4&DEV_1004")[1], "VEN_1AF4&DEV_1004&SUBSYS_00081AF4&REV_00");
    }
}
