//! Damaged file systems of every kind: no panic, no operation over a second of processor time, memory bounded.
//!
//! Small file systems are made by the real tools. A walk over each tells which sectors hold its metadata; mutants change a
//! few bytes there, exchange blocks, or end early. A sum that would hide the change from the parser behind it is made good
//! in every other mutant, where that is easy. Each kind runs in a process of its own, so that its memory can be told.
//!
//! `IMGMOUNT_MUTATIONS=20000` sets the number of mutants of all kinds together; `IMGMOUNT_MUTANT=xfs:123` runs one alone.

use super::*;
use imgmount::checksum::crc32c;
use imgmount::fs::FILESYSTEMS;
use std::collections::{BTreeSet, HashMap};
use std::process::Command;

/// Mutants of all kinds together in an ordinary run, and the time that a kind may take for its share.
const MUTATIONS: usize = 4000;
const TIME_OF_KIND: Duration = Duration::from_millis(700);
/// Growth of memory that a mutant may cause, and of it the part that is the cache of each file system.
const MEMORY: u64 = 256 << 20;
/// Processor time of one operation.
const LIMIT: Duration = Duration::from_secs(1);
/// A mutant that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);

const SECTOR: u64 = 512;

/// A kind of file system: how its sample is made in `$DIR`, from the folder `$TREE`, as `$DISK`; or what makes it otherwise.
struct Kind {
    name: &'static str,
    needs: &'static [&'static str],
    make: &'static str,
    made: fn(&Path),
    restamp: fn(&mut Changed, u64),
}

