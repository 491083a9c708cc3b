//! Can the kernel unpack what it is started with?

use super::entry::{default_entry, make_initramfs};
use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::initramfs::{DefaultInitramfs, End};
use crate::text::escape;

pub(in crate::check) struct InitramfsReadable;

impl Check for InitramfsReadable {
    fn id(&self) -> &'static str {
        "initramfs-readable"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Each initramfs file of the default entry is unpacked as the kernel does it, to its end: every segment, packed \
             with gzip, xz, zstd, lz4, lzma or bzip2. An empty, cut off or damaged file fails. What is packed in another \
             way, or larger than the bounds, is undecided. A file that is not there is the matter of boot-files.",
            "按内核的方式将默认启动项的每个 initramfs 文件完整解压：所有分段，压缩方式为 gzip、xz、zstd、lz4、lzma 或 bzip2。\
             文件为空、被截断或已损坏则不通过。其他压缩方式或超出上限时无法判定。文件不存在由 boot-files 检查。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let entry = default_entry(guest)?;
        if entry.initrds.is_empty() {
            return Ok(Outcome::NotApplicable(words!(
                "the default entry loads no initramfs",
                "默认启动项不加载 initramfs"
            )));
        }
        let loaded = guest.fact::<DefaultInitramfs>()?;
        let (mut entries, mut seen) = (0_u64, Vec::new());
        for part in &loaded.files {
            let (file, listing) = (&part.file, &part.listing);
            let count = listing.entries;
            if let End::Damaged(error) = &listing.end {
                let (path, why) = (escape(&file.path), error.chain());
                let kernel = guest.boot_file(&entry.kernel)?;
                let release = kernel.and_then(|kernel| guest.release(&kernel).ok().flatten());
                let failed = Seen::new(words!(
                    "The initramfs {path} is damaged, and the kernel could not unpack it: {why}.",
                    "initramfs {path} 已损坏，内核无法解压：{why}。"
                ));
                return failed
                    .at(file.evidence(format!("{} bytes, readable up to entry {count}", file.size)))
                    .at(entry.evidence.clone())
                    .fix(make_initramfs(guest, &release.unwrap_or_default(), &[]))
                    .fail();
            }
            entries = entries.saturating_add(count);
            seen.push(file.evidence(format!("{}, {count} entries", listing.packing.join(" + "))));
        }
        if seen.is_empty() {
            return Ok(Outcome::NotApplicable(words!(
                "no initramfs file of the default entry is there",
                "默认启动项的 initramfs 文件都不存在"
            )));
        }
        Seen::new(words!(
            "The initramfs unpacks to its end: {entries} entries.",
            "initramfs 可以完整解压：共 {entries} 个条目。"
        ))
        .all(seen)
        .pass()
    }
}
