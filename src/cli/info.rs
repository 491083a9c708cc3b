//! `imgmount info`.

use super::content::hex;
use super::out::{Tally, human_size};
use super::{Common, Exit, out, plan};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::Part;
use crate::fs::{Content, FileSystem, FsFacts, Subvolume};
use crate::guest::Guest;
use crate::guest::role::{Purpose, role};
use crate::image::Opened;
use crate::measure::{Range, qcow2_size};
use crate::stack::{Stack, VolumeContent};
use crate::text::{Text, escape};
use crate::volume::{Discovery, Partition, TableKind, Volume};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::sync::Arc;

mod windows;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Paths or URLs of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<OsString>,
    /// Read every stored byte to tell the size as QCOW2 exactly
    #[arg(long)]
    full_scan: bool,
}

/// Names by which `qemu-img info` calls a format, where they are not ours: documents tell people to look for them.
const QEMU_NAMES: &[(&str, &str)] = &[("vhd", "vpc")];
/// Signatures of volumes that open with a key only.
const LOCKED: &[&str] = &["crypto_LUKS", "BitLocker"];
/// Columns of the partition picture.
const PICTURE: u64 = 72;
/// Partitions in one picture; a row of more says nothing.
const PICTURE_PARTS: usize = 10;
/// Subvolumes of one file system that are listed for people.
const SUBVOLUMES: usize = 20;
/// Bytes shown of a volume nobody knows.
const FIRST_BYTES: usize = 16;

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut tally = Tally::default();
    let mut documents = Vec::new();
    for (number, image) in args.images.iter().enumerate() {
        let stack = match plan::open(image, common) {
            Ok(stack) => stack,
            Err(error) => {
                out::complain(&error);
                let mut object = out::error_object(&error);
                if error.kind() == ErrorKind::Encrypted
                    && let Ok(locked) = Locked::look(image, common)
                {
                    locked.tell(&error, &mut object, common);
                }
                documents.push(object);
                tally.failed(&error);
                continue;
            }
        };
        let size = qcow2_size(&**stack.disk(), args.full_scan);
        tally.done();
        if size.is_err() || stack.contents.iter().any(|content| content.content.is_err()) {
            tally.partial();
        }
        if common.json {
            documents.push(document(&stack, &size));
        } else {
            out::data(&format!("{}{}", if number > 0 { "\n" } else { "" }, text(&stack, &size)));
        }
    }
    if common.json {
        let one = if documents.len() == 1 { documents.pop() } else { None };
        out::json(&one.unwrap_or(Value::Array(documents)));
    }
    Ok(tally.exit())
}

/// What can be said of an image that is locked.
struct Locked {
    image: String,
    format: &'static str,
    disk_size: u64,
}

impl Locked {
    fn look(image: &OsStr, common: &Common) -> Result<Self> {
        let given = plan::given(image, common)?;
        let source = crate::source::open(&given, &plan::options(common).source_cx())?;
        let format = match &common.format {
            Some(name) => crate::image::by_name(name)?,
            None => crate::image::detect(&*source, &given.locator.file_name())?,
        };
        Ok(Self { image: given.locator.to_string(), format: format.name, disk_size: source.stored_size() })
    }

    fn tell(&self, error: &Error, object: &mut Value, common: &Common) {
        if let (true, Some(object)) = (common.json, object.as_object_mut()) {
            object.insert("image".to_owned(), self.image.clone().into());
            object.insert("format".to_owned(), self.format.into());
            object.insert("disk_size".to_owned(), self.disk_size.into());
            object.insert("locked".to_owned(), true.into());
        } else {
            let (size, message) = (human_size(self.disk_size), error.to_string());
            let reason = message.strip_prefix(&format!("{}: ", self.image)).unwrap_or(&message);
            out::data(&format!(
                "image: {}\nfile format: {}\ndisk size: {size}\nencrypted: yes\nopened: no, it {reason}\n",
                self.image, self.format
            ));
        }
    }
}

/// What stands on a volume, if it has been looked at.
fn content<'a>(stack: &'a Stack, volume: &str) -> Option<&'a VolumeContent> {
    stack.contents.iter().find(|content| content.volume == volume)
}

fn warnings(stack: &Stack, size: &Result<Range>) -> Vec<String> {
    let unread =
        size.as_ref().err().map(|error| format!("the size as QCOW2 is not known: {}", error.chain()));
    stack.warnings.iter().cloned().chain(unread).collect()
}