const fn kind(name: &'static str, needs: &'static [&'static str], make: &'static str) -> Kind {
    Kind { name, needs, make, made: |_| {}, restamp: |_, _| {} }
}

/// Copies the tree into a new file system, and, if there is more to do, takes the image while it is mounted.
macro_rules! filled {
    ($mkfs:literal) => {
        concat!($mkfs, "; mkdir $DIR/mnt; mount -o loop $DISK $DIR/mnt; cp -a $TREE/. $DIR/mnt; umount $DIR/mnt; released $DISK")
    };
    ($mkfs:literal, dirty) => {
        concat!(
            $mkfs,
            "; mkdir $DIR/mnt; mount -o loop $DISK $DIR/mnt; cp -a $TREE/. $DIR/mnt; sync $DIR/mnt/; \
             cp -a $TREE $DIR/mnt/again; rm -r $DIR/mnt/many; seq 100 > $DIR/mnt/last; sync $DIR/mnt/last; \
             cp --sparse=always $DISK $DIR/copy; umount $DIR/mnt; released $DISK; mv $DIR/copy $DISK"
        )
    };
}

/// Fills a new NTFS through ntfs-3g, from within its root, with `$MAKE` the folder of scripts.
macro_rules! served {
    ($mkntfs:literal, $options:literal, $fill:literal) => {
        concat!(
            $mkntfs,
            " $DISK >&2; mkdir $DIR/mnt; ntfs-3g -o no_detach,",
            $options,
            " $DISK $DIR/mnt & until mountpoint -q $DIR/mnt; do kill -0 $!; sleep 0.01; done; (cd $DIR/mnt; ",
            $fill,
            "); umount $DIR/mnt; wait $!"
        )
    };
}

const EXT: &[&str] = &["mke2fs"];
const MOUNTED: &[&str] = &["root", "loop"];

const KINDS: &[Kind] = &[
    kind("ext2", EXT, "mke2fs -q -t ext2 -b 1024 -d $TREE $DISK 4M"),
    kind("ext3", EXT, "mke2fs -q -t ext3 -b 2048 -J size=4 -d $TREE $DISK 16M"),
    kind("ext4", EXT, "mke2fs -q -t ext4 -O ^metadata_csum,inline_data,ea_inode -d $TREE $DISK 16M"),
    kind("ext4-sums", EXT, "mke2fs -q -t ext4 -O metadata_csum,64bit -d $TREE $DISK 16M"),
    kind(
        "ext4-dirty",
        MOUNTED,
        filled!("truncate -s 16M $DISK; mke2fs -q -t ext4 -b 1024 -O ^metadata_csum $DISK", dirty),
    ),
    Kind {
        restamp: xfs_sums,
        ..kind("xfs", MOUNTED, filled!("truncate -s 300M $DISK; mkfs.xfs -q -n size=8192 $DISK"))
    },
    Kind {
        restamp: xfs_sums,
        ..kind("xfs-dirty", MOUNTED, filled!("truncate -s 300M $DISK; mkfs.xfs -q $DISK", dirty))
    },
    kind(
        "xfs-4",
        &["mkfs.xfs"],
        "truncate -s 300M $DISK; (echo /; echo 1 1; echo d--755 0 0; \
         for n in $(seq 60); do echo \"file-with-a-name-$n ---644 1 2 $TREE/text\"; done; \
         echo 'link l--777 0 0 text'; echo 'dir d--755 0 0'; echo \"x ---600 0 0 $TREE/text\"; echo $; echo $) > $DIR/proto; \
         mkfs.xfs -q -m crc=0,finobt=0 -p $DIR/proto $DISK",
    ),
    Kind {
        restamp: btrfs_sums,
        ..kind("btrfs", &["mkfs.btrfs"], "truncate -s 110M $DISK; mkfs.btrfs -q -r $TREE $DISK")
    },
    Kind {
        restamp: btrfs_sums,
        ..kind(
            "btrfs-packed",
            MOUNTED,
            "truncate -s 120M $DISK; mkfs.btrfs -q -m single -d single $DISK; mkdir $DIR/mnt; \
         mount -o loop,compress-force=zstd $DISK $DIR/mnt; cp -a $TREE/. $DIR/mnt; btrfs -q subvolume snapshot $DIR/mnt $DIR/mnt/snap; \
         umount $DIR/mnt; released $DISK",
        )
    },
    kind(
        "vfat-12",
        &["mkfs.vfat", "mcopy"],
        "truncate -s 2M $DISK; mkfs.vfat -F 12 $DISK; mcopy -i $DISK -s -Q $TREE/text $TREE/many $TREE/deep ::",
    ),
    kind(
        "vfat-16",
        &["mkfs.vfat", "mcopy"],
        "truncate -s 20M $DISK; mkfs.vfat -F 16 $DISK; mcopy -i $DISK -s -Q $TREE/text $TREE/many $TREE/deep ::",
    ),
    kind(
        "vfat-32",
        &["mkfs.vfat", "mcopy"],
        "truncate -s 40M $DISK; mkfs.vfat -F 32 $DISK; mcopy -i $DISK -s -Q $TREE/text $TREE/many $TREE/deep ::",
    ),
    kind(
        "exfat",
        &["mkfs.exfat", "mount.exfat-fuse", "root", "loop", "fuse"],
        "truncate -s 8M $DISK; mkfs.exfat $DISK; mkdir $DIR/mnt; \
         dev=$(losetup -f --show $DISK); mount.exfat-fuse $dev $DIR/mnt >&2; cp -r $TREE/text $TREE/many $TREE/deep $DIR/mnt; \
         umount $DIR/mnt; losetup -d $dev; released $DISK",
    ),
    kind("iso9660", &["genisoimage"], "genisoimage -quiet -R -J -o $DISK $TREE"),
    Kind { restamp: udf_sums, ..kind("udf", &["genisoimage"], "genisoimage -quiet -udf -R -o $DISK $TREE") },
    kind("squashfs", &["mksquashfs"], "mksquashfs $TREE $DISK -quiet -no-progress -b 4K"),
    kind(
        "squashfs-plain",
        &["mksquashfs"],
        "mksquashfs $TREE $DISK -quiet -no-progress -b 4K -noI -noX -noId -noF -always-use-fragments -comp lzo",
    ),
    kind("squashfs-xz", &["mksquashfs"], "mksquashfs $TREE $DISK -quiet -no-progress -noI -noX -comp xz"),
    Kind { restamp: erofs_sum, ..kind("erofs", &["mkfs.erofs"], "mkfs.erofs $DISK $TREE >/dev/null") },
    Kind {
        restamp: erofs_sum,
        ..kind("erofs-lz4", &["mkfs.erofs"], "mkfs.erofs -zlz4hc -Eztailpacking $DISK $TREE >/dev/null 2>&1")
    },
    Kind {
        restamp: erofs_sum,
        ..kind(
            "erofs-large",
            &["mkfs.erofs"],
            "mkfs.erofs -zlz4 -C65536 -Elegacy-compress $DISK $TREE >/dev/null",
        )
    },
    Kind {
        restamp: erofs_sum,
        ..kind(
            "erofs-chunks",
            &["mkfs.erofs"],
            "made=$(mktemp -p /tmp); mkfs.erofs --chunksize=4096 $made $TREE; mv $made $DISK",
        )
    },
    Kind {
        restamp: ntfs_marks,
        ..kind(
            "ntfs",
            &["mkntfs", "ntfs-3g", "root", "fuse", "python3", "setfattr"],
            served!(
                "truncate -s 8M $DISK; mkntfs -Q -F -s 512 -c 1024",
                "streams_interface=xattr",
                "cp -r $TREE/many $TREE/few $TREE/text .; setfattr -n user.small -v value text; \
                 setfattr -n user.large -v $(printf 'v%.0s' $(seq 2000)) text; python3 $MAKE/ntfs_hostile.py fill; \
                 mkdir l s n; for part in links:l specials:s few_named:n; do \
                 python3 $MAKE/ntfs_meta.py $DIR/mnt/${part#*:} ${part%:*}; done"
            ),
        )
    },
    Kind {
        restamp: ntfs_marks,
        ..kind(
            "ntfs-packed",
            &["mkntfs", "ntfs-3g", "root", "fuse", "python3", "setfattr", "wimlib-imagex"],
            served!(
                "truncate -s 8M $DISK; mkntfs -Q -F -s 512 -c 4096",
                "compression,streams_interface=windows",
                "mkdir p w; setfattr -n system.ntfs_attrib_be -v 0x00000800 p; cp $TREE/text p; head -c 150000 $TREE/noise > p/part; \
                 seq 9000 >> p/part; seq 1000 > p/text:stream; python3 $MAKE/wof.py few w $DIR"
            ),
        )
    },
    Kind {
        restamp: ntfs_marks,
        made: |disk| ntfs_logfile::rewound(disk),
        ..kind("ntfs-log", &["corpus", "7z", "ntfsrecover", "ntfsinfo"], "true")
    },
];

/// A little of everything.
const TREE: &str = "mkdir -p $TREE/deep/a/b/c $TREE/many $TREE/few; cd $TREE; seq 20000 > text; seq 30 > small; \
    for n in $(seq 120); do echo $n > many/a-file-with-a-long-name-$n; done; echo x > few/x; ln text few/hard; ln -s ../text few/link; \
    ln -s $(printf 'l%.0s' $(seq 200)) few/long; mkfifo few/fifo; touch empty; head -c 300000 /dev/urandom > noise; \
    truncate -s 3M holes; for n in 1 3 9 30 70; do echo island | dd of=holes bs=16K seek=$n conv=notrunc status=none; done; \
    setfattr -n user.small -v value text; setfattr -n user.large -v $(printf 'v%.0s' $(seq 700)) small";

/// An image as pieces that are not zero, so that a large sparse one takes little memory.
#[derive(Debug)]
struct Sparse {
    pieces: HashMap<u64, Vec<u8>>,
    len: u64,
}

const PIECE: u64 = 64 << 10;

impl Sparse {
    fn load(path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        let mut pieces = HashMap::new();
        for start in (0..len).step_by(PIECE as usize) {
            let mut piece = vec![0; PIECE.min(len - start) as usize];
            file.read_exact_at(&mut piece, start).unwrap();
            if piece.iter().any(|byte| *byte != 0) {
                pieces.insert(start / PIECE, piece);
            }
        }
        Self { pieces, len }
    }

    fn read(&self, buf: &mut [u8], offset: u64) {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let skip = (at % PIECE) as usize;
            let len = (buf.len() - done).min(PIECE as usize - skip);
            let part = &mut buf[done..done + len];
            match self.pieces.get(&(at / PIECE)) {
                Some(piece) => part.copy_from_slice(&piece[skip..skip + len]),
                None => part.fill(0),
            }
            done += len;
        }
    }
}

