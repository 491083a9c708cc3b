//! Is the container of a format that is taken, and the one that the import will be told?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, words};
use crate::error::Result;

pub(in crate::check) struct ContainerFormat;

impl Check for ContainerFormat {
    fn id(&self) -> &'static str {
        "container-format"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image file must be of one of the formats that the import takes (params: formats). The format is read from \
             the file's signature, never from its name. With --set diskFormat=F it must also be that one.",
            "镜像文件的格式必须是导入所支持的格式之一（参数：formats）。格式由文件签名判断，与文件名无关。若指定 \
             --set diskFormat=F，则必须与之一致。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("formats", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let image = &subject.stack.image;
        let (format, formats) = (image.format, args.words("formats")?);
        let variant = image.subformat.as_ref().map(|variant| format!(" ({variant})")).unwrap_or_default();
        let evidence = Evidence::new(format!("the file is {format}{variant}")).byte(0);
        if !formats.contains(&format) {
            let (to, all) = (formats.first().unwrap_or(&"qcow2"), formats.join(", "));
            let name = subject.name_in_shell();
            let fix = match &image.member {
                // qemu-img reads no archives.
                Some(member) => words!(
                    "take {member} out (tar xf), then qemu-img convert -O {to} {member} new-file",
                    "先取出 {member}（tar xf），再执行 qemu-img convert -O {to} {member} new-file"
                ),
                None => words!(
                    "qemu-img convert -O {to} {name} new-file",
                    "qemu-img convert -O {to} {name} new-file"
                ),
            };
            return Seen::new(words!(
                "{format} is not among the formats that are taken: {all}.",
                "格式 {format} 不在支持的格式之列：{all}。"
            ))
            .at(evidence)
            .fix(fix)
            .fail();
        }
        if let Some(told) = subject.settings.get("diskFormat") {
            let told = crate::image::by_name(told)?.name;
            if told != format {
                let seen = Seen::new(words!(
                    "The import will be told {told}, but the file is {format}.",
                    "导入时声明的格式是 {told}，而文件实际是 {format}。"
                ))
                .at(evidence)
                .fix(words!("tell the import that the format is {format}", "导入时请声明格式为 {format}"));
                let is_cut = (told, format) == ("vhd", "raw");
                return if is_cut { seen.at(Evidence::new("no VHD footer 'conectix' in the last 512 bytes: a VHD whose end was cut off looks like this")) } else { seen }.fail();
            }
        }
        Seen::new(words!("The format {format} is taken.", "格式 {format} 受支持。")).at(evidence).pass()
    }
}
