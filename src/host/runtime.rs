//! The runtime directory of a user: `$XDG_RUNTIME_DIR/imgmount`, for root without one `/run/imgmount`. Sockets lie there,
//! and nobody else may enter.

use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

/// The name of our directory in that of the user.
const NAME: &str = "imgmount";

/// Where it is for this process, whether or not it was made yet; `None` if the user has none.
#[must_use]
pub fn place() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| rustix::process::geteuid().is_root().then(|| PathBuf::from("/run")));
    Some(base?.join(NAME))
}

/// The same, made if need be.
///
/// # Errors
/// `Host` when there is no place for it, or it cannot be made.
pub fn dir() -> Result<PathBuf> {
    let none = || Error::new(ErrorKind::Host, "no place for a socket: XDG_RUNTIME_DIR is not set");
    let dir = place().ok_or_else(none)?;
    let mut make = std::fs::DirBuilder::new();
    make.mode(0o700).recursive(true);
    make.create(&dir).map_err(|error| {
        Error::new(ErrorKind::Host, Locator::Path(dir.clone()).to_string()).caused_by(error)
    })?;
    Ok(dir)
}

/// Those that this user may look into, with their owners: for root everybody's.
#[must_use]
pub fn all() -> Vec<(PathBuf, u32)> {
    let mut dirs: Vec<PathBuf> = place().into_iter().collect();
    if rustix::process::geteuid().is_root() {
        dirs.push(PathBuf::from("/run").join(NAME));
        let users = std::fs::read_dir("/run/user").into_iter().flatten().flatten();
        dirs.extend(users.map(|user| user.path().join(NAME)));
    }
    dirs.sort();
    dirs.dedup();
    let owned = |dir: PathBuf| {
        let meta = std::fs::symlink_metadata(&dir).ok().filter(std::fs::Metadata::is_dir)?;
        Some((dir, meta.uid()))
    };
    dirs.into_iter().filter_map(owned).collect()
}
