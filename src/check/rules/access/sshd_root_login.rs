//! May root log in by SSH?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, Result};
use crate::guest::sshd::{self, Config, Effective, Setting, SshServer};

pub(in crate::check) struct SshdRootLogin;

/// What lists of names say of root.
enum Listed {
    Yes,
    No,
    /// Only from some hosts.
    Somewhere,
}

impl Check for SshdRootLogin {
    fn id(&self) -> &'static str {
        "sshd-root-login"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "sshd must let root in with a password: PermitRootLogin yes, PasswordAuthentication (or keyboard-interactive with \
             PAM) not off, root not kept out by AllowUsers or DenyUsers. With params keys_suffice a key is enough. The first \
             value in sshd_config counts, with Include where it stands; where nothing is set, OpenSSH's default of the \
             installed version does. Match blocks are not followed, only named.",
            "sshd 必须允许 root 用密码登录：PermitRootLogin 为 yes，PasswordAuthentication（或配合 PAM 的键盘交互认证）未关闭，\
             AllowUsers、DenyUsers 未排除 root。设置参数 keys_suffice 时，用密钥登录即可。以 sshd_config 中第一个值为准，\
             Include 在其所在位置展开；未设置时采用所装 OpenSSH 版本的默认值。Match 块不参与判断，只作提示。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("keys_suffice", ParamKind::Flag)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let config = guest.fact::<Config>()?;
        if !config.exists {
            return match guest.fact::<SshServer>()?.program {
                None => Ok(Outcome::NotApplicable(words!("no SSH server is installed", "没有安装 SSH 服务"))),
                Some(_) => Err(Error::unsupported("the SSH server has no sshd_config")),
            };
        }
        let permit = sshd::effective(guest, "permitrootlogin")?;
        let note = config.exception("permitrootlogin");
        let fix = || {
            words!(
                "PermitRootLogin yes in /etc/ssh/sshd_config",
                "在 /etc/ssh/sshd_config 中设置 PermitRootLogin yes"
            )
        };
        let keys_suffice = args.flag("keys_suffice");
        match permit.value.as_str() {
            "yes" => {}
            "prohibit-password" if keys_suffice => {}
            "prohibit-password" => {
                return seen(
                    &permit,
                    note,
                    words!(
                        "root may log in by SSH with a key only (PermitRootLogin prohibit-password)",
                        "root 只能用密钥通过 SSH 登录（PermitRootLogin prohibit-password）"
                    ),
                )
                .fix(fix())
                .fail();
            }
            "forced-commands-only" => {
                return seen(
                    &permit,
                    note,
                    words!(
                        "root may only run fixed commands by SSH (PermitRootLogin forced-commands-only)",
                        "root 只能通过 SSH 执行固定命令（PermitRootLogin forced-commands-only）"
                    ),
                )
                .fix(fix())
                .fail();
            }
            "no" => {
                return seen(
                    &permit,
                    note,
                    words!(
                        "root may not log in by SSH (PermitRootLogin no)",
                        "root 不得通过 SSH 登录（PermitRootLogin no）"
                    ),
                )
                .fix(fix())
                .fail();
            }
            other => return Err(Error::unsupported(format!("PermitRootLogin {other:?}"))),
        }
        for (key, wants) in [("AllowUsers", true), ("DenyUsers", false)] {
            match listed(&config, key) {
                None => {}
                Some((Listed::Somewhere, _)) => {
                    return Err(Error::unsupported(format!("{key}: root from some hosts only")));
                }
                Some((Listed::Yes, _)) if wants => {}
                Some((Listed::No, _)) if !wants => {}
                Some((_, setting)) => {
                    return Seen::new(words!(
                        "root may not log in by SSH: {key} keeps it out.",
                        "root 不得通过 SSH 登录：被 {key} 排除。"
                    ))
                    .at(setting.evidence.clone())
                    .fix(words!("allow root in {key} of sshd_config", "在 sshd_config 的 {key} 中允许 root"))
                    .fail();
                }
            }
        }
        if !keys_suffice {
            let password = sshd::effective(guest, "passwordauthentication")?;
            if password.value == "no" && !takes_password_by_pam(guest)? {
                return seen(
                    &password,
                    config.exception("passwordauthentication"),
                    words!(
                        "The SSH server takes no passwords (PasswordAuthentication no)",
                        "SSH 服务不接受密码（PasswordAuthentication no）"
                    ),
                )
                .fix(words!(
                    "PasswordAuthentication yes in the file that sets it",
                    "在设置该项的文件中改为 PasswordAuthentication yes"
                ))
                .fail();
            }
        }
        let value = &permit.value;
        seen(
            &permit,
            note,
            words!(
                "root may log in by SSH (PermitRootLogin {value})",
                "root 可以通过 SSH 登录（PermitRootLogin {value}）"
            ),
        )
        .pass()
    }
}

/// Keyboard-interactive login asks PAM, which asks for the password.
fn takes_password_by_pam(guest: &crate::guest::Guest) -> Result<bool> {
    let is_on = |key: &str| sshd::effective(guest, key).map(|found| found.value == "yes");
    Ok(is_on("usepam")? && is_on("kbdinteractiveauthentication")?)
}

/// A finding about a value: whether it is set or a default, and whether a `Match` block says otherwise for some.
fn seen(found: &Effective, exception: Option<&Setting>, message: Words) -> Seen {
    let Words { en, zh } = message;
    let (default, default_zh) = match found.evidence {
        Some(_) => ("", ""),
        None => (", the default of this version", "，此版本的默认值"),
    };
    let (other, other_zh) = match exception {
        Some(_) => ("; a Match block says otherwise for some logins", "；Match 块对部分登录另有规定"),
        None => ("", ""),
    };
    Seen::new(words!("{en}{default}{other}.", "{zh}{default_zh}{other_zh}。"))
        .all(found.evidence.clone())
        .all(exception.map(|setting| setting.evidence.clone()))
}

/// What the lines of `AllowUsers` or `DenyUsers` say of root, if there are any, and the last of them.
fn listed<'a>(config: &'a Config, key: &str) -> Option<(Listed, &'a Setting)> {
    let last = config.all(key).last()?;
    let mut found = Listed::No;
    for pattern in config.all(key).flat_map(|setting| &setting.values) {
        let pattern = pattern.as_bytes();
        let (user, is_everywhere) = match pattern.iter().position(|byte| *byte == b'@') {
            Some(at) => (pattern.get(..at).unwrap_or_default(), pattern.get(at..) == Some(b"@*")),
            None => (pattern, true),
        };
        if crate::guest::glob::matches(user, b"root") {
            if is_everywhere {
                return Some((Listed::Yes, last));
            }
            found = Listed::Somewhere;
        }
    }
    Some((found, last))
}