/// The sample, with what a walk reads of it.
#[derive(Debug)]
struct Recording {
    image: Arc<Sparse>,
    sectors: Mutex<BTreeSet<u64>>,
}

impl BlockSource for Recording {
    fn len(&self) -> u64 {
        self.image.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        self.image.read(buf, offset);
        let mut sectors = self.sectors.lock().unwrap();
        // Sectors of zeros are not interesting; neighbours that were read along are.
        let first = offset / SECTOR;
        for (number, bytes) in buf.chunks(SECTOR as usize).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                sectors.insert(first + number as u64);
            }
        }
        Ok(())
    }
}

/// The sample with some sectors changed, or cut short.
#[derive(Debug)]
struct Changed {
    image: Arc<Sparse>,
    sectors: BTreeMap<u64, [u8; SECTOR as usize]>,
    len: u64,
}

impl Changed {
    fn sector(&mut self, number: u64) -> &mut [u8; SECTOR as usize] {
        let image = &self.image;
        self.sectors.entry(number).or_insert_with(|| {
            let mut bytes = [0; SECTOR as usize];
            let len = SECTOR.min(image.len.saturating_sub(number * SECTOR)) as usize;
            image.read(&mut bytes[..len], number * SECTOR);
            bytes
        })
    }

    fn bytes(&mut self, at: u64, len: u64) -> Vec<u8> {
        (at..at + len).step_by(SECTOR as usize).flat_map(|at| *self.sector(at / SECTOR)).collect()
    }

