//! Archives of a machine's disks: which disks they hold, members by name, sums, and what a stranger's archive may not do.

use super::*;
use imgmount::stack;

/// The set of archives.
fn archives() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| set("ova"))
}

fn open_member(path: &Path, member: &str) -> Result<Opened> {
    let given = Given::open(Locator::Path(path.to_owned()), &[])?;
    open_image(Arc::new(Given { member: Some(member.to_owned()), ..given }), &Options::default())
}

fn assert_disk(disk: &Opened, reference: &str) {
    let expected =
        common::sh(&format!("sha256sum < '{}' | cut -c1-64", archives().join(reference).display()));
    assert_eq!(sha256(&disk.disk), expected.trim());
}

/// A tar archive of these members, by the tar of the host.
fn tar(dir: &Path, name: &str, members: &[(&str, &[u8])]) -> PathBuf {
    for (member, bytes) in members {
        std::fs::write(dir.join(member), bytes).unwrap();
    }
    let names: Vec<String> = members.iter().map(|(member, _)| format!("'{member}'")).collect();
    common::sh(&format!("cd '{}' && tar --format=ustar -cf '{name}' {}", dir.display(), names.join(" ")));
    dir.join(name)
}

/// An envelope of one disk in a file of this name.
fn envelope(href: &str) -> String {
    format!(
        "<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'><References><File id='f' href='{href}'/></References>\
         <DiskSection><Disk diskId='d' capacity='1048576' fileRef='f'/></DiskSection></Envelope>"
    )
}

#[test]
fn all_disks_of_a_machine_come_together_in_the_order_of_its_controller() {
    requires!("qemu-img", "qemu-io", "tar");
    for name in ["two.ova", "two.ovf", "plain.tar"] {
        let image = open(&archives().join(name), &[]).unwrap();
        let members: Vec<&str> =
            std::iter::once(&image).chain(&image.others).map(|d| d.member.as_deref().unwrap()).collect();
        assert_eq!(members, ["d1.vmdk", "d2.qcow2"], "{name}");
        assert_eq!(image.subformat.as_deref(), Some("vmdk streamOptimized"), "{name}");
        assert_disk(&image, "s.raw");
        assert_disk(&image.others[0], "t.raw");
        assert_eq!(image.others[0].format, "qcow2", "{name}");
    }
    let image = open(&archives().join("two.ova"), &[]).unwrap();
    assert_eq!(image.warnings, [""; 0]);
    assert!(
        image
            .facts
            .iter()
            .any(|(name, value)| *name == "manifest" && value.contains("3 sums; signed by a .cert"))
    );
    assert!(image.facts.contains(&("virtual system", "two & a half disks".to_owned())));
}

#[test]
fn one_member_is_opened_by_its_name_alone() {
    requires!("qemu-img", "qemu-io", "tar");
    for name in ["two.ova", "two.ovf", "plain.tar", "two.ova.gz", "two.ova.xz", "two.ova.zst"] {
        let image = open_member(&archives().join(name), "d2.qcow2").unwrap();
        assert_eq!(
            (image.format, image.others.len(), image.member.as_deref()),
            ("qcow2", 0, Some("d2.qcow2"))
        );
        assert!(image.layers[0].name.ends_with("d2.qcow2"), "{}", image.layers[0].name);
        assert_disk(&image, "t.raw");
    }
    // The extent of a VMDK is no disk, unless it is asked for.
    assert_disk(&open_member(&archives().join("flat.tar"), "flat-flat.vmdk").unwrap(), "s.raw");
    assert_disk(&open_member(&archives().join("raw.ova"), "none").unwrap(), "zero.raw");
    assert_disk(&open(&archives().join("raw.ova"), &[]).unwrap().others[0], "zero.raw");
}

#[test]
fn an_unknown_member_is_answered_with_the_list() {
    requires!("qemu-img", "qemu-io", "tar");
    for name in ["two.ova", "plain.tar", "two.ovf"] {
        let error = open_member(&archives().join(name), "d3.vmdk").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
        assert!(error.help_text().unwrap().contains("d1.vmdk, d2.qcow2"), "{error:?}");
    }
    let error = open_member(&archives().join("d2.qcow2"), "x").unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("no archive"), "{error:?}");
}

