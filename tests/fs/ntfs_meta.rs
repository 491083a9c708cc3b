//! What files of NTFS carry besides their data: made through ntfs-3g, and compared with what ntfs-3g shows of it.

use super::ntfs::{ByNtfs3g, walk};
use super::*;

/// An NTFS with what this part of `tests/make/ntfs_meta.py` makes, mounted with these further options.
fn made(size: &str, options: &str, part: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s {size} {0}; mkntfs -F -Q -q {0} >/dev/null", disk.display()));
    let mount = ByNtfs3g::new(&disk, &format!("streams_interface=xattr,{options}"));
    let script = common::root().join("tests/make/ntfs_meta.py");
    common::sh(&format!("python3 {} {} {part}", script.display(), mount.at.display()));
    drop(mount);
    Made { disk, _dir: dir }
}

/// Every path below a directory with its number, which is that of its record.
fn paths(root: &Path) -> Vec<(PathBuf, Ino)> {
    let mut found = vec![(root.to_owned(), Ino(5))];
    let mut next = 0;
    while let Some((path, _)) = found.get(next).cloned() {
        next += 1;
        if !path.is_symlink() && path.is_dir() {
            let names = std::fs::read_dir(&path).unwrap().map(Result::unwrap);
            found.extend(names.map(|name| (name.path(), Ino(name.path().symlink_metadata().unwrap().ino()))));
        }
    }
    found
}

/// What ntfs-3g gives for an extended attribute; `None` when it has none, or none that it would tell.
fn theirs(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

const NAMES: &[&str] = &[
    "acl",
    "attrib",
    "attrib_be",
    "times",
    "times_be",
    "crtime",
    "crtime_be",
    "reparse_data",
    "object_id",
    "dos_name",
    "ea",
];

/// Compares every extended attribute of every file. Returns how many there were.
fn same_attributes(disk: &Path) -> usize {
    let fs = open(&file(disk)).unwrap();
    let mount = ByNtfs3g::new(disk, "ro,streams_interface=xattr,show_sys_files");
    let mut found = 0;
    for (path, ino) in paths(&mount.at) {
        for name in
            NAMES.iter().map(|name| format!("system.ntfs_{name}")).chain(["trusted.foreign".to_owned()])
        {
            let expected = theirs(&path, &name);
            let ours = fs.xattr(ino, name.as_bytes()).unwrap();
            // Not told of the root, which is in no directory.
            if ino != fs.root() || name != "system.ntfs_dos_name" {
                assert_eq!(ours, expected, "{name} of {}", path.display());
            }
            found += usize::from(expected.is_some());
        }
        // Those that are too long for Linux are listed there all the same.
        let value = |name: Vec<u8>| Some((name.clone(), theirs(&path, str::from_utf8(&name).unwrap())?));
        let mut listed: Vec<(Vec<u8>, Vec<u8>)> = list_xattrs(&path).into_iter().filter_map(value).collect();
        listed.sort();
        let mut ours: Vec<_> =
            fs.xattrs(ino).unwrap().into_iter().map(|xattr| (xattr.name, xattr.value)).collect();
        ours.sort();
        assert_eq!(ours, listed, "{}", path.display());
        for (name, value) in ours {
            assert_eq!(fs.xattr(ino, &name).unwrap(), Some(value), "{}", path.display());
            found += 1;
        }
    }
    found
}

/// The number of a file.
fn number(disk: &Path, path: &str) -> Ino {
    walk(&open(&file(disk)).unwrap(), path)
}

#[test]
fn attributes_are_those_of_ntfs_3g() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "python3");
    let made = made("24M", "", "named");
    let found = same_attributes(&made.disk);
    assert!(found > 900, "{found} attributes");

    let fs = open(&file(&made.disk)).unwrap();
    let stat = fs.stat(number(&made.disk, "file")).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode, stat.kind), (1000, 1001, 0o640, FileType::File));
    let stat = fs.stat(number(&made.disk, "dir")).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mode, stat.kind), (0, 0, 0o1777, FileType::Dir));
}