// For programs.

pub(super) fn document(stack: &Stack, size: &Result<Range>) -> Value {
    let image = &stack.image;
    let container: serde_json::Map<String, Value> =
        image.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| {
            json!({
                "name": layer.name,
                "snapshot": layer.snapshot,
                "format": layer.format,
                "virtual_size": layer.size,
            })
        })
        .collect();
    let table = &stack.discovery.table;
    json!({
        "schema": "imgmount.info/1",
        "image": stack.name,
        "format": image.format,
        "subformat": image.subformat,
        "virtual_size": image.disk.len(),
        "disk_size": image.disk.stored_size(),
        "qcow2_size": size.as_ref().ok().map(|size| json!({ "min": size.min, "max": size.max })),
        "container": container,
        "layers": layers,
        "disks": disks(stack),
        "partition_table": table.kind.name(),
        "sector_size": (table.kind != TableKind::None).then_some(table.sector_size),
        "disk_id": (table.kind != TableKind::None).then_some(&table.id),
        "boot_code": table.boot_code,
        "partitions": partitions(stack).map(|(volume, part)| partition(volume, part)).collect::<Vec<_>>(),
        "volumes": stack.volumes().map(|volume| volume_object(stack, volume)).collect::<Vec<_>>(),
        "filesystems": stack.contents.iter().flat_map(|content| filesystems(stack, content)).collect::<Vec<_>>(),
        "guests": stack.guests.iter().map(guest_object).collect::<Vec<_>>(),
        "warnings": warnings(stack, size),
    })
}

/// Each disk of the machine, the first one included.
fn disks(stack: &Stack) -> Vec<Value> {
    let disk = |id: &str, image: &Opened, found: &Discovery| {
        json!({
            "id": id,
            "name": image.member,
            "format": own_format(image).0,
            "subformat": own_format(image).1,
            "virtual_size": image.disk.len(),
            "disk_size": image.disk.stored_size(),
            "partition_table": found.table.kind.name(),
            "partitions": parts(found).map(|(volume, part)| partition(volume, part)).collect::<Vec<_>>(),
        })
    };
    let first = disk("disk", &stack.image, &stack.discovery);
    let others = stack.others.iter().map(|other| disk(&other.id, &other.image, &other.discovery));
    std::iter::once(first).chain(others).collect()
}

/// A disk's own format and variant; those of an archive are the archive's with them behind: `ova`, `vmdk streamOptimized`.
fn own_format(image: &Opened) -> (&str, Option<&str>) {
    let variant = image.subformat.as_deref();
    match (image.format, variant) {
        ("ova" | "ovf" | "tar", Some(both)) => {
            both.split_once(' ').map_or((both, None), |(format, variant)| (format, Some(variant)))
        }
        (format, variant) => (format, variant),
    }
}

/// The partitions of the disk itself, not those inside something that is made of it.
fn parts(found: &Discovery) -> impl Iterator<Item = (&Volume, &Partition)> {
    let own = found.volumes.iter().filter(|volume| volume.made_of.is_empty());
    own.filter_map(|volume| Some((volume, volume.partition.as_ref()?)))
}

/// Those of the first disk.
fn partitions(stack: &Stack) -> impl Iterator<Item = (&Volume, &Partition)> {
    parts(&stack.discovery)
}

fn partition(volume: &Volume, part: &Partition) -> Value {
    json!({
        "id": volume.id,
        "start": part.start,
        "size": part.size,
        "type": part.type_code,
        "type_name": part.type_name,
        "name": plain(&part.name),
        "uuid": part.uuid,
        "bootable": part.bootable,
    })
}

fn kind(volume: &Volume) -> &'static str {
    match &volume.partition {
        Some(_) => "partition",
        None if volume.is_disk() => "disk",
        None => "volume",
    }
}

fn volume_object(stack: &Stack, volume: &Volume) -> Value {
    let content = content(stack, &volume.id).map(|content| &content.content);
    let locked = matches!(content, Some(Ok(Content::Known(name))) if LOCKED.contains(name));
    json!({
        "id": volume.id,
        "kind": kind(volume),
        "size": volume.source.len(),
        "locked": locked,
        "member_of": volume.claimed_by,
        "made_of": volume.made_of,
        "content": content.map(|content| match content {
            Ok(Content::Files(_)) => "files",
            Ok(Content::Member(_)) => "member",
            Ok(Content::Known(name)) => name,
            Ok(Content::Unknown) => "unknown",
            Err(_) => "unreadable",
        }),
    })
}

