//! `list` and `stats`: what is said of running mounts and servers is what the kernel and their clients know of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test panics where something is wrong"
)]
mod common;

use common::process::{runs, wait_for};
use common::server::Server;
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A user with a runtime directory of their own, so that nobody else's servers are in the list.
struct User(tempfile::TempDir);

impl User {
    fn new() -> Self {
        Self(common::tempdir())
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(common::IMGMOUNT);
        command.args(args).env("XDG_RUNTIME_DIR", self.dir()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The entries of this user's list that have `place` in them.
    fn listed(&self, place: &str) -> Vec<Value> {
        let output = self.run(&["list", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
        let list: Value = serde_json::from_str(&common::stdout(&output)).unwrap();
        assert_eq!(list["schema"], "imgmount.list/1");
        let all = list["running"].as_array().unwrap().clone();
        all.into_iter().filter(|one| one["where"].to_string().contains(place)).collect()
    }

    fn stats(&self, target: &str) -> Value {
        let output = self.run(&["stats", target, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
        let stats: Value = serde_json::from_str(&common::stdout(&output)).unwrap();
        assert_eq!(stats["schema"], "imgmount.stats/1");
        assert_eq!(stats["stats"].as_array().unwrap().len(), 1);
        stats["stats"][0].clone()
    }

    fn image(&self) -> PathBuf {
        self.dir().join("one.raw")
    }

    /// Starts a server of 8 MiB of ones.
    fn serve(&self) -> Server {
        std::fs::write(self.image(), vec![1; 8 << 20]).unwrap();
        let (image, socket) = (self.image(), self.dir().join("nbd.sock"));
        let args = ["serve", image.to_str().unwrap(), "-f", "raw", "-k", socket.to_str().unwrap()];
        Server::start(&mut self.command(&args), &socket)
    }

    fn controls(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir().join("imgmount")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "control")).collect()
    }
}

#[test]
fn a_server_is_listed_with_image_place_process_and_clients() {
    let user = User::new();
    let server = user.serve();
    let _clients = [server.client(), server.client()];
    let listed = user.listed("nbd.sock");
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&one["kind"], &one["state"]), (&"server".into(), &"running".into()));
    assert_eq!(one["pid"], server.id());
    assert_eq!(one["images"], serde_json::json!([user.image().to_str().unwrap()]));
    assert_eq!(one["where"], serde_json::json!([format!("nbd+unix:///?socket={}", server.socket.display())]));
    assert_eq!(one["clients"], 2);
    assert_eq!(one["uid"], rustix::process::geteuid().as_raw());
    let worker = std::fs::read_to_string(format!("/proc/{}/stat", one["worker"])).unwrap();
    assert!(worker.contains(&format!(" {} ", server.id())), "not our child: {worker}");
    let text = common::stdout(&user.run(&["list"]));
    assert!(text.lines().any(|line| line.starts_with("server") && line.contains("one.raw")), "{text}");
}

#[test]
fn a_server_that_has_ended_is_listed_no_more() {
    let user = User::new();
    let mut server = user.serve();
    server.end();
    assert_eq!(user.listed("nbd.sock"), Vec::<Value>::new());
    assert_eq!(user.controls(), Vec::<PathBuf>::new());
}

#[test]
fn a_killed_server_is_listed_no_more_and_what_it_left_is_removed() {
    let user = User::new();
    let mut server = user.serve();
    let worker = server.worker();
    server.kill();
    wait_for("the worker stayed", || !runs(worker));
    assert_eq!(user.listed("nbd.sock"), Vec::<Value>::new());
    assert_eq!(user.controls(), Vec::<PathBuf>::new());
}

#[test]
fn stats_count_what_a_client_has_read() {
    requires!("nbdcopy");
    let user = User::new();
    let server = user.serve();
    let socket = server.socket.to_str().unwrap();
    common::sh(&format!("nbdcopy --no-extents 'nbd+unix:///?socket={socket}' null:"));
    let stats = user.stats(socket);
    assert_eq!(stats["counters"]["bytes_served"], 8 << 20);
    assert!(stats["counters"]["requests"].as_u64().unwrap() > 0);
    assert_eq!(stats["counters"]["errors"], 0);
    // By its URI, its process id and without a target it is the same one.
    let pid = server.id().to_string();
    assert_eq!(user.stats(&format!("nbd+unix:///?socket={socket}"))["pid"], server.id());
    assert_eq!(user.stats(&pid)["counters"]["bytes_served"], 8 << 20);
    let text = common::stdout(&user.run(&["stats", socket]));
    assert!(
        text.lines().any(|line| line.contains("bytes_served") && line.contains("8388608 (8 MiB)")),
        "{text}"
    );
}

#[test]
fn a_mount_is_listed_and_counted_until_it_is_gone() {
    requires!("root", "fuse", "mkfs.ext4");
    let user = User::new();
    let dir = user.dir().to_str().unwrap();
    common::sh(&format!(
        "cd {dir}; mkdir tree point; head -c 3000000 /dev/urandom >tree/file
         mkfs.ext4 -q -d tree disk.raw 16M"
    ));
    let point = format!("{dir}/point");
    let output = user.run(&["mount", "--view", "all", &format!("{dir}/disk.raw"), &point]);
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    common::sh(&format!("cat {point}/disk.raw >/dev/null"));
    let listed = user.listed("/point");
    let stats = user.stats(&point);
    let output = user.run(&["unmount", &point]);
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&one["kind"], &one["where"]), (&"mount".into(), &serde_json::json!([point])));
    assert_eq!(one["images"], serde_json::json!([format!("{dir}/disk.raw")]));
    assert!(one["pid"].is_u64() && one["since"].is_string());
    assert!(stats["counters"]["bytes_served"].as_u64().unwrap() >= 16 << 20, "{stats}");
    assert_eq!(user.listed("/point"), Vec::<Value>::new());
}

