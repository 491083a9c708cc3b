//! The log of NTFS: whether a volume was unmounted, and what is played back of it.
//!
//! Volumes that Windows wrote tell both what it logged and what it made of it. `ntfsrecover` takes back what the last
//! checkpoints cover, from the log; with the log opened again at that checkpoint, the volume is one whose changes were
//! logged and never written home. Played back, it must be what Windows had made of it.

use super::*;
use std::io::{Seek, SeekFrom};

/// Bytes in a restart page, and in a record of the MFT of all volumes here.
const PAGE: usize = 4096;
const RECORD: usize = 1024;

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Puts the true last words of sectors back, or takes them away again.
fn true_words(bytes: &mut [u8], back: bool) {
    let (array, words) = (usize::from(le16(bytes, 4)), usize::from(le16(bytes, 6)));
    let number = bytes[array..array + 2].to_vec();
    for word in 1..words {
        let (kept, place) = (array + 2 * word, 512 * word - 2);
        if back {
            bytes.copy_within(kept..kept + 2, place);
        } else {
            bytes.copy_within(place..place + 2, kept);
            put(bytes, place, &number);
        }
    }
}

/// A volume in a file, and where its log lies.
struct Disk {
    _dir: tempfile::TempDir,
    path: PathBuf,
    log: u64,
}

impl Disk {
    /// `script` makes the volume as `$DISK`.
    fn new(script: &str) -> Self {
        let dir = common::tempdir();
        let path = dir.path().join("disk");
        common::sh(&format!("DIR={} DISK={}; {script}", dir.path().display(), path.display()));
        // By `ntfsinfo`: the first run of the log's data.
        let said = common::sh(&format!(
            "ntfsinfo -f -v -i 2 {} | sed -n '/Dumping attribute $DATA/,$p' | grep -A1 'VCN.*LCN' | sed -n 2p",
            path.display()
        ));
        let lcn = said.split_whitespace().nth(1).unwrap_or_else(|| panic!("{said}"));
        let mut disk =
            Self { _dir: dir, path, log: u64::from_str_radix(lcn.trim_start_matches("0x"), 16).unwrap() };
        let boot = disk.read(0, 512);
        disk.log *= u64::from(le16(&boot, 0x0b)) * u64::from(boot[0x0d]);
        disk
    }

    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        std::fs::File::open(&self.path).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = std::fs::File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// Opens or closes the log, at a checkpoint, in both restart pages.
    fn set_log(&self, is_open: bool, checkpoint: u64) {
        for page in [0, PAGE as u64] {
            let mut bytes = self.read(self.log + page, PAGE);
            true_words(&mut bytes, true);
            let area = usize::from(le16(&bytes, 0x18));
            let client = area + usize::from(le16(&bytes, area + 0x16));
            let nobody = 0xffff_u16.to_le_bytes();
            let (free, in_use, flags) = if is_open { (nobody, [0, 0], 0) } else { ([0, 0], nobody, 2) };
            put(&mut bytes, area + 0x0a, &free);
            put(&mut bytes, area + 0x0c, &in_use);
            let flags: u16 = (le16(&bytes, area + 0x0e) & !2) | flags;
            put(&mut bytes, area + 0x0e, &flags.to_le_bytes());
            put(&mut bytes, client, &checkpoint.to_le_bytes());
            put(&mut bytes, client + 8, &checkpoint.to_le_bytes());
            true_words(&mut bytes, false);
            self.write(self.log + page, &bytes);
        }
    }

