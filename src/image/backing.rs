//! Backing files: the image below a qcow, qcow2 or QED one, opened through the gate.

use super::{OpenCx, Opened};
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Found, Reference};
use crate::text::escape;

/// What an image says of its backing file's format.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stated<'a> {
    /// Its name.
    As(&'a [u8]),
    /// Nothing, though it could have.
    Forgotten,
    /// Nothing, because it has no place for it.
    Nowhere,
}

/// Opens the layer below.
///
/// # Errors
/// What the gate and the format below report; `Ambiguous` when the format is not stated and shows no signature.
pub(super) fn open(name: &[u8], format: Stated<'_>, cx: &OpenCx<'_>) -> Result<Opened> {
    let shown = escape(name);
    let Found { source, locator } = cx.gate.open(cx.locator, name, Reference::Backing)?;
    let below = cx.below(&locator);
    let format = match format {
        Stated::As(named) => {
            let named = escape(named).to_string();
            let known = super::by_name(&named);
            known.map_err(|_| Error::unsupported(format!("the backing format '{named}' of '{shown}'")))?.name
        }
        // To guess raw would be to trust the guest: it can write any header into a raw disk, and with it name files.
        Stated::Forgotten => match super::signed(&*source, &locator.file_name())?.as_slice() {
            [one] => one.name,
            _ => {
                let error = Error::new(
                    ErrorKind::Ambiguous,
                    format!("names no format for its backing file '{shown}', which does not show one itself"),
                );
                return Err(error.help(
                    "say it in a copy of the overlay: qemu-img rebase -u -b NAME -F raw COPY (or -F with the right format)",
                ));
            }
        },
        // There is nobody else to ask. Whatever it turns out to be, only the gate opens the files that it names.
        Stated::Nowhere => {
            super::detect(&*source, &locator.file_name())
                .map_err(|error| error.context(format!("backing file '{shown}'")))?
                .name
        }
    };
    super::open(source, Some(format), &below)
        .map_err(|error| error.context(format!("backing file '{shown}'")))
}

/// Lists the layers of `parent` below those of `opened`, with what is odd about them. A parent's snapshots are no layers
/// of its overlay.
pub(super) fn put_below(opened: &mut Opened, parent: Opened) {
    let name = parent.layers.first().map(|layer| layer.name.clone()).unwrap_or_default();
    opened.warnings.extend(parent.warnings.iter().map(|warning| format!("{name}: {warning}")));
    opened.layers.extend(parent.layers.into_iter().filter(|layer| layer.snapshot.is_none()));
}
