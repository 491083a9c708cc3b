//! UDF: bridges by genisoimage compared with what it was given; what `mkudffs` makes; samples of others; and one that is
//! written here, descriptor by descriptor, for what no tool at hand writes.

use super::*;

/// Files and directories, of which genisoimage's UDF keeps names, content and times, in `$TREE`.
const FILES: &str = r#"
mkdir -p $TREE/dir/sub/deeper $TREE/many; cd $TREE
for n in $(seq 300); do echo $n > "many/file number $n with a longer name.txt"; done
echo a > readme.txt; echo b > dir/UPPER.TXT; head -c 700000 /dev/urandom > dir/sub/big.bin; : > empty
echo wide > 'größer 日本.txt'; echo latin > 'übergrößen.txt'; echo long > $(printf 'l%.0s' $(seq 100)).txt
touch -d '1995-05-05 05:05:05 UTC' readme.txt; touch -d '2030-01-02 03:04:05 UTC' dir/UPPER.TXT
"#;

fn walk(fs: &Fs, path: &str) -> Ino {
    path.split('/')
        .filter(|name| !name.is_empty())
        .fold(fs.root(), |dir, name| fs.lookup(dir, name.as_bytes()).unwrap().unwrap())
}

fn bridge() -> (Made, PathBuf) {
    let dir = common::tempdir();
    let (disk, tree) = (dir.path().join("disk"), dir.path().join("tree"));
    common::sh(&format!(
        "export TZ=UTC LC_ALL=C.UTF-8 TREE={}; mkdir -p $TREE; ({FILES})
        genisoimage -quiet -udf -allow-limited-size -input-charset utf-8 -V 'Lábel' -o {} $TREE",
        tree.display(),
        disk.display()
    ));
    (Made { disk, _dir: dir }, tree)
}

#[test]
fn the_udf_half_of_a_disc_reads_as_it_was_written() {
    requires!("root", "genisoimage", "blkid", "7z");
    let (made, tree) = bridge();
    let fs = open(&file(&made.disk)).unwrap();
    same_as_blkid(&fs, &common::sh(&format!("blkid -p -o export {}", made.disk.display())), "bridge");
    let expected = kernel(&tree);
    same(&bare(&ours(&fs)), &bare(&expected), "bridge");
    assert!(expected.len() > 310);
    assert_eq!(fs.stat(walk(&fs, "/readme.txt")).unwrap().mtime.secs, 799_650_305);
    // What 7-Zip says of the same half.
    let listed = common::sh(&format!("LC_ALL=C.UTF-8 7z l -tudf -ba {}", made.disk.display()));
    assert_eq!(listed.lines().count(), expected.len() - 1, "{listed}");

    let big = walk(&fs, "/dir/sub/big.bin");
    let theirs = std::fs::read(tree.join("dir/sub/big.bin")).unwrap();
    let mut random = Random(5);
    for _ in 0..200 {
        let at = random.below(theirs.len() as u64 + 50) as usize;
        let mut buf = vec![0; random.below(70_000) as usize];
        let len = fs.read_at(big, &mut buf, at as u64).unwrap();
        assert!(buf[..len] == theirs[at.min(theirs.len())..(at + buf.len()).min(theirs.len())]);
    }
    let run = fs.run_at(big, 5000).unwrap();
    assert!(matches!(run.place, Place::Stored { file: 0, .. }) && run.len == 695_000, "{run:?}");
    assert_eq!(fs.run_at(big, 700_000).unwrap_err().kind(), ErrorKind::OutOfRange);

    let dir = walk(&fs, "/many");
    let all = entries(&fs, dir).unwrap();
    for (n, (.., next)) in all.iter().enumerate() {
        let mut first = None;
        let mut take = |entry: imgmount::fs::DirEntry<'_>| {
            first = Some(entry.name.to_vec());
            ControlFlow::Break(())
        };
        fs.readdir(dir, *next, &mut take).unwrap();
        assert_eq!(first, all.get(n + 1).map(|(name, ..)| name.clone()));
    }
}

#[test]
fn a_disc_whose_udf_is_damaged_is_read_by_its_other_half() {
    requires!("root", "genisoimage");
    let (made, _tree) = bridge();
    let mut image = std::fs::read(&made.disk).unwrap();
    let blocks = image.len() / 2048;
    for anchor in [256, blocks - 1] {
        image[anchor * 2048..][..512].fill(0);
    }
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    assert_eq!(open(&volume).unwrap().facts().kind, "iso9660");
}

