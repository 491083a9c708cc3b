//! BitLocker: the disk encryption of Windows, from Vista on, and how a key opens it.
//!
//! ```text
//! password, recovery password ─▶ stretched ─┐
//! key file ─────────────────────────────────┼▶ a protector ─▶ volume master key ─▶ volume key ─▶ the sectors' cipher
//! key in the clear (protection suspended) ──┘
//! ```
//! The [`boot`] sector says where three copies of the [`metadata`] lie; these consist of [`entry`]s, among them the
//! [`protector`]s and the sealed volume key. What a user gives is taken for what it is by [`secret`]; [`Plain`] says where
//! the bytes of the opened volume come from. Specification: "BitLocker Drive Encryption (BDE) format specification", libbde.

use super::cipher::{Cipher, Spec};
use super::{apart, misfit};
use crate::block::BlockSource;
use crate::budget::Budget;
use crate::error::{At, Error, ErrorKind, Result};
use crate::ondisk::{guid, read_table};
use crate::text::Text;
use boot::{Boot, Maker};
use entry::bad;
use metadata::Metadata;
use protector::Kind;
use secret::Secret;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

mod boot;
mod ccm;
mod entry;
mod metadata;
mod plain;
mod protector;
mod secret;

pub use plain::Plain;

/// Bytes of the boot sector that say something.
const BOOT: u64 = 512;
/// Time after which no further password is stretched: metadata may have hundreds of protectors, and several keys may be given.
const MAX_TIME: Duration = Duration::from_secs(30);

/// A key; forgotten when it is dropped.
type KeyBytes = Zeroizing<Vec<u8>>;

/// States of a volume that say which of its bytes are encrypted.
mod state {
    pub(super) const PLAIN: u16 = 1;
    pub(super) const CONVERTING: u16 = 2;
    pub(super) const ENCRYPTED: u16 = 4;
    pub(super) const PAUSED: u16 = 5;
}

/// How a volume's sectors are encrypted.
#[derive(Debug, PartialEq, Eq)]
struct Method {
    number: u16,
    /// In the words of Windows.
    name: &'static str,
    /// In those of dm-crypt.
    cipher: &'static str,
    /// Where its key lies in what the volume key's entry holds: first bytes, and their number.
    key: &'static [(usize, usize)],
}

/// Every method.
const METHODS: &[Method] = &[
    Method {
        number: 0x8000,
        name: "AES-CBC 128 with Elephant diffuser",
        cipher: "aes-cbc-elephant",
        key: &[(0, 16), (32, 16)],
    },
    Method {
        number: 0x8001,
        name: "AES-CBC 256 with Elephant diffuser",
        cipher: "aes-cbc-elephant",
        key: &[(0, 64)],
    },
    Method { number: 0x8002, name: "AES-CBC 128", cipher: "aes-cbc-eboiv", key: &[(0, 16)] },
    Method { number: 0x8003, name: "AES-CBC 256", cipher: "aes-cbc-eboiv", key: &[(0, 32)] },
    Method { number: 0x8004, name: "AES-XTS 128", cipher: "aes-xts-plain64", key: &[(0, 32)] },
    Method { number: 0x8005, name: "AES-XTS 256", cipher: "aes-xts-plain64", key: &[(0, 64)] },
];

/// Is this the first sector of a locked volume?
#[must_use]
pub fn is_locked(head: &[u8]) -> bool {
    boot::is_locked(head)
}

/// A locked volume whose metadata were read.
#[derive(Debug)]
pub struct BitLocker {
    boot: Boot,
    metadata: Metadata,
    warnings: Vec<String>,
}

impl BitLocker {
    /// Reads the boot sector and the first sound copy of the metadata.
    ///
    /// # Errors
    /// `NotAnImage` when it is no locked volume; `Corrupt` when no copy is sound; `Unsupported` for a BitLocker of another
    /// kind, by its identifier.
    pub fn load(source: &dyn BlockSource, budget: &Budget) -> Result<Self> {
        let len = source.len().min(BOOT);
        let head = read_table(source, 0, len, BOOT, At::new("bitlocker", "boot sector"), budget)?;
        let boot = Boot::parse(&head)?;
        let (metadata, mut warnings) = Metadata::load(source, &boot, budget)?;
        let (stated, there) = (metadata.encrypted, source.len());
        if stated > there {
            warnings.push(format!(
                "it has {stated} bytes by its metadata, and {there} are there: its end was cut off"
            ));
        } else if metadata.state.0 == state::ENCRYPTED && metadata.version != 1 && stated < there {
            warnings.push(format!(
                "it has {stated} bytes by its metadata, and {there} are there; the rest is shown as it is stored"
            ));
        }
        Ok(Self { boot, metadata, warnings })
    }

    /// The volume's identifier.
    #[must_use]
    pub fn guid(&self) -> String {
        guid(&self.metadata.id)
    }

    /// Computer, volume and date, as Windows wrote them when it encrypted it.
    #[must_use]
    pub const fn description(&self) -> &Text {
        &self.metadata.description
    }

    /// What is odd about it without keeping us from reading it.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `BitLocker To Go, AES-XTS 128`: for errors and reports.
    #[must_use]
    pub fn name(&self) -> String {
        let maker = match self.boot.maker {
            Maker::ToGo => "BitLocker To Go",
            Maker::Vista { .. } => "BitLocker of Windows Vista",
            Maker::Seven => "BitLocker",
        };
        match self.method() {
            Ok(method) => format!("{maker}, {}", method.name),
            Err(_) => format!("{maker}, method {:#06x}", self.metadata.method),
        }
    }