    /// Takes back what Windows did in so many stretches between checkpoints, and opens the log at the first of these.
    fn rewind(&self, checkpoints: u32, first: u64) {
        let pages = self.read(self.log, 2 * PAGE);
        common::sh(&format!("ntfsrecover -k -u {checkpoints} {} >/dev/null", self.path.display()));
        // It notes another version of the log's format.
        self.write(self.log, &pages);
        self.set_log(true, first);
        // What `ntfsrecover` took back keeps the LSN of the change that was taken back, and looks younger than it is.
        let mut file = std::fs::File::open(&self.path).unwrap();
        let mut at = 0;
        // Holes are skipped: the samples are sparse.
        while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
            at = data / 512 * 512;
            file.seek(SeekFrom::Start(at)).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, 1 << 20), &mut bytes).unwrap();
            for (sector, start) in bytes.chunks(512).zip((at..).step_by(512)) {
                if sector.len() == 512
                    && (sector.starts_with(b"FILE0\0") || sector.starts_with(b"INDX(\0"))
                    && le64(sector, 8) > first
                {
                    self.write(start + 8, &(first - 1).to_le_bytes());
                }
            }
            at += 1 << 20;
        }
    }

    fn open(&self, journal: Journal) -> Fs {
        match detect_all(&[file(&self.path)], journal).remove(0).unwrap() {
            Content::Files(fs) => fs,
            other => panic!("{other:?}"),
        }
    }

    fn copy(&self) -> Self {
        let dir = common::tempdir();
        let path = dir.path().join("disk");
        common::sh(&format!("cp --sparse=always {} {}", self.path.display(), path.display()));
        Self { _dir: dir, path, log: self.log }
    }

    /// Does `ntfs-3g` hold it for unmounted?
    fn is_clean_to_ntfs_3g(&self) -> bool {
        let probe =
            std::process::Command::new("ntfs-3g.probe").arg("--readwrite").arg(&self.path).output().unwrap();
        match probe.status.code() {
            Some(0) => true,
            // NTFS_VOLUME_UNCLEAN_UNMOUNT
            Some(15) => false,
            other => panic!("{other:?}: {probe:?}"),
        }
    }
}

/// A volume of 8 MiB that `ntfs-3g` filled; its log says nothing.
const MADE: &str = "truncate -s 8M $DISK; mkntfs -q -F -s 512 -c 4096 $DISK; mkdir $DIR/mnt; \
     serve_ntfs $DISK $DIR/mnt; seq 1000 > $DIR/mnt/numbers; end_ntfs $DIR/mnt";

/// A restart page, as "$LogFile" in the linux-ntfs project's documentation lays it out.
pub(crate) fn restart_page(magic: &[u8; 4], size: u64, newest: u64, in_use: u16, flags: u16) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    put(&mut page, 0, magic);
    put(&mut page, 4, &[0x1e, 0, 9, 0]);
    put(&mut page, 0x10, &[0, 0x10, 0, 0, 0, 0x10, 0, 0, 0x30, 0, 1, 0, 1, 0]);
    put(&mut page, 0x1e, &[1, 0]);
    let area = 0x30;
    put(&mut page, area, &newest.to_le_bytes());
    put(&mut page, area + 0x08, &1_u16.to_le_bytes());
    put(&mut page, area + 0x0a, &(if in_use == 0 { 0xffff_u16 } else { 0 }).to_le_bytes());
    put(&mut page, area + 0x0c, &in_use.to_le_bytes());
    put(&mut page, area + 0x0e, &flags.to_le_bytes());
    put(&mut page, area + 0x10, &(67 - (64 - size.leading_zeros())).to_le_bytes());
    put(&mut page, area + 0x14, &[0xe0, 0, 0x40, 0]);
    put(&mut page, area + 0x18, &size.to_le_bytes());
    put(&mut page, area + 0x24, &[0x30, 0, 0x40, 0]);
    let client = area + 0x40;
    put(&mut page, client + 0x10, &[0xff; 4]);
    put(&mut page, client + 0x1c, &8_u32.to_le_bytes());
    put(&mut page, client + 0x20, b"N\0T\0F\0S\0");
    true_words(&mut page, false);
    page
}

