//! Mounts: ours, made by the real program, and the kernel's own of the same disk over a loop device. Each has a place of its
//! own, and is gone when it is dropped.

use super::{IMGMOUNT, sh, stderr, tempdir};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A place where an image is mounted, or may be.
#[derive(Debug)]
pub struct Mount(tempfile::TempDir);

impl Mount {
    /// With nothing mounted yet.
    pub fn place() -> Self {
        Self(tempdir())
    }

    /// With the image mounted.
    pub fn of(image: &Path, options: &[&str]) -> Self {
        let mount = Self::place();
        let output = mount.command(image, options).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        mount
    }

    /// `imgmount OPTIONS IMAGE PLACE`, to be run.
    pub fn command(&self, image: &Path, options: &[&str]) -> Command {
        let mut command = Command::new(IMGMOUNT);
        command.args(options).arg(image).arg(self.path()).stdin(Stdio::null());
        command
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// What it says of itself.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.join(".imgmount/status")).unwrap()).unwrap()
    }

    /// The number of its `worker` or `supervisor`.
    pub fn process(&self, which: &str) -> u32 {
        self.status()[which].as_u64().unwrap().try_into().unwrap()
    }

    pub fn is_there(&self) -> bool {
        std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(self.path().to_str().unwrap())
    }

    /// `imgmount unmount OPTIONS PLACE`, run.
    pub fn unmount(&self, options: &[&str]) -> Output {
        Command::new(IMGMOUNT).arg("unmount").args(options).arg(self.path()).output().unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_there() {
            let output = self.unmount(&["-q", "--lazy"]);
            assert!(output.status.success() || std::thread::panicking(), "{}", stderr(&output));
        }
    }
}

/// The kernel's own mount.
#[derive(Debug)]
pub struct Kernel(tempfile::TempDir);

impl Kernel {
    /// Of a disk's file system, with these options beside `ro,loop`.
    pub fn mount(disk: &Path, options: &str) -> Self {
        let dir = tempdir();
        sh(&format!("mount -o ro,loop,{options} {} {}", disk.display(), dir.path().display()));
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        sh(&format!("umount {}", self.path().display()));
    }
}

/// Shell text for the start of a mount name space: it has a copy of every mount, and would keep alive what other tests unmount.
pub const LET_GO: &str = r#"
findmnt -rn -o SOURCE,FSTYPE,TARGET | awk '$1 ~ "^/dev/loop" || $2 ~ "^fuse([.]|blk|$)" { print $3 }' | tac |
    xargs -r -n 1 umount -l 2>/dev/null || true
"#;

/// Runs a script as nobody, in a folder that is theirs, with a copy of the program, `disk.raw` and a place to mount it, `mnt`.
pub fn as_nobody(disk: &Path, dir: &Path, script: &str) -> Output {
    sh(&format!(
        "chmod 755 {0}; cp {IMGMOUNT} {0}/imgmount; cp --sparse=always {1} {0}/disk.raw; mkdir {0}/mnt; chown -R nobody {0}",
        dir.display(),
        disk.display()
    ));
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script])
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("XDG_RUNTIME_DIR")
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}
