//! Can the guest's package manager work?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{ErrorKind, Result};
use crate::guest::{Evidence, file};

pub(in crate::check) struct PackageDatabase;

/// Where dpkg keeps what it has done and not yet written into its status.
const UPDATES: &str = "/var/lib/dpkg/updates";
/// What pacman leaves behind when it is killed, and stops at.
const PACMAN_LOCK: &str = "/var/lib/pacman/db.lck";
/// Packages that are named in a sentence.
const NAMED: usize = 5;

impl Check for PackageDatabase {
    fn id(&self) -> &'static str {
        "package-database"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The package database must be whole: readable to its end, no package half installed or half removed (dpkg), \
             no transaction that was cut off (rpm's journal, dpkg's updates), not locked (pacman). Tools that a cloud runs \
             in the guest install packages.",
            "软件包数据库必须完整：可以完整读取，没有安装或卸载到一半的软件包（dpkg），没有被中断的事务\
             （rpm 的日志、dpkg 的 updates），也没有残留的锁（pacman）。云平台在系统中运行的工具需要安装软件包。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let list = match guest.packages() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let why = error.chain();
                return Seen::new(words!(
                    "The package database is damaged: {why}.",
                    "软件包数据库已损坏：{why}。"
                ))
                .fix(words!(
                    "repair it in the guest: rpm --rebuilddb, or restore it from a backup",
                    "在系统中修复：执行 rpm --rebuilddb，或从备份恢复"
                ))
                .fail();
            }
            list => list?,
        };
        let Some(manager) = list.manager else {
            return Ok(Outcome::NotApplicable(words!(
                "the guest has no package database of a kind that is known",
                "系统中没有已知类型的软件包数据库"
            )));
        };
        if !list.unfinished.is_empty() {
            let names: Vec<String> =
                list.unfinished.iter().take(NAMED).map(|package| package.name.to_string()).collect();
            let (count, names) = (list.unfinished.len(), names.join(", "));
            return Seen::new(words!(
                "{count} packages are installed or removed by half: {names}.",
                "{count} 个软件包安装或卸载未完成：{names}。"
            ))
            .all(list.unfinished.iter().take(NAMED).map(|package| package.evidence.clone()))
            .fix(words!(
                "dpkg --configure -a && apt-get -f install",
                "dpkg --configure -a && apt-get -f install"
            ))
            .fail();
        }
        let tree = guest.facts();
        // Files in it are numbered; others are nobody's.
        let is_number = |name: &&Vec<u8>| name.iter().all(u8::is_ascii_digit);
        if let Some(name) = file::names(tree, UPDATES)?.iter().find(is_number) {
            let path = [UPDATES.as_bytes(), b"/", name.as_slice()].concat();
            return Seen::new(words!(
                "dpkg was interrupted: {UPDATES} still has what it was about to do.",
                "dpkg 曾被中断：{UPDATES} 中仍有未完成的操作。"
            ))
            .at(Evidence::new("not yet done").path(&path))
            .fix(words!("dpkg --configure -a", "dpkg --configure -a"))
            .fail();
        }
        if manager == "pacman" && file::exists(tree, PACMAN_LOCK)? {
            return Seen::new(words!(
                "pacman is locked: {PACMAN_LOCK} is there.",
                "pacman 被锁定：存在 {PACMAN_LOCK}。"
            ))
            .at(Evidence::new("lock").path(PACMAN_LOCK.as_bytes()))
            .fix(words!("rm {PACMAN_LOCK}", "rm {PACMAN_LOCK}"))
            .fail();
        }
        let count = list.installed.len();
        Seen::new(words!(
            "The database of {manager} is whole and lists {count} packages.",
            "{manager} 数据库完整，共 {count} 个软件包。"
        ))
        .pass()
    }
}