#[test]
fn descriptors_are_found_by_their_number_and_one_good_copy_is_enough() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "python3");
    let made = made("24M", "", "descriptors");
    same_attributes(&made.disk);

    let ino = number(&made.disk, "133");
    let fs = open(&file(&made.disk)).unwrap();
    let name = b"system.ntfs_acl";
    let descriptor = fs.xattr(ino, name).unwrap().unwrap();
    let mut image = std::fs::read(&made.disk).unwrap();
    let copies: Vec<usize> = image
        .windows(descriptor.len())
        .enumerate()
        .filter(|(_, at)| *at == descriptor)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    let reads = |image: &[u8]| {
        let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image.to_vec(), "disk"));
        open(&volume).unwrap().xattr(ino, name)
    };
    image[copies[0] + 50] ^= 1;
    assert_eq!(reads(&image).unwrap(), Some(descriptor));
    image[copies[1] + 50] ^= 1;
    let error = reads(&image).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("neither copy"), "{error}");
}

/// A link's target as ntfs-3g shows it, in our words: it makes what lies on the same volume absolute, and looks for the
/// rest in a directory of its own.
fn in_our_words(target: &str, mount: &str, path: &str) -> String {
    if let Some(rest) = target.strip_prefix(&format!("{mount}/.NTFS-3G")) {
        return rest.to_owned();
    }
    match (target.strip_prefix(mount), path) {
        (Some(rest), "from root" | "dir/sub/from root") => {
            "../".repeat(path.matches('/').count()) + rest.trim_start_matches('/')
        }
        (Some(rest), _) => format!("/C:{rest}"),
        (None, _) => target.to_owned(),
    }
}

#[test]
fn links_lead_where_they_lead_in_windows() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "python3");
    let made = made("24M", "", "links");
    let fs = open(&file(&made.disk)).unwrap();
    let mount = ByNtfs3g::new(&made.disk, "ro");
    let mut links = 0;
    for (path, ino) in paths(&mount.at) {
        let stat = fs.stat(ino).unwrap();
        assert_eq!(stat.kind == FileType::Symlink, path.is_symlink(), "{}", path.display());
        if stat.kind == FileType::Symlink {
            let target = rustix::fs::readlink(&path, Vec::new()).unwrap();
            let inside = path.strip_prefix(&mount.at).unwrap();
            let (target, at) = (target.to_str().unwrap(), mount.at.to_str().unwrap());
            let ours = String::from_utf8(fs.readlink(ino).unwrap()).unwrap();
            assert_eq!(ours, in_our_words(target, at, inside.to_str().unwrap()), "{}", path.display());
            assert_eq!((stat.size, stat.mode), (ours.len() as u64, 0o777), "{}", path.display());
            links += 1;
        } else {
            fs.readlink(ino).unwrap_err();
        }
    }
    assert_eq!(links, 11);
    drop(mount);
    same_attributes(&made.disk);
}

#[test]
fn special_files_are_what_they_are_in_both_ways_to_write_them() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "python3");
    for way in ["interix", "wsl"] {
        let made = made("24M", &format!("special_files={way}"), "specials");
        let fs = open(&file(&made.disk)).unwrap();
        let mount = ByNtfs3g::new(&made.disk, "ro");
        for (path, ino) in paths(&mount.at) {
            let (stat, meta) = (fs.stat(ino).unwrap(), path.symlink_metadata().unwrap());
            let kind = meta.file_type();
            let letter = match path.file_name().unwrap().to_str().unwrap() {
                "link" | "long" => 'l',
                "fifo" => 'p',
                "chr" => 'c',
                "blk" => 'b',
                "sock" => 's',
                _ => 'd',
            };
            assert_eq!(stat.kind.letter(), letter, "{way}: {}", path.display());
            assert_eq!(
                (letter == 'l', letter == 'p'),
                (kind.is_symlink(), kind.is_fifo()),
                "{}",
                path.display()
            );
            assert_eq!((letter == 's', letter == 'b'), (kind.is_socket(), kind.is_block_device()));
            if letter == 'l' {
                let target = rustix::fs::readlink(&path, Vec::new()).unwrap();
                assert_eq!(fs.readlink(ino).unwrap(), target.as_bytes(), "{way}");
                assert_eq!(stat.size, meta.len(), "{way}");
            }
            let rdev = meta.rdev();
            assert_eq!(
                stat.rdev,
                (rustix::fs::major(rdev), rustix::fs::minor(rdev)),
                "{way}: {}",
                path.display()
            );
        }
        drop(mount);
        same_attributes(&made.disk);
    }
}

#[test]
fn an_encrypted_file_says_whose_it_is() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "python3");
    let made = made("24M", "efs_raw", "efs");
    let fs = open(&file(&made.disk)).unwrap();
    let ino = number(&made.disk, "secret");
    assert_eq!(fs.stat(ino).unwrap().size, 4092);
    let error = fs.read_at(ino, &mut [0; 10], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encrypted);
    let text = error.to_string();
    assert!(
        text.contains("S-1-5-21-1001") && text.contains("0102030405060708090A0B0C0D0E0F1011121314"),
        "{text}"
    );
}

