//! Feature bits of the superblock, under the names that `btrfs inspect-internal dump-super` gives them.
//!
//! A reader may ignore *compatible* and *read-only compatible* features, never *incompatible* ones.

/// `compat_ro_flags`: bit and name.
const COMPAT_RO: &[(u64, &str)] = &[
    (1, "FREE_SPACE_TREE"),
    (1 << 1, "FREE_SPACE_TREE_VALID"),
    (1 << 2, "VERITY"),
    (1 << 3, "BLOCK_GROUP_TREE"),
];

/// `incompat_flags`: bit and name.
const INCOMPAT: &[(u64, &str)] = &[
    (1, "MIXED_BACKREF"),
    (1 << 1, "DEFAULT_SUBVOL"),
    (1 << 2, "MIXED_GROUPS"),
    (1 << 3, "COMPRESS_LZO"),
    (1 << 4, "COMPRESS_ZSTD"),
    (1 << 5, "BIG_METADATA"),
    (1 << 6, "EXTENDED_IREF"),
    (1 << 7, "RAID56"),
    (1 << 8, "SKINNY_METADATA"),
    (1 << 9, "NO_HOLES"),
    (METADATA_UUID, "METADATA_UUID"),
    (1 << 11, "RAID1C34"),
    (1 << 12, "ZONED"),
    (1 << 13, "EXTENT_TREE_V2"),
    (1 << 14, "RAID_STRIPE_TREE"),
    (1 << 16, "SIMPLE_QUOTA"),
    (1 << 17, "REMAP_TREE"),
];
const METADATA_UUID: u64 = 1 << 10;
const NO_HOLES: u64 = 1 << 9;

/// The incompatible features that this reader knows. Zoned devices have their superblock elsewhere; with a tree of RAID
/// stripes or of remaps, chunks no longer say where bytes lie; with version 2 of the extent tree there are several trees
/// of checksums.
const READ: u64 = 0xfff | 1 << 16;

/// The features of a file system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    pub(super) compat: u64,
    pub(super) compat_ro: u64,
    pub(super) incompat: u64,
}

impl Features {
    /// Do nodes carry another UUID than the one that people see?
    pub(super) const fn has_metadata_uuid(self) -> bool {
        self.incompat & METADATA_UUID != 0
    }

    /// May holes of files be without an item?
    pub(super) const fn has_no_holes(self) -> bool {
        self.incompat & NO_HOLES != 0
    }

    /// The incompatible features that are not read, by name.
    pub(super) fn refused(self) -> Option<String> {
        let names = names(self.incompat & !READ, INCOMPAT, "incompat");
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Read-only compatible features that have no name: with one of them the kernel replays no log.
    pub(super) fn unknown_compat_ro(self) -> bool {
        COMPAT_RO.iter().fold(self.compat_ro, |left, (bit, _)| left & !bit) != 0
    }

    /// Every name, in the order in which `dump-super` lists them.
    pub(super) fn names(self) -> Vec<String> {
        let mut all = names(self.compat, &[], "compat");
        all.extend(names(self.compat_ro, COMPAT_RO, "compat_ro"));
        all.extend(names(self.incompat, INCOMPAT, "incompat"));
        all
    }
}

/// Names of the bits of one word.
fn names(word: u64, table: &[(u64, &str)], what: &str) -> Vec<String> {
    (0..64_u32)
        .map(|bit| 1_u64 << bit)
        .filter(|mask| word & mask != 0)
        .map(|mask| {
            let known = table.iter().find(|(feature, _)| *feature == mask);
            known.map_or_else(|| format!("{what} {mask:#x}"), |(_, name)| (*name).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        let features = Features { incompat: 1 | 1 << 13 | 1 << 40, ..Features::default() };
        assert_eq!(features.refused().as_deref(), Some("EXTENT_TREE_V2, incompat 0x10000000000"));
        assert_eq!(Features { incompat: 0x3ff, ..Features::default() }.refused(), None);
    }
}
