//! Files: a record of the MFT with all that it says, and with what other records say where one was not enough.
//!
//! ```text
//! base record ─ $ATTRIBUTE_LIST ─▶ type, name, lowest VCN, record, id   one entry for each attribute, or piece of one
//!                                    └▶ extension record, which names its base record
//! ```
//! Heads of attributes are read with the file, further pieces of their mapping when a read comes to them.

use super::attribute::{Attribute, Attributes, Body, NonResident, Piece, kind};
use super::record::{DIRECTORY, Record, Reference};
use super::runs::{Runs, Stretch};
use super::volume::Volume;
use crate::error::{At, Error, ErrorKind, Result};
use crate::fs::unicode::units_le;
use crate::num::{narrow, wide};
use crate::ondisk::{get_le16, get_le32, get_le64};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest attribute list, in bytes, as Windows has it.
const MAX_LIST: u64 = 256 << 10;

/// A file, or directory.
#[derive(Debug)]
pub(super) struct File {
    /// Its record's number.
    pub(super) number: u64,
    /// How often that has been used.
    pub(super) sequence: u16,
    /// As [`Record::flags`].
    pub(super) flags: u16,
    /// Where its record begins on the volume.
    pub(super) byte: u64,
    /// In the order in which they are stored.
    pub(super) attributes: Vec<Attribute>,
    /// The first trouble there was with an attribute. What is missing may be missing for that.
    pub(super) trouble: Option<Error>,
    /// Records that are held.
    pub(super) records: usize,
}

/// A name of a file.
#[derive(Clone, Debug)]
pub(super) struct FileName {
    /// The directory.
    pub(super) parent: Reference,
    /// [`namespace`].
    pub(super) namespace: u8,
    /// The name.
    pub(super) units: Vec<u16>,
}

/// What a name is for.
pub(super) mod namespace {
    /// Any name.
    pub(in super::super) const POSIX: u8 = 0;
    /// A short name beside a long one.
    pub(in super::super) const DOS: u8 = 2;
    /// A name that is short and long.
    pub(in super::super) const BOTH: u8 = 3;
}

impl FileName {
    /// Where the namespace stands.
    pub(super) const NAMESPACE: usize = 0x41;

    /// Reads a `$FILE_NAME`, of a record or an index.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = usize::from(*bytes.get(0x40)?).checked_mul(2)?;
        let units = bytes.get(0x42..)?.get(..len)?;
        Some(Self {
            parent: Reference(get_le64(bytes, 0)?),
            namespace: *bytes.get(Self::NAMESPACE)?,
            units: units_le(units).collect(),
        })
    }
}

impl File {
    /// Where it is, for errors.
    pub(super) fn at(&self) -> At {
        At::new("ntfs", "MFT record").index(self.number).byte(self.byte)
    }

