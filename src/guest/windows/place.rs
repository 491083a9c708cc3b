//! How Windows writes down which partition it means, in the registry as in its boot configuration.
//!
//! ```text
//!   MBR    signature of the disk, u32 at 0x1b8 of its first sector  +  first byte of the partition, u64
//!   GPT    the partition's own GUID; a volume of dynamic disks has one in their database
//! ```
//! Neither survives everything: a disk that is cloned gets a new signature when both run in one machine, and then
//! what is written down names a disk that no longer exists.

use crate::guest::{Device, OnDisk};
use crate::ondisk::{get_le32, get_le64};
use std::fmt;

/// One partition, by what Windows knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On a disk with an MBR.
    Mbr {
        /// The disk's signature.
        signature: u32,
        /// The partition's first byte on it.
        start: u64,
    },
    /// A partition of a GPT disk, or a volume of dynamic disks: its GUID, as stored.
    Guid([u8; 16]),
}

/// Which device that is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// This one.
    Device(&'a Device),
    /// No disk has that signature, but this partition begins at that byte of the only MBR disk that has one there.
    Resigned(&'a Device),
    /// None in this image.
    Absent,
}

impl Place {
    /// Of the data of a value in `MountedDevices`: 12 bytes, or `DMIO:ID:` and a GUID. What is written as the path of a
    /// device (a CD drive, a memory stick) is no disk of the machine.
    pub(super) fn of_mounted(data: &[u8]) -> Option<Self> {
        if let Some(guid) = data.strip_prefix(b"DMIO:ID:") {
            return guid.try_into().ok().map(Self::Guid);
        }
        if data.len() != 12 {
            return None;
        }
        Some(Self::Mbr { signature: get_le32(data, 0)?, start: get_le64(data, 4)? })
    }

    /// This place on its disk, whose signature was `old` and is `now`.
    pub(super) fn resigned(&self, old: u32, now: u32) -> Option<Self> {
        match self {
            Self::Mbr { signature, start } if *signature == old => {
                Some(Self::Mbr { signature: now, start: *start })
            }
            _ => None,
        }
    }

    /// The device that it is. Of disks that are alike, as clones are, it is the one of disk `near`: that of whoever wrote
    /// the place down.
    pub(super) fn find<'a>(&self, devices: &'a [Device], near: u32) -> Found<'a> {
        let device = match self {
            Self::Mbr { signature, start } => {
                let id = format!("{signature:08x}");
                let is_here = |disk: &OnDisk| disk.disk_id == id && disk.start == *start;
                let found = best(devices, near, |device| device.on_disk.as_ref().is_some_and(is_here));
                let is_mbr = |disk: &&OnDisk| !disk.disk_id.contains('-');
                let disks = || devices.iter().filter_map(|device| device.on_disk.as_ref()).filter(is_mbr);
                if found.is_none() && !disks().any(|disk| disk.disk_id == id) {
                    return resigned(devices, near, *start);
                }
                found
            }
            Self::Guid(guid) => {
                let (mixed, plain) = (guid_text(guid), plain_guid(guid));
                best(devices, near, |device| {
                    let own = device.on_disk.as_ref().and_then(|disk| disk.uuid.as_ref());
                    own == Some(&mixed)
                        || device.names.iter().any(|name| name.contains(&mixed) || name.contains(&plain))
                })
            }
        };
        device.map_or(Found::Absent, Found::Device)
    }
}

/// Of the devices that fit, one on disk `near`; of these, one whose files can be read: what a key opened rather than the
/// locked volume.
fn best(devices: &[Device], near: u32, fits: impl Fn(&Device) -> bool) -> Option<&Device> {
    let is_worse = |device: &&Device| (device.disk != near, device.system.is_none());
    devices.iter().filter(|device| fits(device)).min_by_key(is_worse)
}

/// The partition at this byte, if only one MBR disk has one there.
fn resigned(devices: &[Device], near: u32, start: u64) -> Found<'_> {
    let is_there = |device: &Device| {
        device.on_disk.as_ref().is_some_and(|disk| disk.start == start && !disk.disk_id.contains('-'))
    };
    let Some(found) = best(devices, near, is_there) else { return Found::Absent };
    let disk = |device: &Device| device.on_disk.as_ref().map(|disk| disk.disk_id.clone());
    if devices.iter().filter(|device| is_there(device)).any(|device| disk(device) != disk(found)) {
        return Found::Absent;
    }
    Found::Resigned(found)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr { signature, start } => {
                write!(f, "byte {start} of the disk with signature {signature:08x}")
            }
            Self::Guid(guid) => write!(f, "the partition {}", guid_text(guid)),
        }
    }
}

/// A GUID as Windows writes it in text: the first three fields are little-endian numbers.
pub(super) fn guid_text(guid: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *guid;
    plain_guid(&{
        let mut swapped = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Some(tail) = swapped.last_chunk_mut::<8>() {
            *tail = rest;
        }
        swapped
    })
}

/// A GUID in text, its bytes as they stand.
fn plain_guid(guid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in guid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_windows_writes_it() {
        // {c12a7328-f81f-11d2-ba4b-00a0c93ec93b}: UEFI specification 2.10, appendix A, gives these bytes for it.
        let esp =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        assert_eq!(guid_text(&esp), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn of_disks_that_are_alike_it_is_the_one_of_whoever_asks() {
        let part = |disk: u32, is_mbr: bool| Device {
            volume: format!("disk{disk}"),
            disk,
            on_disk: Some(OnDisk {
                disk_id: if is_mbr { "0badcafe" } else { "5b0894a9-095e-487d-8d48-719ecd4d78ca" }.to_owned(),
                uuid: (!is_mbr).then(|| "33323130-3534-3736-3839-616263646566".to_owned()),
                start: 4096,
            }),
            ..Device::default()
        };
        let here = Place::Mbr { signature: 0x0bad_cafe, start: 4096 };
        let cloned = Place::Mbr { signature: 0x1234_5678, start: 4096 };
        for (place, is_mbr) in [(here, true), (cloned, true), (Place::Guid(*b"0123456789abcdef"), false)] {
            let devices = [part(0, is_mbr), part(1, is_mbr)];
            for near in [0, 1] {
                let found = place.find(&devices, near);
                let (Found::Device(device) | Found::Resigned(device)) = found else { panic!("{place}") };
                assert_eq!(device.disk, near, "{place}");
            }
        }
    }

    #[test]
    fn twelve_bytes_are_a_signature_and_an_offset() {
        // From the SYSTEM hive of a Windows 10: \DosDevices\C:.
        let data = [0xae, 0x46, 0x45, 0xdf, 0, 0, 0x50, 0x1f, 0, 0, 0, 0];
        assert_eq!(Place::of_mounted(&data), Some(Place::Mbr { signature: 0xdf45_46ae, start: 0x1f50_0000 }));
        assert_eq!(Place::of_mounted(b"\\\0?\0?\0\\\0"), None);
        assert_eq!(Place::of_mounted(b"DMIO:ID:0123456789abcdef"), Some(Place::Guid(*b"0123456789abcdef")));
    }
}
