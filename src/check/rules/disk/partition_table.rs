//! Is the partition table of a kind that is taken?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject};
use crate::error::Result;
use crate::volume::TableKind;

pub(in crate::check) struct PartitionTable;

impl Check for PartitionTable {
    fn id(&self) -> &'static str {
        "partition-table"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The partition table must be of one of the kinds that are taken (params: kinds). A disk without one is the \
         matter of boot-partition. A hybrid MBR counts as GPT, which it is.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("kinds", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let table = &subject.stack.discovery.table;
        let (kind, kinds) = (table.kind.name(), args.words("kinds")?);
        let byte = match table.kind {
            TableKind::None => {
                return Ok(Outcome::NotApplicable("the disk has no partition table".into()));
            }
            TableKind::Mbr => 0x1be,
            // The header stands in the second sector.
            TableKind::Gpt => u64::from(table.sector_size),
            TableKind::Sun => 0,
            TableKind::Bsd => 512,
        };
        let hybrid = if table.hybrid { ", with a hybrid MBR in front" } else { "" };
        let seen = |message: String| {
            Seen::new(message).at(Evidence::new(format!("{kind} partition table{hybrid}")).byte(byte))
        };
        if kinds.contains(&kind) {
            return seen(format!("The partition table is {kind}.")).pass();
        }
        seen(format!(
            "The partition table is {}, and only {} is taken.",
            kind.to_uppercase(),
            kinds.join(" or ")
        ))
        .fail()
    }
}
