//! Features: what a file system of version 4 says in two words of bits, and one of version 5 in four more.
//!
//! Names are those of `xfs_db -c version`, in its order. "XFS Algorithms & Data Structures", "Superblocks",
//! tables of `sb_versionnum`, `sb_features2` and `sb_features_*`; newer bits as in the kernel's `xfs_format.h`.

/// The words of bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// `sb_versionnum`: the low four bits are the version.
    pub(super) version: u16,
    /// `sb_features2`; of no meaning without MOREBITS.
    pub(super) more: u32,
    /// `sb_features_ro_compat`.
    pub(super) ro_compat: u32,
    /// `sb_features_incompat`.
    pub(super) incompat: u32,
    /// `sb_features_log_incompat`: what may stand in the log.
    pub(super) log_incompat: u32,
}

/// One feature, by the word and the bit that say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bit {
    Version(u16),
    More(u32),
    RoCompat(u32),
    Incompat(u32),
}

impl Bit {
    pub(super) const DIRV2: Self = Self::Version(0x2000);
    pub(super) const SHARED: Self = Self::Version(0x0200);
    pub(super) const LOGV2: Self = Self::Version(0x0400);
    pub(super) const ASCII_CI: Self = Self::Version(0x4000);
    pub(super) const FTYPE_V4: Self = Self::More(0x200);
    pub(super) const FTYPE: Self = Self::Incompat(0x01);
    pub(super) const META_UUID: Self = Self::Incompat(0x04);
    pub(super) const NEEDSREPAIR: Self = Self::Incompat(0x10);
    pub(super) const METADIR: Self = Self::Incompat(0x100);
}

/// Every bit that has a name; `FTYPE` has two places.
const NAMES: &[(Bit, &str)] = &[
    (Bit::Version(0x0020), "NLINK"),
    (Bit::DIRV2, "DIRV2"),
    (Bit::Version(0x0010), "ATTR"),
    (Bit::Version(0x0040), "QUOTA"),
    (Bit::Version(0x0080), "ALIGN"),
    (Bit::Version(0x0100), "DALIGN"),
    (Bit::SHARED, "SHARED"),
    (Bit::LOGV2, "LOGV2"),
    (Bit::Version(0x1000), "EXTFLG"),
    (Bit::Version(0x0800), "SECTOR"),
    (Bit::ASCII_CI, "ASCII_CI"),
    (Bit::Version(0x8000), "MOREBITS"),
    (Bit::More(0x08), "ATTR2"),
    (Bit::More(0x02), "LAZYSBCOUNT"),
    (Bit::More(0x80), "PROJID32BIT"),
    (Bit::More(0x100), "CRC"),
    (Bit::FTYPE_V4, "FTYPE"),
    (Bit::FTYPE, "FTYPE"),
    (Bit::RoCompat(0x01), "FINOBT"),
    (Bit::Incompat(0x02), "SPARSE_INODES"),
    (Bit::META_UUID, "META_UUID"),
    (Bit::RoCompat(0x02), "RMAPBT"),
    (Bit::RoCompat(0x04), "REFLINK"),
    (Bit::RoCompat(0x08), "INOBTCNT"),
    (Bit::Incompat(0x08), "BIGTIME"),
    (Bit::NEEDSREPAIR, "NEEDSREPAIR"),
    (Bit::Incompat(0x20), "NREXT64"),
    (Bit::Incompat(0x40), "EXCHANGE"),
    (Bit::Incompat(0x80), "PARENT"),
    (Bit::METADIR, "METADIR"),
    (Bit::Incompat(0x200), "ZONED"),
    (Bit::Incompat(0x400), "ZONE_GAPS"),
];

/// Bits of `sb_features_ro_compat` under which the kernel, and so this reader, knows what the log changes.
const RO_COMPAT_KNOWN: u32 = 0x0f;
/// The same for `sb_features_log_incompat`: XFS_SB_FEAT_INCOMPAT_LOG_XATTRS.
const LOG_INCOMPAT_KNOWN: u32 = 0x01;
/// Bits of `sb_features_incompat` that have a name.
const INCOMPAT_KNOWN: u32 = 0x7ff;
/// Bits of `sb_features2` that have a name.
const MORE_KNOWN: u32 = 0x38a;