    /// Writes at a byte, over no sector's end.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let start = (at % SECTOR) as usize;
        self.sector(at / SECTOR)[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

impl BlockSource for Changed {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        self.image.read(buf, offset);
        let end = offset + buf.len() as u64;
        for (number, bytes) in self.sectors.range(offset / SECTOR..end.div_ceil(SECTOR)) {
            let start = number * SECTOR;
            let (from, to) = (start.max(offset), (start + SECTOR).min(end));
            buf[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }
}

/// Changes the sample: a few bytes, a field, a run, two blocks exchanged, one copied, or its end gone.
fn mutate(image: &Arc<Sparse>, metadata: &[u64], kind: &Kind, number: u64) -> Changed {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.below(2);
    let mut changed = Changed { image: Arc::clone(image), sectors: BTreeMap::new(), len: image.len };
    let pick = |random: &mut Random| metadata[random.below(metadata.len() as u64) as usize];
    match random.below(16) {
        0 => {
            let size = 1 << (9 + random.below(4));
            let (a, b) = (pick(&mut random) * SECTOR / size * size, pick(&mut random) * SECTOR / size * size);
            let (one, two) = (changed.bytes(a, size), changed.bytes(b, size));
            let exchange = random.below(2) == 0;
            for skip in (0..size).step_by(SECTOR as usize) {
                let part = skip as usize..(skip + SECTOR) as usize;
                changed.put(a + skip, &two[part.clone()]);
                if exchange {
                    changed.put(b + skip, &one[part]);
                }
            }
        }
        1 => changed.len = random.below(image.len).max(1024),
        2 => {
            let sector = pick(&mut random);
            let (start, len) = (random.below(SECTOR), 1 + random.below(SECTOR));
            let value = if random.below(2) == 0 { 0xff } else { 0 };
            changed.sector(sector)[start as usize..(start + len).min(SECTOR) as usize].fill(value);
        }
        3..=6 => {
            // A field of two, four or eight bytes takes a value at an edge.
            let size = 2 << random.below(3);
            let at = pick(&mut random) * SECTOR + random.below(SECTOR / size) * size;
            let all = [
                0,
                1,
                2,
                0x7f,
                0xff,
                0x7fff,
                0xffff,
                0x7fff_ffff,
                0xffff_ffff,
                u64::MAX >> 1,
                u64::MAX,
                image.len,
            ];
            let value = all[random.below(all.len() as u64) as usize];
            let big = random.below(2) == 0;
            let bytes = if big {
                value.to_be_bytes()[8 - size as usize..].to_vec()
            } else {
                value.to_le_bytes()[..size as usize].to_vec()
            };
            changed.put(at, &bytes);
        }
        _ => {
            for _ in 0..=random.below(8) {
                let sector = pick(&mut random);
                // Zeros are mostly unused.
                let mut at = random.below(SECTOR) as usize;
                for _ in 0..6 {
                    if changed.sector(sector)[at] != 0 {
                        break;
                    }
                    at = random.below(SECTOR) as usize;
                }
                let any = random.below(256) as u8;
                let old = changed.sector(sector)[at];
                let value = [
                    0,
                    0xff,
                    0x7f,
                    0x80,
                    any,
                    old ^ (1 << (any & 7)),
                    old.wrapping_add(1),
                    old.wrapping_sub(1),
                ];
                changed.sector(sector)[at] = value[random.below(8) as usize];
            }
        }
    }
    if number.is_multiple_of(2) {
        let touched: Vec<u64> = changed.sectors.keys().copied().collect();
        for sector in touched {
            (kind.restamp)(&mut changed, sector);
        }
    }
    changed
}

/// The superblock's sum, over the rest of its block.
fn erofs_sum(changed: &mut Changed, sector: u64) {
    if (2..8).contains(&sector) {
        changed.put(1028, &[0; 4]);
        let sum = !crc32c(&[&changed.bytes(1024, 3072)]);
        changed.put(1028, &sum.to_le_bytes());
    }
}

/// Sums of version 5, by the magic of what the sector is in: where the sum stands, and how long the structure is.
fn xfs_sums(changed: &mut Changed, sector: u64) {
    let block = changed.bytes(0, SECTOR);
    let (block, dir) = (4096, 4096_u64 << block[0xc0].min(4));
    for (size, from_magic, magics, at) in [
        (512, 0, &[&b"XFSB"[..]][..], 224),
        (512, 0, &[b"XAGF"], 216),
        (512, 0, &[b"XAGI"], 312),
        (512, 0, &[b"XAFL"], 32),
        (512, 0, &[b"IN"], 100),
        (block, 0, &[b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"RMB3", b"R3FC"], 52),
        (block, 0, &[b"BMA3"], 64),
        (dir, 0, &[b"XDB3", b"XDD3", b"XDF3"], 4),
        (dir, 8, &[b"\x3d\xf1", b"\x3d\xff", b"\x3e\xbe"], 12),
        (block, 8, &[b"\x3b\xee", b"\x3e\xbe"], 12),
        (block, 0, &[b"XARM", b"XSLM"], 12),
    ] {
        let start = sector * SECTOR / size * size;
        if start + size > changed.len {
            continue;
        }
        let first = changed.bytes(start, SECTOR);
        if magics.iter().any(|magic| first[from_magic..].starts_with(magic)) {
            changed.put(start + at, &[0; 4]);
            let sum = crc32c(&[&changed.bytes(start, size)]);
            changed.put(start + at, &sum.to_le_bytes());
        }
    }
}

/// Sums of the superblock and of nodes of 16 KiB, which carry the file system's number.
fn btrfs_sums(changed: &mut Changed, sector: u64) {
    let sb = changed.bytes(0x10000, SECTOR);
    let byte = sector * SECTOR;
    for (start, size) in [(byte / 4096 * 4096, 4096), (byte / 16384 * 16384, 16384)] {
        let first = changed.bytes(start, SECTOR);
        let is_sb = size == 4096 && first[0x40..0x48] == *b"_BHRfS_M";
        let is_node =
            size == 16384 && first[0x20..0x30] == sb[0x20..0x30] && first[0x40..0x48] != *b"_BHRfS_M";
        if is_sb || is_node {
            let sum = crc32c(&[&changed.bytes(start, size)[0x20..]]);
            changed.put(start, &sum.to_le_bytes());
        }
    }
}

/// The words at the ends of sectors of the record, index block or page of the log that the sector is in.
fn ntfs_marks(changed: &mut Changed, sector: u64) {
    for back in 0..8.min(sector + 1) {
        let start = (sector - back) * SECTOR;
        let head = changed.bytes(start, SECTOR);
        let half = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        if !["FILE", "INDX", "RCRD", "RSTR"].iter().any(|magic| head.starts_with(magic.as_bytes())) {
            continue;
        }
        let (array, words) = (half(4), half(6));
        if array % 2 == 0 && array < SECTOR && (back + 2..=9).contains(&words) {
            for part in 1..words {
                let end = start + part * SECTOR;
                if end <= changed.len {
                    changed.put(end - 2, &head[array as usize..][..2]);
                }
            }
        }
        return;
    }
}

/// The two sums of a descriptor's tag (ECMA-167, 3/7.2).
fn udf_sums(changed: &mut Changed, sector: u64) {
    let start = sector / 4 * 4 * SECTOR;
    let bytes = changed.bytes(start, 2048);
    let half = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    if !(2..=3).contains(&half(2)) || half(10) > 2032 {
        return;
    }
    let crc = bytes[16..16 + half(10)].iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    changed.put(start + 8, &crc.to_le_bytes());
    let tag = changed.bytes(start, SECTOR);
    let sum = tag[..16]
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != 4)
        .fold(0_u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    changed.put(start + 4, &[sum]);
}

/// Walks everything, and says which operations took too long.
pub(crate) fn walk(volume: &Arc<dyn BlockSource>, with_data: bool) -> Vec<String> {
    let mut slow = Vec::new();
    let mut timed = |what: String, work: &mut dyn FnMut()| {
        let start = cpu();
        work();
        let took = cpu().saturating_sub(start);
        if took > LIMIT {
            slow.push(format!("{what} took {took:?}"));
        }
    };
    let mut opened = None;
    timed("open".to_owned(), &mut || opened = open(volume).ok());
    let Some(fs) = opened else { return slow };
    let mut has_streams = false;
    timed("facts".to_owned(), &mut || has_streams = fs.facts().kind == "ntfs");
    timed("free".to_owned(), &mut || _ = fs.free());
    timed("subvolumes".to_owned(), &mut || drop(fs.subvolumes()));
    let mut seen = std::collections::HashSet::new();
    let mut todo = vec![fs.root()];
    let mut buf = vec![0; 256 << 10];
    while let Some(ino) = todo.pop() {
        if !seen.insert(ino) || seen.len() > 600 {
            continue;
        }
        let mut stat = None;
        timed(format!("stat {ino}"), &mut || stat = fs.stat(ino).ok());
        timed(format!("xattrs {ino}"), &mut || drop(fs.xattrs(ino)));
        if has_streams && ino.0 >> 48 == 0 {
            for name in ["ntfs_acl", "ntfs_object_id", "ntfs_dos_name", "ntfs_reparse_data", "ntfs_ea"] {
                let name = format!("system.{name}");
                timed(format!("xattr {name} {ino}"), &mut || drop(fs.xattr(ino, name.as_bytes())));
            }
            let mut named = None;
            timed(format!("stream of {ino}"), &mut || named = fs.stat(Ino(ino.0 | 1 << 48)).ok());
            if named.is_some() {
                todo.extend([1, 2, 3, 40].map(|stream| Ino(ino.0 | stream << 48)));
            }
        }
        match stat.map(|stat| stat.kind) {
            Some(FileType::Dir) => {
                let mut names = Vec::new();
                timed(format!("readdir {ino}"), &mut || {
                    let mut take = |entry: imgmount::fs::DirEntry<'_>| {
                        names.push((entry.name.to_vec(), entry.ino, entry.next));
                        if names.len() < 5000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    };
                    drop(fs.readdir(ino, 0, &mut take));
                });
                timed(format!("lookup in {ino}"), &mut || drop(fs.lookup(ino, b"no such name")));
                timed(format!("lookup of a stream in {ino}"), &mut || drop(fs.lookup(ino, b"text:stream")));
                for (n, (name, child, next)) in names.iter().enumerate().take(300) {
                    if n % 8 == 0 {
                        timed(format!("lookup in {ino}"), &mut || drop(fs.lookup(ino, name)));
                        let from = next.wrapping_add((n as u64) % 3);
                        timed(format!("readdir {ino} from {from}"), &mut || {
                            drop(fs.readdir(ino, from, &mut |_| ControlFlow::Break(())));
                        });
                    }
                    todo.push(*child);
                }
            }
            Some(FileType::File) => {
                let size = stat.unwrap().size;
                timed(format!("run {ino}"), &mut || drop(fs.run_at(ino, 0)));
                timed(format!("run {ino} end"), &mut || drop(fs.run_at(ino, size.saturating_sub(1))));
                if with_data {
                    timed(format!("read {ino}"), &mut || drop(fs.read_at(ino, &mut buf, 0)));
                    let end = size.saturating_sub(5000);
                    timed(format!("read {ino} at {end}"), &mut || drop(fs.read_at(ino, &mut buf, end)));
                    timed(format!("read {ino} far"), &mut || drop(fs.read_at(ino, &mut buf, u64::MAX / 3)));
                }
            }
            Some(FileType::Symlink) => timed(format!("readlink {ino}"), &mut || drop(fs.readlink(ino))),
            _ => {}
        }
    }
    slow
}

/// A number of bytes from this process's status.
pub(crate) fn memory(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The part that runs in a process of its own: mutants of one kind, from `IMGMOUNT_HOSTILE=kind:image:progress:number`.
#[test]
fn worker() {
    let Ok(order) = std::env::var("IMGMOUNT_HOSTILE") else { return };
    let [name, image, progress, count] = order.split(':').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    let image = Arc::new(Sparse::load(Path::new(image)));
    let record = |with_data| {
        let recording = Arc::new(Recording { image: Arc::clone(&image), sectors: Mutex::default() });
        let volume: Arc<dyn BlockSource> = Arc::<Recording>::clone(&recording);
        assert!(open(&volume).is_ok(), "{name}: {:?}", open(&volume).err());
        recording.sectors.lock().unwrap().clear();
        walk(&volume, with_data);
        recording.sectors.lock().unwrap().iter().copied().collect::<Vec<u64>>()
    };
    // One mutant in eight may hit data too: packed ones are parsed.
    let (metadata, all) = (record(false), record(true));
    assert!(metadata.len() > 10, "{name}: {} sectors of metadata", metadata.len());
    let alone =
        std::env::var("IMGMOUNT_MUTANT").ok().and_then(|mutant| mutant.rsplit_once(':')?.1.parse().ok());
    let (first, count) = alone.map_or((0, count.parse::<u64>().unwrap()), |number| (number, number + 1));
    let is_bounded = std::env::var_os("IMGMOUNT_MUTATIONS").is_none();
    let start = cpu();
    let (mut ran, mut bad, mut most) = (0, 0, 0);
    std::panic::set_hook(Box::new(|_| {}));
    for number in first..count {
        if is_bounded && cpu().saturating_sub(start) > TIME_OF_KIND {
            break;
        }
        std::fs::write(progress, number.to_string()).unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = memory("VmRSS");
        let sectors = if number % 8 == 7 { &all } else { &metadata };
        let result = std::panic::catch_unwind(|| {
            let volume: Arc<dyn BlockSource> = Arc::new(mutate(&image, sectors, kind, number));
            walk(&volume, true)
        });
        let grown = memory("VmHWM").saturating_sub(before);
        most = most.max(grown);
        let mut wrong = match result {
            Ok(slow) => slow,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                vec![format!(
                    "panic: {}",
                    text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()))
                        .unwrap_or_default()
                )]
            }
        };
        if grown > MEMORY {
            wrong.push(format!("{} MiB of memory", grown >> 20));
        }
        ran += 1;
        for wrong in wrong.iter().take(3) {
            println!("FOUND {name}:{number}: {wrong}");
            bad += 1;
        }
    }
    drop(std::panic::take_hook());
    println!(
        "{name}: {ran} mutants, {bad} bad, {} sectors, {:?}, {} MiB",
        metadata.len(),
        cpu().saturating_sub(start),
        most >> 20
    );
    assert!(bad == 0, "{bad} bad mutants of {name}");
}