    /// Who may open it: `password, recovery password 64311DEA-...`.
    #[must_use]
    pub fn protectors(&self) -> String {
        let names: Vec<String> = self.metadata.protectors.iter().map(ToString::to_string).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }

    /// The volume in the clear, if its own key in the clear or one of `keys` opens it; and what is odd about that.
    ///
    /// # Errors
    /// `Encrypted` when no key fits, or none is given; `Unsupported` for a method, or a conversion under way, in which it
    /// cannot be read, by its name; `Corrupt`.
    pub fn open<'k>(
        &self,
        source: &Arc<dyn BlockSource>,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(Plain, Vec<String>)> {
        let method = self.method()?;
        self.check_state()?;
        let (master, key) = self.keys(&keys.collect::<Vec<_>>())?;
        let mut odd = Vec::new();
        if self.metadata.is_genuine(&master) == Some(false) {
            odd.push(
                "its metadata are not those that BitLocker sealed: something else has changed them"
                    .to_owned(),
            );
        }
        let mut parts = Zeroizing::new(Vec::with_capacity(64));
        for (start, len) in method.key {
            let part = key.get(*start..start.saturating_add(*len));
            parts.extend(
                part.ok_or_else(|| bad(format!("a volume key of {} bytes for {}", key.len(), method.name)))?,
            );
        }
        let spec = Spec::parse(method.cipher)?.large_sectors();
        let cipher: Cipher = spec.with_key(&parts)?;
        Ok((Plain::new(source, &self.boot, &self.metadata, cipher)?, odd))
    }

    fn method(&self) -> Result<&'static Method> {
        let number = self.metadata.method;
        let found = METHODS.iter().find(|method| method.number == number);
        found.ok_or_else(|| Error::unsupported(format!("the encryption method {number:#06x} of BitLocker")))
    }

    /// Is it known which bytes are encrypted?
    fn check_state(&self) -> Result<()> {
        let (now, next) = self.metadata.state;
        let help = "unlock it in Windows, wait until 'manage-bde -status' says that nothing is in progress, and make the image again";
        if self.boot.is_on_write {
            return Err(Error::unsupported(
                "a BitLocker volume that is still being encrypted as it is written (encrypt on write)",
            )
            .help(help));
        }
        match now {
            state::PLAIN | state::ENCRYPTED | state::PAUSED => Ok(()),
            state::CONVERTING => Err(Error::unsupported(format!(
                "a BitLocker volume in the middle of being {} (at byte {})",
                if next == state::PLAIN { "decrypted" } else { "encrypted" },
                self.metadata.encrypted
            ))
            .help(help)),
            other => Err(Error::unsupported(format!("a BitLocker volume in state {other}")).help(help)),
        }
    }

    /// The volume master key, and the key of the sectors under it.
    fn keys(&self, given: &[&[u8]]) -> Result<(KeyBytes, KeyBytes)> {
        let sealed = self.metadata.key.as_ref().ok_or_else(|| bad("no volume key"))?;
        let master_in_the_clear = self.metadata.protectors.iter().find_map(protector::Protector::open_clear);
        let found = master_in_the_clear.and_then(|master| Some((sealed.key(&master)?, master)));
        if let Some((key, master)) = found {
            return Ok((master, key));
        }
        let mut secrets: Vec<Secret> = Vec::new();
        let mut trouble = None;
        for key in given {
            let (found, odd) = secret::read(key);
            trouble = trouble.or(odd);
            for secret in found {
                if !secrets.contains(&secret) {
                    secrets.push(secret);
                }
            }
        }
        if given.is_empty() {
            return Err(Error::new(
                ErrorKind::Encrypted,
                format!("is locked ({}), and no key was given", self.name()),
            ));
        }
        let found = apart(|| self.try_all(&secrets))??;
        if let Some((key, master)) = found.and_then(|master| Some((sealed.key(&master)?, master))) {
            return Ok((master, key));
        }
        let error = misfit(&self.name());
        Err(match trouble {
            Some(trouble) => error.because(format!("given was {trouble}")),
            None => error,
        })
    }

    /// The volume master key that one of the secrets opens.
    fn try_all(&self, secrets: &[Secret]) -> Result<Option<KeyBytes>> {
        let begun = Instant::now();
        for secret in secrets {
            let of =
                |kind: Kind| self.metadata.protectors.iter().filter(move |protector| protector.kind == kind);
            let (kind, hash) = match secret {
                Secret::Master(key) => {
                    if self.metadata.key.as_ref().is_some_and(|sealed| sealed.key(key).is_some()) {
                        return Ok(Some(key.clone()));
                    }
                    continue;
                }
                Secret::File(id, key) => {
                    let found = of(Kind::Startup).filter(|protector| protector.id == *id);
                    if let Some(master) = found.into_iter().find_map(|protector| protector.open(key)) {
                        return Ok(Some(master));
                    }
                    continue;
                }
                Secret::Recovery(hash) => (Kind::Recovery, hash),
                Secret::Password(hash) => (Kind::Password, hash),
            };
            for protector in of(kind) {
                if begun.elapsed() > MAX_TIME {
                    return Err(Error::limit(format!(
                        "no key was found to fit in {} s, and not all were tried on all {} protectors",
                        MAX_TIME.as_secs(),
                        self.metadata.protectors.len()
                    ))
                    .help("give only the key that fits"));
                }
                if let Some(master) = protector.open_stretched(**hash) {
                    return Ok(Some(master));
                }
            }
        }
        Ok(None)
    }
}
