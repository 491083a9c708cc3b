//! Mapping pairs: which clusters a value lies in, packed into as few bytes as the numbers need.
//!
//! ```text
//! 21 18 34 56   1 byte of length, 2 of distance: 0x18 clusters, 0x5634 behind where the last run began
//! 01 30         no distance: 0x30 clusters that are nowhere, and read as zeros
//! 00            the end
//! ```
//! Facts: linux-ntfs project, "NTFS documentation", "Data runs".

use crate::fs::meta::Bytes;

/// Consecutive clusters of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first of them in the value.
    pub(super) vcn: u64,
    /// How many; at least 1.
    pub(super) clusters: u64,
    /// The first of them on the volume; `None` where nothing is stored.
    pub(super) lcn: Option<u64>,
}

impl Stretch {
    /// The cluster of the value behind the last.
    pub(super) const fn end(&self) -> u64 {
        self.vcn.saturating_add(self.clusters)
    }

    /// The part of it from `vcn` on, which lies in it.
    pub(super) fn from(&self, vcn: u64) -> Self {
        let skip = vcn.saturating_sub(self.vcn);
        Self {
            vcn: self.vcn.saturating_add(skip),
            clusters: self.clusters.saturating_sub(skip),
            lcn: self.lcn.map(|lcn| lcn.saturating_add(skip)),
        }
    }
}

/// The stretches that mapping pairs name.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    bytes: Bytes,
    next: usize,
    vcn: u64,
    lcn: i64,
    /// Clusters of the volume.
    clusters: u64,
}

/// Mapping pairs that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Senseless {
    /// Which cluster of the value they would map.
    pub(super) vcn: u64,
}

impl Runs {
    /// Those of a piece that maps from cluster `first` of the value on, on a volume of so many clusters.
    pub(super) const fn new(bytes: Bytes, first: u64, clusters: u64) -> Self {
        Self { bytes, next: 0, vcn: first, lcn: 0, clusters }
    }

    fn number(&mut self, len: usize) -> Option<i64> {
        let end = self.next.checked_add(len)?;
        let bytes = self.bytes.get(self.next..end)?;
        self.next = end;
        let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut all = [fill; 8];
        all.get_mut(..len)?.copy_from_slice(bytes);
        Some(i64::from_le_bytes(all))
    }

    fn read(&mut self, lengths: u8) -> Option<Stretch> {
        let count = self.number(usize::from(lengths & 15))?;
        let clusters = u64::try_from(count).ok().filter(|count| *count > 0)?;
        let vcn = self.vcn;
        self.vcn = vcn.checked_add(clusters).filter(|end| end >> 62 == 0)?;
        if lengths >> 4 == 0 {
            return Some(Stretch { vcn, clusters, lcn: None });
        }
        let distance = self.number(usize::from(lengths >> 4))?;
        self.lcn = self.lcn.checked_add(distance)?;
        let lcn = u64::try_from(self.lcn).ok()?;
        lcn.checked_add(clusters).filter(|end| *end <= self.clusters)?;
        Some(Stretch { vcn, clusters, lcn: Some(lcn) })
    }
}

impl Iterator for Runs {
    type Item = Result<Stretch, Senseless>;

    fn next(&mut self) -> Option<Self::Item> {
        let lengths = *self.bytes.get(self.next)?;
        if lengths == 0 {
            self.next = usize::MAX;
            return None;
        }
        self.next = self.next.saturating_add(1);
        let vcn = self.vcn;
        Some(self.read(lengths).ok_or_else(|| {
            self.next = usize::MAX;
            Senseless { vcn }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples 1 and 2 of the linux-ntfs documentation, "Data runs".
    #[test]
    fn examples_of_the_documentation() {
        let runs = |bytes: &[u8]| {
            Runs::new(bytes.to_vec().into(), 0, 1 << 40)
                .map(|run| run.map(|run| (run.lcn, run.clusters)))
                .collect::<Vec<_>>()
        };
        assert_eq!(runs(&[0x21, 0x18, 0x34, 0x56, 0]), [Ok((Some(0x5634), 0x18))]);
        let fragmented =
            [0x31, 0x38, 0x73, 0x25, 0x34, 0x32, 0x14, 1, 0xe5, 0x11, 2, 0x31, 0x42, 0xaa, 0, 3, 0];
        assert_eq!(
            runs(&fragmented),
            [Ok((Some(0x34_2573), 0x38)), Ok((Some(0x36_3758), 0x114)), Ok((Some(0x39_3802), 0x42))]
        );
        let sparse = [0x11, 0x30, 0x60, 0x21, 0x10, 0, 1, 1, 0x20, 0];
        assert_eq!(runs(&sparse), [Ok((Some(0x60), 0x30)), Ok((Some(0x160), 0x10)), Ok((None, 0x20))]);
    }

    #[test]
    fn what_leads_off_the_volume_makes_no_sense() {
        let runs = |bytes: &[u8]| Runs::new(bytes.to_vec().into(), 7, 100).collect::<Vec<_>>();
        assert_eq!(runs(&[0x11, 10, 91, 0]), [Err(Senseless { vcn: 7 })]);
        assert_eq!(runs(&[0x11, 10, 1, 0x11, 1, 0x80, 0]).last(), Some(&Err(Senseless { vcn: 17 })));
        assert_eq!(runs(&[0x11, 0, 5]), [Err(Senseless { vcn: 7 })]);
        assert_eq!(runs(&[0x99, 1, 2]), [Err(Senseless { vcn: 7 })]);
    }
}
