//! Does the kernel's `root=` name the volume that the system is on?

use super::entry::{by_uuid, default_entry, variable};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::guest::boot::Entry;
use crate::guest::names::Found;
use crate::guest::spec::Spec;
use crate::text::escape;

pub(in crate::check) struct RootArgument;

/// Names by which the kernel itself means something else than a block device of the disk (nfsroot, initrd).
const NOT_OF_A_DISK: &[&[u8]] = &[b"/dev/nfs", b"/dev/cifs", b"/dev/root", b"/dev/ram0"];

impl Check for RootArgument {
    fn id(&self) -> &'static str {
        "root-argument"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The root= of the default entry of the boot menu must name the volume that holds the root of the system, and not \
             by the model and serial number of the source machine's disk (/dev/disk/by-id/ata-…); \
             rootflags=subvol= must name its subvolume, and rd.lvm.lv= an existing logical volume. Without an initramfs \
             the kernel itself knows PARTUUID= and names such as /dev/vda1, but neither UUID= nor LABEL= nor LVM.",
            "引导菜单默认启动项的 root= 必须指向系统根所在的卷，且不能按源机器磁盘的型号和序列号指定（/dev/disk/by-id/ata-…）；rootflags=subvol= 必须是其子卷，rd.lvm.lv= 必须是存在的逻辑卷。\
             没有 initramfs 时，内核本身只识别 PARTUUID= 和 /dev/vda1 这样的名称，不识别 UUID=、LABEL= 和 LVM。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        let Some(root) = entry.arg("root") else {
            return Ok(Outcome::NotApplicable(words!(
                "the kernel's line has no root=",
                "内核参数中没有 root="
            )));
        };
        let name = escape(root);
        let unsure = |why: &str| Err(Error::unsupported(format!("root={name}: {why}")));
        if root.contains(&b'$') {
            return Err(variable(root));
        }
        let spec = Spec::parse(root);
        if spec == Spec::NoDevice || NOT_OF_A_DISK.contains(&root) {
            return unsure("it names its device in a way that is not read");
        }
        if let Spec::Hardware { disk, .. } = &spec {
            if !is_of_its_disk(disk) {
                return unsure(
                    "it names a connection of the source machine's disk, and whether the target has it is not known",
                );
            }
            return fail(
                subject,
                guest,
                entry,
                words!(
                    "root={name} names the source machine's disk by its model and serial number, which the target's disk does not have.",
                    "root={name} 按型号和序列号指定源机器的磁盘，目标平台的磁盘没有该名称。"
                ),
            );
        }
        let wanted = &guest.root;
        let found = match guest.find_device(&spec, &subject.stack.devices) {
            Found::Device(device) => &device.volume,
            Found::Absent => {
                return fail(
                    subject,
                    guest,
                    entry,
                    words!(
                        "root={name} names a device that is not in this image.",
                        "root={name} 所指的设备不在此镜像中。"
                    ),
                );
            }
            Found::Unsure(why) => return unsure(&why),
        };
        if found != wanted {
            return fail(
                subject,
                guest,
                entry,
                words!(
                    "root={name} is {found}, but the system is on {wanted}.",
                    "root={name} 是 {found}，但系统在 {wanted} 上。"
                ),
            );
        }
        if entry.initrds.is_empty() && matches!(spec, Spec::Uuid(_) | Spec::Label(_) | Spec::Named(_)) {
            return fail(
                subject,
                guest,
                entry,
                words!(
                    "root={name} needs an initramfs to be found, and the default entry loads none.",
                    "root={name} 需要 initramfs 才能找到，但默认启动项没有加载 initramfs。"
                ),
            );
        }
        if let Some(wrong) = subvolume(guest, entry).or_else(|| logical_volume(subject, entry)) {
            return fail(subject, guest, entry, wrong);
        }
        Seen::new(words!("root={name} is {found}.", "root={name} 是 {found}。"))
            .at(entry.evidence.clone())
            .pass()
    }
}

/// A link of the source machine's disk that another machine's does not have; of a virtual one's it may.
fn is_of_its_disk(disk: &[u8]) -> bool {
    !disk.starts_with(b"by-") && !disk.starts_with(b"virtio-") && !disk.windows(4).any(|part| part == b"QEMU")
}

fn fail(subject: &Subject<'_>, guest: &Guest, entry: &Entry, why: Words) -> Result<Outcome> {
    Seen::new(why).at(entry.evidence.clone()).fix(by_uuid(subject, guest, entry)).fail()
}

/// A subvolume of btrfs that is named and is not the one that the system is in.
fn subvolume(guest: &Guest, entry: &Entry) -> Option<Words> {
    let flags = entry.arg("rootflags")?;
    let named = flags.split(|byte| *byte == b',').find_map(|flag| flag.strip_prefix(b"subvol="))?;
    let trim = |path: &[u8]| path.strip_prefix(b"/").unwrap_or(path).to_vec();
    // A root that is no subvolume is one of another file system, or the default subvolume, of which nothing is known here.
    let own = guest.subvolume().filter(|own| trim(own.as_bytes()) != trim(named))?;
    let named = escape(named);
    (!named.to_string().contains('$')).then(|| {
        words!(
            "rootflags=subvol={named} names another subvolume than the one that the system is in, {own}.",
            "rootflags=subvol={named} 与系统所在的子卷 {own} 不同。"
        )
    })
}

/// A logical volume that the initramfs is told to activate and that is not there.
fn logical_volume(subject: &Subject<'_>, entry: &Entry) -> Option<Words> {
    let volumes = &subject.stack.devices;
    let is_there = |name: &[u8]| volumes.iter().any(|device| device.volume.as_bytes() == name);
    let mut named = entry.args.iter().filter_map(|arg| arg.strip_prefix(b"rd.lvm.lv="));
    let root = entry.arg("root").and_then(|root| root.strip_prefix(b"/dev/"));
    // Others, such as the one with swap, delay the start at most.
    let of_root = |name: &&[u8]| {
        root.is_some_and(|root| {
            root == *name || root.strip_prefix(b"mapper/").is_some_and(|mapped| mapped == mapper_name(name))
        })
    };
    let found = named.find(of_root).filter(|name| !is_there(name))?;
    let found = escape(found);
    Some(words!(
        "rd.lvm.lv={found} names a logical volume that is not in this image.",
        "rd.lvm.lv={found} 所指的逻辑卷不在此镜像中。"
    ))
}

/// `vg-0/root` as device mapper calls it: `vg--0-root`.
fn mapper_name(volume: &[u8]) -> Vec<u8> {
    let doubled = |part: &[u8]| {
        part.iter()
            .flat_map(|byte| if *byte == b'-' { vec![b'-'; 2] } else { vec![*byte] })
            .collect::<Vec<u8>>()
    };
    volume.split(|byte| *byte == b'/').map(doubled).collect::<Vec<_>>().join(&b'-')
}