#[test]
fn a_member_larger_than_octal_digits_count_is_read_where_it_lies() {
    requires!("qemu-img", "qemu-io", "tar", "python3");
    for name in ["big-gnu.ova", "big-pax.ova"] {
        let image = open(&archives().join(name), &[]).unwrap();
        assert_eq!(image.disk.len(), 9 << 30);
        assert_eq!(read(&image.disk, (9 << 30) - 6, 6).unwrap(), b"\0\0last");
        assert!(image.disk.extent(1 << 30).unwrap().zero, "{name}: the file's hole is known");
        assert_disk(&image.others[0], "t.raw");
    }
}

#[test]
fn a_member_that_is_there_twice_is_not_guessed() {
    requires!("qemu-img", "qemu-io", "tar");
    let error = open(&archives().join("twice.ova"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.to_string().contains("two members called 'd1.vmdk'"), "{error}");
}

#[test]
fn a_truncated_archive_says_so_and_gives_what_is_whole() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    let path = dir.path().join("cut.ova");
    let bytes = std::fs::read(archives().join("two.ova")).unwrap();
    let second = bytes.windows(8).position(|window| window == b"d2.qcow2").unwrap();
    let second = bytes
        .windows(8)
        .enumerate()
        .skip(second + 1)
        .find(|(at, w)| at % 512 == 0 && w == b"d2.qcow2")
        .unwrap()
        .0;
    for len in [second + 512 + 70_000, second + 100] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let error = open(&path, &[]).unwrap_err();
        assert!(error.to_string().contains("cut off (truncated upload or download?)"), "{error}");
        let image = open_member(&path, "d1.vmdk").unwrap();
        assert_disk(&image, "s.raw");
        assert!(image.warnings.join("").contains("cut off"), "{:?}", image.warnings);
    }
    // Cut off between members: nothing shows it but that the end is missing.
    std::fs::write(&path, &bytes[..second]).unwrap();
    let error = open(&path, &[]).unwrap_err();
    assert!(error.to_string().contains("'d2.qcow2': the disk's file is missing"), "{error}");
}

#[test]
fn a_truncated_archive_without_a_manifest_gives_what_is_whole() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    let disk = std::fs::read(archives().join("d2.qcow2")).unwrap();
    let ovf = envelope("d.qcow2");
    let path = tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("d.qcow2", &disk), ("e.qcow2", &disk)]);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(1024 + 512 + disk.len() as u64 + 512 + 4096).unwrap();
    let image = open_member(&path, "d.qcow2").unwrap();
    assert_disk(&image, "t.raw");
    assert!(image.warnings.join("").contains("cut off"), "{:?}", image.warnings);
}

#[test]
fn each_disk_opens_with_its_own_key() {
    requires!("qemu-img", "tar");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}'; for n in one two; do for try in $(seq 20); do qemu-img create -q -f luks --object secret,id=s,data=$n \
         -o key-secret=s,iter-time=10 $n.img 1M && break; done; done; tar --format=ustar -cf x.tar one.img two.img",
        dir.path().display()
    ));
    let open = |first: &[u8], second: &[u8]| {
        let mut keys = Keys::default();
        keys.add("disk", Secret::new(first.to_vec()));
        keys.add("disk2", Secret::new(second.to_vec()));
        let given = Given::open(Locator::Path(dir.path().join("x.tar")), &[])?;
        open_image(Arc::new(given), &Options { keys: Arc::new(keys), ..Options::default() })
    };
    assert_eq!(open(b"one", b"two").unwrap().others[0].disk.len(), 1 << 20);
    assert_eq!(open(b"two", b"one").unwrap_err().kind(), ErrorKind::Encrypted);
}

#[test]
fn a_damaged_header_in_the_middle_is_named_by_its_byte() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    let path = dir.path().join("bad.ova");
    let mut bytes = std::fs::read(archives().join("two.ova")).unwrap();
    let second = bytes.windows(8).enumerate().rfind(|(at, w)| at % 512 == 0 && *w == b"d2.qcow2").unwrap().0;
    bytes[second + 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = open(&path, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&format!("byte {second:#x}")), "{error}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    requires!("tar");
    let dir = common::tempdir();
    for href in [
        "../x.vmdk",
        "/etc/passwd",
        "http://h/x.vmdk",
        "file:///etc/passwd",
        "%2e%2e/x.vmdk",
        "a/../../x.vmdk",
    ] {
        let ovf = envelope(href);
        let ova = tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("other", b"x")]);
        for path in [dir.path().join("x.ovf"), ova] {
            let error = open(&path, &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ExternalRef, "{href}: {error:?}");
        }
    }
}