/// Makes the sample of a kind and runs its mutants; what was found, and a line about them.
fn run(kind: &Kind, tree: &Path, count: usize) -> (Vec<String>, String) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let progress = dir.path().join("progress");
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    common::sh(&format!(
        "DIR={} DISK={} TREE={} MAKE={}; {{ {}; }} >/dev/null",
        dir.path().display(),
        disk.display(),
        tree.display(),
        common::root().join("tests/make").display(),
        kind.make
    ));
    (kind.made)(&disk);
    drop(turn);
    let log = dir.path().join("log");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::worker", "--nocapture", "--test-threads=1"])
        .env("IMGMOUNT_HOSTILE", format!("{}:{}:{}:{count}", kind.name, disk.display(), progress.display()))
        .stdin(std::process::Stdio::null())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut last, mut since) = (String::new(), Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        let now = std::fs::read_to_string(&progress).unwrap_or_default();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let log = std::fs::read_to_string(&log).unwrap();
    let mut found: Vec<String> =
        log.lines().filter_map(|line| line.split_once("FOUND ")).map(|(_, what)| what.to_owned()).collect();
    let said = log.lines().find(|line| line.contains(" mutants, ")).unwrap_or_default().to_owned();
    let at = std::fs::read_to_string(&progress).unwrap_or_default();
    match status {
        None => found.push(format!("{}:{at}: hangs", kind.name)),
        Some(status) if !status.success() && found.is_empty() => {
            found.push(format!("{}:{at}: ended with {status}\n{log}", kind.name));
        }
        Some(_) => {}
    }
    (found, said)
}