    /// Is it a directory?
    pub(super) const fn is_dir(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    /// Its attribute of this type and name.
    ///
    /// # Errors
    /// When it is not there and the file is damaged.
    pub(super) fn find(&self, kind: u32, name: &[u16]) -> Result<Option<&Attribute>> {
        let found = self.attributes.iter().find(|attribute| attribute.is(kind, name));
        match (found, &self.trouble) {
            (None, Some(error)) => Err(error.clone()),
            (found, _) => Ok(found),
        }
    }

    /// As [`File::find`], where there must be one.
    ///
    /// # Errors
    /// `Corrupt` when there is none; `what` is its name.
    pub(super) fn need(&self, kind: u32, name: &[u16], what: &str) -> Result<&Attribute> {
        self.find(kind, name)?.ok_or_else(|| Error::corrupt(self.at()).because(format!("has no {what}")))
    }

    /// All attributes of this type.
    ///
    /// # Errors
    /// When the file is damaged, so that some may be missing.
    pub(super) fn all(&self, kind: u32) -> Result<impl Iterator<Item = &Attribute>> {
        match &self.trouble {
            Some(error) => Err(error.clone()),
            None => Ok(self.attributes.iter().filter(move |attribute| attribute.kind == kind)),
        }
    }

    /// Its named streams: the `$DATA` that have names, in the order in which they are stored.
    ///
    /// # Errors
    /// As [`File::all`].
    pub(super) fn streams(&self) -> Result<impl Iterator<Item = &Attribute>> {
        Ok(self.all(kind::DATA)?.filter(|attribute| !attribute.name.is_empty()))
    }

    /// Its names.
    ///
    /// # Errors
    /// As [`File::all`].
    pub(super) fn names(&self) -> Result<impl Iterator<Item = FileName>> {
        Ok(self.all(kind::FILE_NAME)?.filter_map(|name| FileName::parse(name.resident()?)))
    }

    /// A value that must stand in the record, if there is one.
    ///
    /// # Errors
    /// As [`File::find`].
    pub(super) fn resident(&self, kind: u32) -> Result<Option<&[u8]>> {
        Ok(self.find(kind, &[])?.and_then(|attribute| attribute.resident()).map(|bytes| &**bytes))
    }

    /// Reads the file of a record.
    ///
    /// # Errors
    /// `Corrupt` when the record is damaged, is none of a file, or is not in use.
    pub(super) fn load(volume: &Volume, number: u64) -> Result<Self> {
        let record = volume.read_record(number)?;
        if !record.is_in_use() {
            return Err(Error::corrupt(record.at()).because("is not in use"));
        }
        if record.base != Reference(0) {
            let base = record.base.number();
            return Err(
                Error::corrupt(record.at()).because(format!("goes on with record {base}; is no file"))
            );
        }
        let mut file = Self {
            number,
            sequence: record.sequence,
            flags: record.flags,
            byte: record.byte,
            attributes: Vec::with_capacity(4),
            trouble: None,
            records: 1,
        };
        for attribute in Attributes::of(&record) {
            match attribute {
                Ok(attribute) => file.attributes.push(attribute),
                Err(error) => file.trouble = Some(error),
            }
        }
        if let Some(at) = file.attributes.iter().position(|attribute| attribute.kind == kind::ATTRIBUTE_LIST)
        {
            let list = file.attributes.swap_remove(at);
            let list =
                volume.read_whole(&file, &list, MAX_LIST).map_err(|error| error.context("$ATTRIBUTE_LIST"));
            match list {
                Ok(list) => file.follow(volume, record, &list),
                Err(error) => file.trouble = Some(error),
            }
        } else if file.attributes.iter().any(|attribute| !attribute.is_head()) {
            file.attributes.retain(Attribute::is_head);
            file.trouble =
                Some(Error::corrupt(file.at()).because("has a piece of an attribute, and no list of pieces"));
        }
        Ok(file)
    }

    /// Reads the attributes that a list names.
    fn follow(&mut self, volume: &Volume, base: Record, list: &[u8]) {
        let own = Reference(u64::from(base.sequence) << 48 | base.number);
        let mut records = BTreeMap::from([(base.number, Arc::new(base))]);
        let mut heads: Vec<Attribute> = Vec::new();
        let mut rest = list;
        while let Some(entry) = Entry::next(&mut rest) {
            let Some(entry) = entry else {
                self.trouble =
                    Some(Error::corrupt(self.at()).because("an entry of its $ATTRIBUTE_LIST makes no sense"));
                break;
            };
            if entry.kind == kind::ATTRIBUTE_LIST {
                continue;
            }
            if entry.piece.first != 0 {
                match heads.last_mut().map(|head| (head.is(entry.kind, &entry.name), &mut head.body)) {
                    Some((true, Body::NonResident(body))) => body.rest.push(entry.piece),
                    _ => {
                        self.trouble = Some(Error::corrupt(self.at()).because(format!(
                            "its $ATTRIBUTE_LIST has a piece of attribute {:#x} without its beginning",
                            entry.kind
                        )));
                    }
                }
                continue;
            }
            let number = entry.piece.reference.number();
            let record = match records.get(&number) {
                Some(record) => Ok(Arc::clone(record)),
                None => volume.extension(own, entry.piece.reference),
            };
            let head = record.and_then(|record| {
                records.insert(number, Arc::clone(&record));
                find_in(&record, entry.kind, entry.piece.id)
            });
            match head {
                Ok(head) if head.is(entry.kind, &entry.name) && head.is_head() => heads.push(head),
                Ok(_) => {
                    self.trouble = Some(Error::corrupt(self.at()).because(format!(
                        "its $ATTRIBUTE_LIST names another attribute {:#x} than record {number} has",
                        entry.kind
                    )));
                }
                Err(error) => self.trouble = Some(error),
            }
        }
        self.records = records.len();
        self.attributes = heads;
    }
}

impl Attribute {
    /// Is it whole, or the first piece?
    pub(super) const fn is_head(&self) -> bool {
        match &self.body {
            Body::Resident(..) => true,
            Body::NonResident(body) => body.first == 0,
        }
    }
}

/// The attribute of this type and number of a record.
fn find_in(record: &Record, kind: u32, id: u16) -> Result<Attribute> {
    Attributes::of(record).only(kind, id).unwrap_or_else(|| {
        Err(Error::corrupt(record.at()).because(format!("has no attribute {kind:#x} with number {id}")))
    })
}

/// An entry of an attribute list.
struct Entry {
    kind: u32,
    name: Vec<u16>,
    piece: Piece,
}

impl Entry {
    /// Takes the next one; `Some(None)` where it makes no sense.
    fn next(rest: &mut &[u8]) -> Option<Option<Self>> {
        if rest.len() < 0x1a {
            return None;
        }
        let all = *rest;
        let entry = || {
            let len = usize::from(get_le16(all, 4)?);
            let entry = all.get(..len).filter(|entry| entry.len() >= 0x1a)?;
            let name_at = usize::from(*entry.get(7)?);
            let name_len = usize::from(*entry.get(6)?).checked_mul(2)?;
            let name = entry.get(name_at..name_at.checked_add(name_len)?)?;
            let piece = Piece {
                first: get_le64(entry, 8)?,
                reference: Reference(get_le64(entry, 0x10)?),
                id: get_le16(entry, 0x18)?,
            };
            let own = Self { kind: get_le32(entry, 0)?, name: units_le(name).collect(), piece };
            Some((own, all.get(len..)?))
        };
        let Some((entry, behind)) = entry() else {
            *rest = &[];
            return Some(None);
        };
        *rest = behind;
        Some(Some(entry))
    }
}

/// Where the clusters of a value lie. Asked for one after the other, each is found from where the last one was.
pub(super) struct Mapping<'a> {
    volume: &'a Volume,
    file: &'a File,
    attribute: &'a Attribute,
    body: &'a NonResident,
    runs: Option<Runs>,
    /// The last one found.
    last: Option<Stretch>,
    /// Behind what the piece that `runs` are of maps.
    until: u64,
}