#[test]
fn an_ovf_opens_nothing_beside_it_but_disk_images() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    std::fs::write(dir.path().join("id_rsa"), "secret").unwrap();
    std::fs::write(dir.path().join("backup.img"), [7; 4096]).unwrap();
    common::sh(&format!("gzip -k '{}'", dir.path().join("backup.img").display()));
    std::fs::write(dir.path().join("flat.vmdk"), std::fs::read(archives().join("flat.vmdk")).unwrap())
        .unwrap();
    std::fs::write(dir.path().join("flat-flat.vmdk"), [7; 4096]).unwrap();
    std::os::unix::fs::symlink(archives().join("d1.vmdk"), dir.path().join("link.vmdk")).unwrap();
    common::sh(&format!("mkfifo '{}'", dir.path().join("fifo.vmdk").display()));
    for href in ["id_rsa", "backup.img", "backup.img.gz", "flat.vmdk", "link.vmdk", "fifo.vmdk"] {
        std::fs::write(dir.path().join("x.ovf"), envelope(href)).unwrap();
        let error = open(&dir.path().join("x.ovf"), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ExternalRef, "{href}: {error:?}");
    }
}

#[test]
fn a_disk_in_an_archive_opens_nothing_outside_of_it() {
    requires!("qemu-img", "tar");
    let dir = common::tempdir();
    let at = dir.path().display();
    common::sh(&format!(
        "cd '{at}' && truncate -s 1M base.raw && qemu-img create -q -f qcow2 -b base.raw -F raw o.qcow2 && \
         tar --format=ustar -cf x.tar o.qcow2 && qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw p.qcow2 1M && \
         tar --format=ustar -cf y.tar p.qcow2"
    ));
    for name in ["x.tar", "y.tar"] {
        for allow in [&[][..], &[dir.path()][..]] {
            let error = open(&dir.path().join(name), allow).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ExternalRef, "{error:?}");
            assert!(error.to_string().contains("not in the archive"), "{error}");
        }
    }
}

#[test]
fn what_the_ovf_says_and_the_disk_denies_is_said() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    let disk = std::fs::read(archives().join("d2.qcow2")).unwrap();
    let ovf = envelope("d.vmdk").replace("fileRef", "format='http://x/vmdk.html#sparse' fileRef");
    let path = tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("d.vmdk", &disk)]);
    let warnings = open(&path, &[]).unwrap().warnings.join("\n");
    assert!(warnings.contains("is vmdk, but it is qcow2"), "{warnings}");
    assert!(warnings.contains("has 1048576 bytes, but the disk has 3145728"), "{warnings}");
    let path = tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("d.vmdk", &[0; 1 << 20])]);
    let error = open(&path, &[]).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("no signature"), "{error:?}");
}

#[test]
fn a_raw_member_of_two_signatures_is_what_the_ovf_says() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    let disk = std::fs::read(archives().join("d2.qcow2")).unwrap();
    let ovf = envelope("d.img").replace("fileRef", "format='http://x/disk#raw' fileRef");
    let path = tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("d.img", &disk)]);
    let image = open(&path, &[]).unwrap();
    assert_eq!((image.subformat.as_deref(), image.disk.len()), (Some("raw"), disk.len() as u64));
}

#[test]
fn a_file_that_the_ovf_says_is_packed_is_unpacked() {
    requires!("tar", "gzip");
    let dir = common::tempdir();
    let disk: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 512) as u8).collect();
    std::fs::write(dir.path().join("d.img"), &disk).unwrap();
    common::sh(&format!("gzip -n '{}'", dir.path().join("d.img").display()));
    let packed = std::fs::read(dir.path().join("d.img.gz")).unwrap();
    let ovf = |compression: &str| {
        let ovf = envelope("disk").replace("fileRef", "format='http://x/disk#raw' fileRef");
        ovf.replace("id='f'", &format!("id='f' size='{}' compression='{compression}'", packed.len()))
    };
    let with = |compression: &str| {
        let ovf = ovf(compression);
        open(&tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("disk", &packed)]), &[])
    };
    let image = with("gzip").unwrap();
    assert_eq!(read(&image.disk, 0, disk.len()).unwrap(), disk);
    assert_eq!(with("identity").unwrap().disk.len(), packed.len() as u64);
    let error = with("lzma").unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("'lzma'"), "{error:?}");
}

