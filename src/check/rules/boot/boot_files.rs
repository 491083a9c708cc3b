//! Are the kernel and the initramfs there that the boot menu starts?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;

pub(in crate::check) struct BootFiles;

impl Check for BootFiles {
    fn id(&self) -> &'static str {
        "boot-files"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The kernel and the initramfs files named by the default entry of the boot menu must be there and not empty. \
         The menu's script is not run; if only running it would tell the default, the rule is undecided.",
"",
)
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let Some(boot) = guest.boot()? else {
            return Err(Error::new(ErrorKind::Unsupported, "no boot menu of a kind that is read was found"));
        };
        let Some(entry) = boot.default_entry().filter(|entry| !entry.kernel.is_empty()) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the default boot entry is not known: {}", boot.why),
            ));
        };
        let (mut seen, mut unsure) = (Vec::new(), None);
        for named in std::iter::once(&entry.kernel).chain(&entry.initrds) {
            let wrong = match guest.boot_file(named)? {
                Some(file) if file.size > 0 => {
                    seen.push(file.evidence(format!("{} bytes", file.size)));
                    continue;
                }
                Some(_) => "is empty",
                None if named.contains(&b'$') => {
                    unsure.get_or_insert(named);
                    continue;
                }
                None => "is not there",
            };
            return Seen::new(format!("{}, which the boot menu starts, {wrong}.", escape(named)))
                .at(entry.evidence.clone())
                .fix("make it again (update-initramfs -u, dracut -f) and write the menu anew (update-grub, grub2-mkconfig)")
                .fail();
        }
        if let Some(named) = unsure {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} has a variable of the menu's script in it", escape(named)),
            ));
        }
        Seen::new(format!("The boot menu starts {}, which is there.", escape(&entry.kernel)))
            .at(entry.evidence.clone())
            .all(seen)
            .pass()
    }
}
