//! Does the kernel's `root=` name the volume that the system is on?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome};
use crate::error::{Error, ErrorKind, Result};
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
"The root= of the default entry of the boot menu must name the volume that holds the root of the system.",
"",
)
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry =
            guest.boot()?.and_then(|boot| boot.default_entry()).filter(|entry| !entry.kernel.is_empty());
        let Some(entry) = entry else {
            return Err(Error::new(ErrorKind::Unsupported, "the default boot entry is not known"));
        };
        let Some(root) = entry.arg("root") else {
            return Ok(Outcome::NotApplicable("the kernel's line has no root=".into()));
        };
        let fix = "write root=UUID=… of the root file system into the boot menu (update-grub does)";
        let seen = |message: String| Seen::new(message).at(entry.evidence.clone());
        let unsure =
            |why: &str| Err(Error::new(ErrorKind::Unsupported, format!("root={}: {why}", escape(root))));
        if root.contains(&b'$') {
            return unsure("it has a variable of the menu's script in it");
        }
        let spec = Spec::parse(root);
        if spec == Spec::NoDevice || NOT_OF_A_DISK.contains(&root) {
            return unsure("it names its device in a way that is not read");
        }
        match guest.find_device(&spec, &subject.stack.devices) {
            Found::Device(device) if device.volume == guest.root => {
                seen(format!("root={} is {}.", escape(root), device.volume)).pass()
            }
            Found::Device(device) => seen(format!(
                "root={} is {}, but the system is on {}.",
                escape(root),
                device.volume,
                guest.root
            ))
            .fix(fix)
            .fail(),
            Found::Absent => seen(format!("root={} names a device that is not in this image.", escape(root)))
                .fix(fix)
                .fail(),
            Found::Unsure(why) => unsure(&why),
        }
    }
}
