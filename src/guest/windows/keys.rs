//! Keys of the registry by the paths that a running Windows gives them, each with the place that proves what it says.
//!
//! ```text
//!   HKLM\SYSTEM\CurrentControlSet\…   hive SYSTEM, below the control set that `Select\Current` names    Keys::current
//!   HKLM\SYSTEM\…                     hive SYSTEM                                                       Keys::system
//!   HKLM\SYSTEM\DriverDatabase        hive DRIVERS where there is one (8 and later), else hive SYSTEM   Keys::driver_database
//!   HKLM\SOFTWARE\…                   hive SOFTWARE                                                     Keys::software
//! ```

use super::{Windows, hive};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Tree;
use crate::guest::registry::{Hive, Key, ValueKind};
use crate::guest::{Evidence, Guest};
use crate::text::{Text, defuse};
use std::fmt;

/// Subkeys of one key that are looked at; the services of a machine of many years are some thousand, the devices that
/// drivers are known for some ten thousand.
const MAX_SUBKEYS: usize = 50_000;
/// Bytes of a value that are shown.
const MAX_SHOWN: usize = 200;

/// The registry of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    pub(super) guest: &'a Guest,
    pub(super) windows: &'a Windows,
}

/// A key, and where it is.
#[derive(Clone, Debug)]
pub struct KeyAt {
    key: Key,
    /// `HKLM\SYSTEM\ControlSet001\Services\viostor`
    path: String,
    /// The hive's file.
    file: Evidence,
}

impl<'a> Keys<'a> {
    /// Of a guest.
    ///
    /// # Errors
    /// When it is no Windows.
    pub fn of(guest: &'a Guest) -> Result<Self> {
        let windows = guest.windows().ok_or_else(|| Error::unsupported("this is no Windows system"))?;
        Ok(Self { guest, windows })
    }

    /// The tree of its system volume.
    #[must_use]
    pub const fn tree(&self) -> &'a Tree {
        self.guest.facts()
    }

    /// A key of the control set in use: `Services\viostor`.
    ///
    /// # Errors
    /// When it cannot be said whether it is there.
    pub fn current(&self, path: &str) -> Result<Option<KeyAt>> {
        let set = format!("ControlSet{:03}", self.windows.computer()?.control_set);
        let Some(top) = self.system(&set)? else {
            return Err(absent(&format!("HKLM\\SYSTEM\\{set}, the control set in use,")));
        };
        top.subkey(path)
    }

    /// A key of the hive SYSTEM.
    ///
    /// # Errors
    /// As [`Keys::current`].
    pub fn system(&self, path: &str) -> Result<Option<KeyAt>> {
        self.top(self.windows.system()?, "SYSTEM")?.subkey(path)
    }

    /// A key of the hive SOFTWARE.
    ///
    /// # Errors
    /// As [`Keys::current`].
    pub fn software(&self, path: &str) -> Result<Option<KeyAt>> {
        self.top(self.windows.software(self.tree())?, "SOFTWARE")?.subkey(path)
    }

    /// A key of the driver database; `None` where there is none, as up to Windows 7.
    ///
    /// # Errors
    /// As [`Keys::current`].
    pub fn driver_database(&self, path: &str) -> Result<Option<KeyAt>> {
        let whole = format!("DriverDatabase\\{path}");
        if self.system("DriverDatabase")?.is_some() {
            return self.system(&whole);
        }
        let Some(drivers) = self.windows.drivers(self.tree())? else { return Ok(None) };
        self.top(drivers, "DRIVERS")?.subkey(&whole)
    }

    /// A file that a path of Windows names, as evidence; `None` where there is none.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn file(&self, path: &str) -> Result<Option<Evidence>> {
        let found = self.windows.locate(self.tree(), path)?;
        let Some(node) = self.tree().find(&found)? else { return Ok(None) };
        Ok(Some(Evidence::new("is there").on(self.tree().volume(node)).path(&found)))
    }

    fn top(&self, hive: &Hive, name: &str) -> Result<KeyAt> {
        let file = super::at(&self.windows.volume, &self.windows.directory, name);
        Ok(KeyAt { key: hive.root()?, path: format!("HKLM\\{name}"), file })
    }
}

impl Windows {
    /// The hive DRIVERS, which Windows 8 and later may have.
    fn drivers(&self, tree: &Tree) -> Result<Option<&Hive>> {
        let read = self.drivers.get_or_init(|| {
            let path = [self.directory.as_slice(), b"/System32/config/DRIVERS"].concat();
            crate::guest::registry::load(tree, &path)
        });
        super::share(read).map(Option::as_ref)
    }

