//! Services and drivers: what Windows starts, when, and from which file.
//!
//! ```text
//!   HKLM\SYSTEM\CurrentControlSet\Services\<name>
//!     Start           0 by the boot loader, 1 by the kernel, 2 at boot, 3 when it is wanted, 4 never
//!     StartOverride   0 = 3: not by the boot loader after all (8 and later), until the device was seen
//!     ImagePath       its file; of a driver without one, System32\drivers\<name>.sys
//! ```
//! Microsoft, "HKLM\SYSTEM\CurrentControlSet\Services Registry Tree".

use super::keys::{KeyAt, Keys, absent, plain};
use super::{paths, pe};
use crate::error::Result;
use crate::guest::Evidence;
use crate::text::escape;

/// When a service starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The boot loader reads it, with the kernel.
    Boot,
    /// When the kernel starts.
    System,
    /// When the system is up.
    Auto,
    /// When something wants it.
    Demand,
    /// Never.
    Disabled,
}

impl Start {
    fn new(number: u64) -> Option<Self> {
        [Self::Boot, Self::System, Self::Auto, Self::Demand, Self::Disabled]
            .into_iter()
            .zip(0_u64..)
            .find(|(_, own)| *own == number)
            .map(|(start, _)| start)
    }

    /// As `sc config start=` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::System => "system",
            Self::Auto => "auto",
            Self::Demand => "demand",
            Self::Disabled => "disabled",
        }
    }
}

/// A service or driver that is registered.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, as the registry spells it.
    pub name: String,
    /// When it starts; `None` where the number means nothing.
    pub start: Option<Start>,
    /// What the boot loader is told instead (`StartOverride`).
    pub held_back: Option<Evidence>,
    /// `ImagePath`; empty for a driver in the usual place.
    pub image: String,
    /// Its key.
    pub key: KeyAt,
    /// Where its start is written.
    pub evidence: Evidence,
}

/// A driver's file.
#[derive(Clone, Debug)]
pub struct Binary {
    /// Its path as Windows writes it.
    pub path: String,
    /// Is anything there?
    pub is_there: bool,
    /// The machine that it is for; `None` where it is not there or no program.
    pub machine: Option<String>,
    /// The file.
    pub evidence: Evidence,
}

impl Keys<'_> {
    /// A service by its name; `None` where none is registered.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn service(&self, name: &str) -> Result<Option<Service>> {
        // Without the key of all services, none can be said to be missing.
        let all = self.current("Services")?.ok_or_else(|| absent("CurrentControlSet\\Services"))?;
        let Some(key) = all.subkey(name)? else { return Ok(None) };
        let number = key.number("Start")?;
        let start = number.and_then(Start::new);
        let evidence = number.map_or_else(|| key.lacks("Start"), |number| key.says("Start", number));
        let mut held_back = None;
        if start == Some(Start::Boot)
            && let Some(over) = key.subkey("StartOverride")?
            && let Some(number) = over.number("0")?.filter(|number| *number != 0)
        {
            held_back = Some(over.says("0", number));
        }
        let image = plain(&key.text("ImagePath")?);
        Ok(Some(Service { name: plain(key.name()), start, held_back, image, key, evidence }))
    }

    /// The first of several services that is registered.
    ///
    /// # Errors
    /// As [`Keys::service`].
    pub fn first_service(&self, names: &[&str]) -> Result<Option<Service>> {
        for name in names {
            if let Some(service) = self.service(name)? {
                return Ok(Some(service));
            }
        }
        Ok(None)
    }

    /// The file of a driver.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn binary(&self, service: &Service) -> Result<Binary> {
        let path = if service.image.is_empty() {
            format!("\\SystemRoot\\System32\\drivers\\{}.sys", service.name)
        } else {
            paths::program(&service.image).to_owned()
        };
        let (windows, tree) = (self.windows, self.tree());
        let found = windows.locate(tree, &path)?;
        let (is_there, machine, what) = match pe::of_file(tree, &found)? {
            pe::File::Absent => (false, None, "is not there".to_owned()),
            pe::File::Other => (true, None, "is no program".to_owned()),
            pe::File::For(machine) => {
                let what = format!("a driver for {machine}");
                (true, Some(machine), what)
            }
        };
        let evidence = Evidence::new(what).on(&windows.volume).path(&found);
        Ok(Binary { path: escape(&found).to_string(), is_there, machine, evidence })
    }
}

impl Service {
    /// Does nothing start it any more?
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.start == Some(Start::Disabled)
    }

    /// When it starts, in a word.
    #[must_use]
    pub fn when(&self) -> &'static str {
        self.start.map_or("unknown", Start::name)
    }
}