#[test]
fn empty_ones_of_every_medium_and_block_size_are_opened() {
    requires!("mkudffs", "udfinfo", "blkid");
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    let mut opened = 0;
    for medium in ["hd", "dvd", "dvdram", "dvdrw", "cdrw", "cdr", "bdr"] {
        for (block, revision) in [(512, "2.01"), (1024, "1.50"), (2048, "2.01"), (4096, "1.02")] {
            // A disc that is written once ends with the table of what was written last.
            let script = format!(
                "export LC_ALL=C.UTF-8; rm -f {0}; truncate -s 40M {0}
                mkudffs -m {medium} -b {block} -r {revision} -l 'Lábel {medium}' {0} 2>/dev/null || exit 0
                vat=$(udfinfo {0} 2>/dev/null | sed -n 's/^start=\\([0-9]*\\), .*type=VAT.*/\\1/p')
                case {medium} in cdr) end=$(python3 -c \"
d = open('{0}', 'rb').read().rstrip(bytes(1))
print(-(-len(d) // {block}))\"); truncate -s $((end * {block})) {0};; esac
                udfinfo --vatblock=\"$(($(stat -c %s {0}) / {block} - 1))\" {0} 2>/dev/null || udfinfo {0}",
                disk.display()
            );
            let said = common::sh(&script);
            if said.is_empty() {
                // Not every medium comes in every size and revision.
                continue;
            }
            let what = format!("{medium} {block} {revision}");
            let fs = open(&file(&disk)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            same_as_blkid(&fs, &common::sh(&format!("blkid -p -o export {}", disk.display())), &what);
            let says = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
            assert_eq!(fs.facts().features, [says("udfrev=")], "{what}");
            assert_eq!(fs.facts().block_size.to_string(), says("blocksize="), "{what}");
            let stat = fs.stat(fs.root()).unwrap();
            assert_eq!((stat.kind, stat.mode), (FileType::Dir, 0o755), "{what}");
            let names: Vec<Vec<u8>> = entries(&fs, fs.root()).unwrap().into_iter().map(|e| e.0).collect();
            assert!(names.is_empty() || names == [b"lost+found"], "{what}: {names:?}");
            opened += 1;
        }
    }
    assert!(opened >= 20, "{opened}");
}

#[test]
fn samples_of_others_have_the_label_and_identifier_that_blkid_gives() {
    requires!("corpus", "xz");
    let of = |rest: &str| samples_are_what_blkid_said(&format!("util-linux/ts_blkid_images-fs_udf{rest}"));
    let count = of(".") + of("-[a-l]") + of("-multi-0-417");
    assert!(count >= 20, "{count}");
}

/// The table of what is where is that of the third session, which its own partition counts from.
#[test]
fn a_disc_of_several_sessions_is_refused_where_the_last_is_another_s() {
    requires!("corpus", "xz");
    let sample =
        common::corpus().unwrap().join("fs/util-linux/ts_blkid_images-fs_udf-multi-0-320-640-mkudffs.img.xz");
    let error = open(&file(&samples::disk_of(&sample))).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.help_text().is_some(), "{error:?}");
}

const BLOCK: usize = 2048;

fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 },
        )
    })
}

/// A descriptor with its tag: ECMA-167, 3/7.2.
fn tagged(ident: u16, block: u32, body: &[u8]) -> Vec<u8> {
    let mut tag = vec![0; 16];
    tag[..2].copy_from_slice(&ident.to_le_bytes());
    tag[2] = 3;
    tag[8..10].copy_from_slice(&crc(body).to_le_bytes());
    tag[10..12].copy_from_slice(&(body.len() as u16).to_le_bytes());
    tag[12..16].copy_from_slice(&block.to_le_bytes());
    tag[4] = tag.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    [tag, body.to_vec()].concat()
}

/// A file entry: ECMA-167, 4/14.9, or the extended one, 4/14.17.
struct Entry<'a> {
    kind: u8,
    /// How its descriptors read: 0 short, 1 long, 2 extended, 3 the content itself.
    form: u16,
    size: u64,
    attributes: &'a [u8],
    descriptors: &'a [u8],
    extended: bool,
}

