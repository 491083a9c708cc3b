//! Is all of the image there, or was it cut off on its way?

use crate::check::container::Whole;
use crate::check::table::TableEnd;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::{Error, ErrorKind, Result};
use crate::volume::TableKind;

pub(in crate::check) struct ContainerComplete;

/// File systems whose size is that of their volume, or a little less.
const SIZED: &[&str] = &["ext2", "ext3", "ext4", "xfs", "ntfs"];

impl Check for ContainerComplete {
    fn id(&self) -> &'static str {
        "container-complete"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image must be whole. A download or an upload that broke off leaves a file that is shorter than its own \
             tables say: the container's map names bytes behind the file's end, the partition table or a file system \
             reaches past the disk's end. No guest data is read for this.",
            "镜像必须完整。下载或上传中断后，文件会比其自身元数据所描述的短：容器映射表指向文件末尾之后，或分区表、文件系统超出磁盘末尾。\
             此项检查不读取客户机数据。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let disk = subject.system_disk();
        let (format, len) = (disk.image.format, disk.image.disk.len());
        let again = || {
            words!(
                "compare size and checksum with the original, and copy the file again",
                "请与原文件比较大小和校验和，然后重新传输"
            )
        };
        let table = subject.fact::<TableEnd>()?;
        if table.end > len {
            let (end, lack) = (table.end, table.end.saturating_sub(len));
            let kind = disk.discovery.table.kind.name();
            let file = format == "raw";
            let seen = if file {
                Seen::new(words!(
                    "The file was cut off: its partition table is of a disk of {end} bytes, and only {len} are there ({lack} lack).",
                    "文件被截断：分区表描述的磁盘为 {end} 字节，实际只有 {len} 字节（缺少 {lack} 字节）。"
                ))
                .fix(again())
            } else {
                Seen::new(words!(
                    "The disk is shorter than its partition table says: {len} bytes of {end} ({lack} lack). It was shrunk too far, or made of a file that was cut off.",
                    "磁盘比分区表描述的短：应为 {end} 字节，只有 {len} 字节（缺少 {lack} 字节）。磁盘被过度缩小，或由被截断的文件制成。"
                ))
                .fix(words!(
                    "make the image again from the whole disk; where only free space lacks: qemu-img resize it back, then shrink the partition first",
                    "请用完整磁盘重新制作镜像；若只缺空闲空间：先用 qemu-img resize 恢复大小，再先缩小分区"
                ))
            };
            return seen
                .at(Evidence::new(format!("{kind}: the disk ends at byte {end}")).on(disk.id).byte(table.at))
                .fail();
        }
        for (volume, facts) in subject.stack.facts() {
            let there = subject.stack.volume(volume).map_or(u64::MAX, |volume| volume.source.len());
            if SIZED.contains(&facts.kind) && facts.size > there {
                let (kind, size) = (facts.kind, facts.size);
                return Seen::new(words!(
                    "The file system on {volume} lacks its end: {kind} of {size} bytes in {there}.",
                    "{volume} 上的文件系统缺少末尾：{kind} 大小为 {size} 字节，卷只有 {there} 字节。"
                ))
                .at(Evidence::new(format!("{kind} of {size} bytes on a volume of {there}")).on(volume))
                .fix(again())
                .fail();
            }
        }
        match &*subject.fact::<Whole>()? {
            Whole::Cut { byte, error } => {
                let why = error.chain();
                Seen::new(words!(
                    "The {format} file is not whole: what belongs to byte {byte} of the disk is not in it ({why}).",
                    "{format} 文件不完整：磁盘第 {byte} 字节的数据不在文件中（{why}）。"
                ))
                .at(Evidence::new(why).byte(*byte))
                .fix(again())
                .fail()
            }
            Whole::Yes => self.by_name(subject, disk.discovery.table.kind),
        }
    }
}

impl ContainerComplete {
    /// A fixed VHD without its footer is a raw disk to everybody but its name.
    #[expect(clippy::unused_self, reason = "part of the rule")]
    fn by_name(&self, subject: &Subject<'_>, table: TableKind) -> Result<Outcome> {
        let (image, name) = (&subject.stack.image, &subject.stack.name);
        let is_called_vhd = name.rsplit('.').next().is_some_and(|end| end.eq_ignore_ascii_case("vhd"));
        if image.format == "raw" && is_called_vhd && table != TableKind::None {
            let error = Error::new(
                ErrorKind::Unsupported,
                "the file is called .vhd and has no VHD footer: its last 512 bytes were cut off, or it is a raw disk of that name",
            );
            return Ok(Outcome::Unknown(
                error.help("compare its size with the original's; a raw disk is better called .raw"),
            ));
        }
        let len = image.disk.len();
        Seen::new(words!(
            "Everything that the container's map and the partition table name is there.",
            "容器映射表和分区表所描述的内容都在文件中。"
        ))
        .at(Evidence::new(format!("{}: {len} bytes of disk, mapped to their end", image.format)))
        .pass()
    }
}