#[test]
fn what_is_neither_mount_nor_server_has_no_stats() {
    let user = User::new();
    let output = user.run(&["stats", user.dir().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        common::stderr(&output).contains("help: what runs: imgmount list"),
        "{}",
        common::stderr(&output)
    );
}

#[test]
fn a_control_socket_that_talks_nonsense_harms_nobody() {
    let user = User::new();
    let dir = user.dir().join("imgmount");
    std::fs::create_dir(&dir).unwrap();
    let liar = UnixListener::bind(dir.join("1.control")).unwrap();
    let endless = UnixListener::bind(dir.join("2.control")).unwrap();
    let _mute = UnixListener::bind(dir.join("3.control")).unwrap();
    std::fs::write(dir.join("4.control"), "no socket").unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.join("5.control")).unwrap();
    std::thread::spawn(move || {
        for stream in liar.incoming() {
            let says =
                r#"{"images":["\u001b[31mred"],"uris":["x\ny"],"supervisor":1,"clients":-1,"counters":7}"#;
            drop(stream.unwrap().write_all(says.as_bytes()));
        }
    });
    std::thread::spawn(move || {
        for stream in endless.incoming() {
            let mut stream = stream.unwrap();
            while stream.write_all(&[b'['; 65536]).is_ok() {}
        }
    });
    let start = Instant::now();
    let output = user.run(&["list"]);
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let text = common::stdout(&output);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    // The process is that which listens, whatever it says. Root sees the servers of others, too.
    let own = std::process::id().to_string();
    let ours = text.lines().filter(|line| line.split_whitespace().nth(1) == Some(&own));
    let (silent, heard): (Vec<&str>, Vec<&str>) = ours.partition(|line| line.ends_with("(silent)"));
    assert_eq!(silent.len() + heard.len(), 3, "{text}");
    assert!(silent.len() >= 2, "{text}");
    assert!(heard.iter().all(|line| line.contains("\\x1b[31mred") && line.contains("x\\x0ay")), "{text}");
    assert!(dir.join("4.control").exists() && dir.join("5.control").is_symlink());
}

#[test]
fn the_documents_are_what_their_schemas_say() {
    requires!("jsonschema");
    let user = User::new();
    let _server = user.serve();
    let dir = user.dir().display();
    let valid = |name: &str, args: &[&str]| {
        let schema = user.run(&["schema", name]);
        std::fs::write(user.dir().join(format!("{name}.schema")), schema.stdout).unwrap();
        std::fs::write(user.dir().join(format!("{name}.json")), user.run(args).stdout).unwrap();
        common::sh(&format!(
            "cd {dir}; grep -q 'imgmount.{name}/1' {name}.json; jsonschema -i {name}.json {name}.schema 2>&1"
        ));
    };
    valid("list", &["list", "--json"]);
    valid("stats", &["stats", "--json"]);
    valid("serve", &["serve", "--list", "--json", user.image().to_str().unwrap()]);
}