/// Patches a file of the volume, made by a shell script in it.
fn with(script: &str) -> Made {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 24M {0}; mkntfs -F -Q -q {0} >/dev/null", disk.display()));
    let mount = ByNtfs3g::new(&disk, "rw");
    common::sh(&format!("cd {}; {script}", mount.at.display()));
    drop(mount);
    Made { disk, _dir: dir }
}

#[test]
fn a_dirty_volume_and_a_sleeping_windows_are_said() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "ntfsfix", "ntfs-3g.probe");
    let hiberfil = |signature: &str| {
        format!(
            "printf {signature} > hiberfil.sys; truncate -s 64K hiberfil.sys; mkdir -p 'System Volume Information'"
        )
    };
    let awake = with(&hiberfil("wake"));
    let facts = open(&file(&awake.disk)).unwrap().facts();
    assert_eq!((facts.state, facts.warnings), (State::Clean, Vec::new()));
    assert_eq!(facts.features, ["3.1"]);

    common::sh(&format!("ntfsfix {} >/dev/null", awake.disk.display()));
    let facts = open(&file(&awake.disk)).unwrap().facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings.len() == 1 && facts.warnings[0].contains("marked dirty"), "{:?}", facts.warnings);

    let shadows = "touch 'System Volume Information/{3808876b-c176-4e48-b7ae-04046e6cc752}'";
    let asleep = with(&format!("{}; {shadows}", hiberfil("HIBR")));
    let facts = open(&file(&asleep.disk)).unwrap().facts();
    assert_eq!(facts.state, State::Dirty);
    assert!(facts.warnings.len() == 1 && facts.warnings[0].contains("hibernates"), "{:?}", facts.warnings);
    assert_eq!(facts.features, ["3.1", "volume shadow copies"]);
    // ntfs-3g will not write to it either.
    let refused = format!("ntfs-3g.probe --readwrite {} 2>/dev/null || echo $?", asleep.disk.display());
    assert_eq!(common::sh(&refused).trim(), "14");
}

#[test]
fn content_that_somebody_else_keeps_is_refused_by_his_tag() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "setfattr");
    // Data of four bytes each: deduplicated, in the cloud and here, of a WIM.
    let tags = [("dedup", "13000080"), ("hydrated", "1a100090"), ("dehydrated", "1a300090")];
    let mut script =
        "export LC_ALL=C; echo content > dedup; echo content > hydrated; truncate -s 1M dehydrated"
            .to_owned();
    for (name, tag) in tags {
        script += &format!("; setfattr -n system.ntfs_reparse_data -v 0x{tag}0400000000000000 {name}");
    }
    script += "; echo content > wim; setfattr -n system.ntfs_reparse_data -v 0x17000080080000000100000001000000 wim";
    let made = with(&script);
    let fs = open(&file(&made.disk)).unwrap();
    let read = |name: &str| {
        let ino = number(&made.disk, name);
        assert_eq!(fs.stat(ino).unwrap().kind, FileType::File, "{name}");
        let mut bytes = [0; 8];
        fs.read_at(ino, &mut bytes, 0).map(|_| bytes).map_err(|error| error.to_string())
    };
    assert_eq!(read("hydrated").unwrap(), *b"content\n");
    for (name, keeper) in [
        ("dedup", "IO_REPARSE_TAG_DEDUP"),
        ("dehydrated", "IO_REPARSE_TAG_CLOUD_3"),
        ("wim", "IO_REPARSE_TAG_WOF, provider WIM"),
    ] {
        let error = read(name).unwrap_err();
        assert!(error.contains(keeper), "{error}");
    }
}

#[test]
fn attributes_of_a_windows_volume_are_those_of_ntfs_3g() {
    requires!("root", "fuse", "ntfs-3g", "corpus");
    let dir = common::tempdir();
    let disk = samples::disk_of(&common::corpus().unwrap().join("fs/ntfs-samples/ntfs-lastaccess.raw.gz"));
    let part = dir.path().join("part");
    // Its only partition begins there.
    common::sh(&format!(
        "dd if={} of={} bs=64K skip=1 conv=sparse status=none",
        disk.display(),
        part.display()
    ));
    let found = same_attributes(&part);
    assert!(found > 150, "{found} attributes");
}