#[test]
fn a_log_that_nobody_closed_says_so_where_ntfs_3g_does() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "ntfs-3g.probe", "ntfsinfo");
    let disk = Disk::new(MADE);
    let size = disk.open(Journal::Replay).stat(Ino(2)).unwrap().size;
    let state = || (disk.open(Journal::Replay).facts().state, disk.is_clean_to_ntfs_3g());
    // Filled with ones, as `mkntfs` leaves it.
    assert_eq!(state(), (State::Clean, true));
    let clean = (0xffff, 2);
    let open = (0, 0);
    // A client that is in use, with the flag of a clean volume: the volume counts.
    for (first, second, expected) in [
        (clean, clean, State::Clean),
        (open, open, State::Dirty),
        (clean, open, State::Dirty),
        (open, clean, State::Clean),
        ((0, 2), (0, 2), State::Clean),
        ((0xffff, 0), (0xffff, 0), State::Clean),
    ] {
        let newest = 1_u64 << (64 - (67 - (64 - size.leading_zeros())));
        disk.write(disk.log, &restart_page(b"RSTR", size, newest, first.0, first.1));
        // The second page is the newer one.
        disk.write(disk.log + PAGE as u64, &restart_page(b"RSTR", size, newest + 1, second.0, second.1));
        assert_eq!(state(), (expected, expected == State::Clean), "{first:?} {second:?}");
    }
}

/// What a record of the MFT says, without what playing back cannot bring back: the LSN, which Windows does not set for a
/// change of the times that a directory keeps; and a small file's content, which is not logged.
fn logged(record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    if !record.starts_with(b"FILE") {
        return Vec::new();
    }
    true_words(&mut record, true);
    let array = usize::from(le16(&record, 4));
    record[array..array + 6].fill(0);
    record[8..16].fill(0);
    let used = le32(&record, 0x18) as usize;
    let mut at = usize::from(le16(&record, 0x14));
    while at + 8 < used && le32(&record, at) != 0xffff_ffff {
        let len = le32(&record, at + 4) as usize;
        if le32(&record, at) == 0x80 && record[at + 8] == 0 {
            let value = at + usize::from(le16(&record, at + 0x14));
            let value_len = le32(&record, at + 0x10) as usize;
            record[value..value + value_len].fill(0);
        }
        at += len;
    }
    record.truncate(used);
    record
}

/// All of a metafile.
fn whole(fs: &Fs, ino: u64) -> Vec<u8> {
    let mut bytes = vec![0; fs.stat(Ino(ino)).unwrap().size as usize];
    let len = bytes.len();
    assert_eq!(fs.read_at(Ino(ino), &mut bytes, 0).unwrap(), len);
    bytes
}

/// Records of the MFT that differ.
fn differing(a: &Fs, b: &Fs) -> Vec<usize> {
    let (a, b) = (whole(a, 0), whole(b, 0));
    assert_eq!(a.len(), b.len());
    let pairs = a.chunks(RECORD).zip(b.chunks(RECORD)).enumerate();
    pairs.filter(|(_, (a, b))| logged(a) != logged(b)).map(|(number, _)| number).collect()
}

/// Type, size and number of every file that has a path.
fn listing(fs: &Fs) -> BTreeMap<Vec<u8>, (FileType, u64, Ino)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![(b"/".to_vec(), fs.root())];
    while let Some((path, ino)) = todo.pop() {
        let stat = fs.stat(ino).unwrap();
        if stat.kind == FileType::Dir {
            let children = entries(fs, ino).unwrap();
            todo.extend(children.into_iter().map(|(name, child, _, _)| (join(&path, &name), child)));
        }
        found.insert(path, (stat.kind, stat.size, ino));
    }
    found
}