impl<'a> Mapping<'a> {
    /// That of an attribute in clusters.
    pub(super) const fn new(
        volume: &'a Volume,
        file: &'a File,
        attribute: &'a Attribute,
        body: &'a NonResident,
    ) -> Self {
        Self { volume, file, attribute, body, runs: None, last: None, until: 0 }
    }

    /// The stretch from cluster `vcn` of the value on.
    ///
    /// # Errors
    /// `Corrupt` when no mapping has it.
    pub(super) fn at(&mut self, vcn: u64) -> Result<Stretch> {
        let goes_on = vcn < self.until && self.last.is_some_and(|last| last.vcn <= vcn);
        if !goes_on {
            self.seek(vcn)?;
        }
        loop {
            if let Some(found) = self.last.filter(|last| last.vcn <= vcn && vcn < last.end()) {
                return Ok(found.from(vcn));
            }
            let next = self.runs.as_mut().and_then(Iterator::next);
            match next {
                Some(Ok(stretch)) => self.last = Some(stretch),
                Some(Err(bad)) => {
                    return Err(Error::corrupt(self.file.at()).because(format!(
                        "the mapping of cluster {} of attribute {:#x} makes no sense",
                        bad.vcn, self.attribute.kind
                    )));
                }
                None => {
                    return Err(Error::corrupt(self.file.at()).because(format!(
                        "cluster {vcn} of attribute {:#x} is mapped nowhere",
                        self.attribute.kind
                    )));
                }
            }
        }
    }

    /// The mapping pairs of the piece that maps `vcn`.
    ///
    /// # Errors
    /// As [`Mapping::at`].
    pub(super) fn piece_at(&mut self, vcn: u64) -> Result<Runs> {
        self.seek(vcn)?;
        self.runs.take().ok_or_else(|| Error::corrupt(self.file.at()).because("has no mapping"))
    }

    /// Goes to the beginning of the piece that maps `vcn`.
    fn seek(&mut self, vcn: u64) -> Result<()> {
        (self.runs, self.last) = (None, None);
        let pieces = &self.body.rest;
        let next = pieces.partition_point(|piece| piece.first <= vcn);
        self.until = pieces.get(next).map_or(self.body.end, |piece| piece.first);
        let clusters = self.volume.boot.clusters();
        let Some(piece) = next.checked_sub(1).and_then(|at| pieces.get(at)) else {
            self.runs = Some(Runs::new(self.body.mapping.clone(), self.body.first, clusters));
            return Ok(());
        };
        let own = Reference(u64::from(self.file.sequence) << 48 | self.file.number);
        let record = self.volume.extension(own, piece.reference)?;
        let found = find_in(&record, self.attribute.kind, piece.id)?;
        match found.body {
            Body::NonResident(body) if body.first == piece.first && found.name == self.attribute.name => {
                self.runs = Some(Runs::new(body.mapping, body.first, clusters));
                self.until = self.until.max(body.end);
                Ok(())
            }
            _ => Err(Error::corrupt(record.at())
                .because(format!("its attribute {} does not map from cluster {} on", piece.id, piece.first))),
        }
    }
}

