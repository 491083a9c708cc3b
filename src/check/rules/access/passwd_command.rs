//! Is the command there that sets passwords?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::fs::FileType;
use crate::guest::Evidence;
use crate::guest::admin::Admin;

pub(in crate::check) struct PasswdCommand;

impl Check for PasswdCommand {
    fn id(&self) -> &'static str {
        "passwd-command"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The program passwd must be there: the cloud sets the password of the instance with it.",
            "必须有 passwd 命令：云平台用它设置实例的密码。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let tree = guest.facts();
        for path in ["/usr/bin/passwd", "/bin/passwd"] {
            if let Some(node) = tree.find(path.as_bytes())?
                && tree.stat(node)?.kind == FileType::File
            {
                return Seen::new(words!("The command passwd is there.", "passwd 命令存在。"))
                    .at(Evidence::new("program").on(tree.volume(node)).path(path.as_bytes()))
                    .pass();
            }
        }
        let install = guest.fact::<Admin>()?.install("passwd");
        Seen::new(words!("The command passwd is not there.", "没有 passwd 命令。"))
            .fix(words!("{install}", "{install}"))
            .fail()
    }
}