fn filesystems(stack: &Stack, content: &VolumeContent) -> Vec<Value> {
    match &content.content {
        Ok(Content::Files(fs)) => {
            let facts = fs.facts();
            vec![json!({
                "volume": content.volume,
                "type": facts.kind,
                "label": plain(&facts.label),
                "uuid": facts.uuid,
                "size": facts.size,
                "free": fs.free(),
                "block_size": facts.block_size,
                "inodes": facts.inodes,
                "free_inodes": facts.free_inodes,
                "state": facts.state.name(),
                "features": facts.features,
                "last_mounted": plain(&facts.last_mounted),
                "subvolumes": subvolumes(&**fs),
            })]
        }
        // Shown with the first device.
        Ok(Content::Member(_)) => Vec::new(),
        Ok(Content::Known(name)) => vec![json!({
            "volume": content.volume,
            "type": name,
            "size": stack.volume(&content.volume).map(|volume| volume.source.len()),
            "error": format!("{name} is not read by this version"),
        })],
        Ok(Content::Unknown) => Vec::new(),
        Err(error) => vec![json!({ "volume": content.volume, "type": null, "error": error.chain() })],
    }
}

/// The subvolumes of a file system that has such, else null.
fn subvolumes(fs: &dyn FileSystem) -> Value {
    let object = |one: &Subvolume| {
        json!({
            "id": one.id,
            "path": String::from_utf8_lossy(&one.path),
            "default": one.is_default,
            "read_only": one.is_read_only,
            "snapshot": one.parent.is_some(),
        })
    };
    match fs.subvolumes() {
        Ok(all) if all.is_empty() => Value::Null,
        Ok(all) => all.iter().map(object).collect(),
        Err(error) => json!({ "error": error.chain() }),
    }
}

fn guest_object(guest: &Guest) -> Value {
    let mounts: Vec<Value> = guest
        .tree
        .mounts()
        .iter()
        .map(|mount| {
            let (subvolume, bind) = match &mount.part {
                Part::Whole => (None, None),
                Part::Subvolume(path) => (Some(String::from_utf8_lossy(path)), None),
                Part::Bind(path) => (None, Some(String::from_utf8_lossy(path))),
            };
            json!({
                "path": String::from_utf8_lossy(&mount.path),
                "volume": mount.volume,
                "subvol": subvolume,
                "bind": bind,
            })
        })
        .collect();
    let kernels: Vec<String> = guest
        .kernels()
        .map_or_else(|_| Vec::new(), |kernels| kernels.iter().map(|kernel| plain(&kernel.release)).collect());
    json!({
        "type": guest.kind,
        "distro": plain(&guest.distro()),
        "version": plain(&guest.version()),
        "product": plain(&guest.product()),
        "arch": plain(&guest.arch()),
        "root": guest.root,
        "subvol": guest.subvolume().as_ref().map(plain),
        "mounts": mounts,
        "firmware": guest.firmware,
        "kernels": kernels,
        "windows": guest.windows().map(|windows| windows::object(guest, windows)),
    })
}

/// A guest's text for a JSON string, which escapes by itself.
fn plain(text: &Text) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

// For people.

