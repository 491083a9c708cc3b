//! Parents: the image below a differencing one, found by what that remembers of it.
//!
//! What is remembered are paths of the machine that made the chain, often of Windows (`C:\vm\base.vhd`) or of an ESX
//! host (`/vmfs/volumes/…/base.vmdk`). Their files have moved since, so the path as it is comes first and the file's name
//! alone second; the gate says where either may be looked for, and the driver makes sure that what was found is the
//! parent (by CID, unique id or GUID).

use super::{OpenCx, Opened};
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Found, Reference};

/// Names under which a remembered path may be found here, the likeliest first.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let has_drive = path.get(1) == Some(&b':');
    let is_windows = has_drive || path.contains(&b'\\');
    let slashed: Vec<u8> = path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let last = slashed.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let is_elsewhere = has_drive || (is_windows && slashed.starts_with(b"/"));
    // A colon further on makes a URL or a pseudo-name of qemu's: nothing that a file is called here.
    let is_plain = !slashed.get(2..).unwrap_or_default().contains(&b':');
    let mut names = if is_elsewhere { Vec::new() } else { vec![slashed] };
    if is_plain && !last.is_empty() && !names.contains(&last) {
        names.push(last);
    }
    names
}

/// Opens the first of `paths` that is there and allowed.
///
/// # Errors
/// As the gate; of several errors that of a parent which may be opened but is missing.
pub(super) fn find(paths: &[Vec<u8>], cx: &OpenCx<'_>) -> Result<Found> {
    let mut tried: Vec<Vec<u8>> = Vec::new();
    let mut trouble: Option<Error> = None;
    for name in paths.iter().flat_map(|path| names(path)) {
        if tried.contains(&name) {
            continue;
        }
        match cx.gate.open(cx.locator, &name, Reference::Parent) {
            Ok(found) => return Ok(found),
            Err(error) => {
                let kept = trouble.as_ref().map(Error::kind);
                let says_more = error.kind() == ErrorKind::NotAnImage && kept != Some(ErrorKind::NotAnImage);
                if trouble.is_none() || says_more {
                    trouble = Some(error);
                }
            }
        }
        tried.push(name);
    }
    Err(trouble.unwrap_or_else(|| {
        Error::new(ErrorKind::Corrupt, "says that it has a parent, but no file name that it could have")
    }))
}

/// Opens the parent as `format`.
///
/// # Errors
/// As the driver, with the parent's name in front.
pub(super) fn load(found: Found, format: &str, cx: &OpenCx<'_>) -> Result<Opened> {
    let below = cx.below(&found.locator);
    super::open(found.source, Some(format), &below)
        .map_err(|error| error.context(format!("parent '{}'", found.locator)))
}

/// Adds to `opened` the layers of its parent and what is odd about them.
pub(super) fn lay_over(opened: &mut Opened, parent: Opened) {
    let name = parent.layers.first().map(|layer| layer.name.clone()).unwrap_or_default();
    opened.warnings.extend(parent.warnings.iter().map(|warning| format!("{name}: {warning}")));
    opened.layers.extend(parent.layers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_tried_as_it_is_and_then_its_last_part() {
        let names = |path: &str| -> Vec<String> {
            names(path.as_bytes()).into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(names("base.vmdk"), ["base.vmdk"]);
        assert_eq!(names("a/base.vmdk"), ["a/base.vmdk", "base.vmdk"]);
        assert_eq!(names("/vmfs/volumes/x/base.vmdk"), ["/vmfs/volumes/x/base.vmdk", "base.vmdk"]);
        assert_eq!(names(".\\base.vhd"), ["./base.vhd", "base.vhd"]);
        assert_eq!(names("..\\up\\base.vhd"), ["../up/base.vhd", "base.vhd"]);
        assert_eq!(names("C:\\vm\\base.vhd"), ["base.vhd"]);
        assert_eq!(names("\\\\server\\share\\base.vhd"), ["base.vhd"]);
        assert_eq!(names("nbd://host/base"), ["nbd://host/base"]);
        assert_eq!(names(""), [""]);
    }
}
