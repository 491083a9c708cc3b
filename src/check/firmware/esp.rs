//! What a UEFI firmware starts: the loaders on the EFI system partitions.

use super::{Chain, End};
use crate::check::{Evidence, Fact, Subject, words};
use crate::error::{Error, Result};
use crate::fs::Content;
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use crate::guest::pe::Program;
use crate::text::escape;
use std::sync::Arc;

/// GPT type of an EFI system partition, UEFI specification 2.10, table 5-7; and its type in an MBR.
const TYPES: &[&str] = &["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"];
/// Directories below `/EFI`, and programs in them, that are looked at: one for each system that was ever installed.
const MAX_DIRS: usize = 32;
const MAX_PROGRAMS: usize = 64;

/// The EFI system partitions of the disk: `subject.fact::<Uefi>()`.
#[derive(Debug)]
pub(in crate::check) struct Uefi {
    /// Each of them.
    pub(in crate::check) partitions: Vec<Esp>,
}

/// One EFI system partition.
#[derive(Debug)]
pub(in crate::check) struct Esp {
    /// Its volume.
    pub(in crate::check) volume: String,
    /// The programs on it, or why they are not known.
    pub(in crate::check) programs: Result<Vec<EfiFile>>,
    /// GRUB's configuration beside its program: it only says where the real one is.
    stubs: Vec<GuestFile>,
}

/// A program on it.
#[derive(Clone, Debug)]
pub(in crate::check) struct EfiFile {
    /// Its path, as stored.
    pub(in crate::check) path: Vec<u8>,
    /// The machine that it is for; `None` when it is no program.
    pub(in crate::check) machine: Option<String>,
    /// The partition.
    volume: String,
}

impl EfiFile {
    /// The file as evidence.
    pub(in crate::check) fn evidence(&self) -> Evidence {
        let what = self.machine.as_ref().map_or_else(
            || "no program: it has no PE header".to_owned(),
            |machine| format!("a loader for {machine}"),
        );
        Evidence::new(what).on(&self.volume).path(&self.path)
    }

    /// Is it where a firmware looks that was told nothing?
    pub(in crate::check) fn is_removable(&self) -> bool {
        self.path.to_ascii_lowercase().starts_with(b"/efi/boot/")
    }
}

/// The name under which a firmware of this machine looks for a loader (UEFI specification 2.10, table 3.5).
pub(in crate::check) fn removable_name(machine: &str) -> &'static str {
    match machine {
        "i386" => "BOOTIA32.EFI",
        "aarch64" => "BOOTAA64.EFI",
        "arm" => "BOOTARM.EFI",
        "riscv64" => "BOOTRISCV64.EFI",
        "loongarch64" => "BOOTLOONGARCH64.EFI",
        _ => "BOOTX64.EFI",
    }
}

impl Fact for Uefi {
    fn read(subject: &Subject<'_>) -> Result<Self> {
        let is_esp = |code: &str| TYPES.contains(&code);
        let volumes = subject.stack.discovery.volumes.iter();
        let found = volumes
            .filter(|volume| volume.partition.as_ref().is_some_and(|partition| is_esp(&partition.type_code)));
        Ok(Self { partitions: found.map(|volume| esp(subject, &volume.id)).collect() })
    }
}

fn esp(subject: &Subject<'_>, id: &str) -> Esp {
    let content = subject.stack.contents.iter().find(|content| content.volume == id);
    let tree = match content.map(|content| &content.content) {
        Some(Ok(Content::Files(fs))) => Ok(Tree::new(id, Arc::clone(fs))),
        Some(Err(error)) => Err(error.clone().context(id)),
        // No file system at all, such as zeros: no programs either.
        Some(Ok(Content::Unknown)) | None => {
            return Esp { volume: id.to_owned(), programs: Ok(Vec::new()), stubs: Vec::new() };
        }
        Some(Ok(_)) => Err(Error::unsupported(format!("{id} holds something that is not read"))),
    };
    let looked = tree.and_then(|tree| programs(&tree, id));
    let (programs, stubs) = match looked {
        Ok((programs, stubs)) => (Ok(programs), stubs),
        Err(error) => (Err(error), Vec::new()),
    };
    Esp { volume: id.to_owned(), programs, stubs }
}

fn programs(tree: &Tree, id: &str) -> Result<(Vec<EfiFile>, Vec<GuestFile>)> {
    let (mut programs, mut stubs) = (Vec::new(), Vec::new());
    let mut directories: Vec<Vec<u8>> = file::names(tree, "/EFI")?.into_iter().take(MAX_DIRS).collect();
    // The only one that puts its loader a level deeper.
    directories.push(b"Microsoft/Boot".to_vec());
    for directory in directories {
        let directory = [b"/EFI/", directory.as_slice()].concat();
        for name in file::names(tree, &directory)? {
            let path = [directory.as_slice(), b"/", &name].concat();
            let lower = name.to_ascii_lowercase();
            if lower == b"grub.cfg" {
                stubs.extend(file::read(tree, &path, MAX_CONFIG)?);
            }
            if !lower.ends_with(b".efi") || programs.len() >= MAX_PROGRAMS {
                continue;
            }
            let Some(node) = tree.find(&path)? else { continue };
            let program = Program::read(tree, node).map_err(|error| error.context(escape(&path)))?;
            let machine = program.map(|program| program.machine);
            programs.push(EfiFile { path, machine, volume: id.to_owned() });
        }
    }
    Ok((programs, stubs))
}

