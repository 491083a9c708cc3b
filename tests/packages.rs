//! Package databases: rpm's in each of its containers, as the tools that own those containers wrote them (`rpm`, SQLite's
//! own shell, Berkeley DB through Perl's `DB_File`), and real ones. `rpm -qa` is who says what is in them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::{sh, tempdir};
use imgmount::error::Result;
use imgmount::fs::tree::Tree;
use imgmount::fs::{DirEntry, FileSystem, FileType, FsFacts, Ino, Stat, Time};
use imgmount::guest::packages::{self, Packages};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A tree with the files of one folder in `/var/lib/rpm`.
#[derive(Debug)]
struct Folder(Vec<(String, Vec<u8>)>);

const DIRS: [&[u8]; 3] = [b"var", b"lib", b"rpm"];

impl Folder {
    fn of(dir: &Path) -> Tree {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = entries.map(|path| (name(&path), std::fs::read(path).unwrap())).collect();
        Self::tree(files)
    }

    fn tree(files: Vec<(String, Vec<u8>)>) -> Tree {
        Tree::new("p1", Arc::new(Self(files)))
    }

    fn bytes(&self, ino: Ino) -> &[u8] {
        &self.0[ino.0 as usize - 10].1
    }
}

impl FileSystem for Folder {
    fn root(&self) -> Ino {
        Ino(0)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        Ok(match dir.0 {
            depth @ 0..=2 => (DIRS[depth as usize] == name).then_some(Ino(depth + 1)),
            _ => self.0.iter().position(|file| file.0.as_bytes() == name).map(|at| Ino(at as u64 + 10)),
        })
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let is_dir = ino.0 < 10;
        let (kind, size) =
            if is_dir { (FileType::Dir, 0) } else { (FileType::File, self.bytes(ino).len() as u64) };
        let (time, rdev) = (Time::default(), (0, 0));
        let (atime, mtime, ctime, btime) = (time, time, time, None);
        let (blocks, mode, nlink, uid, gid, blksize) = (0, 0o644, 1, 0, 0, 4096);
        Ok(Stat { ino, kind, size, blocks, mode, nlink, uid, gid, rdev, atime, mtime, ctime, btime, blksize })
    }

    fn readdir(
        &self,
        _dir: Ino,
        _from: u64,
        _sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(())
    }

    fn read_at(&self, ino: Ino, buf: &mut [u8], offset: u64) -> Result<usize> {
        let rest = self.bytes(ino).get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn readlink(&self, _ino: Ino) -> Result<Vec<u8>> {
        panic!("no link")
    }

    fn facts(&self) -> FsFacts {
        FsFacts::default()
    }
}

/// Lines like those of [`LINE`], sorted.
fn lines(packages: &Packages) -> Vec<String> {
    let or_none = |text: String| if text.is_empty() { "(none)".to_owned() } else { text };
    let line = |package: &packages::Package| {
        let (arch, maker) = (or_none(package.arch.to_string()), or_none(package.maker.to_string()));
        format!("{} {} {arch} {maker}", package.name, package.version)
    };
    let mut lines: Vec<String> = packages.installed.iter().map(line).collect();
    lines.sort_unstable();
    lines
}

/// For `rpm --queryformat`.
const LINE: &str = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH} %{VENDOR}\\n";

