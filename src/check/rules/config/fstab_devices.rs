//! Is every device there that `fstab` needs at boot?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::names::Found;
use crate::text::escape;

pub(in crate::check) struct FstabDevices;

impl Check for FstabDevices {
    fn id(&self) -> &'static str {
        "fstab-devices"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"Every device of /etc/fstab that is mounted at boot must be in the image: an absent one without nofail leaves \
         the guest in emergency mode. Not counted: nofail, noauto, automounts, network and kernel file systems, and \
         swap, which only delays the boot.",
"",
)
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let fstab = guest.fstab()?;
        let (mut absent, mut unsure, mut present) = (Vec::new(), Vec::new(), 0_u32);
        for line in fstab.lines.iter().filter(|line| line.is_needed_at_boot() && !line.is_swap()) {
            match guest.find_device(&line.spec(), &subject.stack.devices) {
                Found::Device(_) => present = present.saturating_add(1),
                Found::Absent => absent.push(line),
                Found::Unsure(why) => unsure.push(format!("{}: {why}", escape(&line.spec))),
            }
        }
        if !absent.is_empty() {
            let names: Vec<String> = absent
                .iter()
                .map(|line| format!("{} on {}", escape(&line.spec), escape(&line.dir)))
                .collect();
            return Seen::new(format!(
                "/etc/fstab mounts what is not in this image: {}. The guest would stop in emergency mode.",
                names.join(", ")
            ))
            .all(absent.iter().map(|line| line.evidence.clone()))
            .fix("remove the line, or add nofail to its options")
            .fail();
        }
        if let Some(why) = unsure.into_iter().next() {
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        Seen::new(format!("Every device that /etc/fstab needs at boot is there ({present})."))
            .all(fstab.lines.iter().map(|line| line.evidence.clone()).take(4))
            .pass()
    }
}
