//! Directories: files full of identifiers, each with a name and the place of a file entry. And symbolic links, which are
//! files of path components.
//!
//! ECMA-167, "4/14.4 File Identifier Descriptor", "4/14.16 Path Component".

use super::Udf;
use super::icb::{Extents, Node};
use super::tag::{self, Address, ident};
use crate::budget::{Budget, Limits};
use crate::error::{At, Error, Result};
use crate::num::{narrow, wide};
use crate::ondisk::get_le16;
use std::ops::ControlFlow;

/// The part of an identifier in front of the fields of variable length, in bytes.
const HEAD: usize = 38;
/// Bytes of a directory read together.
const LOOK: u64 = 4096;
/// The longest identifier: 65,535 bytes for the implementation, and a name.
const LONGEST: u64 = 38 + 65_535 + 255 + 3;
/// The longest target, in the bytes that components take.
const MAX_TARGET: u64 = 64 << 10;

/// Bits of an identifier's characteristics.
mod is {
    pub(super) const HIDDEN: u8 = 1;
    pub(super) const DIR: u8 = 2;
    pub(super) const DELETED: u8 = 4;
    pub(super) const PARENT: u8 = 8;
}

/// A name of a directory.
pub(super) struct Named {
    pub(super) address: Address,
    pub(super) is_dir: bool,
    pub(super) name: Vec<u8>,
    pub(super) next: u64,
}

/// One identifier: its length, and a name where it has one to show.
fn identifier(bytes: &[u8], from: u64) -> std::result::Result<(u64, Option<Named>), String> {
    if get_le16(bytes, 0) != Some(ident::FILE_IDENTIFIER) {
        return Err(format!("kind {} is there, no file identifier", get_le16(bytes, 0).unwrap_or(0)));
    }
    let (Some(&[characteristics, name_len]), Some(use_len)) =
        (bytes.get(18..).and_then(<[u8]>::first_chunk), get_le16(bytes, 36))
    else {
        return Err("it is cut off".to_owned());
    };
    let start = HEAD.saturating_add(use_len.into());
    let end = start.saturating_add(name_len.into());
    let len = wide(end.next_multiple_of(4));
    let shown = characteristics & (is::HIDDEN | is::DELETED | is::PARENT) == 0;
    let (Some(raw), true) = (bytes.get(start..end), shown && name_len > 0) else { return Ok((len, None)) };
    let address = Address::parse(bytes, 24).ok_or("it is cut off")?;
    let name = shown_name(raw);
    if name.is_empty() {
        return Ok((len, None));
    }
    let next = from.saturating_add(len);
    Ok((len, Some(Named { address, is_dir: characteristics & is::DIR != 0, name, next })))
}

/// How long the identifier at the start of `bytes` is, if so much of it is there.
fn length(bytes: &[u8]) -> Option<u64> {
    let name = *bytes.get(19)?;
    let implementation = get_le16(bytes, 36)?;
    Some(wide(HEAD.saturating_add(implementation.into()).saturating_add(name.into()).next_multiple_of(4)))
}

/// A name as the kernel shows it: what no name can have becomes `_`, and then a sum is added to keep names apart
/// (`udf_name_from_CS0`).
fn shown_name(raw: &[u8]) -> Vec<u8> {
    let name = tag::text(raw);
    if name != "." && name != ".." && !name.contains(['/', '\0']) {
        return name.into_bytes();
    }
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            '/' | '\0' if plain.ends_with('_') => {}
            '/' | '\0' => plain.push('_'),
            c => plain.push(c),
        }
    }
    let sum = tag::crc(raw.get(1..).unwrap_or_default());
    let (stem, extension) = match plain.rsplit_once('.') {
        Some((stem, extension)) if (1..=5).contains(&extension.len()) && !stem.is_empty() && stem != "." => {
            (stem, format!(".{extension}"))
        }
        _ => (plain.as_str(), String::new()),
    };
    format!("{stem}#{sum:04X}{extension}").into_bytes()
}

