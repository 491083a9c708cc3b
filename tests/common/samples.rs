//! Samples of other projects, which are kept packed: each is unpacked by the first test that looks at it and stays for the
//! others, with holes where it is zero. What takes much room all the same goes again.

use super::{root, sh};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What takes more than this is not kept.
const MUCH: u64 = 256 << 20;

/// Something made of a sample, to be read and never changed.
#[derive(Debug)]
pub struct Made {
    path: PathBuf,
    kept: bool,
}

impl Deref for Made {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.kept {
            std::fs::remove_file(&self.path).unwrap();
        }
    }
}

/// A sample unpacked.
pub fn unpacked(sample: &Path) -> Made {
    made_of(sample, "unpack $SAMPLE | dd of=$OUT bs=64K iflag=fullblock conv=sparse status=none")
}

/// The same of one that may be packed badly, too: as far as it can be.
pub fn unpacked_as_far_as_it_goes(sample: &Path) -> Made {
    made_of(sample, "(unpack $SAMPLE || true) | dd of=$OUT bs=64K iflag=fullblock conv=sparse status=none")
}

/// What a script makes of `$SAMPLE` in `$OUT`; `unpack` prints the content of whatever was packed.
pub fn made_of(sample: &Path, script: &str) -> Made {
    const UNPACK: &str = "unpack() {
        case $1 in *.gz|*.Z) zcat $1;; *.bz2) bzcat $1;; *.xz) xzcat $1;; *.zst) zstdcat $1;; *) cat $1;; esac; }";
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut hasher = DefaultHasher::new();
    (sample, script).hash(&mut hasher);
    let dir = root().join("target/tmp/samples");
    let path = dir.join(format!("{:016x}", hasher.finish()));
    if path.exists() {
        return Made { path, kept: true };
    }
    std::fs::create_dir_all(&dir).unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let own = path.with_extension(format!("{}-{number}", std::process::id()));
    sh(&format!("{UNPACK}\nSAMPLE='{}' OUT='{}'\n{script}", sample.display(), own.display()));
    if std::fs::metadata(&own).unwrap().blocks() * 512 > MUCH {
        return Made { path: own, kept: false };
    }
    // Who comes at the same time makes it twice; it is there at once or not at all.
    std::fs::rename(own, &path).unwrap();
    Made { path, kept: true }
}
