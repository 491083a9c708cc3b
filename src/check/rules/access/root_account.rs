//! Is there a root that can log in?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::accounts::Accounts;
use crate::guest::file;

pub(in crate::check) struct RootAccount;

impl Check for RootAccount {
    fn id(&self) -> &'static str {
        "root-account"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/etc/passwd must have the account root with the number 0 and a shell that is there: the cloud sets its password \
             and key.",
            "/etc/passwd 中必须有 UID 为 0 的 root 账户，且其 shell 存在：云平台要为它设置密码和密钥。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let accounts = guest.fact::<Accounts>()?;
        if !accounts.has_passwd {
            return Seen::new(words!("There is no /etc/passwd.", "没有 /etc/passwd。"))
                .fix(words!("put back /etc/passwd from a backup", "从备份恢复 /etc/passwd"))
                .fail();
        }
        let Some(root) = accounts.root() else {
            return Seen::new(words!("/etc/passwd has no account root.", "/etc/passwd 中没有 root 账户。"))
                .fix(words!(
                    "add the line root:x:0:0:root:/root:/bin/bash to /etc/passwd, then set its password: passwd root",
                    "在 /etc/passwd 中加入一行 root:x:0:0:root:/root:/bin/bash，然后设置密码：passwd root"
                ))
                .fail();
        };
        if root.uid != Some(0) {
            return Seen::new(words!(
                "The account root does not have the number 0, so it is no administrator.",
                "root 账户的 UID 不是 0，因此不是管理员。"
            ))
            .at(root.evidence.clone())
            .fix(words!("give root the number 0 in /etc/passwd", "在 /etc/passwd 中把 root 的 UID 改为 0"))
            .fail();
        }
        let shell = &root.shell;
        if !root.has_shell() {
            return Seen::new(words!(
                "root cannot log in: its shell is {shell}.",
                "root 无法登录：其 shell 为 {shell}。"
            ))
            .at(root.evidence.clone())
            .fix(words!("usermod -s /bin/bash root", "usermod -s /bin/bash root"))
            .fail();
        }
        if !shell.is_empty() && !file::exists(guest.facts(), shell.as_bytes())? {
            return Seen::new(words!(
                "root cannot log in: its shell {shell} is not there.",
                "root 无法登录：其 shell {shell} 不存在。"
            ))
            .at(root.evidence.clone())
            .fix(words!("usermod -s /bin/sh root", "usermod -s /bin/sh root"))
            .fail();
        }
        Seen::new(words!("The account root is there.", "root 账户存在。")).at(root.evidence.clone()).pass()
    }
}