    /// One of its hives, by its name in `System32\config`.
    ///
    /// # Errors
    /// When it is not there, is no hive, or cannot be read.
    pub fn hive(&self, tree: &Tree, name: &str) -> Result<Hive> {
        hive(tree, &self.directory, name)
    }

    /// A hive's file as evidence.
    #[must_use]
    pub fn hive_file(&self, name: &str, what: impl Into<String>) -> Evidence {
        Evidence { what: what.into(), ..super::at(&self.volume, &self.directory, name) }
    }
}

impl KeyAt {
    /// Its path: `HKLM\SYSTEM\ControlSet001\Services\viostor`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its own name.
    #[must_use]
    pub const fn name(&self) -> &Text {
        self.key.name()
    }

    /// A key below it.
    ///
    /// # Errors
    /// When it cannot be said whether it is there.
    pub fn subkey(&self, path: &str) -> Result<Option<Self>> {
        let mut at = self.clone();
        for part in path.split('\\').filter(|part| !part.is_empty()) {
            let Some(key) = at.key.subkey(part).map_err(|error| at.doubt(error))? else { return Ok(None) };
            at = at.child(key);
        }
        Ok(Some(at))
    }

    /// The keys below it.
    pub fn subkeys(&self) -> impl Iterator<Item = Result<Self>> {
        let all = self.key.subkeys().take(MAX_SUBKEYS);
        all.map(|key| key.map(|key| self.child(key)).map_err(|error| self.doubt(error)))
    }

    /// A number; `None` where there is no such value.
    ///
    /// # Errors
    /// When it is damaged or no number.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        let read = || self.key.value(name)?.map(|value| value.number()).transpose();
        read().map_err(|error| self.doubt(error))
    }

    /// A text; empty where there is no such value.
    ///
    /// # Errors
    /// When it is damaged or no text.
    pub fn text(&self, name: &str) -> Result<Text> {
        super::product::text(&self.key, name).map_err(|error| self.doubt(error))
    }

    /// Texts; none where there is no such value.
    ///
    /// # Errors
    /// When they are damaged or no texts.
    pub fn texts(&self, name: &str) -> Result<Vec<Text>> {
        let read = || self.key.value(name)?.map_or_else(|| Ok(Vec::new()), |value| value.texts());
        read().map_err(|error| self.doubt(error))
    }

    /// The bytes of a value; `None` where there is none.
    ///
    /// # Errors
    /// When they are damaged.
    pub fn data(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let read = || self.key.value(name)?.map(|value| value.data()).transpose();
        read().map_err(|error| self.doubt(error))
    }

    /// The names of its values and their data where that is text.
    ///
    /// # Errors
    /// When one is damaged.
    pub fn values(&self) -> Result<Vec<(Text, Option<Text>)>> {
        let values = self.key.values().take(MAX_SUBKEYS).map(|value| {
            let value = value?;
            let is_text = matches!(value.kind(), ValueKind::Sz | ValueKind::ExpandSz);
            let text = if is_text { Some(value.text()?) } else { None };
            Ok((value.name().clone(), text))
        });
        values.collect::<Result<_>>().map_err(|error| self.doubt(error))
    }

    /// The key as evidence.
    #[must_use]
    pub fn seen(&self) -> Evidence {
        Evidence { what: self.path.clone(), ..self.file.clone() }
    }

    /// One of its values as evidence; it was read before.
    #[must_use]
    pub fn says(&self, name: &str, value: impl fmt::Display) -> Evidence {
        let value: String = value.to_string().chars().take(MAX_SHOWN).collect();
        Evidence { what: format!("{}: {name} = {value}", self.path), ..self.file.clone() }
    }

    /// That it has no such value, as evidence.
    #[must_use]
    pub fn lacks(&self, name: &str) -> Evidence {
        Evidence { what: format!("{}: no value {name}", self.path), ..self.file.clone() }
    }

    fn child(&self, key: Key) -> Self {
        let path = format!("{}\\{}", self.path, plain(key.name()));
        Self { key, path, file: self.file.clone() }
    }

    fn doubt(&self, error: Error) -> Error {
        error.context(&self.path)
    }
}

/// What the registry should have and has not.
#[must_use]
pub fn absent(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{what} is not in the registry"))
}

/// Text of the registry as a sentence shows it. Its backslashes are those of Windows' paths and stay single.
#[must_use]
pub fn plain(text: &Text) -> String {
    defuse(&String::from_utf8_lossy(text.as_bytes()))
}
