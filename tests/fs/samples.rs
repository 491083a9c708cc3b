//! Samples of other projects, with what other readers say of them.

use super::*;

/// The disk in a sample, in whole sectors. What begins so is made by `btrfs-image`: the metadata of a file system, to be
/// restored.
pub(super) fn disk_of(sample: &Path) -> common::samples::Made {
    common::samples::made_of(
        sample,
        "unpack $SAMPLE | dd of=$OUT bs=64K iflag=fullblock conv=sparse status=none
         if [ \"$(head -c 8 $OUT | od -An -tx1 | tr -d ' ')\" = 8b669572e2255cbd ]; then
             btrfs-image -r $OUT $OUT.raw && mv $OUT.raw $OUT
         fi
         truncate -s %512 $OUT",
    )
}

/// Looks at what an expectation speaks of: the whole, or partition N of `NAME.pN.expect`.
fn look_at_sample(disk: &Path, part: Option<&str>) -> Result<Content> {
    let disk = file(disk);
    let found = volumes(&disk);
    let id = part.unwrap_or("disk");
    let Some(volume) = found.iter().find(|volume| volume.id == id) else { return Ok(Content::Unknown) };
    look(&volume.source)
}

/// A name as expectations spell it: printable UTF-8 as it is, every other byte as `\\xHH`.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c.is_control() {
                c.to_string().bytes().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap());
    }
    text
}

/// Every path as expectations spell it. What cannot be listed is left out, and so found missing.
fn paths(fs: &Fs) -> BTreeMap<String, Ino> {
    let mut paths = BTreeMap::new();
    let mut todo = vec![("/".to_owned(), fs.root())];
    while let Some((path, ino)) = todo.pop() {
        for (name, _, kind, _) in entries(fs, ino).unwrap_or_default() {
            let path = format!("{}/{}", path.trim_end_matches('/'), escape(&name));
            // Of two records of one name the first is found; in a sound directory there is one.
            let found = fs.lookup(ino, &name).unwrap();
            let child = found.unwrap_or_else(|| panic!("{path}: is listed and not found"));
            if kind.is_none_or(|kind| kind == FileType::Dir)
                && fs.stat(child).is_ok_and(|s| s.kind == FileType::Dir)
            {
                todo.push((path.clone(), child));
            }
            paths.insert(path, child);
        }
        paths.insert(path, ino);
    }
    paths
}