#[test]
fn a_file_of_another_size_than_stated_is_corrupt() {
    requires!("tar");
    let dir = common::tempdir();
    let sized = |file: &str| {
        let ovf = envelope("d.img").replace("fileRef", "format='http://x/disk#raw' fileRef");
        let ovf = ovf.replace("id='f'", &format!("id='f' {file}"));
        let members: [(&str, &[u8]); 4] = [
            ("x.ovf", ovf.as_bytes()),
            ("d.img", &[1; 4096]),
            ("d.img.000000000", &[1; 1024]),
            ("d.img.000000001", &[1; 512]),
        ];
        open(&tar(dir.path(), "x.ova", &members), &[]).map(|image| image.disk.len())
    };
    assert_eq!(sized("size='4096'").unwrap(), 4096);
    assert_eq!(sized("size='1536' chunkSize='1024'").unwrap(), 1536);
    for file in ["size='4608'", "size='2048' chunkSize='1024'"] {
        let error = sized(file).unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("cut off"), "{error:?}");
    }
}

#[test]
fn an_archive_in_an_archive_is_refused_before_its_members_are_opened() {
    requires!("tar", "gzip");
    let dir = common::tempdir();
    // Of the inner one's member, opening says another thing.
    let inner = std::fs::read(tar(dir.path(), "inner.img", &[("d.img", b"shdw not a disk")])).unwrap();
    common::sh(&format!("gzip -nk '{}'", dir.path().join("inner.img").display()));
    let packed = std::fs::read(dir.path().join("inner.img.gz")).unwrap();
    for path in [
        tar(dir.path(), "x.tar", &[("a.img", &inner)]),
        tar(dir.path(), "y.tar", &[("a.img.gz", &packed)]),
        tar(dir.path(), "z.ova", &[("x.ovf", envelope("a.img").as_bytes()), ("a.img", &inner)]),
    ] {
        let error = open(&path, &[]).unwrap_err();
        assert!(error.to_string().contains("an archive inside an archive"), "{error:?}");
    }
}

#[test]
fn sums_of_a_manifest_are_read_with_what_they_are_of() {
    requires!("qemu-img", "qemu-io", "tar");
    for algorithm in ["sha1", "sha256", "sha512"] {
        let image = open(&archives().join(format!("two-{algorithm}.ova")), &[]).unwrap();
        let of: Vec<&str> = image.sums.iter().map(|sum| sum.of.as_str()).collect();
        assert_eq!(of, ["two.ovf", "d1.vmdk", "d2.qcow2"]);
        let expected = common::sh(&format!("{algorithm}sum < '{}'", archives().join("d2.qcow2").display()));
        assert_eq!(image.sums[2].stated, expected.split(' ').next().unwrap());
        assert_eq!(image.sums[2].algorithm, algorithm);
        assert_eq!(image.sums[2].bytes.len(), std::fs::metadata(archives().join("d2.qcow2")).unwrap().len());
    }
    let one = open_member(&archives().join("two.ova"), "d2.qcow2").unwrap();
    assert_eq!(one.sums.iter().map(|sum| sum.of.as_str()).collect::<Vec<_>>(), ["d2.qcow2"]);
}

#[test]
fn damage_to_headers_and_envelopes_ends_soon_and_without_a_panic() {
    requires!("qemu-img", "qemu-io", "tar");
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let mut seeded = Seeded(0x0afa);
    for name in
        ["two.ova", "one-pax.ova", "long-gnu.ova", "two.ovf", "chunks.ova", "sparse-gnu.ova", "over.tar"]
    {
        let seed = std::fs::read(archives().join(name)).unwrap();
        // Headers and the envelope stand in front; the others where a block is a header.
        let is_header = |at: &usize| seed.get(at + 257..at + 262) == Some(b"ustar");
        let headers: Vec<usize> = (0..seed.len()).step_by(512).filter(is_header).collect();
        for round in 0..150 {
            let mut bytes = seed.clone();
            for _ in 0..=seeded.below(8) {
                let at = match headers.get(seeded.below(headers.len() as u64 + 1) as usize) {
                    Some(header) => header + seeded.below(520) as usize,
                    None => seeded.below(4096) as usize,
                };
                let value = [0, b'7', 0x80, 0xff, b'<', b'"', b'&', seeded.below(256) as u8]
                    [seeded.below(8) as usize];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            // With sums made anew a changed header is believed.
            for header in headers.iter().filter(|_| round % 3 > 0) {
                let block = &mut bytes[*header..header + 512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
            if seeded.below(6) == 0 {
                bytes.truncate(seeded.below(seed.len() as u64) as usize);
            }
            let format = (round % 2 == 0).then(|| name.rsplit('.').next().unwrap());
            let start = spent();
            let told = format!("{name}, round {round}");
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if let Ok(image) = open_bytes(bytes, format, &mapper) {
                    use_disk(&image.disk, &mut Seeded(round + 1));
                }
            }));
            assert!(done.is_ok(), "{told}: panicked");
            assert!(spent() - start < Duration::from_secs(1), "{told}: {:?}", spent() - start);
        }
    }
}

