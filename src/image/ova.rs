//! OVA: a machine in one tar archive, the envelope ([`super::ovf`]) first, its disks behind it, all read in place.
//!
//! ```text
//! x.ovf │ x.mf │ x.cert │ x-disk1.vmdk │ x-disk2.vmdk │ zeros
//! ```
//! `x.ova` is the machine with all its disks, `x.ova//x-disk2.vmdk` one of them. Specification: DMTF DSP0243, "Open
//! Virtualization Format", 2.1.1, "OVF package"; the order of members is taken as it comes.

use super::ovf::{Folder, machine};
use super::tar::{Archive, Kind, Member, first_is_ovf, is_ovf_name, open_member, outermost};
use super::{Confidence, Format, OpenCx, Opened};
use crate::block::{BlockSource, Probe};
use crate::error::{Error, ErrorKind, Result};
use crate::locator::{Found, Gate};
use std::sync::Arc;

/// The format.
pub const FORMAT: Format = Format {
    name: "ova",
    aliases: &[],
    about: "machine in a tar archive (OVF with its disks), opened in place: all disks, or x.ova//MEMBER",
    probe,
    open,
};

fn probe(probe: &Probe<'_>) -> Option<Confidence> {
    (first_is_ovf(probe) == Some(true)).then_some(Confidence::Signature)
}

fn open(source: Arc<dyn BlockSource>, cx: &OpenCx<'_>) -> Result<Opened> {
    outermost(cx)?;
    open_archive(&Archive::load(source, cx)?, cx)
}

/// Opens the machine in an archive.
pub(super) fn open_archive(archive: &Archive, cx: &OpenCx<'_>) -> Result<Opened> {
    let is_envelope = |member: &&Member| member.kind == Kind::File && is_ovf_name(&member.name);
    let mut envelopes = archive.members.iter().filter(is_envelope);
    let Some(envelope) = envelopes.next() else {
        return Err(Error::new(ErrorKind::NotAnImage, "is an archive without an OVF")
            .help("--format tar opens any archive"));
    };
    let mut opened = machine(FORMAT.name, &*archive.content(envelope)?, &envelope.shown(), archive, cx)?;
    let others = envelopes.count();
    if others > 0 {
        let shown = envelope.shown();
        opened
            .warnings
            .push(format!("the archive has {others} more OVF files; '{shown}' is the one that counts"));
    }
    opened.warnings.extend(archive.warnings.iter().cloned());
    if let Some(trouble) = &archive.trouble {
        opened.warnings.push(format!("the archive is damaged behind these disks: {}", trouble.chain()));
    }
    Ok(opened)
}

impl Folder for Archive {
    fn find(&self, name: &str) -> Result<Option<Found>> {
        Self::find(self, name.as_bytes())
    }

    fn gate(&self) -> &dyn Gate {
        self
    }

    fn is_own(&self) -> bool {
        true
    }

    fn other(&self, name: &str, _disks: &[String], cx: &OpenCx<'_>) -> Result<Opened> {
        open_member(self, self.wanted(name)?, None, cx)
    }
}
