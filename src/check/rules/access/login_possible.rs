//! Can anybody log in?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::accounts::keys::AuthorizedKeys;
use crate::guest::accounts::password::today;
use crate::guest::accounts::{Account, Accounts};
use crate::guest::sshd::{self, SshServer};
use crate::guest::{Evidence, Guest};
use crate::text::Text;

pub(in crate::check) struct LoginPossible;

impl Check for LoginPossible {
    fn id(&self) -> &'static str {
        "login-possible"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Somebody must be able to log in: an account with a shell has a password that is neither locked nor expired, or \
             a key in its authorized_keys that a running SSH server accepts, or cloud-init runs and sets either at the first \
             boot. Passwords are not tried, and what PAM forbids is not seen.",
            "必须有人能够登录：某个带 shell 的账户设有未锁定且未过期的密码，或其 authorized_keys 中有密钥且 SSH 服务会启动并接受该密钥，\
             或 cloud-init 会运行并在首次启动时设置密码或密钥。本检查不尝试密码，也无法得知 PAM 的限制。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let accounts = guest.fact::<Accounts>();
        let day = today();
        if let Ok(accounts) = &accounts
            && let Some(account) = accounts.list.iter().find(|account| account.accepts_password(day))
        {
            let name = &account.name;
            return Seen::new(words!("{name} can log in with a password.", "{name} 可以用密码登录。"))
                .at(account.password_evidence.clone())
                .pass();
        }
        let keys = key(guest);
        if let Ok(Some((account, evidence))) = &keys {
            return Seen::new(words!("{account} can log in with a key.", "{account} 可以用密钥登录。"))
                .at(evidence.clone())
                .pass();
        }
        let cloud_init = guest.cloud_init();
        if let Ok(found) = &cloud_init
            && found.runs()
        {
            return Seen::new(words!(
                "No account has a password or key yet; cloud-init runs at boot and sets them.",
                "目前没有账户设有密码或密钥；cloud-init 会在启动时运行并进行设置。"
            ))
            .all(found.installed.clone())
            .all(found.enabled.clone())
            .pass();
        }
        // Nothing was found; that counts only where everything could be read.
        let (accounts, _, _) = (accounts?, keys?, cloud_init?);
        Seen::new(words!(
            "Nobody can log in: no account has a usable password or an accepted key, and cloud-init does not run.",
            "无人能够登录：没有账户设有可用的密码或可接受的密钥，且 cloud-init 不会运行。"
        ))
        .all(accounts.root().map(|root| root.password_evidence.clone()))
        .fix(words!(
            "set a password of root in the source system: passwd root",
            "在源系统中为 root 设置密码：passwd root"
        ))
        .fail()
    }
}

/// A key that a running SSH server accepts, and whose.
fn key(guest: &Guest) -> Result<Option<(Text, Evidence)>> {
    let keys = guest.fact::<AuthorizedKeys>()?;
    if keys.list.is_empty() {
        return Ok(None);
    }
    let server = guest.fact::<SshServer>()?;
    let is_off = |key: &str| sshd::effective(guest, key).map(|found| found.value == "no");
    if server.starts.is_none() || server.blocked.is_some() || is_off("pubkeyauthentication")? {
        return Ok(None);
    }
    let accounts = guest.fact::<Accounts>()?;
    let is_root = |name: &Text| {
        let account = accounts.list.iter().find(|account| account.name == *name);
        account.is_some_and(|account: &Account| account.uid == Some(0))
    };
    for found in keys.list.iter().filter(|found| found.refused.is_none()) {
        if !is_root(&found.account) || !is_off("permitrootlogin")? {
            return Ok(Some((found.account.clone(), found.evidence.clone())));
        }
    }
    Ok(None)
}