impl Udf {
    /// Hands over every name of a directory.
    ///
    /// # Errors
    /// `Corrupt` where it is damaged; the names before have been handed over.
    pub(super) fn names(
        &self,
        node: &Node,
        extents: &Extents,
        from: u64,
        sink: &mut dyn FnMut(Named) -> ControlFlow<()>,
    ) -> Result<()> {
        let budget = Budget::new(Limits::LISTING);
        let mut at = from;
        let mut window = Vec::new();
        let mut window_at = from;
        while at < node.size {
            budget.step("directory")?;
            let left = node.size.saturating_sub(at);
            let have = |window: &Vec<u8>, window_at: u64| {
                wide(window.len()).saturating_sub(at.saturating_sub(window_at))
            };
            let skip = narrow(at.saturating_sub(window_at));
            let wanted = window.get(skip..).and_then(length).unwrap_or(wide(HEAD));
            if have(&window, window_at) < wanted.min(left) {
                // Up to the next multiple, so that the same stretches are read again; further for a long one.
                let end = at.saturating_add(wanted).next_multiple_of(LOOK).min(at.saturating_add(LONGEST));
                window = vec![0; narrow(end.saturating_sub(at).min(left))];
                self.read_content(node, extents, &mut window, at)?;
                window_at = at;
                if window.len() < HEAD {
                    let why = format!("{} bytes are left, too few for an identifier", window.len());
                    return Err(Error::corrupt(node.at()).because(why));
                }
                continue;
            }
            let bytes = window.get(skip..).unwrap_or_default();
            let (len, named) = identifier(bytes, at).map_err(|why| {
                Error::corrupt(At::new("udf", "file identifier").index(node.address.block.into()))
                    .because(format!("byte {at} of the directory: {why}"))
            })?;
            if let Some(named) = named
                && sink(named).is_break()
            {
                return Ok(());
            }
            at = at.saturating_add(len.max(wide(HEAD)));
        }
        Ok(())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Corrupt` when a component is cut off, or there is none.
    pub(super) fn target(&self, node: &Node) -> Result<Vec<u8>> {
        let bad = |why: String| Error::corrupt(node.at()).because(why);
        if node.size > MAX_TARGET {
            return Err(bad(format!("a symbolic link of {} bytes", node.size)));
        }
        let mut bytes = vec![0; narrow(node.size)];
        self.read_content(node, &self.extents(node)?, &mut bytes, 0)?;
        let mut rest = bytes.as_slice();
        let mut target = Vec::new();
        while let &[kind, len, _, _, ref after @ ..] = rest {
            let named = matches!(kind, 1 | 5);
            let len = if named { usize::from(len) } else { 0 };
            let Some((name, after)) = after.split_at_checked(len) else {
                return Err(bad("a path component that is cut off".to_owned()));
            };
            match kind {
                1 if len > 0 => {}
                1 | 2 => target = b"/".to_vec(),
                3 => target.extend(b"../"),
                4 => target.extend(b"./"),
                5 => {
                    target.extend(shown_name(name));
                    target.push(b'/');
                }
                other => return Err(bad(format!("a path component of type {other}"))),
            }
            rest = after;
        }
        // Each component brought a slash; the last one's is too many, but for the root's own.
        if target.len() > 1 {
            target.pop();
        }
        if target.is_empty() {
            return Err(bad("a symbolic link without a target".to_owned()));
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_changed_and_kept_apart() {
        assert_eq!(shown_name(b"\x08plain.txt"), b"plain.txt");
        assert_eq!(shown_name(b"\x10\x00\xe9\x65\xe5"), "é日".as_bytes());
        let sum = format!("{:04X}", tag::crc(b"a//b.txt"));
        assert_eq!(shown_name(b"\x08a//b.txt"), format!("a_b#{sum}.txt").into_bytes());
    }
}