/// One line of an expectation against what we read. `Err` says what differs.
fn compare(fs: &Fs, paths: &BTreeMap<String, Ino>, expected: &str) -> std::result::Result<(), String> {
    let mut columns = expected.split('\t');
    let (path, letter, size, content, rest) = (
        columns.next().unwrap(),
        columns.next().unwrap(),
        columns.next().unwrap(),
        columns.next().unwrap(),
        columns.next().unwrap_or(""),
    );
    let say = |error: Error| format!("{path}: {error}");
    let Some(&ino) = paths.get(path) else { return Err(format!("{path}: is missing")) };
    if let Some(errno) = rest.strip_prefix("err=") {
        // What the kernel would not even stat, neither do we.
        return fs.stat(ino).map_or(Ok(()), |_| Err(format!("{path}: readable, expected error {errno}")));
    }
    let stat = fs.stat(ino).map_err(say)?;
    let differs = |what: &str, ours: String| Err(format!("{path}: {what} is {ours}, expected {expected}"));
    let ours = match stat.kind {
        FileType::File => 'f',
        kind => kind.letter(),
    };
    if letter != ours.to_string() {
        return differs("type", ours.to_string());
    }
    if size != "-" && size != stat.size.to_string() {
        return differs("size", stat.size.to_string());
    }
    if stat.kind == FileType::File && !content.starts_with("ERR") && content != "-" {
        let mut sha = Sha256::new();
        let mut buf = vec![0; 1 << 20];
        let ends = content.strip_prefix("HEADTAIL1M:");
        let mut at = 0;
        while at < stat.size {
            let len = fs.read_at(ino, &mut buf, at).map_err(say)?;
            sha.update(&buf[..len]);
            at += len as u64;
            if ends.is_some() && at < stat.size - (1 << 20) {
                at = stat.size - (1 << 20);
            }
        }
        let ours = hex(&sha.finalize());
        if ours != ends.unwrap_or(content) {
            return differs("content", ours);
        }
    }
    // The kernel that made the listings has no driver for these: their attributes are what a copying tool left.
    let rest = if ["vfat", "exfat", "iso9660", "udf", "ntfs"].contains(&fs.facts().kind) { "" } else { rest };
    for attribute in rest.split(' ') {
        let Some((key, value)) = attribute.split_once('=') else { continue };
        let ours = match key {
            "mode" => format!("{:04o}", stat.mode),
            "uid" => stat.uid.to_string(),
            "gid" => stat.gid.to_string(),
            // Where a subvolume is not there, the kernel shows a directory made just now.
            "mtime" if fs.facts().kind == "btrfs" && stat.ino == Ino(2) => continue,
            "mtime" => stat.mtime.secs.to_string(),
            "nlink" => stat.nlink.to_string(),
            "rdev" => format!("{}:{}", stat.rdev.0, stat.rdev.1),
            "target" if !value.is_empty() => escape(&fs.readlink(ino).map_err(say)?),
            "xattr" => {
                let mut all: Vec<String> = fs
                    .xattrs(ino)
                    .map_err(say)?
                    .iter()
                    .map(|x| {
                        format!(
                            "{}:{}:{}",
                            escape(&x.name),
                            x.value.len(),
                            &hex(&Sha256::digest(&x.value))[..16]
                        )
                    })
                    .collect();
                all.sort();
                all.join(",")
            }
            _ => continue,
        };
        let mut wanted: Vec<&str> = value.split(',').collect();
        wanted.sort_unstable();
        if ours != wanted.join(",") {
            return differs(key, ours);
        }
    }
    Ok(())
}

/// Paths that the kernel shows and that are not in the expectation, because `e2fsck` had to run before it could be made:
/// it moves a journal that has a name to an inode that has none.
const HIDDEN_BY_E2FSCK: &[(&str, &str)] = &[("/e2fsprogs/f_journal_image.gz", "/journal")];

