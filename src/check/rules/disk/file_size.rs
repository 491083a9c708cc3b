//! Is the file that is uploaded small enough?

use crate::check::container::Files;
use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, words};
use crate::error::Result;

pub(in crate::check) struct FileSize;

impl Check for FileSize {
    fn id(&self) -> &'static str {
        "file-size"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The file, or the files, must not be longer than the limit (params: max). Counted are the bytes as they are \
             uploaded: holes of a sparse file count, an archive or a compressed file counts as it lies.",
            "镜像文件（或多个文件合计）不得大于上限（参数：max）。按上传的字节数计算：稀疏文件的空洞计入，归档或压缩文件按其自身大小计。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("max", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let (files, max) = (subject.fact::<Files>()?, args.size("max")?);
        let size = files.len();
        let (has, limit) = (human(size), human(max));
        let evidence =
            files.all.iter().take(8).map(|(name, len)| Evidence::new(format!("{name}: {len} bytes")));
        if size <= max {
            return Seen::new(words!(
                "The file has {has} of at most {limit}.",
                "文件大小为 {has}，上限 {limit}。"
            ))
            .all(evidence)
            .pass();
        }
        let seen = Seen::new(words!(
            "The file has {has}, more than {limit}.",
            "文件大小为 {has}，超过上限 {limit}。"
        ))
        .all(evidence);
        if subject.stack.image.format == "raw" {
            let name = subject.name_in_shell();
            return seen
                .fix(words!(
                    "convert it, which leaves out what is empty: qemu-img convert -c -O qcow2 {name} new.qcow2",
                    "转换格式以省去空白部分：qemu-img convert -c -O qcow2 {name} new.qcow2"
                ))
                .fail();
        }
        seen.fail()
    }
}