impl Entry<'_> {
    fn at(&self, block: u32) -> Vec<u8> {
        let mut body = vec![0; if self.extended { 200 } else { 160 }];
        let mut put = |at: usize, bytes: &[u8]| body[at - 16..][..bytes.len()].copy_from_slice(bytes);
        put(20, &4_u16.to_le_bytes());
        put(24, &1_u16.to_le_bytes());
        put(27, &[self.kind]);
        put(34, &(self.form | 0x40).to_le_bytes()); // setuid
        put(36, &1000_u32.to_le_bytes());
        put(40, &u32::MAX.to_le_bytes());
        put(44, &(7_u32 << 10 | 5 << 5 | 1).to_le_bytes());
        put(48, &2_u16.to_le_bytes());
        put(56, &self.size.to_le_bytes());
        // 2001-02-03 04:05:06.070809, two hours east of Greenwich.
        let stamp = [0x78, 0x10, 0xd1, 7, 2, 3, 4, 5, 6, 7, 8, 9];
        put(if self.extended { 92 } else { 84 }, &stamp);
        let lengths = if self.extended { 208 } else { 168 };
        put(lengths, &(self.attributes.len() as u32).to_le_bytes());
        put(lengths + 4, &(self.descriptors.len() as u32).to_le_bytes());
        body.extend(self.attributes);
        body.extend(self.descriptors);
        tagged(if self.extended { 266 } else { 261 }, block, &body)
    }
}

/// A file identifier: ECMA-167, 4/14.4.
fn identifier(characteristics: u8, name: &[u8], block: u32) -> Vec<u8> {
    let mut body = vec![0; 22];
    body[0] = 1;
    (body[2], body[3]) = (characteristics, name.len() as u8);
    body[4..8].copy_from_slice(&(BLOCK as u32).to_le_bytes());
    body[8..12].copy_from_slice(&block.to_le_bytes());
    body.extend(name);
    body.resize((38 + name.len()).next_multiple_of(4) - 16, 0);
    tagged(257, 0, &body)
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Writes a root directory with a file of each form into what `mkudffs` made, from block `first` of the partition on.
/// Says what the files hold.
fn furnish(image: &mut [u8], start: usize, root: u32, first: u32) -> BTreeMap<&'static str, Vec<u8>> {
    let mut random = Random(11);
    let mut noise = |len: usize| -> Vec<u8> { (0..len).map(|_| random.below(256) as u8).collect() };
    let data = noise(4 * BLOCK);
    let mut put = |block: u32, bytes: &[u8]| {
        image[(start + block as usize) * BLOCK..][..bytes.len()].copy_from_slice(bytes);
    };
    // Four blocks of content, apart from each other.
    let content = |n: u32| first + 50 + 2 * n;
    for n in 0..4 {
        put(content(n), &data[n as usize * BLOCK..][..BLOCK]);
    }
    let part = |n: usize| &data[n * BLOCK..][..BLOCK];
    let b = BLOCK as u32;
    let zeros = vec![0; BLOCK];
    let plain = |kind, form, size, descriptors: &[u8], block| {
        Entry { kind, form, size, attributes: &[], descriptors, extended: false }.at(block)
    };

    let short = words(&[b, content(2), 1 << 30 | b, content(3), 2 << 30 | b, 0, 100, content(0)]);
    put(first, &plain(5, 0, 3 * BLOCK as u64 + 100, &short, first));
    let long = words(&[b, content(3), 0, 0, 77, content(1), 0, 0]);
    put(first + 1, &plain(5, 1, BLOCK as u64 + 77, &long, first + 1));
    let extended = words(&[b, b, b, content(1), 0, b, b, b, content(0), 0]);
    put(first + 2, &plain(5, 2, 2 * BLOCK as u64, &extended, first + 2));
    let small = b"in the entry itself";
    let embedded = Entry {
        kind: 5,
        form: 3,
        size: small.len() as u64,
        attributes: &[],
        descriptors: small,
        extended: true,
    };
    put(first + 3, &embedded.at(first + 3));
    // The third kind of length leads to more descriptors: 4/14.5.
    let continued = words(&[b, content(0), 3 << 30 | b, first + 20]);
    put(first + 4, &plain(5, 0, 3 * BLOCK as u64, &continued, first + 4));
    let more = words(&[0, 16, b, content(1), b, content(2)]);
    put(first + 20, &tagged(258, first + 20, &more));
    // /usr/../x/. as components: 4/14.16.
    let target = b"\x02\0\0\0\x05\x04\0\0\x08usr\x03\0\0\0\x05\x03\0\0\x10\0x\x04\0\0\0";
    put(first + 5, &plain(12, 3, target.len() as u64, target, first + 5));
    // A head for attributes, and device 8:17: 4/14.10.1 and 4/14.10.7.
    let head = tagged(262, first + 6, &words(&[u32::MAX, u32::MAX]));
    let device = [head, words(&[12, 1, 24, 0, 8, 17])].concat();
    let node = Entry { kind: 6, form: 3, size: 0, attributes: &device, descriptors: &[], extended: false };
    put(first + 6, &node.at(first + 6));
    let inner = [identifier(10, b"", root), identifier(0, b"\x08file", first)].concat();
    put(first + 7, &plain(4, 3, inner.len() as u64, &inner, first + 7));

    let names = [
        identifier(10, b"", root),
        identifier(0, b"\x08short", first),
        identifier(0, b"\x08long", first + 1),
        identifier(0, b"\x08extended", first + 2),
        identifier(0, b"\x10\0\xe9\x65\xe5\xd8\x3d\xde\0", first + 3),
        identifier(4, b"\x08deleted", first + 4),
        identifier(1, b"\x08hidden", first + 4),
        identifier(0, b"\x08continued", first + 4),
        identifier(0, b"\x08link", first + 5),
        identifier(0, b"\x08device", first + 6),
        identifier(2, b"\x08dir", first + 7),
    ]
    .concat();
    // In two extents, so that an identifier lies across.
    let (front, back) = names.split_at(150);
    let mut entry =
        plain(4, 0, names.len() as u64, &words(&[150, first + 30, back.len() as u32, first + 32]), root);
    entry.resize(BLOCK, 0);
    put(root, &entry);
    put(first + 30, front);
    put(first + 32, back);
    BTreeMap::from([
        ("short", [part(2), &zeros, &zeros, &part(0)[..100]].concat()),
        ("long", [part(3), &part(1)[..77]].concat()),
        ("extended", [part(1), part(0)].concat()),
        ("é日😀", small.to_vec()),
        ("continued", [part(0), part(1), part(2)].concat()),
        ("dir/file", [part(2), &zeros, &zeros, &part(0)[..100]].concat()),
    ])
}

