//! Symbolic links as a mount shows them: so that whoever follows one stays in the guest.
//!
//! A guest resolves `/etc/x` from its own root, and `..` at its root stays there. Below a mount point of the host
//! neither is so. Absolute targets are therefore shown relative to their place, and each `..` that the guest would
//! apply at its root is left out. For `a/../b` that takes a look at what `a` is: it may be a link itself.

use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::fs::tree::{Node, Tree};

/// Links followed for one target, as path_resolution(7) has it.
const MAX_LINKS: u32 = 40;
/// The kernel hands out less than a page.
pub(super) const MAX_TARGET: usize = 4095;

/// How symbolic links are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// So that they stay in the guest.
    #[default]
    Relative,
    /// As stored.
    Raw,
}

/// Does it mean the same at every place, and stay below it? With a NUL in it, it means to the kernel what stands before
/// that.
pub(super) fn is_plain(target: &[u8]) -> bool {
    !target.starts_with(b"/")
        && !target.contains(&0)
        && !target.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// A target that goes to the kernel as it is.
///
/// # Errors
/// `Corrupt` when the kernel would read another path in it; `Limit` when it is longer than the kernel takes.
pub(super) fn whole(target: Vec<u8>) -> Result<Vec<u8>> {
    if target.contains(&0) {
        return Err(Error::corrupt(At::new("fuse", "symbolic link")).because("a NUL in its target"));
    }
    if target.len() > MAX_TARGET {
        let line = format!("a link of {} bytes, at most {MAX_TARGET} can be shown", target.len());
        return Err(Error::limit(line));
    }
    Ok(target)
}

/// The target as shown for a link whose directory is the last of `chain`, which starts at the tree's root. `covered` is
/// a name in that root which in the mount is not the guest's.
///
/// # Errors
/// As [`whole`]; what looking up its parts reports.
pub(super) fn shown(tree: &Tree, covered: Option<&[u8]>, chain: &[Node], target: &[u8]) -> Result<Vec<u8>> {
    if is_plain(target) || target.contains(&0) {
        return whole(target.to_vec());
    }
    let mut walk = Walk { tree, covered, stack: chain.to_vec(), links: 0 };
    let mut out: Vec<&[u8]> = Vec::new();
    if target.starts_with(b"/") {
        out.resize(chain.len().saturating_sub(1), b"..");
        walk.stack.truncate(1);
    }
    let mut parts = target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    while let Some(part) = parts.next() {
        if part == b".." {
            if walk.up() {
                out.push(part);
            }
            continue;
        }
        out.push(part);
        // Only a `..` further on makes it matter where this part leads.
        if !parts.clone().any(|part| part == b"..") {
            out.extend(parts);
            break;
        }
        if !walk.enter(part)? {
            // Nobody gets past a part that is not there, so the rest of the target is of no consequence.
            break;
        }
    }
    let mut shown = out.join(&b'/');
    if shown.is_empty() {
        shown.push(b'.');
    }
    if target.ends_with(b"/") && target.len() > 1 {
        shown.push(b'/');
    }
    whole(shown)
}

/// A position in the tree: the directories from its root down.
struct Walk<'a> {
    tree: &'a Tree,
    covered: Option<&'a [u8]>,
    stack: Vec<Node>,
    links: u32,
}

