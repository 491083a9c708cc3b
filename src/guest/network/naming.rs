//! What the kernel's first card will be called: `eth0`, or by its connection (systemd.net-naming-scheme(7)).

use super::LinkFiles;
use crate::error::Result;
use crate::fs::FileType;
use crate::guest::Guest;
use crate::guest::evidence::Evidence;
use crate::guest::fact::Fact;
use crate::guest::file;

/// Who gives the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The kernel: `eth0`, `eth1`.
    Kernel,
    /// udev, by the card's slot: `ens3`, `enp1s0`.
    Slot,
}

/// How interfaces are named in a guest: `guest.fact::<Naming>()`.
#[derive(Clone, Debug)]
pub struct Naming {
    /// Who gives the names.
    pub scheme: Scheme,
    /// What says so.
    pub evidence: Option<Evidence>,
}

/// udev's own rules that made names by slot, before `.link` files did.
const SLOT_RULES: &str = "80-net-name-slot.rules";
/// Rules that write down `eth0` for each card seen, and so keep the kernel's names.
const GENERATORS: &[&str] = &[
    "/lib/udev/rules.d/75-persistent-net-generator.rules",
    "/usr/lib/udev/rules.d/75-persistent-net-generator.rules",
];

impl Fact for Naming {
    fn read(guest: &Guest) -> Result<Self> {
        let kernel = |evidence: Option<Evidence>| Ok(Self { scheme: Scheme::Kernel, evidence });
        if let Some(evidence) = guest.kernel_argument(|arg| arg == b"net.ifnames=0")? {
            return kernel(Some(evidence));
        }
        let tree = guest.facts();
        for name in [SLOT_RULES, "80-net-setup-link.rules"] {
            let path = format!("/etc/udev/rules.d/{name}");
            if let Some(node) = file::entry(tree, &path)? {
                let stat = tree.stat(node)?;
                let is_off = match stat.kind {
                    FileType::Symlink => tree.readlink(node)? == b"/dev/null",
                    _ => stat.size == 0,
                };
                if is_off {
                    let evidence = Evidence::new("switches names by slot off")
                        .on(tree.volume(node))
                        .path(path.as_bytes());
                    return kernel(Some(evidence));
                }
            }
        }
        for path in GENERATORS {
            if let Some(node) = tree.find(path.as_bytes())? {
                return kernel(Some(
                    Evidence::new("keeps the kernel's names").on(tree.volume(node)).path(path.as_bytes()),
                ));
            }
        }
        let slot = |evidence: Evidence| Ok(Self { scheme: Scheme::Slot, evidence: Some(evidence) });
        let links = guest.fact::<LinkFiles>()?;
        if let Some(default) = links.files.iter().find(|link| link.name == b"99-default.link") {
            let policy = default.policy.as_deref().unwrap_or_default();
            let by_slot = ["database", "onboard", "slot", "path"].iter().any(|word| policy.contains(word));
            return if by_slot {
                slot(default.evidence.clone())
            } else {
                kernel(Some(default.evidence.clone()))
            };
        }
        for dir in ["/usr/lib/udev/rules.d/", "/lib/udev/rules.d/"] {
            let path = format!("{dir}{SLOT_RULES}");
            if let Some(node) = tree.find(path.as_bytes())? {
                return slot(
                    Evidence::new("names cards by their slot").on(tree.volume(node)).path(path.as_bytes()),
                );
            }
        }
        kernel(None)
    }
}
