//! Rules of udev that name interfaces by the hardware addresses of the source machine's cards: `70-persistent-net.rules`.

use crate::error::Result;
use crate::guest::Guest;
use crate::guest::evidence::Evidence;
use crate::guest::fact::Fact;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::guest::glob;

const DIR: &str = "/etc/udev/rules.d";
/// Such files that are looked at.
const MAX_FILES: usize = 64;
/// Rules of one file that are shown.
const MAX_RULES: usize = 64;

/// A file with rules for interfaces.
#[derive(Clone, Debug)]
pub struct NetRule {
    /// The file.
    pub path: Vec<u8>,
    /// The lines that are rules; none where all are comments.
    pub lines: Vec<Evidence>,
}

/// The files of the guest: `guest.fact::<NetRules>()`.
#[derive(Clone, Debug, Default)]
pub struct NetRules {
    /// By name.
    pub files: Vec<NetRule>,
}

impl Fact for NetRules {
    fn read(guest: &Guest) -> Result<Self> {
        guest.fstab()?;
        let tree = guest.facts();
        let mut files = Vec::new();
        for name in file::names(tree, DIR)? {
            if !glob::matches(b"*persistent*net*.rules", &name) || files.len() >= MAX_FILES {
                continue;
            }
            let path = [DIR.as_bytes(), b"/", &name].concat();
            // A link to /dev/null, which leads nowhere in an image, switches the vendor's file off.
            let Some(node) = tree.find(&path)? else { continue };
            if tree.stat(node)?.kind != crate::fs::FileType::File {
                continue;
            }
            if let Some(file) = file::read(tree, &path, MAX_CONFIG)? {
                files.push(NetRule { path, lines: bindings(&file) });
            }
        }
        Ok(Self { files })
    }
}

/// The lines of a file that are rules, not comments.
#[must_use]
pub fn bindings(file: &GuestFile) -> Vec<Evidence> {
    let is_rule = |(_, text): &(u64, &[u8])| {
        let text = text.trim_ascii();
        !text.is_empty() && !text.starts_with(b"#")
    };
    let line = |(number, text)| file.evidence("a rule for one card").line(number, text);
    file.lines().filter(is_rule).take(MAX_RULES).map(line).collect()
}