/// Samples that Windows wrote, as `$DISK`: how to get it, how many checkpoints to go back, and the LSN of that checkpoint,
/// as `ntfsrecover -u N -v` names it.
const WRITTEN_BY_WINDOWS: &[(&str, &str, u32, u64)] = &[
    // Windows 7, clusters of 512 bytes, log 1.1.
    (
        "fs/ntfs-forensic/data_SampleTinyNtfsVolume.zip",
        "7z x -so $SAMPLE SampleTinyNtfsVolume/partition.dd > $DISK",
        8,
        0x10_4815,
    ),
    // Windows 10, log 1.1 as it is left when a volume is unmounted.
    (
        "fs/ntfs-samples/ntfs-lastaccess.raw.gz",
        "zcat $SAMPLE | tail -c +65537 | dd of=$DISK bs=1M conv=sparse iflag=fullblock status=none",
        8,
        0x10_65c6,
    ),
    // Windows 10, clusters of 1 KiB, log 2.0 as it is while a volume is mounted.
    (
        "formats/velocidex-go-ewf/test.ntfs.dd.E01",
        "ewfexport -q -u -f raw -t $DIR/e $SAMPLE >/dev/null 2>&1; mv $DIR/e.raw $DISK",
        8,
        0x28_8a3d,
    ),
];

#[test]
fn what_windows_had_done_is_done_again() {
    requires!("corpus", "7z", "ewfexport", "ntfsrecover", "ntfsinfo", "zcat");
    let corpus = common::corpus().unwrap();
    for (sample, script, checkpoints, first) in WRITTEN_BY_WINDOWS {
        let sample = corpus.join(sample);
        let what = sample.display().to_string();
        let written = Disk::new(&format!("SAMPLE={what}; {script}"));
        let rewound = written.copy();
        rewound.rewind(*checkpoints, *first);
        let (expected, before) = (written.open(Journal::Ignore), rewound.open(Journal::Ignore));
        let lost = differing(&before, &expected);
        assert!(lost.len() >= 3, "{what}: only records {lost:?} were rewound");
        assert_eq!(before.facts().state, State::Dirty, "{what}");

        let after = rewound.open(Journal::Replay);

        let wrong = differing(&after, &expected);
        assert!(wrong.is_empty(), "{what}: records {wrong:?}: {:?}", after.facts().warnings);
        assert!(whole(&after, 6) == whole(&expected, 6), "{what}: clusters in use");
        assert_eq!(listing(&after), listing(&expected), "{what}");
        assert_eq!(after.facts().state, State::Dirty, "{what}");
        assert!(after.facts().warnings.iter().any(|w| w.contains("was played back")), "{:?}", after.facts());
    }
}

/// Where the log of the first sample may have ended: LSN of the last record, and the byte behind it. At some a transaction
/// has begun and is unfinished.
const ENDS: &[(u64, u64)] = &[
    (0x10_48d9, 0x2_47c8),
    (0x10_4d5d, 0x2_6b40),
    (0x10_537e, 0x2_9ca0),
    (0x10_5a65, 0x2_d428),
    (0x10_5c32, 0x2_e288),
];

