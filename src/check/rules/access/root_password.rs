//! Has root a password with which one can log in?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::accounts::password::today;
use crate::guest::accounts::{Accounts, Password, Validity};

pub(in crate::check) struct RootPassword;

impl Check for RootPassword {
    fn id(&self) -> &'static str {
        "root-password"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "root must have a password in /etc/shadow that is not empty, not locked (! or *) and not expired. A weak hash (DES, \
             MD5) is named. The password itself is not tried, and what PAM forbids is not seen.",
            "root 在 /etc/shadow 中必须有密码：不为空、未锁定（! 或 *）、未过期。弱哈希（DES、MD5）会被指出。本检查不尝试密码，\
             也无法得知 PAM 的限制。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let accounts = guest.fact::<Accounts>()?;
        let Some(root) = accounts.root() else {
            return Seen::new(words!("There is no account root.", "没有 root 账户。"))
                .fix(words!(
                    "create root and set its password: passwd root",
                    "创建 root 并设置密码：passwd root"
                ))
                .fail();
        };
        let seen = |message| Seen::new(message).at(root.password_evidence.clone());
        let set = || words!("passwd root", "passwd root");
        let hash = match root.password {
            Password::Hashed(hash) => hash,
            Password::Empty => {
                return seen(words!(
                    "root has an empty password: the SSH server refuses it, and anybody gets in at the console.",
                    "root 的密码为空：SSH 服务会拒绝，而在控制台任何人都能登录。"
                ))
                .fix(set())
                .fail();
            }
            Password::Locked => {
                return seen(words!("The password of root is locked.", "root 的密码已锁定。"))
                    .fix(words!("passwd -u root", "passwd -u root"))
                    .fail();
            }
            Password::Unusable => {
                return seen(words!("root has no password.", "root 没有密码。")).fix(set()).fail();
            }
            Password::NoLine => {
                let file = if accounts.has_shadow {
                    "/etc/shadow has no line of root"
                } else {
                    "there is no /etc/shadow"
                };
                let file_zh = if accounts.has_shadow {
                    "/etc/shadow 中没有 root 的行"
                } else {
                    "没有 /etc/shadow"
                };
                return seen(words!("root has no password: {file}.", "root 没有密码：{file_zh}。"))
                    .fix(words!("pwconv && passwd root", "pwconv && passwd root"))
                    .fail();
            }
        };
        let must_change = match root.aging.on(today()) {
            Validity::Valid => false,
            Validity::MustChange => true,
            Validity::PasswordExpired => {
                return seen(words!(
                    "The password of root expired and can no longer be changed at login.",
                    "root 的密码已过期，且登录时已不能再修改。"
                ))
                .fix(set())
                .fail();
            }
            Validity::AccountExpired => {
                return seen(words!("The account root expired.", "root 账户已过期。"))
                    .fix(words!("chage -E -1 root", "chage -E -1 root"))
                    .fail();
            }
        };
        let name = hash.name();
        let (weak, weak_zh) = match hash.is_weak() {
            true => (", which is weak", "（弱）"),
            false => ("", ""),
        };
        let (change, change_zh) = match must_change {
            true => (" It must be changed at the first login.", "首次登录时必须修改。"),
            false => ("", ""),
        };
        seen(words!(
            "root has a password, hashed with {name}{weak}.{change}",
            "root 已设置密码，哈希方式为 {name}{weak_zh}。{change_zh}"
        ))
        .pass()
    }
}