#[test]
fn an_archive_of_nothing_but_headers_ends_at_a_bound() {
    let mapper = Mapper::new(Arc::new(Cache::new(1 << 20)));
    let mut header = [0_u8; 512];
    header[..5].copy_from_slice(b"x.img");
    header[124..136].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let error = open_bytes(header.repeat(70_000), None, &mapper).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
}

/// A machine of two disks: a root with an fstab that mounts the second by its UUID, and that second one.
fn two_disk_guest(dir: &Path) -> PathBuf {
    common::sh(&format!(
        r#"cd '{}'
        mkdir -p root/etc root/bin root/home root/sbin home/anna
        printf 'UUID=11111111-2222-4333-8444-555555555555 / ext4 defaults 0 1\nUUID=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee /home ext4 defaults 0 2\n/dev/sdb1 /srv ext4 defaults,nofail 0 2\n' > root/etc/fstab
        printf 'ID=debian\nVERSION_ID="12"\n' > root/etc/os-release; touch root/bin/sh root/sbin/init; mkdir root/srv
        echo 'dear diary' > home/anna/diary; mkdir srv; echo served > srv/file
        truncate -s 8M a.raw; printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q a.raw
        mkfs.ext4 -q -U 11111111-2222-4333-8444-555555555555 -d root -E offset=1048576 a.raw 7M
        truncate -s 16M b.raw; printf 'label: gpt\nlabel-id: 01234567-89AB-CDEF-0123-456789ABCDEF\nstart=2048, size=12288\nstart=14336, size=12288\n' | sfdisk -q b.raw
        mkfs.ext4 -q -L srv -d srv -E offset=1048576 b.raw 6M
        mkfs.ext4 -q -U aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee -d home -E offset=7340032 b.raw 6M
        qemu-img convert -f raw -O vmdk -o subformat=streamOptimized a.raw vm-disk1.vmdk
        qemu-img convert -f raw -O qcow2 b.raw vm-disk2.qcow2
        cat > vm.ovf <<T
<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1'><References><File id='f1' href='vm-disk1.vmdk'/><File id='f2' href='vm-disk2.qcow2'/></References>
<DiskSection><Disk diskId='d1' capacity='8' capacityAllocationUnits='byte * 2^20' fileRef='f1'/><Disk diskId='d2' capacity='16777216' fileRef='f2'/></DiskSection></Envelope>
T
        sha256sum vm.ovf vm-disk1.vmdk vm-disk2.qcow2 | sed 's/\(.*\)  \(.*\)/SHA256(\2)= \1/' > vm.mf
        tar --format=ustar -cf vm.ova vm.ovf vm.mf vm-disk1.vmdk vm-disk2.qcow2"#,
        dir.display()
    ));
    dir.join("vm.ova")
}

/// Runs the program in a folder; exit code, standard output and error.
fn run(dir: &Path, line: &str) -> (i32, String, String) {
    let mut command = std::process::Command::new(common::IMGMOUNT);
    let output = command.args(line.split(' ')).current_dir(dir).output().unwrap();
    (output.status.code().unwrap(), common::stdout(&output), common::stderr(&output))
}

