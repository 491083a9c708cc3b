//! Why there is no system in an image: which of the usual mistakes it looks like, told from what is there instead, and the
//! next step.

use super::survey::{Survey, What};
use super::{Evidence, Outcome, Seen, Subject, Words, diagnose, words};
use crate::block::ProbeBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::guest::role::Purpose;

/// What the image looks like, with the chain that was followed; to be failed with, or undecided where something that may
/// hold a system was not read.
///
/// # Errors
/// When the disk's first bytes cannot be read.
pub(super) fn no_system(subject: &Subject<'_>, missing: &Words) -> Result<Outcome> {
    let survey = subject.survey();
    let file = probe(subject)?;
    if let Some(why) = survey.unread.first() {
        let more = survey.unread.len().saturating_sub(1);
        let rest = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        let error =
            Error::new(ErrorKind::Unsupported, format!("no operating system was found, but {why}{rest}"));
        return Ok(Outcome::Unknown(match next_step(survey) {
            Some(help) => error.help(help),
            None => error,
        }));
    }
    let (looks, fix, seen) = looks_like(subject, survey, &file);
    let (en, zh) = (format!("{missing} {looks}"), format!("{}{}", missing.zh, looks.zh));
    Ok(Outcome::Fail(Seen::new(Words { en, zh }).all(seen).all(survey.evidence()).fix(fix)))
}

fn probe(subject: &Subject<'_>) -> Result<ProbeBytes> {
    ProbeBytes::read(&**subject.stack.disk(), &subject.stack.name)
}

/// What would let us look into what was not read.
fn next_step(survey: &Survey) -> Option<&'static str> {
    let has = |kinds: &[&str]| kinds.iter().any(|kind| survey.has_kind(kind));
    if has(&["crypto_LUKS", "BitLocker"]) {
        return Some("give its key with --key; for the import, decrypt it first");
    }
    if has(&[
        "LVM2_member",
        "linux_raid_member",
        "storage_spaces",
        "zfs_member",
        "isw_raid_member",
        "ddf_raid_member",
    ]) {
        return Some(
            "the other disks of the machine may be needed; for the import, put the system on one plain disk",
        );
    }
    None
}

fn looks_like(subject: &Subject<'_>, survey: &Survey, file: &ProbeBytes) -> (Words, Words, Option<Evidence>) {
    let disk = || words!("image the disk that the system boots from", "请制作系统启动盘的镜像");
    let whole = |what: &str, zh: &str| {
        words!(
            "image the whole disk (/dev/sda), not its {what}",
            "请制作整块磁盘（/dev/sda）的镜像，而不是{zh}"
        )
    };
    if survey.has(Purpose::Installer) || survey.has_kind("iso9660") || survey.has_kind("udf") {
        return (
            words!("This looks like an installation medium.", "这看起来是安装介质。"),
            words!(
                "install the system on a disk, and image that disk",
                "请先把系统安装到磁盘，再制作该磁盘的镜像"
            ),
            None,
        );
    }
    if survey.has(Purpose::Boot) {
        return (
            words!("This looks like a boot partition alone.", "这看起来只是引导分区。"),
            whole("boot partition", "引导分区"),
            None,
        );
    }
    if survey.has(Purpose::Recovery) && !survey.has(Purpose::Data) {
        return (
            words!("This looks like a recovery partition alone.", "这看起来只是恢复分区。"),
            whole("recovery partition", "恢复分区"),
            None,
        );
    }
    if survey.has(Purpose::Data) || survey.has(Purpose::Part) {
        return (words!("This looks like a data disk.", "这看起来是数据盘。"), disk(), None);
    }
    let probe = file.view();
    let named = diagnose::what_is(&probe).filter(|_| survey.is_no_disk);
    if let Some(kind) = named {
        let (name, shown) = (kind.name(), &subject.stack.name);
        let (en, zh) = (&name.en, &name.zh);
        return (
            words!("This looks like a wrong file: it is {en}.", "这看起来是错误的文件：{zh}。"),
            kind.fix(shown),
            Some(kind.evidence(&probe)),
        );
    }
    let only_swap = !survey.volumes.is_empty()
        && survey.volumes.iter().all(|one| matches!(one.what, What::NoRoot("swap")));
    if only_swap {
        return (words!("There is nothing but swap space.", "其中只有交换分区。"), disk(), None);
    }
    if survey.is_blank && survey.roles().next().is_none() {
        return (
            words!(
                "The disk is empty: a wrong file, or a disk that was never written.",
                "磁盘为空：文件有误，或该磁盘从未写入。"
            ),
            disk(),
            None,
        );
    }
    if survey.is_no_disk {
        return (
            words!(
                "This looks like a wrong file: nothing in it is a partition table or a file system.",
                "这看起来是错误的文件：其中没有分区表，也没有文件系统。"
            ),
            disk(),
            None,
        );
    }
    if survey.roles().next().is_none() {
        return (
            words!(
                "No volume of it has a file system that could hold one.",
                "没有任何卷含有可存放系统的文件系统。"
            ),
            disk(),
            None,
        );
    }
    (
        words!("Its file systems are empty, as on a new data disk.", "文件系统都是空的，如同新的数据盘。"),
        disk(),
        None,
    )
}
