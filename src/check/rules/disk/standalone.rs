//! Does the image need no other file?

use crate::check::container::Files;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::Result;

pub(in crate::check) struct Standalone;

impl Check for Standalone {
    fn id(&self) -> &'static str {
        "standalone"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image must be one file that needs no other: no backing file, parent or differencing disk, and no extents \
             in files of their own. Snapshots inside the file are no obstacle; they are named, because most imports take the \
             current state alone.",
            "镜像必须是不依赖其他文件的单个文件：没有后备文件（backing file）、父盘或差分盘，也没有单独的 extent 文件。\
             文件内的快照不影响导入，但会列出，因为多数导入只取当前状态。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let image = subject.system_disk().image;
        let format = image.format;
        let convert = |to: &str| {
            let name = subject.name_in_shell();
            words!(
                "make one file of it: qemu-img convert -O {to} {name} whole.{to}",
                "合并为单个文件：qemu-img convert -O {to} {name} whole.{to}"
            )
        };
        let to = if matches!(format, "vmdk" | "vhdx" | "qcow2") { format } else { "qcow2" };
        let parents: Vec<&str> = image
            .layers
            .iter()
            .skip(1)
            .filter(|layer| layer.snapshot.is_none())
            .map(|layer| layer.name.as_str())
            .collect();
        if let Some(first) = parents.first() {
            let chain = parents.iter().map(|name| Evidence::new(format!("below it: {name}")));
            return Seen::new(words!(
                "The image is a layer over {first}, and nothing without it.",
                "该镜像是 {first} 之上的增量层，离开它便不完整。"
            ))
            .all(chain)
            .fix(convert(to))
            .fail();
        }
        let files = subject.fact::<Files>()?;
        if let [_, further @ ..] = files.all.as_slice()
            && let Some((first, _)) = further.first()
        {
            let count = further.len();
            return Seen::new(words!(
                "The disk lies in more than one file: {first} and others belong to it ({count} besides this one).",
                "磁盘数据分布在多个文件中：除本文件外还有 {count} 个，如 {first}。"
            ))
            .all(further.iter().take(8).map(|(name, len)| Evidence::new(format!("{name}, {len} bytes"))))
            .fix(convert(to))
            .fail();
        }
        let snapshots: Vec<&str> = image
            .layers
            .iter()
            .filter(|layer| layer.snapshot.is_some())
            .map(|layer| layer.name.as_str())
            .collect();
        if snapshots.is_empty() {
            return Seen::new(words!("The image needs no other file.", "镜像不依赖其他文件。"))
                .at(Evidence::new(format!("{format}, without a parent")))
                .pass();
        }
        let (count, names) = (snapshots.len(), snapshots.get(..8).unwrap_or(&snapshots).join(", "));
        Seen::new(words!(
            "The image needs no other file; the {count} snapshots in it ({names}) will not be imported.",
            "镜像不依赖其他文件；其中的 {count} 个快照（{names}）不会被导入。"
        ))
        .at(Evidence::new(format!("{format}, {count} snapshots inside")))
        .pass()
    }
}