impl Walk<'_> {
    /// One up; says no at the root.
    fn up(&mut self) -> bool {
        let can = self.stack.len() > 1;
        if can {
            self.stack.pop();
        }
        can
    }

    /// Into the directory called `name`, through links; says no when there is none.
    fn enter(&mut self, name: &[u8]) -> Result<bool> {
        let mut todo = vec![name.to_vec()];
        while let Some(part) = todo.pop() {
            if part == b".." {
                self.up();
                continue;
            }
            let Some(here) = self.stack.last() else { return Ok(false) };
            if self.stack.len() == 1 && Some(part.as_slice()) == self.covered {
                return Ok(false);
            }
            let Some(node) = self.tree.lookup(*here, &part)? else { return Ok(false) };
            match self.tree.stat(node)?.kind {
                FileType::Dir => self.stack.push(node),
                FileType::Symlink => {
                    self.links = self.links.saturating_add(1);
                    if self.links > MAX_LINKS {
                        let line = format!("more than {MAX_LINKS} symbolic links in one");
                        return Err(Error::new(ErrorKind::Limit, line));
                    }
                    let target = self.tree.target(node)?;
                    if target.starts_with(b"/") {
                        self.stack.truncate(1);
                    }
                    let parts =
                        target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
                    todo.extend(parts.rev().map(<[u8]>::to_vec));
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::*;

    /// What is shown for a link with `target` in the directory `dir`.
    fn at(toy: Toy, dir: &str, target: &str) -> String {
        let tree = toy.with_dir(dir).tree();
        let mut chain = vec![tree.root()];
        for name in dir.split('/').filter(|name| !name.is_empty()) {
            let here = *chain.last().unwrap();
            chain.push(tree.lookup(here, name.as_bytes()).unwrap().unwrap());
        }
        let covered = Some(b".imgmount".as_slice());
        String::from_utf8(shown(&tree, covered, &chain, target.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn an_absolute_target_starts_at_the_guests_root() {
        assert_eq!(at(Toy::new(), "/", "/etc/passwd"), "etc/passwd");
        assert_eq!(at(Toy::new(), "/usr/share/doc", "/etc/x"), "../../../etc/x");
        assert_eq!(at(Toy::new(), "/a", "/"), "..");
        assert_eq!(at(Toy::new(), "/", "/"), ".");
        assert_eq!(at(Toy::new(), "/a", "/b/"), "../b/");
    }

    #[test]
    fn a_relative_target_is_left_alone_where_it_stays_inside() {
        assert_eq!(at(Toy::new(), "/usr/lib", "../share/x"), "../share/x");
        assert_eq!(at(Toy::new(), "/usr/lib", "x/y"), "x/y");
    }

    #[test]
    fn climbing_stops_at_the_guests_root() {
        assert_eq!(at(Toy::new(), "/", "../../../etc/passwd"), "etc/passwd");
        assert_eq!(at(Toy::new(), "/a", "../../../etc/passwd"), "../etc/passwd");
        assert_eq!(at(Toy::new(), "/a/b", "/../../etc/passwd"), "../../etc/passwd");
    }

    #[test]
    fn climbing_out_through_a_link_stops_at_the_guests_root() {
        // l is the directory it stands in: `l/..` is one above, not where it started.
        let toy = || Toy::new().with_link("/l", ".").with_link("/far", "/a/b/c").with_dir("/a/b/c");
        assert_eq!(at(toy(), "/", "l/l/../../etc/passwd"), "l/l/etc/passwd");
        assert_eq!(at(toy(), "/", "far/../../../../etc/passwd"), "far/../../../etc/passwd");
        assert_eq!(at(toy(), "/", "a/b/../x"), "a/b/../x");
    }

    #[test]
    fn nothing_is_behind_a_part_that_is_missing() {
        assert_eq!(at(Toy::new(), "/", "missing/../../../etc/passwd"), "missing");
        assert_eq!(at(Toy::new().with_file("/file", b""), "/", "file/../../x"), "file");
    }

    #[test]
    fn the_covered_name_is_no_way_out() {
        let toy = Toy::new().with_dir("/a/b/c/d").with_link("/.imgmount/partitions", "/a/b/c/d");
        assert_eq!(at(toy, "/", ".imgmount/partitions/../../../../x"), ".imgmount");
    }

    #[test]
    fn a_target_that_the_kernel_would_cut_at_a_nul_is_refused() {
        let tree = Toy::new().with_dir("/a").tree();
        for target in [&b"..\0x"[..], b"a/..\0x", b"/\0", b"x\0"] {
            assert!(!is_plain(target), "{target:?}");
            let error = shown(&tree, None, &[tree.root()], target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{target:?}");
        }
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let tree = Toy::new().with_link("/a", "/b").with_link("/b", "/a").tree();
        let error = shown(&tree, None, &[tree.root()], b"a/../x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
}