impl Volume {
    /// Reads a record that goes on with the file `base`.
    ///
    /// # Errors
    /// `Corrupt` when it is that of another file, or was used again since.
    pub(super) fn extension(&self, base: Reference, reference: Reference) -> Result<Arc<Record>> {
        let number = reference.number();
        let record = self.kept_record(number)?;
        let is_stale = reference.sequence() != 0 && reference.sequence() != record.sequence;
        let owner = record.base;
        let is_own = number == base.number()
            || (owner.number() == base.number()
                && (owner.sequence() == 0 || owner.sequence() == base.sequence()));
        if !record.is_in_use() || is_stale || !is_own {
            return Err(Error::corrupt(record.at())
                .because(format!("is named as a part of record {}, and is none (any more)", base.number())));
        }
        Ok(record)
    }

    /// All of a value, of which at most `cap` bytes are accepted.
    ///
    /// # Errors
    /// `Limit` when it is longer; as [`Volume::read_attribute`].
    pub(super) fn read_whole(&self, file: &File, attribute: &Attribute, cap: u64) -> Result<Vec<u8>> {
        let size = attribute.size();
        if size > cap {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("attribute {:#x} has {size} bytes, at most {cap} are accepted", attribute.kind),
            )
            .at(file.at()));
        }
        let mut bytes = vec![0; narrow(size)];
        let len = self.read_attribute(file, attribute, &mut bytes, 0)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Reads a value at `offset`: fills `buf` but for the end of the value, and says how many bytes that were.
    ///
    /// # Errors
    /// `Corrupt` when its mapping is damaged; `Encrypted` for EFS; what the volume reports.
    pub(super) fn read_attribute(
        &self,
        file: &File,
        attribute: &Attribute,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<usize> {
        let len = narrow(attribute.size().saturating_sub(offset)).min(buf.len());
        let buf = buf.get_mut(..len).unwrap_or_default();
        if len == 0 {
            return Ok(0);
        }
        if attribute.is_encrypted() {
            return Err(super::efs::refusal(self, file));
        }
        let body = match &attribute.body {
            Body::Resident(bytes, _) => {
                buf.copy_from_slice(
                    bytes.get(narrow(offset)..).and_then(|rest| rest.get(..len)).unwrap_or_default(),
                );
                return Ok(len);
            }
            Body::NonResident(body) => body,
        };
        if attribute.is_compressed() {
            super::compressed::read(self, file, attribute, buf, offset)?;
            return Ok(len);
        }
        let mut mapping = Mapping::new(self, file, attribute, body);
        crate::fs::runs::read(&**self.meta.volume(), buf, offset, |offset, _| {
            self.mapped(&mut mapping, body, offset)
        })?;
        Ok(len)
    }

    /// Where the byte at `offset` of a value in clusters lies.
    fn mapped(
        &self,
        mapping: &mut Mapping<'_>,
        body: &NonResident,
        offset: u64,
    ) -> Result<crate::block::Run> {
        use crate::block::{Place, Run};
        let left = body.size.saturating_sub(offset);
        let Some(written) = body.initialized.checked_sub(offset).filter(|written| *written > 0) else {
            return Ok(Run { len: left, place: Place::Zero });
        };
        let log = self.boot.cluster_log;
        let stretch = mapping.at(offset >> log)?;
        let skip = offset.saturating_sub(stretch.vcn << log);
        let len = (stretch.clusters << log).saturating_sub(skip).min(written);
        let place = match stretch.lcn {
            Some(lcn) => Place::Stored { file: 0, offset: (lcn << log).saturating_add(skip) },
            None => Place::Hole,
        };
        Ok(Run { len, place })
    }

    /// Where the byte at `offset` of a value lies.
    ///
    /// # Errors
    /// `OutOfRange` at or past its end; as [`Volume::read_attribute`].
    pub(super) fn run_of(
        &self,
        file: &File,
        attribute: &Attribute,
        offset: u64,
    ) -> Result<crate::block::Run> {
        let size = attribute.size();
        if offset >= size {
            return Err(Error::out_of_range(offset, 1, size));
        }
        let body = match &attribute.body {
            Body::Resident(bytes, start) => {
                let at = wide(*start).saturating_add(offset);
                return self.run_in_record(attribute.record, at, wide(bytes.len()).saturating_sub(offset));
            }
            Body::NonResident(body) => body,
        };
        if attribute.is_compressed() {
            return super::compressed::run(self, file, attribute, offset);
        }
        self.mapped(&mut Mapping::new(self, file, attribute, body), body, offset)
    }
}
