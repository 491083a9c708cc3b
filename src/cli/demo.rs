//! `imgmount demo`: a tour on samples that are inside the program. Each step prints a command as a user would type it,
//! runs that very command, and stops where it does not end as it should.

use super::{Common, Exit, out};
use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Unpack the samples into this directory, to try things on them, instead of the tour
    #[arg(long, value_name = "DIR")]
    unpack: Option<PathBuf>,
}

/// An image inside the program, packed with xz. `tests/make/samples.sh` makes them.
struct Sample {
    file: &'static str,
    packed: &'static [u8],
}

macro_rules! samples {
    ($($file:literal),* $(,)?) => {
        &[$(Sample { file: $file, packed: include_bytes!(concat!("../../samples/", $file, ".xz")) }),*]
    };
}

/// Every sample. All but `broken` hold the same disk.
const SAMPLES: &[Sample] = samples![
    "debian.raw",
    "debian.qcow2",
    "debian-zlib.qcow2",
    "debian-zstd.qcow2",
    "debian.vmdk",
    "debian-stream.vmdk",
    "debian-flat.vmdk",
    "debian-flat-flat.vmdk",
    "debian-split.vmdk",
    "debian-split-s001.vmdk",
    "debian.vhd",
    "debian-fixed.vhd",
    "debian.vhdx",
    "debian.vdi",
    "broken.qcow2",
];

/// Bytes that are written at once; a stretch of so many zeros becomes a hole.
const PIECE: usize = 64 << 10;

/// One step of the tour.
struct Step {
    /// What it shows.
    about: &'static str,
    /// Words behind `imgmount`.
    words: &'static [&'static str],
    /// The exit code that it must end with.
    exit: u8,
    /// What the host must have for it.
    needs: Needs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A program, and the line that gets it.
    Program(&'static str, &'static str),
    /// A way to mount. Exit code 5, the host's fault, is accepted.
    Mount,
}

const fn step(about: &'static str, words: &'static [&'static str], exit: u8, needs: Needs) -> Step {
    Step { about, words, exit, needs }
}

/// The directory that the tour mounts on.
const MOUNTPOINT: &str = "mnt";

const TOUR: &[Step] = &[
    step("What is in this file?", &["info", "debian-stream.vmdk"], 0, Needs::Nothing),
    step("The guest's files, without mounting anything.", &["ls", "debian-stream.vmdk:/"], 0, Needs::Nothing),
    step("One of them.", &["cat", "debian-stream.vmdk:/etc/fstab"], 0, Needs::Nothing),
    step(
        "The same disk in every format: its bytes are the same.",
        &[
            "hash",
            "debian.raw",
            "debian.qcow2",
            "debian-zlib.qcow2",
            "debian-zstd.qcow2",
            "debian.vmdk",
            "debian-stream.vmdk",
            "debian-flat.vmdk",
            "debian-split.vmdk",
            "debian.vhd",
            "debian-fixed.vhd",
            "debian.vhdx",
            "debian.vdi",
        ],
        0,
        Needs::Nothing,
    ),
    step(
        "Do independent readers see the same?",
        &["verify", "debian-zlib.qcow2"],
        if cfg!(feature = "second-opinion") { 0 } else { 3 },
        Needs::Nothing,
    ),
    step(
        "Where does a file lie, from the file's bytes down to the image's?",
        &["map", "debian.qcow2:/etc/fstab"],
        0,
        Needs::Nothing,
    ),
    step(
        "Would a cloud import it? (Its boot loader and its kernel are dummies, whence two rules are left out.)",
        &[
            "check",
            "-p",
            "tencent",
            "debian-stream.vmdk",
            "--ignore",
            "boot-loader",
            "--ignore",
            "kernel-image",
        ],
        0,
        Needs::Nothing,
    ),
    step("And this one? (exit code 1: no)", &["check", "-p", "tencent", "broken.qcow2"], 1, Needs::Nothing),
    step("Mount it: the guest's files as a directory.", &["debian-stream.vmdk", MOUNTPOINT], 0, Needs::Mount),
    step("Unmount it, and wait until the image is released.", &["unmount", MOUNTPOINT], 0, Needs::Mount),
    step(
        "Serve it over NBD, for as long as one command runs.",
        &["serve", "debian-stream.vmdk", "--run", "nbdcopy \"$uri\" - | sha256sum"],
        0,
        Needs::Program("nbdcopy", "apt-get install -y libnbd-bin"),
    ),
];

pub(super) fn run(args: &Args, _common: &Common) -> Result<Exit> {
    if let Some(dir) = &args.unpack {
        fs::create_dir_all(dir).map_err(|error| host(&format!("cannot make {}", shown(dir)), error))?;
        for sample in SAMPLES {
            sample.unpack(dir)?;
        }
        out::data(&format!(
            "{} samples in {}; try: imgmount info {}\n",
            SAMPLES.len(),
            shown(dir),
            shown(&dir.join("debian-stream.vmdk"))
        ));
        return Ok(Exit::OK);
    }
    let place = Place::make()?;
    for sample in SAMPLES {
        sample.unpack(&place.dir)?;
    }
    out::data(&format!(
        "A tour on {} small images that are inside this program. They are in {} until it ends;\n\
         'imgmount demo --unpack DIR' leaves them to you.\n",
        SAMPLES.len(),
        shown(&place.dir)
    ));
    let mut left_out = 0_u32;
    let mut mounted = false;
    for step in TOUR {
        if step.words == ["unmount", MOUNTPOINT] && !mounted {
            continue;
        }
        out::data(&format!("\n# {}\n$ imgmount {}\n", step.about, typed(step.words)));
        if let Some(why) = step.lacks() {
            left_out = left_out.saturating_add(1);
            out::data(&format!("(left out: {why})\n"));
            continue;
        }
        let output = place.imgmount(step.words)?;
        out::bytes(&output.stdout);
        out::bytes(&output.stderr);
        match output.status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(5) if step.needs == Needs::Mount => {
                left_out = left_out.saturating_add(1);
                out::data("(left out: this host does not let us mount; 'imgmount doctor' says what would)\n");
            }
            code if code == Some(step.exit) => {}
            code => {
                let ended =
                    code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("the tour's 'imgmount {}' ended {ended}, not {}", typed(step.words), step.exit),
                ));
            }
        }
        if step.words.last() == Some(&MOUNTPOINT) && step.words.first() != Some(&"unmount") {
            mounted = output.status.success();
            place.look_around(mounted);
        }
    }
    out::data(&format!(
        "\nThat was the tour{}. Next: 'imgmount doctor' for this host, 'imgmount --help' for the rest.\n",
        if left_out == 0 { String::new() } else { format!(", {left_out} steps left out") }
    ));
    Ok(Exit::OK)
}

