//! What each volume of a machine's disks is: the chain from the disk over its table down to every file system, as it was
//! followed in search of a system. It is the ground for saying that a system is not there at all.

use super::{Evidence, Words, human, words};
use crate::error::Error;
use crate::fs::Content;
use crate::guest::role::{Purpose, Role, role};
use crate::stack::Stack;
use crate::volume::{TableKind, Volume};

/// The volumes, looked through.
#[derive(Debug, Default)]
pub struct Survey {
    /// Every volume, members and containers included, in disk order.
    pub volumes: Vec<Surveyed>,
    /// Why a system may be there although none was found, one sentence each.
    pub unread: Vec<String>,
    /// The disk has no partition table and starts with nothing that we know.
    pub is_no_disk: bool,
    /// The disk, or every partition on it, is all zero where a signature would stand.
    pub is_blank: bool,
    /// Disks and their tables, a line of evidence each.
    tables: Vec<Evidence>,
}

/// One volume.
#[derive(Debug)]
pub struct Surveyed {
    /// Its id.
    pub volume: String,
    /// Bytes.
    pub size: u64,
    /// What is on it.
    pub what: What,
}

/// What is on a volume.
#[derive(Debug)]
pub enum What {
    /// A file system that was read, of this kind.
    Files(&'static str, Role),
    /// Something that never holds the root of a system: swap, FAT, an optical disc.
    NoRoot(&'static str),
    /// A further device of a file system that is shown on another volume.
    Further(String),
    /// Other volumes are made of it, by this manager.
    Container(&'static str),
    /// Something with a signature that is not read: locked, a member of what cannot be put together, a file system of
    /// another world.
    Foreign(&'static str),
    /// It could not be read.
    Failed(Error),
    /// A partition that is meant to hold no file system.
    Raw(&'static str),
    /// All zero where a signature would stand.
    Blank,
    /// Nothing that we know.
    Unknown,
}

/// What never holds the root of a system that a cloud could import.
const NO_ROOT: &[&str] = &["swap", "vfat", "exfat", "iso9660"];
/// Partition types that are meant to hold no file system: BIOS boot (GRUB's core image), PReP, Microsoft reserved, and
/// the database of dynamic disks.
const RAW_TYPES: &[&str] = &[
    "21686148-6449-6e6f-744e-656564454649",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
    "0x41",
];

/// What is not read, in words: `blkid`'s word, then both languages.
const FOREIGN: &[(&str, &str, &str)] = &[
    ("crypto_LUKS", "a LUKS volume, which is locked", "已加密的 LUKS 卷"),
    ("BitLocker", "a BitLocker volume, which is locked", "已加密的 BitLocker 卷"),
    (
        "LVM2_member",
        "a physical volume of LVM whose volume group could not be put together",
        "LVM 物理卷，其卷组无法组装",
    ),
    ("LVM1_member", "a physical volume of LVM 1", "LVM 1 物理卷"),
    ("zfs_member", "a member of a ZFS pool", "ZFS 存储池成员"),
    (
        "storage_spaces",
        "a member of a Windows storage pool (Storage Spaces)",
        "Windows 存储空间（Storage Spaces）成员",
    ),
    ("linux_raid_member", "a member of a Linux software RAID", "Linux 软 RAID 成员"),
    ("isw_raid_member", "a member of an Intel firmware RAID", "Intel 固件 RAID 成员"),
    ("ddf_raid_member", "a member of a RAID controller's array (DDF)", "RAID 控制器阵列（DDF）成员"),
    ("VMFS_volume_member", "a VMFS datastore of VMware", "VMware VMFS 数据存储"),
    ("VMFS", "a VMFS datastore of VMware", "VMware VMFS 数据存储"),
    ("apfs", "an APFS container of macOS", "macOS 的 APFS 容器"),
    ("hfsplus", "an HFS+ file system of macOS", "macOS 的 HFS+ 文件系统"),
    ("ufs", "a UFS file system of a BSD", "BSD 的 UFS 文件系统"),
    ("swsuspend", "the memory of a system that hibernates", "休眠系统的内存数据"),
    ("bcache", "a bcache device", "bcache 设备"),
    ("drbd", "a DRBD device", "DRBD 设备"),
    ("vdo", "a VDO device", "VDO 设备"),
    ("ceph_bluestore", "a Ceph OSD", "Ceph OSD"),
];

impl Survey {
    /// Looks through every volume of every disk.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        let is_blank = stack.devices.iter().all(|device| device.is_blank);
        let mut found = Self { is_blank, tables: tables(stack), ..Self::default() };
        for volume in stack.volumes() {
            let what = found.look(stack, volume);
            if let Some(why) = why_unread(&volume.id, &what) {
                found.unread.push(why);
            }
            found.volumes.push(Surveyed { volume: volume.id.clone(), size: volume.source.len(), what });
        }
        for found_on in
            std::iter::once(&stack.discovery).chain(stack.others.iter().map(|disk| &disk.discovery))
        {
            if found_on.table.kind == TableKind::None {
                // What is said of a volume that was made is said of that volume.
                let is_of_volume = |line: &&String| {
                    let volume = line.split_once(": ").and_then(|(id, _)| stack.volume(id));
                    volume.is_some_and(|volume| !volume.is_disk())
                };
                found.unread.extend(found_on.warnings.iter().filter(|line| !is_of_volume(line)).cloned());
            }
        }
        found
    }

    fn look(&mut self, stack: &Stack, volume: &Volume) -> What {
        if let Some(manager) = volume.claimed_by {
            // Its volumes are in the list themselves, but for those of a pool that is not put together.
            return if manager == "storage_spaces" {
                What::Foreign(manager)
            } else {
                What::Container(manager)
            };
        }
        let Some(content) = stack.contents.iter().find(|content| content.volume == volume.id) else {
            return What::Unknown;
        };
        match &content.content {
            Err(error) => What::Failed(error.clone()),
            Ok(Content::Files(fs)) => match role(&volume.id, fs) {
                Ok(role) => What::Files(fs.facts().kind, role),
                Err(error) => What::Failed(error),
            },
            Ok(Content::Member(first)) => {
                let whole = stack.contents.get(*first).map(|whole| whole.volume.clone());
                What::Further(whole.unwrap_or_default())
            }
            Ok(Content::Known(kind)) if NO_ROOT.contains(kind) => What::NoRoot(kind),
            Ok(Content::Known(kind)) => What::Foreign(kind),
            Ok(Content::Unknown) => self.unknown(stack, volume),
        }
    }

    fn unknown(&mut self, stack: &Stack, volume: &Volume) -> What {
        let device = stack.devices.iter().find(|device| device.volume == volume.id);
        let raw =
            volume.partition.as_ref().filter(|partition| RAW_TYPES.contains(&partition.type_code.as_str()));
        if let Some(partition) = raw {
            return What::Raw(partition.type_name);
        }
        if volume.id == "disk" {
            self.is_no_disk = true;
        }
        if device.is_some_and(|device| device.is_blank) { What::Blank } else { What::Unknown }
    }

    /// The roles of the file systems that were read.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Role)> {
        self.volumes.iter().filter_map(|volume| match &volume.what {
            What::Files(_, role) => Some((volume.volume.as_str(), role)),
            _ => None,
        })
    }

    /// Is there a file system for this?
    #[must_use]
    pub fn has(&self, purpose: Purpose) -> bool {
        self.roles().any(|(_, role)| role.purpose == purpose)
    }

    /// Is there something of this kind, read or not?
    #[must_use]
    pub fn has_kind(&self, wanted: &str) -> bool {
        self.volumes.iter().any(|volume| match &volume.what {
            What::Files(kind, _) | What::NoRoot(kind) | What::Foreign(kind) => *kind == wanted,
            _ => false,
        })
    }

    /// The chain that was followed: each disk with its table, then each volume and what it is.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        /// More would bury the finding.
        const SHOWN: usize = 24;
        let volumes = self.volumes.iter().map(Surveyed::evidence).take(SHOWN);
        let more = self.volumes.len().checked_sub(SHOWN).filter(|more| *more > 0);
        let more = more.map(|more| Evidence::new(format!("and {more} volumes more")));
        self.tables.iter().cloned().chain(volumes).chain(more).collect()
    }
}

impl Surveyed {
    fn evidence(&self) -> Evidence {
        let says = self.what.says().en;
        let shown = match &self.what {
            What::Files(_, role) => role.evidence.first(),
            _ => None,
        };
        let evidence = match shown {
            Some(seen) => {
                Evidence { what: format!("{}: {says}: {}", human(self.size), seen.what), ..seen.clone() }
            }
            None => Evidence::new(format!("{}: {says}", human(self.size))),
        };
        evidence.on(&self.volume)
    }
}

impl What {
    /// What it is, as the end of a sentence.
    #[must_use]
    pub fn says(&self) -> Words {
        match self {
            Self::Files(kind, role) => {
                let (en, zh) = purpose(role.purpose);
                words!("{kind}, {en}", "{kind}，{zh}")
            }
            Self::NoRoot("swap") => words!("swap space", "交换分区"),
            Self::NoRoot("iso9660") => words!("an optical disc (ISO 9660)", "光盘（ISO 9660）"),
            Self::NoRoot(kind) => words!("{kind}, which holds no system", "{kind}，不含系统"),
            Self::Further(whole) => words!("a further device of {whole}", "{whole} 的另一个设备"),
            Self::Container(manager) => words!("taken apart by {manager}", "由 {manager} 管理的容器"),
            Self::Foreign(kind) => match FOREIGN.iter().find(|(name, ..)| name == kind) {
                Some((_, en, zh)) => words!("{en}", "{zh}"),
                None => words!("{kind}, which is not read", "{kind}，无法读取"),
            },
            Self::Failed(error) => {
                let why = error.chain();
                words!("could not be read: {why}", "无法读取：{why}")
            }
            Self::Raw("") => words!("no file system, as its type says", "按分区类型不含文件系统"),
            Self::Raw(name) => words!("{name}, without a file system", "{name}，不含文件系统"),
            Self::Blank => words!("empty: nothing but zeros at its start", "空白：开头全为零"),
            Self::Unknown => words!("nothing that is known", "内容无法识别"),
        }
    }
}

/// What a file system is for, in words.
const fn purpose(purpose: Purpose) -> (&'static str, &'static str) {
    match purpose {
        Purpose::Root => ("the root of a Linux system", "Linux 系统的根分区"),
        Purpose::Windows => ("a Windows system", "Windows 系统分区"),
        Purpose::Boot => ("a boot partition", "引导分区"),
        Purpose::Installer => ("an installation medium", "安装介质"),
        Purpose::Recovery => ("a recovery partition", "恢复分区"),
        Purpose::Part => ("a part of a system, without its root", "系统的一部分（不含根）"),
        Purpose::Data => ("data", "数据"),
        Purpose::Empty => ("no files", "没有文件"),
    }
}

/// Why a system may be there although none was found on this volume.
fn why_unread(volume: &str, what: &What) -> Option<String> {
    match what {
        // A disk without anything that is known on it is a wrong file, which is said in other words.
        What::Unknown if volume != "disk" => Some(format!("{volume} holds something unknown")),
        What::Failed(error) => Some(format!("{volume} could not be read: {}", error.chain())),
        What::Foreign(kind) => {
            let says = what.says().en;
            Some(if says.starts_with(kind) {
                format!("{volume} holds {says}")
            } else {
                format!("{volume} holds {kind}: {says}")
            })
        }
        _ => None,
    }
}

/// Each disk of the machine with its table.
fn tables(stack: &Stack) -> Vec<Evidence> {
    let first = std::iter::once(("disk", &stack.image, &stack.discovery));
    let further = stack.others.iter().map(|disk| (disk.id.as_str(), &disk.image, &disk.discovery));
    first
        .chain(further)
        .map(|(id, image, found)| {
            let member = image.member.as_ref().map(|member| format!(" ({member})")).unwrap_or_default();
            let partitions = found.volumes.iter().filter(|volume| volume.partition.is_some()).count();
            let table = match found.table.kind {
                TableKind::None => "no partition table".to_owned(),
                kind => format!("{} partition table, {partitions} partitions", kind.name()),
            };
            Evidence::new(format!("{}{member}, {}: {table}", image.format, human(image.disk.len()))).on(id)
        })
        .collect()
}
