//! Is the container of a format that is taken, and the one that the import will be told?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject};
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
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("formats", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let image = &subject.stack.image;
        let formats = args.words("formats")?;
        let variant = image.subformat.as_ref().map(|variant| format!(" ({variant})")).unwrap_or_default();
        let seen = |message: String| {
            Seen::new(message).at(Evidence::new(format!("the file is {}{variant}", image.format)).byte(0))
        };
        if !formats.contains(&image.format) {
            let to = formats.first().unwrap_or(&"qcow2");
            let fix = match &image.member {
                // qemu-img reads no archives.
                Some(member) => {
                    format!("take {member} out (tar xf), then qemu-img convert -O {to} {member} new-file")
                }
                None => format!("qemu-img convert -O {to} {} new-file", subject.stack.name),
            };
            return seen(format!(
                "{} is not among the formats that are taken: {}.",
                image.format,
                formats.join(", ")
            ))
            .fix(fix)
            .fail();
        }
        if let Some(told) = subject.settings.get("diskFormat") {
            let told_format = crate::image::by_name(told)?.name;
            if told_format != image.format {
                return seen(format!(
                    "The import will be told {told_format}, but the file is {}.",
                    image.format
                ))
                .fix(format!("tell the import that the format is {}", image.format))
                .fail();
            }
        }
        seen(format!("The format {} is taken.", image.format)).pass()
    }
}