#[test]
fn samples_of_others_are_read_as_the_kernel_reads_them() {
    requires!("corpus", "zstd", "xz", "gzip", "bzip2", "btrfs-image");
    let corpus = common::corpus().unwrap().join("fs");
    let list = common::sh(&format!("find {} -name '*.expect' | sort", corpus.display()));
    let (mut equal, mut unread, mut refused, mut wrong) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for expectation in list.lines() {
        let name = expectation.strip_suffix(".expect").unwrap();
        let (name, is_top) = name.strip_suffix(".toplevel").map_or((name, false), |name| (name, true));
        let (sample, part) = match name.rsplit_once(".p") {
            Some((sample, digits)) if digits.len() == 1 => (sample, Some(format!("p{digits}"))),
            _ => (name, None),
        };
        let is_container = [".qcow2", ".vmdk", ".vhd"].iter().any(|ending| name.ends_with(ending));
        if !Path::new(sample).exists() || is_container {
            continue;
        }
        let disk = disk_of(Path::new(sample));
        let short = name.strip_prefix(corpus.to_str().unwrap()).unwrap().to_owned();
        let fs = match look_at_sample(&disk, part.as_deref()) {
            // btrfs's top, whichever subvolume is the default.
            Ok(Content::Files(fs)) if is_top => fs.subvolume(5).unwrap(),
            Ok(Content::Files(fs)) => fs,
            // A file system that has no reader yet.
            Ok(other) => {
                unread.push(format!("{short}: {other:?}"));
                continue;
            }
            Err(error) => {
                refused.push(format!("{short}: {error:?}"));
                continue;
            }
        };
        let text = std::fs::read(expectation).unwrap();
        let mut text = String::from_utf8(text).unwrap();
        let mut paths = paths(&fs);
        if let Some((_, path)) = HIDDEN_BY_E2FSCK.iter().find(|(sample, _)| *sample == short) {
            assert!(paths.remove(*path).is_some(), "{short}: {path} is missing");
        }
        let facts = fs.facts();
        // ntfs-3g lists every file of the file system's own but this one.
        if facts.kind == "ntfs" {
            assert!(paths.remove("/$MFT").is_some(), "{short}: /$MFT is missing");
        }
        // A disc without further names: copying tools show them as stored, the kernel in lower case.
        if facts.kind == "iso9660"
            && !facts.features.iter().any(|f| f.starts_with("Rock") || f.starts_with("Joliet"))
        {
            let lower = |line: &str| match line.split_once('\t') {
                Some((path, rest)) => format!("{}\t{rest}\n", path.to_ascii_lowercase()),
                None => format!("{line}\n"),
            };
            text = text.lines().map(lower).collect();
        }
        let mut differences: Vec<String> =
            text.lines().filter_map(|line| compare(&fs, &paths, line).err()).collect();
        let listed = text.lines().count();
        if paths.len() > listed {
            differences.push(format!("{} paths, {listed} expected", paths.len()));
        }
        match differences.first() {
            None => equal.push(short),
            Some(first) => wrong.push(format!("{short}: {} differences, first {first}", differences.len())),
        }
    }
    println!("{} equal; not read: {unread:?}", equal.len());
    assert!(wrong.is_empty() && refused.is_empty(), "{}\n{}", wrong.join("\n"), refused.join("\n"));
    assert!(equal.len() >= 25, "{equal:?}");
}

/// Damaged samples, e2fsprogs' own among them: every one is walked to its end.
#[test]
fn broken_samples_of_others_end_in_errors_and_soon() {
    requires!("corpus", "zstd", "xz", "gzip", "bzip2");
    let corpus = common::corpus().unwrap();
    let list = common::sh(&format!(
        "find {0}/broken/e2fsprogs {0}/broken/syzkaller {0}/fs/e2fsprogs -type f ! -name '*.blkid' ! -name '*.expect' | sort",
        corpus.display()
    ));
    let (mut opened, mut refused) = (0, 0);
    for sample in list.lines() {
        let disk = common::samples::unpacked_as_far_as_it_goes(Path::new(sample));
        let volume = file(&disk);
        let probe = look(&volume);
        if matches!(probe, Ok(Content::Files(_))) {
            exercise(&volume);
            opened += 1;
        } else {
            refused += 1;
        }
    }
    println!("{opened} walked, {refused} refused or without a file system");
    assert!(opened > 60, "{opened}");
}

/// One image of e2fsprogs' own tests, most of them damaged on purpose: what `e2fsck -fn` says of it, and what `debugfs`
/// reads.
struct Judged {
    /// `e2fsck` had no complaint at all, or ran to its end with some.
    ran: bool,
    /// Inodes that its complaints name.
    named: std::collections::HashSet<u64>,
    /// What `debugfs` printed after each of its commands.
    answers: Vec<String>,
}

/// Files longer than this are not compared: `debugfs` writes them out whole, holes too.
const DUMPED: u64 = 16 << 20;
/// Files, and directories, that are looked at in one image.
const LOOKED_AT: usize = 400;
/// An image with a directory of one block, by its size, whose map goes on: `debugfs` lists what lies behind its end, the
/// kernel and we do not.
const LISTED_PAST_THE_END: &str = "f_holedir4/";

