//! Is the guest made for a machine that is offered?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct Architecture;

impl Check for Architecture {
    fn id(&self) -> &'static str {
        "architecture"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The guest's programs must be for a machine that is offered (params: machines), read from the ELF header of \
         its shell. With --set architecture=A it must also be the one that the import will be told.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("machines", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let machines = args.words("machines")?;
        let Some(machine) = guest.machine()? else {
            return Err(Error::new(ErrorKind::NotFound, "no program was found whose machine could be read"));
        };
        let name = machine.name.to_string();
        let seen = |message: String| Seen::new(message).at(machine.evidence.clone());
        if let Some(told) = subject.settings.get("architecture").filter(|told| *told != name) {
            return seen(format!("The import will be told {told}, but the system is for {name}.")).fail();
        }
        if machines.contains(&name.as_str()) {
            return seen(format!("The system is for {name}.")).pass();
        }
        seen(format!("The system is for {name}, and only {} are offered.", machines.join(", "))).fail()
    }
}
