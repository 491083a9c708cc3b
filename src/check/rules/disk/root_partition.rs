//! Is there an operating system, and if not, what was uploaded instead?

use crate::check::survey::Survey;
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::role::Purpose;

pub(in crate::check) struct RootPartition;

impl Check for RootPartition {
    fn id(&self) -> &'static str {
        "root-partition"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The image must hold the root of an operating system, found by what is in it. If there is none, the rule says \
         what the image looks like instead: an installation medium, a boot partition, a data disk, or a wrong file. It \
         fails only when every volume was readable; otherwise it is undecided and names the volume.",
"",
)
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let survey = subject.survey();
        let roots: Vec<_> = survey.roles.iter().filter(|(_, role)| is_system(role.purpose)).collect();
        if !roots.is_empty() {
            let names: Vec<String> = subject
                .stack
                .guests
                .iter()
                .map(|guest| format!("{} on {}", guest.product(), guest.root))
                .collect();
            let evidence = roots.iter().flat_map(|(_, role)| role.evidence.iter().take(2).cloned());
            return Seen::new(format!("The root of a system is there: {}.", names.join(", ")))
                .all(evidence)
                .pass();
        }
        if let Some(why) = survey.unread.first() {
            return Ok(Outcome::Unknown(Error::new(
                ErrorKind::Unsupported,
                format!("no operating system was found, but {why}"),
            )));
        }
        let (looks, fix) = looks_like(survey);
        Seen::new(format!("No root partition was found. {looks}")).all(survey.evidence()).fix(fix).fail()
    }
}

const fn is_system(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Root | Purpose::Windows)
}

/// Which of the documented causes it looks like.
fn looks_like(survey: &Survey) -> (&'static str, &'static str) {
    let is = |purpose: Purpose| survey.roles.iter().any(|(_, role)| role.purpose == purpose);
    let disk = "image the disk that the system boots from";
    if is(Purpose::Installer) || survey.others.iter().any(|(_, kind)| *kind == "iso9660") {
        return (
            "This looks like an installation medium.",
            "install the system on a disk, and image that disk",
        );
    }
    if is(Purpose::Boot) {
        return (
            "This looks like a boot partition alone.",
            "image the whole disk (/dev/sda), not its boot partition",
        );
    }
    if is(Purpose::Recovery) && !is(Purpose::Data) {
        return (
            "This looks like a recovery partition alone.",
            "image the whole disk, not its recovery partition",
        );
    }
    if is(Purpose::Data) || is(Purpose::Part) {
        return ("This looks like a data disk.", disk);
    }
    if survey.is_blank && survey.roles.is_empty() {
        return ("The disk is empty: a wrong file, or a disk that was never written.", disk);
    }
    if survey.is_no_disk {
        return ("This looks like a wrong file: nothing in it is a partition table or a file system.", disk);
    }
    ("Its file systems are empty, as on a new data disk.", disk)
}