impl Features {
    /// 4 or 5, where it can be read.
    pub(super) const fn number(self) -> u16 {
        self.version & 0xf
    }

    pub(super) const fn has(self, bit: Bit) -> bool {
        match bit {
            Bit::Version(mask) => self.version & mask != 0,
            Bit::More(mask) => self.more & mask != 0,
            Bit::RoCompat(mask) => self.ro_compat & mask != 0,
            Bit::Incompat(mask) => self.incompat & mask != 0,
        }
    }

    /// Metadata carries checksums and says what it is.
    pub(super) const fn is_v5(self) -> bool {
        self.number() == 5
    }

    /// Directory entries carry the type of the file.
    pub(super) const fn has_types(self) -> bool {
        if self.is_v5() { self.has(Bit::FTYPE) } else { self.has(Bit::FTYPE_V4) }
    }

    /// Log records may be longer than 32 KiB.
    pub(super) const fn has_log_v2(self) -> bool {
        self.is_v5() || self.has(Bit::LOGV2)
    }

    /// What keeps this reader from reading, by name.
    pub(super) fn refused(self) -> Option<String> {
        if !matches!(self.number(), 4 | 5) {
            return Some(format!("version {} of the file system", self.number()));
        }
        let (incompat, more) = (self.incompat & !INCOMPAT_KNOWN, self.more & !MORE_KNOWN);
        if self.is_v5() && incompat != 0 {
            return Some(format!("the feature bits {incompat:#x} of sb_features_incompat"));
        }
        if !self.is_v5() && more != 0 {
            return Some(format!("the feature bits {more:#x} of sb_features2"));
        }
        if !self.has(Bit::DIRV2) {
            return Some("a file system without DIRV2 (directories of version 1)".to_owned());
        }
        if self.has(Bit::SHARED) {
            return Some("the feature SHARED".to_owned());
        }
        self.has(Bit::NEEDSREPAIR).then(|| "a file system marked NEEDSREPAIR".to_owned())
    }

    /// What keeps its log from being played back, by name.
    pub(super) fn log_refused(self) -> Option<String> {
        if !self.is_v5() {
            return None;
        }
        let (ro, log) = (self.ro_compat & !RO_COMPAT_KNOWN, self.log_incompat & !LOG_INCOMPAT_KNOWN);
        if log != 0 {
            return Some(format!("the feature bits {log:#x} of sb_features_log_incompat are not known"));
        }
        (ro != 0).then(|| format!("the feature bits {ro:#x} of sb_features_ro_compat are not known"))
    }

    /// Every name, in the order in which `xfs_db -c version` lists them, behind the version.
    pub(super) fn names(self) -> Vec<String> {
        let named = NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| (*name).to_owned());
        let mut all = vec![format!("V{}", self.number())];
        all.extend(named);
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_without_a_name_are_refused_with_their_word() {
        let v5 = Features { version: 0xb4a5, more: 0x18a, incompat: 0x8001, ..Features::default() };
        assert_eq!(v5.refused().unwrap(), "the feature bits 0x8000 of sb_features_incompat");
        let v4 = Features { version: 0xb4a4, more: 0x1000, ..Features::default() };
        assert_eq!(v4.refused().unwrap(), "the feature bits 0x1000 of sb_features2");
    }

    /// `xfs_db -c version` of xfsprogs 6.1.0 on a file system of its defaults.
    #[test]
    fn names_are_those_of_xfs_db() {
        let features =
            Features { version: 0xb4a5, more: 0x18a, ro_compat: 0xd, incompat: 0xb, log_incompat: 0 };
        assert_eq!(
            features.names().join(","),
            "V5,NLINK,DIRV2,ALIGN,LOGV2,EXTFLG,MOREBITS,ATTR2,LAZYSBCOUNT,PROJID32BIT,CRC,FTYPE,FINOBT,\
             SPARSE_INODES,REFLINK,INOBTCNT,BIGTIME"
        );
    }
}