fn text(stack: &Stack, size: &Result<Range>) -> String {
    let image = &stack.image;
    let mut page = String::new();
    let mut line = |text: String| {
        page.push_str(text.trim_end());
        page.push('\n');
    };
    let qemu =
        QEMU_NAMES.iter().find(|(ours, _)| *ours == image.format).map_or(image.format, |(_, name)| name);
    line(format!("image: {}", stack.name));
    line(format!("file format: {qemu}"));
    line(format!("virtual size: {} ({} bytes)", human_size(image.disk.len()), image.disk.len()));
    line(format!("disk size: {}", human_size(image.disk.stored_size())));
    let variant = image.subformat.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    line(format!("container: {}{variant}", image.format));
    for (name, value) in &image.facts {
        line(format!("    {name}: {value}"));
    }
    if let Ok(size) = size {
        let exact = human_size(size.max);
        line(if size.min == size.max {
            format!("size as QCOW2: {exact} ({} bytes)", size.max)
        } else {
            format!(
                "size as QCOW2: {} to {exact} ({} to {} bytes; exact with --full-scan)",
                human_size(size.min),
                size.min,
                size.max
            )
        });
    }
    if image.layers.len() > 1 {
        line("layers, the top first:".to_owned());
        for (number, layer) in image.layers.iter().enumerate() {
            let (size, format) = (human_size(layer.size), layer.format);
            line(match &layer.snapshot {
                Some(id) => format!("    {number}: snapshot {id} '{}' ({size})", layer.name),
                None => format!("    {number}: {} ({format}, {size})", layer.name),
            });
        }
    }
    table(&stack.discovery, stack.disk().len()).into_iter().for_each(&mut line);
    volumes(stack, &stack.discovery.volumes).into_iter().for_each(&mut line);
    parts_of_volumes(stack).into_iter().for_each(&mut line);
    for disk in &stack.others {
        let image = &disk.image;
        let variant = image.subformat.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let name = image.member.as_ref().map(|name| format!(": {name}")).unwrap_or_default();
        line(format!("{}{name} ({}{variant})", disk.id, image.format));
        line(format!(
            "virtual size of {}: {} ({} bytes)",
            disk.id,
            human_size(image.disk.len()),
            image.disk.len()
        ));
        table(&disk.discovery, image.disk.len()).into_iter().for_each(&mut line);
        volumes(stack, &disk.discovery.volumes).into_iter().for_each(&mut line);
    }
    if !stack.joined.is_empty() {
        line("made of several disks:".to_owned());
        volumes(stack, &stack.joined).into_iter().for_each(&mut line);
    }
    for (number, guest) in (1..).zip(&stack.guests) {
        let number = if stack.guests.len() > 1 { format!(" {number}") } else { String::new() };
        line(format!("operating system{number}: {}", guest_line(guest)));
        if let Some(windows) = guest.windows() {
            windows::lines(guest, windows).into_iter().for_each(&mut line);
            continue;
        }
        for mount in guest.tree.mounts() {
            let part = match &mount.part {
                Part::Whole => String::new(),
                Part::Subvolume(path) if path.is_empty() => ", top of all subvolumes".to_owned(),
                Part::Subvolume(path) => format!(", subvolume {}", escape(path)),
                Part::Bind(path) => format!(", from {}", escape(path)),
            };
            line(format!("    {} on {}{part}", mount.volume, escape(&mount.path)));
        }
        for kernel in guest.kernels().unwrap_or_default() {
            line(format!("    kernel {}", kernel.release));
        }
    }
    if stack.guests.is_empty() {
        why_no_guest(stack).into_iter().for_each(&mut line);
    }
    for warning in warnings(stack, size) {
        line(format!("warning: {warning}"));
    }
    page
}

fn guest_line(guest: &Guest) -> String {
    let (name, arch) = (guest.name(), guest.arch());
    let arch = if arch.is_empty() { String::new() } else { format!(" ({arch})") };
    let boots = if guest.firmware.is_empty() {
        String::new()
    } else {
        format!(", boots by {}", guest.firmware.join(" and "))
    };
    let subvolume = guest.subvolume().map(|path| format!(", subvolume {path}")).unwrap_or_default();
    format!("{name}{arch}, root on {}{subvolume}{boots}", guest.root)
}

fn table(found: &Discovery, size: u64) -> Vec<String> {
    let table = &found.table;
    let mut lines = vec![match table.kind {
        TableKind::None => "partition table: none".to_owned(),
        kind => {
            let hybrid = if table.hybrid { ", hybrid" } else { "" };
            let boot = if table.boot_code.is_empty() {
                String::new()
            } else {
                format!(", boot code: {}", table.boot_code)
            };
            format!(
                "partition table: {}{hybrid} (id {}, {}-byte sectors{boot})",
                kind.name(),
                table.id,
                table.sector_size
            )
        }
    }];
    lines.extend(picture(found, size));
    lines
}

