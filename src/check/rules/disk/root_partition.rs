//! Is there an operating system, and if not, what was uploaded instead?

use crate::check::cause::no_system;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;
use crate::guest::Guest;
use crate::guest::role::Purpose;

pub(in crate::check) struct RootPartition;

impl Check for RootPartition {
    fn id(&self) -> &'static str {
        "root-partition"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image must hold the root of an operating system, found by what is in it. If there is none, the rule follows \
             the chain from the disk over its table to each volume, shows it, and says what the image looks like instead: an \
             installation medium or a package, a boot partition, a data disk, or a wrong file. It fails only when every volume \
             was readable; otherwise it is undecided and names the volume.",
            "镜像必须包含操作系统的根分区，依据其中的内容判断。若没有，则从磁盘、分区表到每个卷逐级列出所见，并说明镜像看起来是什么：\
             安装介质或安装包、引导分区、数据盘，还是错误的文件。只有所有卷都可读时才判为失败；否则为未定，并指出无法读取的卷。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let survey = subject.survey();
        let roots: Vec<_> = survey
            .roles()
            .filter(|(_, role)| matches!(role.purpose, Purpose::Root | Purpose::Windows))
            .collect();
        if roots.is_empty() {
            return no_system(subject, &words!("No root partition was found.", "未找到根分区。"));
        }
        let guests = &subject.stack.guests;
        let called = |guest: &Guest| {
            let product = guest.product().to_string();
            if product.is_empty() { guest.name() } else { product }
        };
        let names: Vec<String> =
            guests.iter().map(|guest| format!("{} on {}", called(guest), guest.root)).collect();
        let names_zh: Vec<String> =
            guests.iter().map(|guest| format!("{}（{}）", called(guest), guest.root)).collect();
        let (all, all_zh) = (names.join(", "), names_zh.join("、"));
        let evidence = roots.iter().flat_map(|(_, role)| role.evidence.iter().take(2).cloned());
        let disk = subject.system_disk();
        let message = if subject.stack.others.is_empty() || guests.is_empty() {
            words!("The root of a system is there: {all}.", "找到系统的根分区：{all_zh}。")
        } else {
            let count = subject.stack.others.len().saturating_add(1);
            let number = disk.number.saturating_add(1);
            let name = disk.image.member.clone().unwrap_or_else(|| disk.id.to_owned());
            words!(
                "The root of a system is there: {all}; of {count} disks, disk {number} ({name}) is the system disk.",
                "找到系统的根分区：{all_zh}；共 {count} 块磁盘，系统盘是第 {number} 块（{name}）。"
            )
        };
        let further = subject.stack.others.iter().filter(|other| other.number != disk.number);
        let further = further.map(|other| {
            Evidence::new(format!(
                "a further disk of the machine, {} bytes: import it as a data disk",
                other.image.disk.len()
            ))
            .on(&other.id)
        });
        Seen::new(message).all(evidence).all(further).pass()
    }
}
