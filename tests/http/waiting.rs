//! A mount whose image does not answer for a while: who waits for it, and who need not.

use super::*;
use std::path::PathBuf;
use std::sync::Condvar;
use std::sync::mpsc;

/// How long is waited for what must happen.
const LONG: Duration = Duration::from_secs(20);

/// A gate in front of a server's answers: open, until it is closed.
#[derive(Default)]
struct Gate {
    /// Is it closed, and how many requests stand before it?
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let (mut state, _) = self.changed.wait_timeout_while(state, 2 * LONG, |state| state.0).unwrap();
        state.1 -= 1;
    }

    fn set(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.changed.notify_all();
    }

    /// Waits until somebody stands before it.
    fn is_met(&self) -> bool {
        let state = self.state.lock().unwrap();
        let (_state, waited) = self.changed.wait_timeout_while(state, LONG, |state| state.1 == 0).unwrap();
        !waited.timed_out()
    }
}

/// A mount, to be unmounted, with the gate opened before.
struct Mounted(tempfile::TempDir, Arc<Gate>);

impl Mounted {
    /// Reads a file in another thread.
    fn read(&self, name: &str) -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
        let path: PathBuf = self.0.path().join(".imgmount").join(name);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(std::fs::read(path)));
        told
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.1.set(false);
        drop(common::imgmount(["unmount".as_ref(), self.0.path().as_os_str()]));
    }
}

#[test]
fn a_check_that_takes_its_time_keeps_no_thread_from_other_readers() {
    requires!("root", "fuse", "mkfs.ext4");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd {}; mkdir -p root/etc; echo ID=debian > root/etc/os-release; truncate -s 64M disk.img; mkfs.ext4 -q -d root disk.img",
        dir.path().display()
    ));
    let file = std::fs::read(dir.path().join("disk.img")).unwrap();
    let gate = Arc::new(Gate::default());
    let at_server = Arc::clone(&gate);
    let server = Server::start(move |request| {
        at_server.pass();
        Reply::right(&file, request)
    });
    let mounted = Mounted(common::tempdir(), Arc::clone(&gate));
    let point = mounted.0.path().to_str().unwrap();
    // Without a cache the check must ask the server, however little there is to check.
    let options = ["--threads", "1", "--cache", "0", "--view", "all"];
    let output = common::imgmount(options.into_iter().chain([&*server.url(), point]));
    assert!(output.status.success(), "{}", common::stderr(&output));

    gate.set(true);
    let checks = [mounted.read("check.json"), mounted.read("check.json"), mounted.read("../check.json")];
    assert!(gate.is_met(), "the check reads nothing");
    for name in ["status", "stats", "errors"] {
        assert!(mounted.read(name).recv_timeout(LONG).unwrap().is_ok(), "{name}");
    }
    assert!(checks.iter().all(|told| told.try_recv().is_err()));
    gate.set(false);

    let texts = checks.map(|told| told.recv_timeout(LONG).unwrap().unwrap());
    let check: serde_json::Value = serde_json::from_slice(&texts[0]).unwrap();
    assert_eq!(check["schema"], "imgmount.check/1");
    assert!(texts[0] == texts[1] && texts[0] == texts[2], "one text, made once");
}