/// The disk as a row of boxes, as wide as the partitions are large but for those too small for their name.
fn picture(found: &Discovery, size: u64) -> Vec<String> {
    let mut parts: Vec<(&str, &Partition)> =
        parts(found).map(|(volume, part)| (volume.id.as_str(), part)).collect();
    if parts.is_empty() || parts.len() > PICTURE_PARTS {
        return Vec::new();
    }
    parts.sort_by_key(|(_, part)| part.start);
    let disk = size.max(1);
    let columns = |size: u64| {
        let part =
            u128::from(size).saturating_mul(u128::from(PICTURE)).checked_div(u128::from(disk)).unwrap_or(0);
        usize::try_from(part).unwrap_or(0)
    };
    let mut boxes: Vec<(String, usize)> = Vec::new();
    let gap = |from: u64, to: u64, boxes: &mut Vec<(String, usize)>| {
        // What is smaller than a column is alignment, not free space.
        let size = to.saturating_sub(from);
        if columns(size) > 0 {
            boxes.push(("free".to_owned(), columns(size)));
        }
    };
    let mut at = 0;
    for (id, part) in parts {
        gap(at, part.start, &mut boxes);
        boxes.push((id.to_owned(), columns(part.size)));
        at = at.max(part.start.saturating_add(part.size));
    }
    gap(at, disk, &mut boxes);
    let (mut edge, mut middle) = ("    +".to_owned(), "    |".to_owned());
    for (name, width) in &boxes {
        let width = (*width).clamp(name.len().saturating_add(2), 80);
        let _ = write!(edge, "{}+", "-".repeat(width));
        let _ = write!(middle, "{:<width$}|", format!(" {name}"));
    }
    vec![edge.clone(), middle, edge]
}

fn volumes(stack: &Stack, found: &[Volume]) -> Vec<String> {
    let rows: Vec<[String; 5]> = found
        .iter()
        .map(|volume| {
            let part = volume.partition.as_ref();
            let dynamic = || volume.dynamic.as_ref().map(ToString::to_string).unwrap_or_default();
            let kind = part.map_or_else(dynamic, |part| {
                let boot = if part.bootable { ", bootable" } else { "" };
                let name = if part.type_name.is_empty() { &part.type_code } else { part.type_name };
                format!("{name}{boot}")
            });
            let start = part.map_or_else(
                || match volume.made_of.as_slice() {
                    [] => String::new(),
                    of => format!("of {}", of.join(", ")),
                },
                |part| format!("at {}", human_size(part.start)),
            );
            let what = content(stack, &volume.id).map_or_else(
                || volume.claimed_by.map(|manager| format!("member of {manager}")).unwrap_or_default(),
                |content| what(stack, content),
            );
            [volume.id.clone(), start, human_size(volume.source.len()), kind, what]
        })
        .collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let (id, start, size, kind) = (width(0), width(1), width(2), width(3));
    rows.iter()
        .map(|[a, b, c, d, e]| format!("    {a:<id$}  {b:<start$}  {c:>size$}  {d:<kind$}  {e}"))
        .collect()
}

/// The subvolumes of each file system that has such, but for the top itself.
fn parts_of_volumes(stack: &Stack) -> Vec<String> {
    let mut lines = Vec::new();
    for (volume, fs) in stack.filesystems() {
        // Why they cannot be listed is said where they are needed.
        let all = fs.subvolumes().unwrap_or_default();
        let inner: Vec<&Subvolume> = all.iter().filter(|one| !one.path.is_empty()).collect();
        for one in inner.iter().take(SUBVOLUMES) {
            let default = if one.is_default { ", default" } else { "" };
            let snapshot = if one.parent.is_some() { ", snapshot" } else { "" };
            let fixed = if one.is_read_only { ", read-only" } else { "" };
            lines.push(format!(
                "    {volume} subvolume {}: {}{default}{snapshot}{fixed}",
                one.id,
                escape(&one.path)
            ));
        }
        if inner.len() > SUBVOLUMES {
            lines.push(format!("    {volume}: {} subvolumes more", inner.len().saturating_sub(SUBVOLUMES)));
        }
    }
    lines
}

/// What stands on a volume, in words.
fn what(stack: &Stack, content: &VolumeContent) -> String {
    match &content.content {
        Ok(Content::Files(fs)) => fs_line(&fs.facts(), fs.free()),
        Ok(Content::Member(first)) => format!("a further device of {}", volume_at(stack, *first)),
        Ok(Content::Known(name)) => (*name).to_owned(),
        Ok(Content::Unknown) => "no signature we know".to_owned(),
        Err(error) => format!("cannot be read: {}", error.chain()),
    }
}

/// The id of the volume on which a file system of several devices is shown.
fn volume_at(stack: &Stack, at: usize) -> &str {
    stack.contents.get(at).map_or("another volume", |content| &content.volume)
}

fn fs_line(facts: &FsFacts, free: Option<u64>) -> String {
    let mut text = facts.kind.to_owned();
    if !facts.label.is_empty() {
        let _ = write!(text, " \"{}\"", facts.label);
    }
    if let Some(uuid) = &facts.uuid {
        let _ = write!(text, " {uuid}");
    }
    let _ = write!(
        text,
        ", {} free of {}, {}",
        free.map_or_else(|| "unknown".to_owned(), human_size),
        human_size(facts.size),
        facts.state.name()
    );
    text
}