#[test]
fn a_guest_is_put_together_across_its_disks() {
    requires!("qemu-img", "mkfs.ext4", "sfdisk", "tar");
    let dir = common::tempdir();
    two_disk_guest(dir.path());
    let (_, diary, told) = run(dir.path(), "cat vm.ova:/home/anna/diary");
    assert_eq!(diary, "dear diary\n", "{told}");
    // /dev/sdb1 is the first partition of the second disk.
    assert_eq!(run(dir.path(), "cat vm.ova:/srv/file").1, "served\n");
    assert_eq!(run(dir.path(), "cat vm.ova:disk2/p1:/file").1, "served\n");
    assert_eq!(run(dir.path(), "cat vm.ova//vm-disk2.qcow2:p2:/anna/diary").1, "dear diary\n");
    assert_eq!(run(dir.path(), "cat vm.ovf:/home/anna/diary").1, "dear diary\n");
    let (code, _, told) = run(dir.path(), "cat vm.ova//vm-disk1.vmdk:/home/anna/diary");
    assert!(code == 1 && told.contains("no such file"), "{code} {told}");
    let (code, _, told) = run(dir.path(), "cat vm.ova//disk9:/etc/fstab");
    assert!(code == 1 && told.contains("vm-disk1.vmdk, vm-disk2.qcow2"), "{code} {told}");
}

#[test]
fn every_verb_knows_of_the_further_disks() {
    requires!("qemu-img", "mkfs.ext4", "sfdisk", "tar");
    let dir = common::tempdir();
    two_disk_guest(dir.path());
    let info: serde_json::Value = serde_json::from_str(&run(dir.path(), "info --json vm.ova").1).unwrap();
    assert_eq!(info["disks"][0]["name"], "vm-disk1.vmdk");
    assert_eq!((&info["format"], &info["disks"][0]["format"]), (&"ova".into(), &"vmdk".into()));
    assert_eq!(
        (&info["disks"][1]["id"], &info["disks"][1]["virtual_size"]),
        (&"disk2".into(), &(16 << 20).into())
    );
    assert_eq!(info["disks"][1]["partitions"][1]["id"], "disk2/p2");
    assert_eq!(info["partitions"].as_array().unwrap().len(), 1);
    assert_eq!(info["guests"][0]["mounts"][1]["volume"], "disk2/p2");
    assert!(run(dir.path(), "info vm.ova").1.contains("disk2: vm-disk2.qcow2 (qcow2"));
    let exports: Vec<String> = run(dir.path(), "serve --list vm.ova")
        .1
        .lines()
        .map(|l| l.split(['\t', ' ']).next().unwrap().to_owned())
        .collect();
    assert!(
        ["p1", "disk2", "disk2/p1", "disk2/p2"].iter().all(|name| exports.iter().any(|e| e == name)),
        "{exports:?}"
    );
    let (_, sums, _) = run(dir.path(), "hash vm.ova");
    let expected = common::sh(&format!("cd '{}' && sha256sum a.raw b.raw", dir.path().display()));
    let expected =
        expected.replace("a.raw", "vm.ova//vm-disk1.vmdk").replace("b.raw", "vm.ova//vm-disk2.qcow2");
    assert_eq!(sums, expected);
    let (_, container, _) = run(dir.path(), "hash --container vm.ova");
    assert_eq!(container, common::sh(&format!("cd '{}' && sha256sum vm.ova", dir.path().display())));
    assert!(run(dir.path(), "check vm.ova").1.contains("disk2 (qcow2, "));
    assert!(run(dir.path(), "map vm.ova").2.contains("vm.ova//vm-disk2.qcow2"));
    // A file on the second disk, found in the archive by its map.
    let map: serde_json::Value =
        serde_json::from_str(&run(dir.path(), "map --json vm.ova:/home/anna/diary").1).unwrap();
    let at = map["runs"][0]["container_offset"].as_u64().unwrap();
    let mut bytes = [0; 10];
    File::open(dir.path().join("vm.ova")).unwrap().read_exact_at(&mut bytes, at).unwrap();
    assert_eq!((&bytes, map["volume"].as_str()), (b"dear diary", Some("disk2/p2")));
}

#[test]
fn a_mount_shows_the_further_disks() {
    requires!("root", "fuse", "qemu-img", "mkfs.ext4", "sfdisk", "tar");
    let dir = common::tempdir();
    two_disk_guest(dir.path());
    let at = dir.path().display();
    let listed = common::sh(&format!(
        "cd '{at}' && mkdir m && '{0}' --view all vm.ova m -- sh -c 'cd {at}; cmp m/disk2.raw b.raw && cmp m/disk.raw a.raw && cat m/root/home/anna/diary && ls m/partitions'",
        common::IMGMOUNT
    ));
    assert_eq!(listed, "dear diary\n1.raw\ndisk2-1.raw\ndisk2-2.raw\n");
}

