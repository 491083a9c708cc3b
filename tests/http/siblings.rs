//! Images of several files behind URLs.

use super::*;
use std::path::Path;

/// Serves every file of a directory.
fn serving(dir: &Path) -> Server {
    let dir = dir.to_owned();
    Server::start(move |request| {
        let name = request.path.split('?').next().unwrap().trim_start_matches("/d/").replace("%20", " ");
        match std::fs::read(dir.join(name)) {
            Ok(file) => Reply::right(&file, request),
            Err(_) => Reply::new(404),
        }
    })
}

#[test]
fn the_extents_of_a_vmdk_are_read_beside_its_descriptor() {
    requires!("qemu-img");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}'; head -c 3M /dev/urandom > raw; truncate -s 8M raw\n\
         qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse raw 'my disk.vmdk'",
        dir.path().display()
    ));
    let raw = std::fs::read(dir.path().join("raw")).unwrap();
    let server = serving(dir.path());
    let url = format!("http://{}/d/my%20disk.vmdk", server.address);

    let output = common::imgmount(["hash", &url]);
    assert_eq!(
        common::stdout(&output).split(' ').next(),
        Some(&*sha256(&raw)),
        "{}",
        common::stderr(&output)
    );
    assert!(server.requests().iter().any(|request| request.path == "/d/my%20disk-s001.vmdk"));

    let signed = common::imgmount(["hash", &format!("{url}?sig=s3cr3t")]);
    let stderr = common::stderr(&signed);
    assert_eq!(signed.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("my disk-s001.vmdk") && stderr.contains("signed") && !stderr.contains("s3cr3t"),
        "{stderr}"
    );
}

#[test]
fn a_missing_extent_and_one_of_another_image_are_errors() {
    requires!("qemu-img");
    let dir = common::tempdir();
    common::sh(&format!(
        "cd '{}'; qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse own.vmdk 8M\n\
         sed 's/own-s001/other-s001/' own.vmdk > thief.vmdk; mv own-s001.vmdk other-s001.vmdk",
        dir.path().display()
    ));
    let server = serving(dir.path());
    let missing = common::imgmount(["info", &format!("http://{}/d/own.vmdk", server.address)]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(common::stderr(&missing).contains("own-s001.vmdk") && common::stderr(&missing).contains("404"));
    let nothing = common::imgmount(["info", &format!("http://{}/d/none.vmdk", server.address)]);
    assert_eq!(nothing.status.code(), Some(4), "{}", common::stderr(&nothing));
    let before = server.requests().len();
    let thief = common::imgmount(["info", &format!("http://{}/d/thief.vmdk", server.address)]);
    assert_eq!(thief.status.code(), Some(3), "{}", common::stderr(&thief));
    assert!(server.requests()[before..].iter().all(|request| request.path == "/d/thief.vmdk"));
}

#[test]
fn a_fresh_link_for_one_part_is_not_taken_for_another() {
    let (first, second) = (noise(MIB), noise(2 * MIB));
    let server = Server::start({
        let (first, second) = (Arc::clone(&first), Arc::clone(&second));
        move |request| {
            let (name, is_signed) = (request.path.split('?').next().unwrap(), request.path.contains("sig"));
            match name {
                "/d.001" => Reply::right(&first, request),
                "/d.002" if is_signed => Reply::right(&second, request),
                "/d.002" => Reply::new(403),
                _ => Reply::new(404),
            }
        }
    });
    let url = format!("http://{}/d.001", server.address);
    let whole = sha256(&[first.as_slice(), second.as_slice()].concat());

    let fixed = common::imgmount(["hash", "--url-command", &format!("echo '{url}?sig=1'"), &url]);
    let stderr = common::stderr(&fixed);
    assert_ne!(fixed.status.code(), Some(0), "{}", common::stdout(&fixed));
    assert!(stderr.contains("another file") && !stderr.contains("sig=1"), "{stderr}");

    let named = common::imgmount(["hash", "--url-command", "echo \"$IMGMOUNT_OBJECT?sig=1\"", &url]);
    assert_eq!(common::stdout(&named).split(' ').next(), Some(&*whole), "{}", common::stderr(&named));
}