impl Uefi {
    /// The way of a UEFI firmware to a loader for this machine; any loader counts where the machine is not known.
    pub(in crate::check) fn chain(&self, subject: &Subject<'_>, machine: &str) -> Chain {
        let mut steps = Vec::new();
        let end = self.follow(subject, machine, &mut steps);
        Chain { steps, end }
    }

    fn follow(&self, subject: &Subject<'_>, machine: &str, steps: &mut Vec<Evidence>) -> End {
        if self.partitions.is_empty() {
            return End::broken(words!("The disk has no EFI system partition.", "磁盘没有 EFI 系统分区。"));
        }
        let mut others = None;
        for esp in &self.partitions {
            let programs = match &esp.programs {
                Ok(programs) => programs,
                Err(error) => return End::Unknown(error.clone()),
            };
            steps.push(
                Evidence::new(format!("EFI system partition with {} programs", programs.len()))
                    .on(&esp.volume),
            );
            let fits = |file: &&EfiFile| {
                file.machine.as_ref().is_some_and(|own| machine.is_empty() || runs_on(own, machine))
            };
            let mut fitting: Vec<&EfiFile> = programs.iter().filter(fits).collect();
            fitting.sort_by_key(|file| !file.is_removable());
            if let Some(first) = fitting.first() {
                steps.push(first.evidence());
                if let Some(broken) = lost(subject, &esp.stubs, steps) {
                    return broken;
                }
                return End::Loader("UEFI");
            }
            others = others.or_else(|| programs.first());
        }
        let Some(other) = others else {
            return End::broken(words!(
                "The EFI system partition holds no loader.",
                "EFI 系统分区中没有引导程序。"
            ));
        };
        steps.push(other.evidence());
        let (path, own) = (escape(&other.path), other.machine.as_deref().unwrap_or("nothing"));
        End::broken(words!(
            "The EFI system partition holds no loader for {machine}: {path} is for {own}.",
            "EFI 系统分区中没有适用于 {machine} 的引导程序：{path} 适用于 {own}。"
        ))
    }
}

/// A 32-bit system may be started by the firmware of the 64-bit machine that it runs on.
fn runs_on(loader: &str, machine: &str) -> bool {
    loader == machine || (machine == "i386" && loader == "x86_64")
}

/// GRUB's configuration on the partition names the file system with the real one; `None` unless all name absent ones.
fn lost(subject: &Subject<'_>, stubs: &[GuestFile], steps: &mut Vec<Evidence>) -> Option<End> {
    let devices = &subject.stack.devices;
    let is_there = |uuid: &str| {
        devices.iter().any(|device| {
            device.uuid.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(uuid))
                || device.may_hide_an_identity()
        })
    };
    let named: Vec<(&GuestFile, u64, &[u8], String)> = stubs
        .iter()
        .filter_map(|stub| named(stub).map(|(line, text, uuid)| (stub, line, text, uuid)))
        .collect();
    let all_lost = named.len() == stubs.len() && named.iter().all(|(.., uuid)| !is_there(uuid));
    let (stub, line, text, uuid) = named.first().filter(|_| all_lost)?;
    steps.push(stub.evidence("where GRUB looks for its menu").line(*line, text));
    let path = escape(&stub.path);
    let uuid = escape(uuid.as_bytes());
    Some(End::broken(words!(
        "{path} on the EFI system partition looks for the menu on the file system {uuid}, which is not in this image.",
        "EFI 系统分区上的 {path} 到文件系统 {uuid} 中寻找菜单，但该文件系统不在此镜像中。"
    )))
}

/// `search.fs_uuid UUID root hd0,gpt2` of Debian, `search --no-floppy --fs-uuid --set=dev UUID` of Red Hat; only in a
/// file that then loads another.
fn named(stub: &GuestFile) -> Option<(u64, &[u8], String)> {
    let words = |text: &[u8]| -> Vec<Vec<u8>> {
        text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
    };
    stub.lines().find(|(_, text)| words(text).first().is_some_and(|word| word == b"configfile"))?;
    stub.lines().find_map(|(line, text)| {
        let words = words(text);
        let command = words.first()?;
        let is_uuid = |word: &&Vec<u8>| {
            word.len() >= 8 && word.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
        };
        let by_uuid = command == b"search.fs_uuid"
            || (command == b"search" && words.iter().any(|word| word == b"--fs-uuid" || word == b"-u"));
        let uuid = words.iter().skip(1).filter(|_| by_uuid).find(is_uuid)?;
        Some((line, text, std::str::from_utf8(uuid).ok()?.to_owned()))
    })
}
