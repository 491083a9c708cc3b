//! qemu-nbd with the disk that the cases are about: another implementation to play them to.

use crate::common;
use crate::common::disk::{BELOW, CONTENT, SIZE, about};
use crate::common::process::{Reaped, wait_for};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// It has the first export only, as a QCOW2 image on a backing file.
pub struct QemuNbd {
    _process: Reaped,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl QemuNbd {
    pub fn start() -> Self {
        let dir = common::tempdir();
        let (mut top, mut base) = (CONTENT.clone(), vec![0; SIZE as usize]);
        let below = BELOW.start as usize..BELOW.end as usize;
        base[below.clone()].swap_with_slice(&mut top[below]);
        std::fs::write(dir.path().join("top.raw"), top).unwrap();
        std::fs::write(dir.path().join("base.raw"), base).unwrap();
        let at = dir.path().display();
        // Converting drops what is zero; without data of its own the upper layer shows the lower one.
        common::sh(&format!(
            "cd {at}; for layer in top base; do qemu-img convert -f raw -O qcow2 $layer.raw $layer.qcow2; done
             qemu-img rebase -u -f qcow2 -b base.qcow2 -F qcow2 top.qcow2"
        ));
        let socket = dir.path().join("q");
        let process = Command::new("qemu-nbd")
            .args(["-r", "-t", "-A", "-e", "0", "-f", "qcow2", "-D", &about(""), "-k"])
            .arg(&socket)
            .arg(dir.path().join("top.qcow2"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("qemu-nbd did not come up", || UnixStream::connect(&socket).is_ok());
        Self { _process: Reaped(process), socket, _dir: dir }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
