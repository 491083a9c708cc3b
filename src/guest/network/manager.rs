//! What NetworkManager does by itself (NetworkManager.conf(5)): DHCP on every wired card for which no connection is there,
//! unless it is told not to.

use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::syntax::ini;

const CONFIG: &str = "/etc/NetworkManager/NetworkManager.conf";
const DIRS: [&str; 2] = ["/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d"];
/// Where its plug-ins are.
const LIBRARIES: &[&str] = &["/usr/lib64/NetworkManager", "/usr/lib/NetworkManager"];
const IFCFG: &[u8] = b"libnm-settings-plugin-ifcfg-rh.so";

/// Does it set up cards without a connection?
pub(super) fn is_automatic(tree: &Tree) -> Result<bool> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    let own = file::names(tree, DIRS[0])?;
    // The vendor's, those of its own by name, NetworkManager.conf: what is read last counts.
    for name in file::names(tree, DIRS[1])?.iter().filter(|name| !own.contains(name)) {
        files.push([DIRS[1].as_bytes(), b"/", name].concat());
    }
    files.push(CONFIG.into());
    files.extend(own.iter().map(|name| [DIRS[0].as_bytes(), b"/", name].concat()));
    let (mut no_default, mut unmanaged) = (String::new(), String::new());
    for path in files.iter().filter(|path| path.ends_with(b".conf")) {
        let Some(file) = file::read(tree, path, MAX_CONFIG)? else { continue };
        for entry in ini::parse(&file) {
            match (entry.section.as_str(), entry.key.as_str()) {
                ("main", "no-auto-default") => no_default = entry.value,
                ("keyfile", "unmanaged-devices") => unmanaged = entry.value,
                _ => {}
            }
        }
    }
    let has = |list: &str, word: &str| list.split([',', ';']).any(|item| item.trim() == word);
    let leaves_cards = has(&unmanaged, "*") && !has(&unmanaged, "except:type:ethernet");
    Ok(!has(&no_default, "*") && !leaves_cards)
}

/// Has it the plug-in for `ifcfg-*` files? Older versions have it beside them, newer in a directory of their version.
pub(super) fn reads_ifcfg(tree: &Tree) -> Result<bool> {
    for dir in LIBRARIES {
        for name in file::names(tree, dir)? {
            let path = [dir.as_bytes(), b"/", &name, b"/", IFCFG].concat();
            if name == IFCFG || file::exists(tree, path)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::*;

    fn automatic(files: &[(&str, &str)]) -> bool {
        is_automatic(&MemoryFs::tree(files)).unwrap()
    }

    /// The files are those of NetworkManager-config-server (Red Hat) and of Ubuntu.
    #[test]
    fn cards_are_set_up_unless_it_is_told_not_to() {
        assert!(automatic(&[]));
        assert!(!automatic(&[(
            "/usr/lib/NetworkManager/conf.d/00-server.conf",
            "[main]\nno-auto-default=*\n"
        )]));
        let ubuntu = (
            "/usr/lib/NetworkManager/conf.d/10-globally-managed-devices.conf",
            "[keyfile]\nunmanaged-devices=*,except:type:wifi,except:type:gsm\n",
        );
        assert!(!automatic(&[ubuntu]));
        assert!(automatic(&[ubuntu, ("/etc/NetworkManager/conf.d/10-globally-managed-devices.conf", "")]));
    }
}