/// Where in an image a record of the MFT lies.
fn record(image: &[u8], ino: Ino) -> usize {
    let is_it = |at: &usize| {
        image[*at..].starts_with(b"FILE") && image[at + 0x2c..at + 0x30] == (ino.0 as u32).to_le_bytes()
    };
    (0..image.len()).step_by(1024).find(is_it).unwrap()
}

#[test]
fn names_in_a_case_sensitive_directory_are_taken_by_the_letter() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g");
    let made = with(
        "mkdir dir other; echo 1 > dir/Name; echo 2 > dir/NAME; echo 3 > dir/Other; echo 4 > other/Other",
    );
    let clean = open(&file(&made.disk)).unwrap();
    let find = |fs: &Fs, path: &str| {
        let (dir, name) = path.split_once('/').unwrap();
        let dir = fs.lookup(fs.root(), dir.as_bytes()).unwrap().unwrap();
        fs.lookup(dir, name.as_bytes()).unwrap()
    };
    assert!(find(&clean, "dir/Name").is_some() && find(&clean, "dir/Name") != find(&clean, "dir/NAME"));
    assert_eq!(find(&clean, "dir/other"), find(&clean, "dir/Other"));

    // $STANDARD_INFORMATION is the first attribute: its value begins 0x18 behind its head, flags stand 0x28 behind that.
    let mut image = std::fs::read(&made.disk).unwrap();
    let at = record(&image, clean.lookup(clean.root(), b"dir").unwrap().unwrap());
    let first = usize::from(image[at + 0x14]);
    image[at + first + 0x18 + 0x28] |= 1;
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    let fs = open(&volume).unwrap();
    for (path, clean_path) in
        [("dir/Other", Some("dir/Other")), ("dir/Name", Some("dir/Name")), ("dir/name", None)]
    {
        assert_eq!(find(&fs, path), clean_path.and_then(|path| find(&clean, path)), "{path}");
    }
    assert_eq!(find(&fs, "dir/other"), None);
    assert_eq!(find(&fs, "other/OTHER"), find(&clean, "other/Other"));
}

#[test]
fn damaged_records_and_indexes_end_in_errors() {
    requires!("root", "fuse", "mkntfs", "ntfs-3g", "python3");
    for (part, options) in [
        ("named", ""),
        ("links", ""),
        ("descriptors", ""),
        ("specials", "special_files=wsl"),
        ("efs", "efs_raw"),
    ] {
        let made = made("16M", options, part);
        let image = std::fs::read(&made.disk).unwrap();
        // Records in use, blocks of indexes, and what is called `$SDS` begin so.
        let is_meta = |at: &usize| [b"FILE", b"INDX"].iter().any(|magic| image[*at..].starts_with(*magic));
        let places: Vec<u64> = (0..image.len()).step_by(1024).filter(is_meta).map(|at| at as u64).collect();
        let clean = Arc::new(Memory::new(image, "disk"));
        let mut random = Random(7);
        let (mut done, mut failed) = (0, 0);
        for _ in 0..mutants(60) {
            let changes = (0..=random.below(6))
                .map(|_| {
                    let place = places[random.below(places.len() as u64) as usize];
                    let byte = [0, 0xff, 0x7f, 0x80, 1, random.below(256) as u8][random.below(6) as usize];
                    (place + random.below(600), byte)
                })
                .collect();
            let mutant: Arc<dyn BlockSource> = Arc::new(Mutant { clean: Arc::clone(&clean), changes });
            let Ok(fs) = open(&mutant) else { continue };
            fs.facts();
            let start = cpu();
            for ino in (0..12).chain(24..27).chain(64..90).map(Ino) {
                let Ok(stat) = fs.stat(ino) else { continue };
                let mut count = |worked: bool| if worked { done += 1 } else { failed += 1 };
                count(stat.kind != FileType::Symlink || fs.readlink(ino).is_ok());
                count(fs.xattrs(ino).is_ok());
                for name in NAMES {
                    count(fs.xattr(ino, format!("system.ntfs_{name}").as_bytes()).is_ok());
                }
                count(stat.kind != FileType::File || fs.read_at(ino, &mut [0; 100], 0).is_ok());
            }
            assert!(cpu().saturating_sub(start) < Duration::from_secs(1), "{part}: a walk took a second");
        }
        assert!(done > 1000 && failed > 0, "{part}: {done} worked, {failed} failed");
    }
}
