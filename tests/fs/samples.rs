//! Samples of other projects, with what other readers say of them.

use super::*;

/// Unwraps a sample into a file.
pub(super) fn unwrap(sample: &Path, disk: &Path) {
    let name = sample.to_str().unwrap();
    let tool = match name.rsplit('.').next().unwrap() {
        "gz" => "zcat",
        "xz" => "xzcat",
        "zst" => "zstdcat",
        "bz2" => "bzcat",
        _ => "cat",
    };
    // What begins so is made by `btrfs-image`: the metadata of a file system, to be restored.
    common::sh(&format!(
        "{tool} {name} | dd of={0} bs=64K conv=sparse status=none
         if [ \"$(head -c 8 {0} | od -An -tx1 | tr -d ' ')\" = 8b669572e2255cbd ]; then
             btrfs-image -r {0} {0}.raw && mv {0}.raw {0}
         fi
         truncate -s %512 {0}",
        disk.display()
    ));
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
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        unwrap(Path::new(sample), &disk);
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
        let dir = common::tempdir();
        let disk = dir.path().join("disk");
        let unwrapped = std::process::Command::new("bash")
            .args(["-c", &format!("case {sample} in *.gz) zcat {sample};; *.bz2) bzcat {sample};; *.xz) xzcat {sample};; *.zst) zstdcat {sample};; *) cat {sample};; esac | dd of={} bs=64K conv=sparse status=none", disk.display())])
            .output()
            .unwrap();
        if !unwrapped.status.success() || !disk.exists() {
            continue;
        }
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
