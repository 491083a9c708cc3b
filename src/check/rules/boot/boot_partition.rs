//! Is this a whole disk that can be booted: a partition table, partitions, a boot loader?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject};
use crate::error::{Error, ErrorKind, Result};
use crate::volume::TableKind;

pub(in crate::check) struct BootPartition;

/// Boot code that only starts the active partition.
const NEEDS_ACTIVE: &[&str] = &["Windows", "syslinux", "install-mbr", "parted"];

impl Check for BootPartition {
    fn id(&self) -> &'static str {
        "boot-partition"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The image must be of a whole disk: with a partition table, at least one partition, and where there is a \
         system also the boot loader that starts it, for a firmware that is offered (params: firmware). An image of a \
         file system alone has no partition table.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("firmware", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let stack = subject.stack;
        let (table, offered) = (&stack.discovery.table, args.words("firmware")?);
        let start = |what: String| Evidence::new(what).byte(0);
        if table.kind == TableKind::None {
            if let Some(warning) = stack.discovery.warnings.first() {
                return Ok(Outcome::Unknown(Error::new(ErrorKind::Corrupt, warning.clone())));
            }
            let device = stack.devices.iter().find(|device| device.volume == "disk");
            let what = device
                .map_or("something unknown", |device| if device.is_blank { "zeros" } else { device.what() });
            return Seen::new(format!("The image has no partition table; it starts with {what}."))
                .at(start(format!("no partition table, but {what}")))
                .fix("image the whole disk (/dev/sda), not one partition of it (/dev/sda1)")
                .fail();
        }
        let partitions = stack.discovery.volumes.iter().filter(|volume| volume.partition.is_some());
        let count = partitions.clone().count();
        if count == 0 {
            return Seen::new(format!("The {} partition table has no partition.", table.kind.name()))
                .at(start("an empty partition table".to_owned()))
                .fix("image the disk that the system boots from")
                .fail();
        }
        let count = if count == 1 { "one partition".to_owned() } else { format!("{count} partitions") };
        if stack.guests.is_empty() {
            return Ok(Outcome::NotApplicable(format!(
                "the disk has {count}, and no operating system for which a boot loader would be needed"
            ).into()));
        }
        let firmware: &[&str] = stack.guests.first().map_or(&[], |guest| &guest.firmware);
        if !firmware.iter().any(|firmware| offered.contains(firmware)) {
            let message = if firmware.is_empty() {
                "The disk's first sector holds no boot loader, and there is no EFI system partition."
                    .to_owned()
            } else {
                format!(
                    "The disk boots by {} only, and {} is offered.",
                    firmware.join(", "),
                    offered.join(", ")
                )
            };
            return Seen::new(message)
                .at(start(format!("boot code: {}", table.boot_code)))
                .fix(format!("install a boot loader for {} on the disk", offered.join(" or ")))
                .fail();
        }
        let has_active =
            partitions.clone().any(|volume| volume.partition.as_ref().is_some_and(|part| part.bootable));
        if NEEDS_ACTIVE.contains(&table.boot_code) && firmware == ["bios"] && !has_active {
            return Seen::new(format!(
                "The boot code of {} starts the active partition, and none is marked active.",
                table.boot_code
            ))
            .at(start(format!("boot code: {}; no active partition", table.boot_code)))
            .fix("mark the boot partition active: sfdisk --activate DISK 1")
            .fail();
        }
        Seen::new(format!("The disk has {count} and boots by {}.", firmware.join(" or ")))
            .at(start(format!("boot code: {}", table.boot_code)))
            .pass()
    }
}