impl Judged {
    fn new(dir: &Path, disk: &Path, commands: &[String]) -> Self {
        let fsck = std::process::Command::new("timeout")
            .args(["4", "e2fsck", "-fn", disk.to_str().unwrap()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&fsck.stdout).into_owned();
        std::fs::write(dir.join("commands"), commands.join("\n") + "\n").unwrap();
        let debugfs = std::process::Command::new("timeout")
            .args(["20", "stdbuf", "-o0", "bash", "-c", "exec debugfs -f commands \"$0\" 2>&1"])
            .arg(disk)
            .current_dir(dir)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&debugfs.stdout).into_owned();
        let answers = printed.split("debugfs: ").skip(1);
        Self {
            ran: matches!(fsck.status.code(), Some(0 | 4)),
            named: numbers(&text),
            answers: answers
                .map(|answer| answer.split_once('\n').map_or("", |(_, rest)| rest).to_owned())
                .collect(),
        }
    }

    fn is_sound(&self, inodes: &[u64]) -> bool {
        self.ran && !inodes.iter().any(|ino| self.named.contains(ino))
    }
}

/// The inode numbers in complaints: `Inode 12`, `inode #12`, `<12>`, `(12)`; and in `inode 12, 13`.
fn numbers(text: &str) -> std::collections::HashSet<u64> {
    let mut found = std::collections::HashSet::new();
    for line in text.lines().filter(|line| !line.contains(" files (") && !line.starts_with("Pass ")) {
        let lower = line.to_lowercase();
        let names_any = lower.contains("node") || lower.contains("entry") || lower.contains("directory");
        for word in line.split(|c: char| !c.is_ascii_digit()).filter(|word| names_any && !word.is_empty()) {
            found.extend(word.parse::<u64>());
        }
        if lower.contains("root inode") || lower.contains("root directory") {
            found.insert(2);
        }
    }
    found
}

