//! The units in `systemd/`: the service manager understands them, and every option they use is one of ours.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test panics where something is wrong"
)]
mod common;

use std::path::PathBuf;

fn units() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(common::root().join("systemd")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_command_is_one_that_we_understand() {
    let mut seen = 0;
    for unit in units() {
        let text = std::fs::read_to_string(&unit).unwrap();
        for command in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            let command = command.replace("$OPTIONS ", "--view all -o allow_other ");
            let command = command.replace("$NBD_OPTIONS ", "--cache 1G ");
            let words = command.split_whitespace().map(|word| word.replace("${", "/").replace('}', ""));
            let parsed = imgmount::cli::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{}: {}", unit.display(), parsed.unwrap_err());
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn what_would_hide_a_mount_is_in_no_unit_that_mounts() {
    // systemd.exec(5): these give a service a mount name space of its own.
    let hiding = [
        "Private",
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernel",
        "ReadOnly",
        "ReadWrite",
        "Inaccessible",
        "DynamicUser",
    ];
    let text = std::fs::read_to_string(common::root().join("systemd/imgmount@.service")).unwrap();
    let found: Vec<&str> =
        text.lines().filter(|line| hiding.iter().any(|word| line.starts_with(word))).collect();
    assert_eq!(found, Vec::<&str>::new());
}

#[test]
fn the_service_manager_understands_every_unit() {
    requires!("systemd-analyze");
    let dir = common::tempdir();
    let bin = PathBuf::from(common::IMGMOUNT).parent().unwrap().to_owned();
    let mut names = Vec::new();
    for unit in units() {
        let text = std::fs::read_to_string(&unit).unwrap().replace("@BINDIR@", bin.to_str().unwrap());
        let name = unit.file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::write(dir.path().join(&name), text).unwrap();
        names.push(format!("./{}", name.replace('@', "@x")));
    }
    assert_eq!(names.len(), 3);
    // What is wrong is told by a line; some of it is no failure.
    let said = common::sh(&format!(
        "cd {}; systemd-analyze verify --man=no {} 2>&1",
        dir.path().display(),
        names.join(" ")
    ));
    let said: Vec<&str> = said.lines().filter(|line| line.contains("imgmount")).collect();
    assert_eq!(said, Vec::<&str>::new());
}

#[test]
fn the_first_client_starts_the_server_and_its_last_one_ends_it() {
    requires!("systemd-socket-activate", "nbdcopy");
    let dir = common::tempdir();
    let at = dir.path().display();
    common::sh(&format!("head -c 5000000 /dev/urandom >{at}/disk.raw; truncate -s %512 {at}/disk.raw"));
    common::sh(&format!(
        "cd {at}; export XDG_RUNTIME_DIR={at}
         systemd-socket-activate -l {at}/sock -E XDG_RUNTIME_DIR={at} {} serve -f raw --idle-exit 100ms disk.raw 2>log &
         server=$!
         for i in $(seq 3000); do test -S sock && break; sleep 0.02; done; test -S sock
         timeout 60 nbdcopy 'nbd+unix:///?socket={at}/sock' out.raw
         timeout 60 tail --pid=$server -f /dev/null
         wait $server; cmp disk.raw out.raw",
        common::IMGMOUNT
    ));
}
