//! The first sectors of a partition that the disk's boot code hands over to, and the loader's file that they look for.

use super::End;
use super::grub::{self, Generation};
use super::sector::{SECTOR, contains, is_boot_sector, read};
use crate::check::{Evidence, Subject, words};
use crate::error::Result;
use crate::fs::Content;
use crate::fs::tree::Tree;
use std::sync::Arc;

/// Sectors in which the code of a boot sector goes on: NTFS has 16.
const CODE: u64 = 16;
/// Where extlinux and syslinux are put.
const LDLINUX: &[&str] = &[
    "/ldlinux.sys",
    "/extlinux/ldlinux.sys",
    "/syslinux/ldlinux.sys",
    "/boot/ldlinux.sys",
    "/boot/extlinux/ldlinux.sys",
    "/boot/syslinux/ldlinux.sys",
];

/// Follows the boot sector of the partition `id`, which starts at byte `start`.
///
/// # Errors
/// What the disk or the partition's file system reports.
pub(super) fn follow(subject: &Subject<'_>, id: &str, start: u64, steps: &mut Vec<Evidence>) -> Result<End> {
    let disk = &**subject.stack.disk();
    let first = start / SECTOR;
    let left = disk.len().saturating_sub(start) / SECTOR;
    let Some(code) = read(disk, first, CODE.min(left))?.filter(|code| !code.is_empty()) else {
        return Ok(End::broken(words!("{id} lies past the end of the disk.", "{id} 位于磁盘末尾之外。")));
    };
    let sector = code.get(..512).unwrap_or(&code);
    if !is_boot_sector(sector) || sector.iter().take(3).all(|byte| *byte == 0) {
        steps.push(Evidence::new("no boot code").on(id).byte(start));
        return Ok(End::broken(words!(
            "The boot code of the disk starts {id}, whose first sector holds no boot code.",
            "磁盘的引导代码启动 {id}，但其首扇区没有引导代码。"
        )));
    }
    let mut step = |what: &str| steps.push(Evidence::new(format!("boot sector: {what}")).on(id).byte(start));
    if contains(sector, b"GRUB \0Geom\0") {
        let is_legacy = sector.get(1) == Some(&0x48) && sector.get(0x3e..0x40) == Some(&[3, 2]);
        let generation = if is_legacy { Generation::Legacy } else { Generation::Two };
        step("GRUB");
        return grub::follow(disk, generation, sector, steps);
    }
    let name = sector.get(3..11).unwrap_or_default();
    if name == b"EXTLINUX" || name == b"SYSLINUX" {
        step("syslinux");
        return files(subject, id, "syslinux", LDLINUX, steps);
    }
    // What mkfs.fat and mkntfs write into the sector of a file system that starts nothing.
    if contains(sector, b"This is not a bootable disk") {
        step("a message that this is not a bootable disk");
        return Ok(End::broken(words!(
            "The boot code of the disk starts {id}, whose first sector only says that it is not bootable.",
            "磁盘的引导代码启动 {id}，但其首扇区只会提示“不可引导”。"
        )));
    }
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (loader, file, short) in [("bootmgr", "/bootmgr", "BOOTMGR"), ("ntldr", "/ntldr", "NTLDR")] {
        if contains(&code, &wide(short)) || contains(&code, format!("{short:<11}").as_bytes()) {
            step(loader);
            return files(subject, id, loader, &[file], steps);
        }
    }
    step("unknown");
    Ok(End::unknown(format!("what the boot sector of {id} loads is not known")))
}

/// Is one of these files on the partition?
fn files(
    subject: &Subject<'_>,
    id: &str,
    loader: &'static str,
    paths: &[&str],
    steps: &mut Vec<Evidence>,
) -> Result<End> {
    let content = subject.stack.contents.iter().find(|content| content.volume == id);
    let fs = match content.map(|content| &content.content) {
        Some(Ok(Content::Files(fs))) => fs,
        Some(Err(error)) => return Ok(End::Unknown(error.clone().context(id))),
        _ => return Ok(End::unknown(format!("{id}, from which {loader} is loaded, could not be read"))),
    };
    let tree = Tree::new(id, Arc::clone(fs));
    for path in paths {
        if tree.find(path.as_bytes())?.is_some() {
            steps.push(Evidence::new(loader).on(id).path(path.as_bytes()));
            return Ok(End::Loader(loader));
        }
    }
    let [only] = paths else {
        return Ok(End::unknown(format!("the boot sector of {id} loads {loader}, whose file was not found")));
    };
    Ok(End::broken(words!(
        "The boot sector of {id} loads {only}, which is not there.",
        "{id} 的引导扇区加载 {only}，但该文件不存在。"
    )))
}
