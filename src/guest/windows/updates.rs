//! Updates: what is installed, and what waits for the next start.
//!
//! ```text
//!   HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion
//!     Component Based Servicing\Packages\Package_for_KB4474419~…   CurrentState: 0x70 installed
//!     Component Based Servicing\RebootPending, PackagesPending     keys: servicing goes on at the next start
//!     WindowsUpdate\Auto Update\RebootRequired                     key
//!   HKLM\SYSTEM\CurrentControlSet\Control\Session Manager          PendingFileRenameOperations
//!   \Windows\WinSxS\pending.xml                                    what servicing is going to do
//! ```

use super::keys::{Keys, plain};
use crate::error::Result;
use crate::guest::{Evidence, Fact, Guest, file};

const SERVICING: &str = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing";
const AUTO_UPDATE: &str = "Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired";
/// States of a package that is there: superseded by a newer one, installed, permanent.
const INSTALLED: &[u64] = &[0x50, 0x70, 0x80];

/// The packages of updates that are installed.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// Number of the article, and where its package stands: `4474419`.
    installed: Vec<(u64, Evidence)>,
    /// How many packages are listed.
    pub listed: usize,
}

impl Fact for Updates {
    fn read(guest: &Guest) -> Result<Self> {
        let mut found = Self::default();
        let Some(packages) = Keys::of(guest)?.software(&format!("{SERVICING}\\Packages"))? else {
            return Ok(found);
        };
        for package in packages.subkeys() {
            let package = package?;
            found.listed = found.listed.saturating_add(1);
            let Some(number) = article(&plain(package.name())) else { continue };
            if let Some(state) = package.number("CurrentState")?.filter(|state| INSTALLED.contains(state)) {
                found.installed.push((number, package.says("CurrentState", state)));
            }
        }
        Ok(found)
    }
}

/// The number of the article that a package is about: `Package_2_for_KB3033929~31bf…`, `Package_for_KB4474419~…`.
fn article(package: &str) -> Option<u64> {
    let (_, rest) = package.split_once("_for_KB")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Updates {
    /// An update that is installed, by its number with or without `KB`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Evidence> {
        let number: u64 = name.trim_start_matches(['K', 'B', 'k', 'b']).parse().ok()?;
        self.installed.iter().find(|(own, _)| *own == number).map(|(_, evidence)| evidence)
    }
}

/// What waits for the next start.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Components in the middle of being changed: a start elsewhere goes on with it, or goes wrong.
    pub servicing: Vec<Evidence>,
    /// Files to be replaced or deleted, which is mostly harmless.
    pub renames: Option<Evidence>,
}

impl Fact for Pending {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let mut found = Self::default();
        for name in ["RebootPending", "RebootInProgress", "PackagesPending"] {
            found.servicing.extend(keys.software(&format!("{SERVICING}\\{name}"))?.map(|key| key.seen()));
        }
        found.servicing.extend(keys.software(AUTO_UPDATE)?.map(|key| key.seen()));
        let windows = keys.windows;
        let path = [windows.directory.as_slice(), b"/WinSxS/pending.xml"].concat();
        if file::exists(keys.tree(), &path)? {
            found.servicing.push(Evidence::new("is there").on(&windows.volume).path(&path));
        }
        if let Some(manager) = keys.current("Control\\Session Manager")? {
            let name = "PendingFileRenameOperations";
            if manager.data(name)?.is_some_and(|data| data.iter().any(|byte| *byte != 0)) {
                let first = manager.texts(name)?.first().map(plain).unwrap_or_default();
                found.renames = Some(manager.says(name, first));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_says_which_article_it_is_about() {
        assert_eq!(article("Package_for_KB4474419~31bf3856ad364e35~amd64~~6.1.3.2"), Some(4_474_419));
        assert_eq!(article("Package_2_for_KB3033929~31bf3856ad364e35~amd64~~6.1.1.1"), Some(3_033_929));
        assert_eq!(article("Package_for_RollupFix~31bf3856ad364e35~amd64~~17763.1.0"), None);
        assert_eq!(article("Package_for_KB~x"), None);
        let updates = Updates { installed: vec![(4_474_419, Evidence::default())], listed: 1 };
        assert!(updates.get("KB4474419").is_some() && updates.get("4474419").is_some());
        assert!(updates.get("KB447441").is_none() && updates.get("KB").is_none());
    }
}