#[test]
fn disks_of_a_packed_archive_have_its_name() {
    requires!("qemu-img", "qemu-io", "tar", "gzip", "xz", "zstd");
    let expected = common::sh(&format!("cd '{}' && sha256sum s.raw t.raw", archives().display()));
    for name in ["two.ova.gz", "two.ova.xz", "two.ova.zst"] {
        let expected = expected
            .replace("s.raw", &format!("{name}//d1.vmdk"))
            .replace("t.raw", &format!("{name}//d2.qcow2"));
        assert_eq!(run(archives(), &format!("hash {name}")).1, expected);
        let (code, said, told) = run(archives(), &format!("hash --verify {name}"));
        assert!(code == 0 && said.lines().count() == 3, "{said}{told}");
    }
}

#[test]
fn stored_sums_are_verified() {
    requires!("qemu-img", "mkfs.ext4", "sfdisk", "tar");
    let dir = common::tempdir();
    let path = two_disk_guest(dir.path());
    let (code, said, told) = run(dir.path(), "hash --verify vm.ova");
    assert_eq!(
        (code, said.lines().filter(|line| line.ends_with("  sha256  OK")).count()),
        (0, 3),
        "{said}{told}"
    );
    assert_eq!(run(dir.path(), "hash vm.ova//vm-disk2.qcow2 --verify").1.lines().count(), 1);
    assert_eq!(run(dir.path(), "hash --verify vm.ovf").0, 0);
    // A byte of the first disk's data, which the second grain of the archive holds.
    let mut bytes = std::fs::read(&path).unwrap();
    let first =
        bytes.windows(13).enumerate().rfind(|(at, w)| at % 512 == 0 && *w == b"vm-disk1.vmdk").unwrap().0;
    bytes[first + 512 + 0x11000] ^= 1;
    std::fs::write(dir.path().join("bad.ova"), &bytes).unwrap();
    let (code, said, _) = run(dir.path(), "hash --verify bad.ova");
    let failed: Vec<&str> = said.lines().filter(|line| line.contains("FAILED")).collect();
    assert!(code == 1 && failed.len() == 1 && failed[0].contains("bad.ova//vm-disk1.vmdk"), "{code} {said}");
    let json: serde_json::Value =
        serde_json::from_str(&run(dir.path(), "hash --json --verify bad.ova").1).unwrap();
    assert_eq!((&json[0]["matches"], &json[1]["matches"]), (&true.into(), &false.into()));
    assert_ne!(json[1]["computed"], json[1]["stated"]);
}

#[test]
fn a_manifest_that_names_what_is_not_there_fails_and_none_is_undecided() {
    requires!("qemu-img", "qemu-io", "tar");
    let dir = common::tempdir();
    let disk = std::fs::read(archives().join("d2.qcow2")).unwrap();
    let zeros = "0".repeat(64);
    let manifest = format!("SHA256(gone.vmdk)= {zeros}\nnonsense\nSHA256(../x)= {zeros}\n");
    let ovf = envelope("d.qcow2");
    tar(dir.path(), "x.ova", &[("x.ovf", ovf.as_bytes()), ("x.mf", manifest.as_bytes()), ("d.qcow2", &disk)]);
    let (code, said, told) = run(dir.path(), "hash --verify x.ova");
    assert!(code == 1 && said.contains("x.ova//gone.vmdk  sha256  FAILED, missing"), "{said}");
    assert!(said.contains("x.ova//../x  sha256  UNDECIDED"), "{said}");
    assert!(told.contains("manifest line 2") && told.contains("no sum of 'd.qcow2'"), "{told}");
    tar(dir.path(), "y.ova", &[("y.ovf", ovf.as_bytes()), ("d.qcow2", &disk)]);
    let (code, _, told) = run(dir.path(), "hash --verify y.ova");
    assert!(code == 6 && told.contains("carries no sum"), "{code} {told}");
}

#[test]
fn a_stack_of_one_disk_has_no_others() {
    requires!("qemu-img", "qemu-io");
    let given = Given::open(Locator::Path(fixtures().join("v3.qcow2")), &[]).unwrap();
    let stack = stack::open(Arc::new(given), &Options::default()).unwrap();
    assert!(stack.others.is_empty());
}
