//! What the tests share: the real binary, temporary places, and visible skips; servers, mounts and processes in files of
//! their own.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "each test binary uses its own part, and panics where something is wrong"
)]

pub mod disk;
pub mod mount;
pub mod nbd;
pub mod process;
pub mod samples;
pub mod served;
pub mod server;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The binary under test.
pub const IMGMOUNT: &str = env!("CARGO_BIN_EXE_imgmount");

/// Ends the test, visibly, unless everything named is there: `requires!("root", "fuse", "nbdcopy")`.
/// With `IMGMOUNT_NO_SKIP=1`, as in CI, what is missing is a failure instead.
#[macro_export]
macro_rules! requires {
    ($($what:expr),+ $(,)?) => {
        $(if let Some(why) = common::lacks($what) {
            common::skip(&why);
            return;
        })+
    };
}

/// Why `what` cannot be used: `root`, `fuse`, `loop`, `guest`, `trixie`, `corpus`, or the name of a program.
pub fn lacks(what: &str) -> Option<String> {
    let there = match what {
        "root" => rustix::process::geteuid().is_root(),
        "fuse" => Path::new("/dev/fuse").exists(),
        "loop" => Path::new("/dev/loop-control").exists(),
        "guest" => guest().is_some(),
        "trixie" => trixie().is_some(),
        "corpus" => corpus().is_some(),
        program => ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(program).exists()),
    };
    (!there).then(|| match what {
        "guest" => "no Debian guest: run 'make guest'".to_owned(),
        "trixie" => "no NBD tools of Debian 13: run 'tests/make/trixie.sh'".to_owned(),
        "corpus" => "no sample corpus: set IMGMOUNT_CORPUS to its folder".to_owned(),
        _ => format!("{what} is not available"),
    })
}

/// Says it past the test harness's capture. Samples of others may be absent anywhere; tools may not be in CI.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    assert!(
        std::env::var_os("IMGMOUNT_NO_SKIP").is_none() || why.contains("corpus"),
        "{name}: skipping is not allowed here: {why}"
    );
    drop(writeln!(std::io::stderr(), "skipped: {name}: {why}"));
}

/// The folder of the real Debian guest, made by `make guest`: `disk.raw` and its conversions.
pub fn guest() -> Option<PathBuf> {
    let dir = std::env::var_os("IMGMOUNT_GUEST").map_or_else(|| root().join("target/guest"), PathBuf::from);
    dir.join("disk.raw").exists().then_some(dir)
}

/// The folder of Debian 13's NBD programs, made by `tests/make/trixie.sh`.
pub fn trixie() -> Option<PathBuf> {
    let dir = std::env::var_os("IMGMOUNT_TRIXIE").map_or_else(|| root().join("target/trixie"), PathBuf::from);
    let programs = dir.join("run");
    programs.join("nbdinfo").exists().then_some(programs)
}

/// The folder of other projects' samples.
pub fn corpus() -> Option<PathBuf> {
    let dir = std::env::var_os("IMGMOUNT_CORPUS").map_or_else(|| root().join("target/corpus"), PathBuf::from);
    dir.join("formats").is_dir().then_some(dir)
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the binary under test and waits for its end.
pub fn imgmount<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(IMGMOUNT).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Words for shell scripts.
///
/// `released FILE` waits until no loop device holds a file. A mount name space that another test makes meanwhile has a copy of
/// every mount, and a file system that is unmounted here lives on there, with its data unwritten, until that lets it go.
///
/// `serve_ntfs DISK DIR [OPTION ...]` and `end_ntfs DIR` mount a volume and unmount it. What is written is on the disk when
/// the process has ended, which `umount` does not wait for.
const WORDS: &str = r#"
released() {
    for _ in $(seq 1200); do [ -n "$(losetup -j "$1")" ] || return 0; sleep 0.05; done
    echo "$1 is still held by $(losetup -j "$1")" >&2; return 1
}
serve_ntfs() {
    ntfs-3g -o no_detach "${@:3}" "$1" "$2" & ntfs=$!
    until mountpoint -q "$2"; do kill -0 $ntfs; sleep 0.01; done
}
end_ntfs() { umount "$1"; wait $ntfs; }
"#;

/// Runs a shell script that must succeed, with [`WORDS`]; its standard output.
pub fn sh(script: &str) -> String {
    let whole = format!("{WORDS}{script}");
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", &whole]).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{script}\nfailed with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A temporary folder on the same disk as the repository, where sparse files work.
pub fn tempdir() -> tempfile::TempDir {
    let base = root().join("target/tmp");
    std::fs::create_dir_all(&base).unwrap();
    tempfile::tempdir_in(base).unwrap()
}

/// A folder for what one test program makes once for all its tests. A static is never dropped: what earlier runs left goes now.
pub fn lasting(name: &str) -> PathBuf {
    let base = root().join("target/tmp");
    let dir = base.join(format!("{name}-of-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(base).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some((_, process)) = name.rsplit_once("-of-") else { continue };
        if !Path::new("/proc").join(process).exists() {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    dir
}

/// What a program wrote to standard output, as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program wrote to standard error, as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