impl Sample {
    /// Writes the image into `dir`; stretches of zeros become holes.
    fn unpack(&self, dir: &Path) -> Result<()> {
        let path = dir.join(self.file);
        let failed = |error| host(&format!("cannot write {}", shown(&path)), error);
        let mut file = fs::File::create(&path).map_err(failed)?;
        let mut packed = lzma_rust2::XzReader::new(self.packed, false);
        let mut piece = vec![0; PIECE];
        let mut len = 0_u64;
        loop {
            let mut filled = 0;
            while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match packed.read(rest).map_err(failed)? {
                    0 => break,
                    got => filled = got.saturating_add(filled),
                }
            }
            let part = piece.get(..filled).unwrap_or_default();
            if part.is_empty() {
                return file.set_len(len).map_err(failed);
            }
            if part.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(len)).and_then(|_| file.write_all(part)).map_err(failed)?;
            }
            len = len.saturating_add(crate::num::wide(filled));
        }
    }
}

impl Step {
    /// What the host lacks for this step.
    fn lacks(&self) -> Option<String> {
        match self.needs {
            Needs::Program(program, line) if !on_path(program) => {
                Some(format!("{program} is not installed; get it with: {line}"))
            }
            Needs::Mount if !Path::new("/dev/fuse").exists() => {
                Some("there is no /dev/fuse here; 'imgmount doctor' says more".to_owned())
            }
            _ => None,
        }
    }
}

/// A directory of our own that goes away with us.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn make() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = std::env::temp_dir().join(format!("imgmount-demo-{}", std::process::id()));
        // Fails if it is there: what others prepared under this name is not used.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| host(&format!("cannot make {}", shown(&dir)), error))?;
        let place = Self { dir };
        fs::create_dir(place.dir.join(MOUNTPOINT))
            .map_err(|error| host(&format!("cannot make {}", shown(&place.dir)), error))?;
        Ok(place)
    }

    /// Runs ourselves, there.
    fn imgmount(&self, words: &[&str]) -> Result<Output> {
        // The link leads to the program that runs, also when its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(words).current_dir(&self.dir).stdin(Stdio::null());
        command.output().map_err(|error| host("cannot start our own program", error))
    }

    /// A look into the mount, with the tools that everybody has.
    fn look_around(&self, mounted: bool) {
        if !mounted {
            return;
        }
        for words in [&["ls", "-l", MOUNTPOINT][..], &["tail", "-n", "2", "mnt/etc/fstab"]] {
            let Some((program, rest)) = words.split_first() else { continue };
            out::data(&format!("$ {}\n", words.join(" ")));
            if let Ok(output) = Command::new(program).args(rest).current_dir(&self.dir).output() {
                out::bytes(&output.stdout);
                out::bytes(&output.stderr);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A directory with something mounted on it stays: what is in there is not ours to remove.
        if fs::remove_dir(self.dir.join(MOUNTPOINT)).is_err() {
            drop(self.imgmount(&["unmount", MOUNTPOINT]));
            if fs::remove_dir(self.dir.join(MOUNTPOINT)).is_err() {
                return;
            }
        }
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Words as one would type them into a shell.
fn typed(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| {
        if word.contains([' ', '"', '$', '|']) { format!("'{word}'") } else { (*word).to_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    escape(path.as_os_str().as_bytes()).to_string()
}

fn host(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Host, what.to_owned()).caused_by(error)
}