/// The chain of what was seen, where no operating system was found at its end.
fn why_no_guest(stack: &Stack) -> Vec<String> {
    let mut lines = vec!["no operating system was found; what was seen:".to_owned()];
    lines.push(format!(
        "    container: {}, opened; its disk has {} bytes",
        stack.image.format,
        stack.disk().len()
    ));
    lines.push(format!(
        "    partition table: {}, {} partitions",
        stack.discovery.table.kind.name(),
        partitions(stack).count()
    ));
    for volume in stack.volumes() {
        let seen = match content(stack, &volume.id).map(|content| &content.content) {
            Some(Ok(Content::Files(fs))) => format!("{} {}", fs.facts().kind, no_root(&volume.id, fs)),
            Some(Ok(Content::Member(first))) => format!("a further device of {}", volume_at(stack, *first)),
            Some(Ok(Content::Known(name))) => format!("{name}, which this version does not look into"),
            Some(Ok(Content::Unknown)) => {
                format!("no signature we know; it begins with {}", first_bytes(volume))
            }
            Some(Err(error)) => format!("its signature is known, but: {}", error.chain()),
            None => format!("member of {}", volume.claimed_by.unwrap_or("something")),
        };
        lines.push(format!("    {}: {seen}", volume.id));
    }
    lines.push(format!("next step: {}", next_step(stack)));
    lines
}

/// Why a file system is not the root of a system.
fn no_root(volume: &str, fs: &Arc<dyn FileSystem>) -> String {
    let what = match role(volume, fs).map(|role| role.purpose) {
        Ok(Purpose::Boot) => "of a boot partition",
        Ok(Purpose::Installer) => "of an installation medium",
        Ok(Purpose::Recovery) => "to repair a Windows with",
        Ok(Purpose::Part) => "of a part of a system",
        Ok(Purpose::Empty) => return "without a file".to_owned(),
        Ok(Purpose::Root | Purpose::Windows | Purpose::Data) => {
            return "with files, but it is no root of a system we know".to_owned();
        }
        Err(error) => return format!("that cannot be looked through: {}", error.chain()),
    };
    format!("with files {what}, but it is no root of a system we know")
}

/// How to open what is locked.
fn locked_step(stack: &Stack) -> String {
    let is_locked = |content: &&VolumeContent| matches!(&content.content, Ok(Content::Known(kind)) if LOCKED.contains(kind));
    match stack.contents.iter().find(is_locked) {
        Some(content) => format!("{0} is locked: give its key, as in --key {0}:file:FILE", content.volume),
        None => "a volume is locked in a way that this version does not open: unlock it elsewhere".to_owned(),
    }
}

fn first_bytes(volume: &Volume) -> String {
    let mut bytes = vec![0; FIRST_BYTES.min(crate::num::narrow(volume.source.len()))];
    match volume.source.read_at(&mut bytes, 0) {
        Ok(()) => bytes.iter().map(|byte| hex(&[*byte])).collect::<Vec<_>>().join(" "),
        Err(error) => error.chain(),
    }
}

fn next_step(stack: &Stack) -> String {
    let contents = || stack.contents.iter().map(|content| &content.content);
    let known = |names: &[&str]| {
        contents().any(|content| matches!(content, Ok(Content::Known(name)) if names.contains(name)))
    };
    let is_unread = |content: &Result<Content>| matches!(content, Ok(Content::Known(kind)) if !LOCKED.contains(kind) && *kind != "swap");
    if let Some((volume, _)) = stack.filesystems().next()
        && !contents().any(|content| content.is_err() || is_unread(content))
        && !known(LOCKED)
    {
        return format!("if it is a data disk, all is well: imgmount ls {}:{volume}:/", stack.name);
    }
    if known(LOCKED) {
        return locked_step(stack);
    }
    if contents().any(Result::is_err) {
        return format!(
            "a damaged or cut image? compare its size and sum with the original: imgmount hash --container {}",
            stack.name
        );
    }
    if contents().any(|content| matches!(content, Ok(Content::Known(_)))) {
        return format!(
            "read the volume with its own tools: imgmount serve {} gives it as a block device",
            stack.name
        );
    }
    "is it the right file? an empty disk, an installer's data or an encrypted volume without a header look like this".to_owned()
}