#[test]
fn mutants_end_in_errors_and_soon() {
    requires!("root", "loop", "setfattr");
    let dir = common::tempdir();
    common::sh(&format!("TREE={}/tree; {TREE}", dir.path().display()));
    let only = std::env::var("IMGMOUNT_MUTANT").ok();
    let number = |text: String| text.parse::<usize>().unwrap();
    let count = std::env::var("IMGMOUNT_MUTATIONS").map_or(MUTATIONS, number) / KINDS.len() + 1;
    let mut found = Vec::new();
    for kind in KINDS {
        if only
            .as_ref()
            .is_some_and(|only| only.rsplit_once(':').map_or(only.as_str(), |(name, _)| name) != kind.name)
        {
            continue;
        }
        if !FILESYSTEMS.iter().any(|fs| kind.name.starts_with(fs.name)) {
            println!("{}: has no reader", kind.name);
            continue;
        }
        match kind.needs.iter().find_map(|what| common::lacks(what)) {
            Some(why) => common::skip(&format!("{}: {why}", kind.name)),
            None => {
                let (bad, said) = run(kind, &dir.path().join("tree"), count);
                println!("{said}");
                found.extend(bad);
            }
        }
    }
    assert!(found.is_empty(), "{} found\n{}", found.len(), found.join("\n"));
}
