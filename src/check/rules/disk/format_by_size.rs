//! Is a large disk in one of the formats that large disks must have?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, words};
use crate::error::Result;

pub(in crate::check) struct FormatBySize;

impl Check for FormatBySize {
    fn id(&self) -> &'static str {
        "format-by-size"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "A virtual disk above a size (params: above) is taken in some formats only (params: formats). A smaller one is \
             the matter of container-format.",
            "超过一定大小（参数：above）的虚拟磁盘只支持部分格式（参数：formats）。较小的磁盘由 container-format 检查。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("above", ParamKind::Size), Param::required("formats", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let disk = subject.system_disk();
        let (size, above, formats) = (disk.image.disk.len(), args.size("above")?, args.words("formats")?);
        let (format, has, limit, all) =
            (subject.stack.image.format, human(size), human(above), formats.join(", "));
        let evidence = Evidence::new(format!("{format}, virtual size: {size} bytes")).on(disk.id);
        if size <= above {
            return Seen::new(words!(
                "The virtual disk has {has}; only above {limit} is the format bound.",
                "虚拟磁盘大小为 {has}；仅超过 {limit} 时才限制格式。"
            ))
            .at(evidence)
            .pass();
        }
        if formats.contains(&format) {
            return Seen::new(words!(
                "A disk above {limit} may be {format}.",
                "超过 {limit} 的磁盘可使用 {format} 格式。"
            ))
            .at(evidence)
            .pass();
        }
        let (to, name) = (formats.first().unwrap_or(&"raw"), subject.name_in_shell());
        Seen::new(words!(
            "The virtual disk has {has}: above {limit} it must be {all}, and it is {format}.",
            "虚拟磁盘大小为 {has}：超过 {limit} 时必须为 {all}，实际为 {format}。"
        ))
        .at(evidence)
        .fix(words!("qemu-img convert -O {to} {name} new-file", "qemu-img convert -O {to} {name} new-file"))
        .fail()
    }
}
