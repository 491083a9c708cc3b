//! Is the virtual disk small enough?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human};
use crate::error::Result;

pub(in crate::check) struct VirtualSize;

impl Check for VirtualSize {
    fn id(&self) -> &'static str {
        "virtual-size"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The virtual disk must not be larger than the limit (params: max). This is the size that the guest sees, the \
         line 'virtual size' of imgmount info. With --set systemDiskSizeGB=N it must also fit into that disk.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("max", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let (size, max) = (subject.stack.disk().len(), args.size("max")?);
        let seen =
            |message: String| Seen::new(message).at(Evidence::new(format!("virtual size: {size} bytes")));
        if size > max {
            return seen(format!("The virtual disk has {}, more than {}.", human(size), human(max)))
                .fix("shrink the last file system and its partition, then the disk: qemu-img resize --shrink")
                .fail();
        }
        if let Some(wanted) = subject.settings.size("systemDiskSizeGB").filter(|wanted| size > *wanted) {
            return seen(format!(
                "The virtual disk has {}, more than the system disk of {} GB.",
                human(size),
                wanted >> 30
            ))
            .fail();
        }
        seen(format!("The virtual disk has {} of at most {}.", human(size), human(max))).pass()
    }
}
