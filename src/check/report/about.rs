//! What an image is, in so many words as stand above its findings. Read once, and shared by its reports.

use super::human;
use super::layout::Layout;
use crate::check::Words;
use crate::check::words::words;
use crate::stack::Stack;

/// What an image is.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The container: `vmdk`.
    pub format: String,
    /// Its own word for the variant.
    pub subformat: Option<String>,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// Bytes that it takes where it lies.
    pub stored_size: u64,
    /// The kind of its partition table.
    pub table: &'static str,
    /// Its systems.
    pub systems: Vec<System>,
    /// Its disks as a picture, the first one first.
    pub disks: Vec<Layout>,
    /// Volumes that are made of several disks.
    pub joined: Vec<super::layout::Part>,
    /// What is odd about it.
    pub warnings: Vec<String>,
    /// Further disks, for the line.
    others: Vec<String>,
}

/// A system.
#[derive(Clone, Debug)]
pub struct System {
    /// Its name and version.
    pub name: String,
    /// The machine it is for.
    pub arch: String,
    /// The volume of its root.
    pub root: String,
    /// How it can start.
    pub firmware: Vec<&'static str>,
}

impl About {
    /// Of an opened image. With `counts` the free space is counted where it is not written down, which may read much.
    #[must_use]
    pub fn of(stack: &Stack, counts: bool) -> Self {
        let image = &stack.image;
        let (disks, joined) = super::layout::of(stack, counts);
        Self {
            format: image.format.to_owned(),
            subformat: image.subformat.clone(),
            virtual_size: stack.disk().len(),
            stored_size: stack.disk().stored_size(),
            table: stack.discovery.table.kind.name(),
            systems: stack
                .guests
                .iter()
                .map(|guest| System {
                    name: guest.name(),
                    arch: guest.arch().to_string(),
                    root: guest.root.clone(),
                    firmware: guest.firmware.clone(),
                })
                .collect(),
            disks,
            joined,
            warnings: stack.warnings.clone(),
            others: stack
                .others
                .iter()
                .map(|disk| format!("{} ({}, {})", disk.id, disk.image.format, human(disk.image.disk.len())))
                .collect(),
        }
    }

    /// Container, size and table.
    #[must_use]
    pub fn container(&self) -> Words {
        let variant = self.subformat.as_ref().map(|variant| format!(" {variant}")).unwrap_or_default();
        let (format, size) = (self.format.as_str(), human(self.virtual_size));
        let table = self.table;
        words!(
            "{format}{variant}, {size} virtual, partition table {table}",
            "{format}{variant}，虚拟大小 {size}，分区表 {table}"
        )
    }

    /// All of it in one line.
    #[must_use]
    pub fn line(&self) -> Words {
        let mut line = self.container();
        if !self.others.is_empty() {
            let others = self.others.join(", ");
            line.add(&words!(
                "; further disks, which rules about the disk do not look at: {others}",
                "；其他磁盘（针对磁盘的规则不检查）：{others}"
            ));
        }
        for system in &self.systems {
            let (name, root) = (system.name.as_str(), system.root.as_str());
            let arch = if system.arch.is_empty() { String::new() } else { format!(" {}", system.arch) };
            let firmware = system.firmware.join("+");
            line.add(&if firmware.is_empty() {
                words!("; {name}{arch} on {root}, no boot loader", "；{name}{arch}，位于 {root}，无引导程序")
            } else {
                words!("; {name}{arch} on {root}, {firmware}", "；{name}{arch}，位于 {root}，{firmware}")
            });
        }
        line
    }
}
