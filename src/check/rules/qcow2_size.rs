//! Is what the image really holds small enough, counted as a QCOW2 file?

use crate::check::{Args, Check, Evidence, Outcome, Seen, Subject, human};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct Qcow2Size;

impl Check for Qcow2Size {
    fn id(&self) -> &'static str {
        "qcow2-size"
    }

    fn explain(&self) -> &'static str {
        "The image must not be larger than the limit (params: max) after conversion to QCOW2. Nothing is converted: \
         the map of the image gives the largest possible size, as qemu-img measure does; zeros that are stored make it \
         smaller. Where that matters, the rule stays undecided until --full-scan reads the disk."
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let (size, max) = (subject.qcow2_size()?, args.size("max")?);
        let seen = |message: String| {
            let range = format!("size as QCOW2: {} to {} bytes", size.min, size.max);
            Seen::new(message).at(Evidence::new(range))
        };
        let fix = "zero what is free and convert it: fstrim in the guest, or virt-sparsify; then look again";
        if size.max <= max {
            return seen(format!("As QCOW2 it has at most {}, of at most {}.", human(size.max), human(max)))
                .pass();
        }
        if size.min > max {
            return seen(format!("As QCOW2 it has at least {}, more than {}.", human(size.min), human(max)))
                .fix(fix)
                .fail();
        }
        let why = format!(
            "as QCOW2 it has between {} and {}, and the limit is {}",
            human(size.min),
            human(size.max),
            human(max)
        );
        Ok(Outcome::Unknown(
            Error::new(ErrorKind::Limit, why).help("--full-scan reads the disk and decides it"),
        ))
    }
}