/// What `rpm` itself says, asked of a copy: it makes files beside a database.
fn rpm(dir: &Path) -> Vec<String> {
    let backend = if dir.join("Packages").exists() { "-D '_db_backend bdb_ro'" } else { "" };
    let copy = tempdir();
    let (dir, copy) = (dir.display(), copy.path().display());
    let text =
        sh(&format!("cp {dir}/* {copy}/; rpm -qa {backend} --dbpath {copy} --qf '{LINE}' 2>/dev/null"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn read(dir: &Path) -> Packages {
    packages::read(&Folder::of(dir)).unwrap()
}

/// Three packages built by `rpmbuild` and installed by `rpm` into `sq/rpmdb.sqlite`: one with an epoch, one with enough
/// files that its header takes many pages, one without anything. Their headers lie in `blobs`, `01` and so on.
const BUILD: &str = r#"
mkdir -p top sq blobs
cat > x.spec <<'END'
Name: kernel-test
Version: 6.1.0
Release: 9.el9
Summary: x
License: x
Vendor: Test Project
%description
x
%package -n with-epoch
Summary: x
Epoch: 2
BuildArch: noarch
%description -n with-epoch
x
%package -n empty
Summary: x
%description -n empty
x
%install
mkdir -p %{buildroot}/boot %{buildroot}/etc %{buildroot}/lib/modules/6.1.0-9.el9
echo kernel > %{buildroot}/boot/vmlinuz-6.1.0-9.el9
echo hello > %{buildroot}/etc/issue
cd %{buildroot}/lib/modules/6.1.0-9.el9; seq -f module-%%g.ko 700 | xargs touch
%files
/boot/vmlinuz-6.1.0-9.el9
/lib/modules/6.1.0-9.el9
%files -n with-epoch
/etc/issue
%files -n empty
END
rpmbuild -bb --quiet --target x86_64 --define "_topdir $PWD/top" --define '_build_id_links none' \
    --define '__os_install_post %{nil}' --define 'source_date_epoch_from_changelog 0' x.spec > log 2>&1 || { cat log; exit 1; }
rpm -i --justdb --nodeps --noscripts --ignorearch --dbpath $PWD/sq $(find top/RPMS -name '*.rpm')
rm -f sq/.rpm.lock sq/*-shm
sqlite3 sq/rpmdb.sqlite "select writefile(format('blobs/%02d', hnum), blob) from Packages" > /dev/null
"#;

fn built(more: &str) -> TempDir {
    let dir = tempdir();
    sh(&format!("cd '{}'; {BUILD}\n{more}", dir.path().display()));
    dir
}

#[test]
fn sqlite_is_read_with_every_size_of_page() {
    requires!("rpmbuild", "rpm", "sqlite3");
    let made = built(
        "for size in 512 1024 32768 65536; do
            mkdir p$size; cp sq/rpmdb.sqlite p$size
            sqlite3 p$size/rpmdb.sqlite \"pragma journal_mode=delete; pragma page_size=$size; vacuum\" > /dev/null
            test $(sqlite3 p$size/rpmdb.sqlite 'pragma page_size') = $size
        done",
    );
    let truth = rpm(&made.path().join("sq"));
    assert_eq!(truth.len(), 3);
    assert!(truth.contains(&"with-epoch 2:6.1.0-9.el9 noarch Test Project".to_owned()), "{truth:?}");
    for dir in ["sq", "p512", "p1024", "p32768", "p65536"] {
        assert_eq!(lines(&read(&made.path().join(dir))), truth, "{dir}");
    }
}

#[test]
fn what_stands_in_the_log_counts_when_it_was_committed() {
    requires!("rpmbuild", "rpm", "sqlite3");
    // A row less and one more, committed and not yet copied into the file; then half of a transaction's frames.
    let made = built(
        "mkdir wal torn; cp sq/rpmdb.sqlite wal
        sqlite3 wal/rpmdb.sqlite <<'END' > /dev/null
.dbconfig no_ckpt_on_close on
pragma journal_mode=wal;
pragma wal_autocheckpoint=0;
delete from Packages where hnum=(select hnum from Name where key='empty');
insert into Packages(blob) select blob from Packages where hnum=(select hnum from Name where key='kernel-test');
END
        test -s wal/rpmdb.sqlite-wal; rm -f wal/*-shm; cp wal/* torn
        python3 - <<'END'
log = bytearray(open('torn/rpmdb.sqlite-wal', 'rb').read())
# The first frame's page is torn: nothing behind it counts, either.
log[32 + 24 + 100] ^= 1
open('torn/rpmdb.sqlite-wal', 'wb').write(log)
END",
    );
    let names = |dir: &str| {
        let lines = lines(&read(&made.path().join(dir)));
        lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("wal"), ["kernel-test", "kernel-test", "with-epoch"]);
    assert_eq!(names("torn"), ["empty", "kernel-test", "with-epoch"]);
    for dir in ["wal", "torn"] {
        assert_eq!(lines(&read(&made.path().join(dir))), rpm(&made.path().join(dir)), "{dir}");
    }
}

/// Puts the headers in `blobs` into Berkeley DB hashes: keys are numbers in the machine's order, 0 the counter.
const BERKELEY: &str = r#"
perl - <<'END'
use DB_File;
for my $order (1234, 4321) {
    for my $page (512, 4096, 65536) {
        my $info = DB_File::HASHINFO->new;
        $info->{lorder} = $order; $info->{bsize} = $page;
        mkdir "b$order-$page";
        tie my %db, 'DB_File', "b$order-$page/Packages", O_CREAT | O_RDWR, 0644, $info or die $!;
        my $pack = $order == 1234 ? 'V' : 'N';
        $db{pack $pack, 0} = pack $pack, 99;
        my $number = 0;
        for my $times (1 .. 40) {
            for my $file (glob 'blobs/*') {
                open my $in, '<:raw', $file; local $/; $db{pack $pack, ++$number} = <$in>;
            }
        }
        untie %db;
    }
}
END
"#;

#[test]
fn berkeley_db_is_read_in_both_orders_of_bytes() {
    requires!("rpmbuild", "rpm", "sqlite3", "perl");
    let made = built(BERKELEY);
    // Each of the three packages is there 40 times, so that there are many buckets.
    let truth: Vec<String> =
        rpm(&made.path().join("sq")).into_iter().flat_map(|line| std::iter::repeat_n(line, 40)).collect();
    for dir in ["b1234-512", "b1234-4096", "b1234-65536", "b4321-512", "b4321-4096", "b4321-65536"] {
        let dir = made.path().join(dir);
        assert_eq!(lines(&read(&dir)), truth, "{}", dir.display());
        assert_eq!(rpm(&dir), truth, "{}", dir.display());
    }
}

/// Lays the headers in `blobs` out as rpm's `rpmpkg.c` does; no tool of Debian's writes this kind.
const NDB: &str = r#"
python3 - <<'END'
import glob, os, struct, zlib
slots, data, block = [], b'', 4096 // 16
for number, name in enumerate(sorted(glob.glob('blobs/*')), 1):
    blob = open(name, 'rb').read()
    body = b'BlbS' + struct.pack('<III', number, 7, len(blob)) + blob
    body += bytes(-(len(body) + 12) % 16) + struct.pack('<II', zlib.adler32(blob), len(blob)) + b'BlbE'
    slots.append(struct.pack('<4sIII', b'Slot', number, block + len(data) // 16, len(body) // 16))
    data += body
page = struct.pack('<4sIIII12x', b'RpmP', 0, 7, 1, 4)
# A free slot between those in use, as after a removal.
page += slots[0] + b'Slot' + bytes(12) + b''.join(slots[1:])
page += (b'Slot' + bytes(12)) * ((4096 - len(page)) // 16)
os.mkdir('ndb')
open('ndb/Packages.db', 'wb').write(page + data)
END
"#;

#[test]
fn ndb_is_read() {
    requires!("rpmbuild", "rpm", "sqlite3", "/usr/bin/python3");
    let made = built(NDB);
    assert_eq!(lines(&read(&made.path().join("ndb"))), rpm(&made.path().join("sq")));
}

#[test]
fn a_file_has_the_owner_that_rpm_names() {
    requires!("rpmbuild", "rpm", "sqlite3");
    let made = built("");
    let tree = Folder::of(&made.path().join("sq"));
    let list = packages::read(&tree).unwrap();
    let owner = |path: &str| list.owner(&tree, path.as_bytes(), &|_| true).unwrap();
    for (name, path) in [
        ("kernel-test", "/boot/vmlinuz-6.1.0-9.el9"),
        ("kernel-test", "/lib/modules/6.1.0-9.el9/module-613.ko"),
        ("with-epoch", "/etc/issue"),
    ] {
        sh(&format!("rpm -ql --dbpath {}/sq {name} | grep -xF {path} > /dev/null", made.path().display()));
        assert_eq!(owner(path).unwrap().package.name.to_string(), name);
    }
    let truth = sh("printf 'hello\\n' | sha256sum | cut -d' ' -f1");
    assert_eq!(owner("/etc/issue").unwrap().digest.unwrap(), truth.trim());
    assert!(owner("/boot/vmlinuz").is_none() && owner("/etc/module-613.ko").is_none());
}

#[test]
fn real_databases_are_read() {
    requires!("corpus", "rpm", "sqlite3", "xz");
    let corpus = common::corpus().unwrap().join("guest");
    let made = tempdir();
    sh(&format!(
        "cd '{}'; mkdir mariner redhat fedora
        cp {c}/go-rpmdb/cbl-mariner-2.0.rpmdb.sqlite mariner/rpmdb.sqlite
        cp {c}/go-rpmdb/libuuid.Packages redhat/Packages
        xz -dc {c}/libguestfs/fedora-db.sql.xz | sqlite3 fedora/rpmdb.sqlite",
        made.path().display(),
        c = corpus.display()
    ));
    for (dir, count) in [("mariner", 129), ("redhat", 1), ("fedora", 17)] {
        let dir = made.path().join(dir);
        let truth = rpm(&dir);
        assert_eq!(truth.len(), count);
        assert_eq!(lines(&read(&dir)), truth, "{}", dir.display());
    }
}

#[test]
fn damage_anywhere_in_a_database_is_an_error_or_harmless() {
    requires!("rpmbuild", "rpm", "sqlite3", "perl", "/usr/bin/python3");
    // xorshift64: the same damage on every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let tries = std::env::var("IMGMOUNT_FUZZ").map_or(300, |tries| tries.parse().unwrap());
    let made = built(&format!("{BERKELEY}\n{NDB}"));
    for (dir, name) in [("sq", "rpmdb.sqlite"), ("b1234-512", "Packages"), ("ndb", "Packages.db")] {
        let sound = std::fs::read(made.path().join(dir).join(name)).unwrap();
        for _ in 0..tries {
            let mut bytes = sound.clone();
            for _ in 0..=random() % 6 {
                // Half of the damage in the first pages, where the structure is.
                let range = if random() % 2 == 0 { bytes.len().min(8192) } else { bytes.len() };
                let at = (random() % range as u64) as usize;
                match random() % 4 {
                    0 => bytes[at] = random() as u8,
                    1 => bytes[at] ^= 1 << (random() % 8),
                    2 if random() % 8 == 0 => bytes.truncate(at.max(1)),
                    _ => bytes[at] = [0, 0xff, 0x7f, 0x80][(random() % 4) as usize],
                }
            }
            let tree = Folder::tree(vec![(name.to_owned(), bytes)]);
            if let Ok(list) = packages::read(&tree) {
                drop(list.owner(&tree, b"/etc/issue", &|_| true));
            }
        }
    }
}