/// An empty one by `mkudffs` with furniture: the image, where its partition starts, and what its files hold.
fn furnished(options: &str) -> (Vec<u8>, u32, BTreeMap<&'static str, Vec<u8>>) {
    let dir = common::tempdir();
    let disk = dir.path().join("disk");
    common::sh(&format!("truncate -s 8M {0}; mkudffs {options} -b 2048 {0} >/dev/null 2>&1", disk.display()));
    let start = common::sh(&format!(
        "udfinfo {} 2>/dev/null | sed -n 's/^start=\\([0-9]*\\), .*PSPACE.*/\\1/p'",
        disk.display()
    ));
    let start: u32 = start.trim().parse().unwrap();
    let root = open(&file(&disk)).unwrap().root().0 as u32;
    let mut image = std::fs::read(&disk).unwrap();
    let files = furnish(&mut image, start as usize, root, 1024);
    (image, start, files)
}

fn holds(fs: &Fs, files: &BTreeMap<&'static str, Vec<u8>>, what: &str) {
    for (path, content) in files {
        let ino = walk(fs, path);
        assert_eq!(fs.stat(ino).unwrap().size, content.len() as u64, "{what}: {path}");
        let mut whole = vec![0xaa; content.len() + 100];
        assert_eq!(fs.read_at(ino, &mut whole, 0).unwrap(), content.len(), "{what}: {path}");
        assert!(whole[..content.len()] == content[..], "{what}: {path}");
        for at in [1, 10, 2040, 2048, 4000, 6143, 6145] {
            let mut part = vec![0; 300];
            let len = fs.read_at(ino, &mut part, at as u64).unwrap();
            let expected = &content[at.min(content.len())..(at + 300).min(content.len())];
            assert!(part[..len] == *expected, "{what}: {path} at {at}");
        }
    }
}

#[test]
fn every_form_of_descriptor_is_followed() {
    requires!("mkudffs", "udfinfo");
    let (image, _, files) = furnished("-m hd");
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    let fs = open(&volume).unwrap();
    holds(&fs, &files, "hd");
    let names: Vec<String> =
        entries(&fs, fs.root()).unwrap().into_iter().map(|e| String::from_utf8(e.0).unwrap()).collect();
    assert_eq!(names, ["short", "long", "extended", "é日😀", "continued", "link", "device", "dir"]);
    assert_eq!(fs.readlink(walk(&fs, "link")).unwrap(), b"/usr/../x/.");
    let stat = fs.stat(walk(&fs, "device")).unwrap();
    assert_eq!((stat.kind, stat.rdev, stat.mode), (FileType::Block, (8, 17), 0o4751));
    let stat = fs.stat(walk(&fs, "é日😀")).unwrap();
    assert_eq!((stat.uid, stat.gid, stat.nlink), (1000, 65_534, 2));
    // date -u -d '2001-02-03 04:05:06 +02:00' +%s
    assert_eq!((stat.mtime.secs, stat.mtime.nanos), (981_165_906, 70_809_000));
    assert_eq!(fs.stat(walk(&fs, "dir")).unwrap().nlink, 3);
    let short = walk(&fs, "short");
    assert_eq!(fs.run_at(short, 3000).unwrap().place, Place::Zero);
    assert_eq!(fs.run_at(short, 5000).unwrap().place, Place::Hole);
}

