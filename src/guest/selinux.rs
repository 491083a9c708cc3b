//! SELinux of a guest: what it will be after the boot, and whether its files carry the labels that it then needs.

use super::Guest;
use super::evidence::Evidence;
use super::fact::Fact;
use super::file;
use super::syntax::variables::Variables;
use crate::error::Result;
use crate::fs::tree::Tree;

/// Files that every Linux has; one without a label shows that the tree was written from outside of SELinux.
const LABELLED: &[&str] =
    &["/etc/shadow", "/etc/passwd", "/sbin/init", "/usr/lib/systemd/systemd", "/bin/sh"];
/// What has a policy to load, in each distribution.
const CONFIG: &str = "/etc/selinux/config";

/// What SELinux does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Disabled,
    /// It complains.
    Permissive,
    /// It forbids.
    Enforcing,
}

impl State {
    /// The word of `SELINUX=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Permissive => "permissive",
            Self::Enforcing => "enforcing",
        }
    }
}

/// SELinux of a guest: `guest.fact::<Selinux>()`.
#[derive(Clone, Debug)]
pub struct Selinux {
    /// What it will be.
    pub state: State,
    /// What says so.
    pub evidence: Vec<Evidence>,
    /// Files that must have a label and have none; empty where it is disabled.
    pub unlabelled: Vec<Evidence>,
    /// `/.autorelabel`: the first boot labels every file, then boots again.
    pub relabels: Option<Evidence>,
}

impl Fact for Selinux {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        let tree = guest.facts();
        let (mut state, mut evidence) = configured(tree)?;
        if state != State::Disabled {
            // The kernel's word comes before the file's.
            if let Some(line) = guest.kernel_argument(|arg| arg == b"selinux=0")? {
                state = State::Disabled;
                evidence.push(line);
            } else if let Some(line) = guest.kernel_argument(|arg| arg == b"enforcing=0")? {
                state = State::Permissive;
                evidence.push(line);
            } else if let Some(line) = guest.kernel_argument(|arg| arg == b"enforcing=1")? {
                state = State::Enforcing;
                evidence.push(line);
            }
        }
        let relabels = file::entry(tree, "/.autorelabel")?.map(|node| {
            let what = "all files are labelled at the next boot";
            Evidence::new(what).on(tree.volume(node)).path(b"/.autorelabel")
        });
        let unlabelled = if state == State::Disabled { Vec::new() } else { unlabelled(tree)? };
        Ok(Self { state, evidence, unlabelled, relabels })
    }
}

/// What the file says; without it no policy is loaded.
fn configured(tree: &Tree) -> Result<(State, Vec<Evidence>)> {
    let Some(variables) = Variables::read(tree, CONFIG)? else { return Ok((State::Disabled, Vec::new())) };
    let line = variables.get("SELINUX");
    let state = match line.map(|line| line.value.to_ascii_lowercase()).as_deref() {
        Some("enforcing") => State::Enforcing,
        Some("permissive") => State::Permissive,
        _ => State::Disabled,
    };
    Ok((state, line.map(|line| line.evidence.clone()).into_iter().collect()))
}

fn unlabelled(tree: &Tree) -> Result<Vec<Evidence>> {
    let mut found = Vec::new();
    for path in LABELLED {
        if let Some(node) = tree.find(path.as_bytes())?
            && tree.xattr(node, b"security.selinux")?.is_none()
        {
            let what = "has no label (security.selinux)";
            found.push(Evidence::new(what).on(tree.volume(node)).path(path.as_bytes()));
        }
    }
    Ok(found)
}
