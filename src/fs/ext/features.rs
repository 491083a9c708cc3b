//! Feature bits of the superblock, under the names that e2fsprogs gives them (`lib/e2p/feature.c`).
//!
//! A reader may ignore *compatible* and *read-only compatible* features, never *incompatible* ones.

/// Which of the superblock's three words a feature is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// May be ignored.
    Compat(u32),
    /// Must be understood.
    Incompat(u32),
    /// Must be understood by who writes.
    RoCompat(u32),
}

impl Set {
    pub(super) const HAS_JOURNAL: Self = Self::Compat(0x4);
    pub(super) const DIR_INDEX: Self = Self::Compat(0x20);
    pub(super) const SPARSE_SUPER2: Self = Self::Compat(0x200);
    pub(super) const ORPHAN_FILE: Self = Self::Compat(0x1000);
    pub(super) const FILETYPE: Self = Self::Incompat(0x2);
    pub(super) const NEEDS_RECOVERY: Self = Self::Incompat(0x4);
    pub(super) const META_BG: Self = Self::Incompat(0x10);
    pub(super) const BITS_64: Self = Self::Incompat(0x80);
    pub(super) const EA_INODE: Self = Self::Incompat(0x400);
    pub(super) const CSUM_SEED: Self = Self::Incompat(0x2000);
    pub(super) const LARGE_DIR: Self = Self::Incompat(0x4000);
    pub(super) const CASEFOLD: Self = Self::Incompat(0x2_0000);
    pub(super) const SPARSE_SUPER: Self = Self::RoCompat(0x1);
    pub(super) const HUGE_FILE: Self = Self::RoCompat(0x8);
    pub(super) const GROUP_CSUM: Self = Self::RoCompat(0x10);
    pub(super) const QUOTA: Self = Self::RoCompat(0x100);
    pub(super) const BIGALLOC: Self = Self::RoCompat(0x200);
    pub(super) const METADATA_CSUM: Self = Self::RoCompat(0x400);
    pub(super) const PROJECT: Self = Self::RoCompat(0x2000);
}

/// Bit and name, in the order of bits.
const COMPAT: &[(u32, &str)] = &[
    (0x1, "dir_prealloc"),
    (0x2, "imagic_inodes"),
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x40, "lazy_bg"),
    (0x100, "snapshot_bitmap"),
    (0x200, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
    (0x1000, "orphan_file"),
];
const INCOMPAT: &[(u32, &str)] = &[
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];
const RO_COMPAT: &[(u32, &str)] = &[
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x80, "snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
    (0x1_0000, "orphan_present"),
];

/// The incompatible features that this reader knows.
pub(super) const INCOMPAT_READ: u32 =
    0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;

/// What the ext3 driver mounted: filetype, needs_recovery, meta_bg; sparse_super, large_file, btree_dir.
const INCOMPAT_EXT3: u32 = 0x2 | 0x4 | 0x10;
const RO_COMPAT_EXT3: u32 = 0x1 | 0x2 | 0x4;

/// The features of a file system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
}

impl Features {
    /// Is it on?
    pub(super) const fn has(self, feature: Set) -> bool {
        let (word, bit) = match feature {
            Set::Compat(bit) => (self.compat, bit),
            Set::Incompat(bit) => (self.incompat, bit),
            Set::RoCompat(bit) => (self.ro_compat, bit),
        };
        word & bit != 0
    }

    /// Does it have what an ext3 driver would not mount?
    pub(super) const fn needs_ext4(self) -> bool {
        self.incompat & !INCOMPAT_EXT3 != 0 || self.ro_compat & !RO_COMPAT_EXT3 != 0
    }

    /// The incompatible features outside `known`, by name.
    pub(super) fn refused(self, known: u32) -> Option<String> {
        let names = names(self.incompat & !known, INCOMPAT, 'I');
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Every name, in the order in which `dumpe2fs` lists them.
    pub(super) fn names(self) -> Vec<String> {
        let mut all = names(self.compat, COMPAT, 'C');
        all.extend(names(self.incompat, INCOMPAT, 'I'));
        all.extend(names(self.ro_compat, RO_COMPAT, 'R'));
        all
    }
}

/// Names of the bits of one word; a bit without a name is `FEATURE_I5`, as e2fsprogs calls it.
fn names(word: u32, table: &[(u32, &str)], letter: char) -> Vec<String> {
    (0..32_u32)
        .map(|bit| (bit, 1_u32 << bit))
        .filter(|(_, mask)| word & mask != 0)
        .map(|(bit, mask)| {
            let known = table.iter().find(|(feature, _)| *feature == mask);
            known.map_or_else(|| format!("FEATURE_{letter}{bit}"), |(_, name)| (*name).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_without_a_name_is_named_as_e2fsprogs_does() {
        let features = Features { incompat: 0x20, ..Features::default() };
        assert_eq!(features.refused(INCOMPAT_READ).as_deref(), Some("FEATURE_I5"));
    }
}