/// Packets of 32 blocks that were found bad lie elsewhere: UDF 2.01, 2.2.9.
#[test]
fn packets_that_were_spared_are_read_from_where_they_are() {
    requires!("mkudffs", "udfinfo");
    let (mut image, start, files) = furnished("-m cdrw");
    let table =
        image.windows(24).position(|bytes| &bytes[1..] == b"*UDF Sparing Table\0\0\0\0\0").unwrap() - 16;
    let tables: Vec<usize> = (0..image.len() / BLOCK)
        .map(|block| block * BLOCK)
        .filter(|at| image[*at + 17..].starts_with(b"*UDF Sparing Table"))
        .collect();
    assert!(tables.contains(&table) && !tables.is_empty());
    let old = 1024_usize;
    let from = (start as usize + old) * BLOCK;
    let elsewhere = u32::from_le_bytes(image[table + 60..][..4].try_into().unwrap());
    let packet: Vec<u8> = image[from..][..32 * BLOCK].to_vec();
    image[from..][..32 * BLOCK].fill(0xee);
    image[elsewhere as usize * BLOCK..][..32 * BLOCK].copy_from_slice(&packet);
    for table in tables {
        let block = (table / BLOCK) as u32;
        image[table + 56..][..4].copy_from_slice(&(old as u32).to_le_bytes());
        let len = u16::from_le_bytes([image[table + 10], image[table + 11]]) as usize;
        let tagged = tagged(0, block, &image[table + 16..][..len]);
        image[table..][..tagged.len()].copy_from_slice(&tagged);
    }
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    holds(&open(&volume).unwrap(), &files, "spared");
}

#[test]
fn a_wrong_sum_costs_its_file_alone() {
    requires!("mkudffs", "udfinfo");
    let (mut image, start, mut files) = furnished("-m hd");
    image[(start as usize + 1025) * BLOCK + 60] ^= 1;
    files.remove("long");
    let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
    let fs = open(&volume).unwrap();
    let error = fs.stat(walk(&fs, "long")).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("CRC"), "{error}");
    holds(&fs, &files, "the others");
}

#[test]
fn damaged_ones_end_in_errors_and_soon() {
    requires!("mkudffs", "udfinfo");
    for (seed, options) in [(1, "-m hd"), (2, "-m cdrw")] {
        let (image, start, _) = furnished(options);
        let block = |n: u32| u64::from(start + n) * BLOCK as u64;
        let entries: Vec<u32> = (1024..1032).chain([1044]).collect();
        let mut stretches: Vec<(u64, u64)> = entries.iter().map(|n| (block(*n) + 16, 230)).collect();
        stretches.extend([(block(1054), 150), (block(1056), 400), (32768, 64), (256 * BLOCK as u64, 40)]);
        let (done, failed) = mutate(image.clone(), &stretches, mutants(300), seed);
        println!("{options}: {done} operations worked, {failed} failed");
        assert!(done > 2000 && failed > 300, "the damage was not met: {done} {failed}");

        // Sums that fit again hide nothing from what is behind them.
        let mut random = Random(seed);
        for _ in 0..mutants(300) {
            let mut image = image.clone();
            for _ in 0..=random.below(3) {
                let n = entries[random.below(entries.len() as u64) as usize];
                let at = block(n) as usize;
                let ident = u16::from_le_bytes([image[at], image[at + 1]]);
                let len = u16::from_le_bytes([image[at + 10], image[at + 11]]) as usize;
                let byte = [0, 0xff, 1, 0x80, 0x40, 0xc0, random.below(256) as u8][random.below(7) as usize];
                image[at + 16 + random.below(len as u64) as usize] = byte;
                let tagged = tagged(ident, n, &image[at + 16..][..len]);
                image[at..][..tagged.len()].copy_from_slice(&tagged);
            }
            let volume: Arc<dyn BlockSource> = Arc::new(Memory::new(image, "disk"));
            exercise(&volume);
        }
    }
}