/// A machine that stopped at any moment: `ntfsrecover` leaves out what was not finished, we take it back, and both are the
/// same.
#[test]
fn a_log_that_ends_anywhere_is_played_back_as_ntfsrecover_does() {
    requires!("corpus", "7z", "ntfsrecover", "ntfsinfo");
    let (sample, script, checkpoints, first) = WRITTEN_BY_WINDOWS[0];
    let sample = common::corpus().unwrap().join(sample);
    let rewound = Disk::new(&format!("SAMPLE={}; {script}", sample.display()));
    rewound.rewind(checkpoints, first);
    let size = rewound.open(Journal::Ignore).stat(Ino(2)).unwrap().size;
    let mut taken_back = 0;
    for &(last, end) in ENDS {
        let cut = rewound.copy();
        let home = (end - 1) / PAGE as u64 * PAGE as u64;
        let mut page = cut.read(cut.log + home, PAGE);
        true_words(&mut page, true);
        put(&mut page, 0x08, &last.to_le_bytes());
        put(&mut page, 0x10, &1_u32.to_le_bytes());
        put(&mut page, 0x18, &((end - home) as u16).to_le_bytes());
        put(&mut page, 0x20, &last.to_le_bytes());
        page[(end - home) as usize..].fill(0);
        let mut copy = page.clone();
        put(&mut copy, 0x08, &home.to_le_bytes());
        true_words(&mut page, false);
        true_words(&mut copy, false);
        cut.write(cut.log + home, &page);
        // Both copies of the last page.
        cut.write(cut.log + 2 * PAGE as u64, &[copy.clone(), copy].concat());
        cut.write(cut.log + home + PAGE as u64, &vec![0; (size - home) as usize - PAGE]);
        for restart in [0, PAGE as u64] {
            let mut page = cut.read(cut.log + restart, PAGE);
            put(&mut page, 0x30, &first.to_le_bytes());
            cut.write(cut.log + restart, &page);
        }

        let ours = cut.open(Journal::Replay);

        let recovered = cut.copy();
        common::sh(&format!("ntfsrecover -s {} >/dev/null", recovered.path.display()));
        let theirs = recovered.open(Journal::Ignore);
        let differing: Vec<usize> = differing(&ours, &theirs)
            .into_iter()
            // A record that was given back: we count its uses, as Windows does.
            .filter(|number| theirs.stat(Ino(*number as u64)).is_ok())
            .collect();
        assert_eq!(differing, [0_usize; 0], "{last:#x}: {:?}", ours.facts().warnings);
        assert!(whole(&ours, 6) == whole(&theirs, 6), "{last:#x}: clusters in use");
        assert_eq!(listing(&ours), listing(&theirs), "{last:#x}");
        taken_back += usize::from(ours.facts().warnings.iter().any(|w| w.contains("taken back")));
    }
    assert!(taken_back > 1, "{taken_back}");
}

/// Makes the first sample with its changes still in the log.
pub(crate) fn rewound(path: &Path) {
    let (sample, script, checkpoints, first) = WRITTEN_BY_WINDOWS[0];
    let sample = common::corpus().unwrap().join(sample);
    let rewound = Disk::new(&format!("SAMPLE={}; {script}", sample.display()));
    rewound.rewind(checkpoints, first);
    common::sh(&format!("cp --sparse=always {} {}", rewound.path.display(), path.display()));
}

/// Damaged logs: each volume opens, whatever becomes of its log.
#[test]
fn damaged_logs_end_in_a_warning() {
    requires!("corpus", "7z", "ntfsrecover", "ntfsinfo");
    let (sample, script, checkpoints, first) = WRITTEN_BY_WINDOWS[0];
    let sample = common::corpus().unwrap().join(sample);
    let rewound = Disk::new(&format!("SAMPLE={}; {script}", sample.display()));
    rewound.rewind(checkpoints, first);
    let image = std::fs::read(&rewound.path).unwrap();
    let clean = Arc::new(Memory::new(image, "disk"));
    // The restart pages, and the pages that are played back.
    let begin = (first << 45 >> 42) / PAGE as u64 * PAGE as u64;
    let stretches = [(rewound.log, 4 * PAGE as u64), (rewound.log + begin, 12 * PAGE as u64)];
    let mut random = Random(11);
    let (mut played, mut left) = (0, 0);
    for _ in 0..mutants(150) {
        let changes = (0..=random.below(4))
            .map(|_| {
                let (start, len) = stretches[random.below(2) as usize];
                let byte = [0, 0xff, 0x7f, 0x80, 1, random.below(256) as u8][random.below(6) as usize];
                (start + random.below(len), byte)
            })
            .collect();
        let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(&clean), changes });
        let fs = open(&mutant).unwrap();
        let warnings = fs.facts().warnings;
        *if warnings.iter().any(|w| w.contains("not played back")) { &mut left } else { &mut played } += 1;
        for number in 0..64 {
            let _ = fs.stat(Ino(number));
        }
    }
    assert!(played > 10 && left > 10, "{played} played, {left} left");
}