/// Where `debugfs` reads a file that `e2fsck` has no complaint about, we read the same bytes; and a name that it lists in a
/// directory without complaints, we list. Elsewhere there is an error, or the same.
#[test]
fn damaged_ext_samples_read_as_debugfs_reads_them() {
    requires!("corpus", "zstd", "xz", "gzip", "bzip2", "debugfs", "e2fsck", "stdbuf");
    let corpus = common::corpus().unwrap();
    let list = common::sh(&format!(
        "find {}/broken/e2fsprogs -type f -name 'image*' ! -name '*.tar.*' | sort",
        corpus.display()
    ));
    let (mut images, mut same, mut same_though_named, mut refused, mut names) = (0, 0, 0, 0, 0);
    let mut wrong = Vec::new();
    for sample in list.lines() {
        let dir = common::tempdir();
        let disk = disk_of(Path::new(sample));
        let short = sample.rsplit("e2fsprogs/").next().unwrap();
        let Ok(Content::Files(fs)) = detect_all(&[file(&disk)], Journal::Ignore).remove(0) else { continue };
        images += 1;
        let (mut dirs, mut files) = (Vec::new(), BTreeMap::new());
        let mut todo = vec![(fs.root(), Vec::new())];
        let mut seen = std::collections::HashSet::new();
        while let Some((ino, above)) = todo.pop() {
            if !seen.insert(ino) || dirs.len() == LOOKED_AT {
                continue;
            }
            let above = [above, vec![ino.0]].concat();
            let mut children = Vec::new();
            let listed = fs.readdir(ino, 0, &mut |entry| {
                children.push(entry.ino);
                ControlFlow::Continue(())
            });
            for child in &children {
                match fs.stat(*child).map(|stat| (stat.kind, stat.size)) {
                    Ok((FileType::Dir, _)) => todo.push((*child, above.clone())),
                    Ok((FileType::File, size)) if size <= DUMPED && files.len() < LOOKED_AT => {
                        files.insert(*child, [above.clone(), vec![child.0]].concat());
                    }
                    _ => {}
                }
            }
            dirs.push((above, children, listed.is_ok()));
        }
        std::fs::create_dir(dir.path().join("out")).unwrap();
        let commands: Vec<String> = dirs
            .iter()
            .map(|(above, ..)| format!("ls -p <{}>", above.last().unwrap()))
            .chain(files.keys().map(|ino| format!("dump <{ino}> out/{ino}")))
            .collect();
        let judged = Judged::new(dir.path(), &disk, &commands);
        if judged.answers.len() != commands.len() {
            // `debugfs` would not open it.
            continue;
        }
        for ((above, children, is_whole), answer) in dirs.iter().zip(&judged.answers) {
            for line in answer.lines() {
                // "/inode/mode/uid/gid/name/size/"
                let fields: Vec<&str> = line.split('/').collect();
                let Some(ino) = fields.get(1).and_then(|ino| ino.parse::<u64>().ok()) else { continue };
                if fields.len() < 7 || ino == 0 || matches!(fields[5], "." | "..") {
                    continue;
                }
                let is_sound = judged.is_sound(&[above.as_slice(), &[ino]].concat());
                if children.contains(&Ino(ino)) {
                    names += 1;
                } else if (is_sound || (*is_whole && judged.ran)) && !short.starts_with(LISTED_PAST_THE_END) {
                    wrong.push(format!("{short}: inode {ino} in {above:?} is not listed"));
                }
            }
        }
        for ((ino, above), answer) in files.iter().zip(judged.answers.iter().skip(dirs.len())) {
            let size = fs.stat(*ino).unwrap().size;
            let mut bytes = vec![0; size as usize];
            let ours = fs.read_at(*ino, &mut bytes, 0);
            let is_sound = judged.is_sound(above);
            let theirs = std::fs::read(dir.path().join(format!("out/{ino}")));
            // Of a file inside its inode it writes all sixty bytes, however short the file is.
            let cut = |theirs: Vec<u8>| {
                let keep = if theirs.len() == 60 { theirs.len().min(size as usize) } else { theirs.len() };
                theirs[..keep].to_vec()
            };
            let Some(theirs) = theirs.ok().map(cut).filter(|_| answer.trim().is_empty()) else {
                refused += 1;
                continue;
            };
            match ours {
                Ok(_) if bytes == theirs && is_sound => same += 1,
                Ok(_) if bytes == theirs => same_though_named += 1,
                Ok(_) => wrong.push(format!(
                    "{short}: inode {ino} reads otherwise, {size} bytes, {} theirs, sound: {is_sound}",
                    theirs.len()
                )),
                Err(error) if is_sound => wrong.push(format!("{short}: inode {ino}: {error}")),
                Err(_) => refused += 1,
            }
        }
    }
    println!(
        "{images} images: {names} names, {same} files without a complaint and {same_though_named} with one read the same, {refused} are refused"
    );
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
    assert!(images > 180 && same > 500, "{images} {same}");
}

/// Whatever opens is what `blkid` takes it for: nothing is claimed by a reader of something else.
#[test]
fn no_sample_is_taken_for_something_else() {
    requires!("corpus", "xz", "gzip", "zstd", "bzip2");
    let corpus = common::corpus().unwrap().join("fs");
    let list = common::sh(&format!("ls {0}/util-linux/*.blkid {0}/dfvfs/*.raw.blkid", corpus.display()));
    let (mut opened, mut wrong) = (0, Vec::new());
    for said in list.lines() {
        let sample = said.strip_suffix(".blkid").unwrap();
        let said = std::fs::read_to_string(said).unwrap();
        let kind = said.lines().find_map(|line| line.strip_prefix("TYPE=")).unwrap_or("nothing").to_owned();
        if let Ok(Content::Files(fs)) = look(&file(&disk_of(Path::new(sample)))) {
            opened += 1;
            if fs.facts().kind != kind {
                wrong.push(format!("{sample}: {}, blkid says {kind}", fs.facts().kind));
            }
        }
    }
    assert!(wrong.is_empty() && opened >= 60, "{opened}\n{}", wrong.join("\n"));
}
