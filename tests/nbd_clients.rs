//! Every NBD client that people have, against the real program: each reads the same disk, and what it reads is judged by
//! itself, by `cmp`, or by `qemu-img` on the image file. Debian 13's libnbd speaks extended headers, this host's does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test panics where something is wrong")]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

/// 48 MiB: 0x5a from 1 to 5 MiB, 0xa5 in 64 KiB at 40 MiB, else a hole.
fn image(dir: &Path) -> PathBuf {
    let path = dir.join("disk.raw");
    common::sh(&format!(
        "truncate -s 48M {0}; fill() {{ head -c $2 /dev/zero | tr '\\0' \"$1\" |
            dd of={0} bs=64K seek=$3 conv=notrunc iflag=fullblock status=none; }}
         fill '\\132' 4194304 16; fill '\\245' 65536 640",
        path.display()
    ));
    path
}

/// What a script prints that runs while the image is served, in the image's folder; `$uri` and `$unixsocket` are the
/// server's, `$image` the file. It must succeed.
fn while_served(image: &Path, args: &[&str], script: &str) -> String {
    let dir = image.parent().unwrap();
    std::fs::write(dir.join("script"), script).unwrap();
    let output = Command::new(common::IMGMOUNT)
        .current_dir(dir)
        .env("image", image)
        .env("imgmount", common::IMGMOUNT)
        .env("trixie", common::trixie().unwrap_or_default())
        .arg("serve")
        .arg(image)
        .args(args)
        .args(["--run", "exec timeout 60 bash -euo pipefail script"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{}{}", common::stdout(&output), common::stderr(&output));
    common::stdout(&output)
}

/// The same for a script of Python with module `nbd`, under this `python`.
fn in_python(image: &Path, args: &[&str], python: &str, script: &str) {
    std::fs::write(image.with_file_name("client.py"), script).unwrap();
    while_served(image, args, &format!("{python} client.py"));
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

// ---- qemu -------------------------------------------------------------------------------------------------------

#[test]
fn qemu_io_finds_the_patterns_one_by_one_and_many_at_once() {
    requires!("qemu-io");
    let dir = common::tempdir();
    while_served(
        &image(dir.path()),
        &[],
        "qemu-io -r -f raw -c 'read -P 0x5a 1M 4M' -c 'read -P 0 5M 35M' -c 'aio_read -P 0xa5 40M 64k' \
             -c 'aio_read -P 0x5a 1049001 99' -c aio_flush -c 'read -P 0 0 1M' -c map \"$uri\"
         ! qemu-io -r -f raw -c 'read -P 0x5b 1M 512' \"$uri\"",
    );
}

#[test]
fn qemu_img_bench_completes_at_depth_16() {
    requires!("qemu-img");
    let dir = common::tempdir();
    let said = while_served(&image(dir.path()), &[], "qemu-img bench -f raw -c 500 -d 16 -s 4096 \"$uri\"");
    assert!(said.contains("Run completed"), "{said}");
}

// ---- libnbd of this host ----------------------------------------------------------------------------------------

#[test]
fn nbdinfo_sums_up_the_map_and_answers_questions() {
    requires!("nbdinfo");
    let dir = common::tempdir();
    let script = "nbdinfo --can df \"$uri\"; nbdinfo --can multi-conn \"$uri\"; nbdinfo --can cache \"$uri\"
        nbdinfo --is read-only \"$uri\"; ! nbdinfo --can write \"$uri\"; ! nbdinfo --is rotational \"$uri\"
        nbdinfo --map --totals --json \"$uri\"";
    let totals = json(&while_served(&image(dir.path()), &[], script));
    let of = |kind: u64| {
        let totals = totals.as_array().unwrap();
        totals.iter().find(|total| total["type"] == kind).unwrap()["size"].as_u64()
    };
    assert_eq!((of(0), of(3)), (Some((4 << 20) + (64 << 10)), Some((44 << 20) - (64 << 10))));
}

#[test]
fn nbdinfo_and_nbdcopy_start_the_server_themselves() {
    requires!("nbdinfo", "nbdcopy");
    let dir = common::tempdir();
    let (image, program) = (image(dir.path()), common::IMGMOUNT);
    let (image, out) = (image.display(), dir.path().join("out"));
    assert_eq!(common::sh(&format!("nbdinfo --size [ {program} serve {image} ]")).trim(), "50331648");
    let out = out.display();
    common::sh(&format!(
        "nbdcopy --connections=4 --requests=64 -- [ {program} serve {image} ] {out}; cmp {image} {out}"
    ));
}

#[test]
fn nbdfuse_shows_the_disk_as_a_file() {
    requires!("nbdfuse", "fuse", "fusermount3");
    let dir = common::tempdir();
    let script = "mkdir m; nbdfuse -r -P pid m \"$uri\" & trap 'fusermount3 -u m; wait' EXIT
        for try in $(seq 3000); do test -s pid && break; sleep 0.02; done; test -s pid
        cmp m/nbd \"$image\"";
    while_served(&image(dir.path()), &[], script);
}

#[test]
fn libnbd_tries_options_one_by_one_and_does_without_them() {
    requires!("/usr/bin/python3", "nbdsh");
    let dir = common::tempdir();
    in_python(&image(dir.path()), &[], "/usr/bin/python3", OPTIONS);
}

/// Option by option, then with structured replies off, then with no handshake flags at all.
const OPTIONS: &str = r#"
import nbd, os
path = os.environ["unixsocket"]
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(path)
names = []
assert h.opt_list(lambda name, about: names.append(name)) == 2 and names == ["", "disk"], names
h.set_export_name("p9")
try:
    h.opt_info()
    raise SystemExit("there is no p9")
except nbd.Error as error:
    assert error.errno == "ENOENT", error.errno
h.set_export_name("disk")
h.opt_info()
assert h.get_size() == 48 << 20 and h.is_read_only()
contexts = []
h.add_meta_context("base:")
h.opt_list_meta_context(contexts.append)
assert contexts == ["base:allocation"], contexts
h.opt_go()
assert h.pread(4, 1 << 20) == b"ZZZZ"
h.shutdown()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(path)
h.opt_abort()
assert h.aio_is_closed()

h = nbd.NBD()
h.set_request_structured_replies(False)
h.connect_unix(path)
assert not h.get_structured_replies_negotiated() and not h.can_df()
assert h.pread(4, 1 << 20) == b"ZZZZ" and h.pread(8, (1 << 20) - 4) == b"\0\0\0\0ZZZZ"
h.shutdown()

h = nbd.NBD()
h.set_handshake_flags(0)
h.connect_unix(path)
assert h.get_protocol() == "newstyle" and h.get_size() == 48 << 20
assert h.pread(4, 1 << 20) == b"ZZZZ"
h.shutdown()
"#;

// ---- others -----------------------------------------------------------------------------------------------------

#[test]
fn nbd_client_lists_over_unix_and_tcp() {
    requires!("nbd-client");
    let dir = common::tempdir();
    let image = image(dir.path());
    let over_unix = while_served(&image, &[], "PATH=$PATH:/usr/sbin nbd-client -l -unix \"$unixsocket\"");
    let tcp = ["--tcp", "127.0.0.1:0"];
    let over_tcp = while_served(&image, &tcp, "PATH=$PATH:/usr/sbin nbd-client -l 127.0.0.1 \"${uri##*:}\"");
    for list in [over_unix, over_tcp] {
        assert!(list.lines().any(|line| line == "disk: raw, whole disk"), "{list}");
    }
}

#[test]
fn fio_verifies_what_it_reads_at_random() {
    requires!("fio");
    if !common::sh("fio --enghelp || true").contains("nbd") {
        return common::skip("fio has no nbd engine");
    }
    let dir = common::tempdir();
    let script = r#"job="--name=r --ioengine=nbd --uri=$uri --rw=randread --bs=4k --iodepth=16 --verify=pattern"
        fio $job --offset=1M --size=4M --verify_pattern=0x5a --minimal
        ! fio $job --offset=40M --size=64k --verify_pattern=0x5a --minimal"#;
    while_served(&image(dir.path()), &[], script);
}

// ---- libnbd 1.22 of Debian 13 -----------------------------------------------------------------------------------

#[test]
fn libnbd_1_22_agrees_on_extended_headers() {
    requires!("trixie");
    let dir = common::tempdir();
    let info = while_served(&image(dir.path()), &[], "\"$trixie/nbdinfo\" \"$uri\"");
    assert!(info.contains("using extended packets"), "{info}");
    assert!(info.contains("can_block_status_payload: true"), "{info}");
}

#[test]
fn libnbd_1_22_sees_a_hole_of_more_than_4_gib_as_one_extent() {
    requires!("trixie");
    let dir = common::tempdir();
    let image = dir.path().join("big.raw");
    common::sh(&format!(
        "truncate -s 6G {0}; printf x | dd of={0} bs=1 seek=6442450000 conv=notrunc status=none",
        image.display()
    ));
    let map = json(&while_served(&image, &["--format", "raw"], "\"$trixie/nbdinfo\" --map --json \"$uri\""));
    let hole = &map.as_array().unwrap()[0];
    let whole_pages: u64 = 6_442_450_000 / 4096 * 4096;
    assert_eq!((&hole["length"], &hole["type"]), (&whole_pages.into(), &3.into()), "{map}");
}

#[test]
fn libnbd_1_22_copies_and_tries_options() {
    requires!("trixie");
    let dir = common::tempdir();
    let image = image(dir.path());
    while_served(
        &image,
        &[],
        "\"$trixie/nbdcopy\" \"$uri\" a; cmp a \"$image\"; \"$trixie/nbdcopy\" --no-extents \"$uri\" b; cmp b \"$image\"",
    );
    in_python(&image, &[], "\"$trixie/python3\"", OPTIONS);
}

#[test]
fn libnbd_1_22_filters_block_status_by_payload() {
    requires!("trixie");
    let dir = common::tempdir();
    let script = r#"
import nbd, os
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.add_meta_context("qemu:allocation-depth")
h.connect_uri(os.environ["uri"])
assert h.get_extended_headers_negotiated() and h.can_block_status_payload()
def contexts(*wanted):
    seen = {}
    h.block_status_filter(48 << 20, 0, list(wanted), lambda name, at, extents, error: seen.update({name: extents}))
    return seen
assert list(contexts("base:allocation")) == ["base:allocation"]
assert list(contexts("qemu:allocation-depth")) == ["qemu:allocation-depth"]
both = contexts("base:allocation", "qemu:allocation-depth")
assert sorted(both) == ["base:allocation", "qemu:allocation-depth"], both
assert both["base:allocation"][:2] == [(1 << 20, 3), (4 << 20, 0)], both
data = open(os.environ["image"], "rb").read()
for at, length in [(0, 32 << 20), (16 << 20, 32 << 20), (1048573, 77), (5 * 1048576 - 3, 4099)]:
    assert bytes(h.pread(length, at)) == data[at:at + length]
h.shutdown()
"#;
    in_python(&image(dir.path()), &[], "\"$trixie/python3\"", script);
}

/// Lengths and depths of a map in the words of qemu-img, which cuts where data ends and zeros begin; counted from `first`.
fn depths(map: &str, first: u64) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for run in json(map).as_array().unwrap() {
        let (len, depth) = (run["length"].as_u64().unwrap(), run["depth"].as_u64().unwrap());
        match all.last_mut() {
            Some(last) if last.1 == depth.saturating_add(first) => last.0 = last.0.saturating_add(len),
            _ => all.push((len, depth.saturating_add(first))),
        }
    }
    all
}

#[test]
fn allocation_depth_is_the_one_that_qemu_img_maps() {
    requires!("trixie", "qemu-img", "qemu-io");
    let dir = common::tempdir();
    image(dir.path());
    let (top, at) = (dir.path().join("top.qcow2"), dir.path().to_str().unwrap());
    common::sh(&format!(
        "cd {at}; qemu-img create -q -f qcow2 -b disk.raw -F raw middle.qcow2
         qemu-io -f qcow2 -c 'write -P 1 8M 1M' middle.qcow2
         qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2
         qemu-io -f qcow2 -c 'write -P 2 8M 64k' -c 'write -z 2M 1M' top.qcow2"
    ));
    let depth = "\"$trixie/nbdinfo\" --map=qemu:allocation-depth --json \"$uri\"";
    let ours = json(&while_served(&top, &["--allow-parent", at], depth));
    let wanted = depths(&common::sh(&format!("qemu-img map --output=json {at}/top.qcow2")), 1);
    let extent = |run: &serde_json::Value| (run["length"].as_u64().unwrap(), run["type"].as_u64().unwrap());
    assert_eq!(ours.as_array().unwrap().iter().map(extent).collect::<Vec<_>>(), wanted);
}

/// An image for each way in which a layer may be shorter than the one above it: `NAME.top`, 2 MiB, over `NAME.middle` (where
/// it has a size) and `NAME.bottom`. Each layer has 64 KiB of data, at 128, 256 and 384 KiB; the top states zeros at 512.
fn short_layers(dir: &Path) -> &'static [&'static str] {
    let make = "make() {
        name=$1 format=$2 bottom=$3 middle=$4; below=$name.bottom
        qemu-img create -q -f $format $below $bottom; qemu-io -f $format -c 'write -P 1 128k 64k' $below
        if [ $middle != 0 ]; then
            qemu-img create -q -f qcow2 -b $below -F $format $name.middle $middle; below=$name.middle format=qcow2
            qemu-io -f qcow2 -c 'write -P 2 256k 64k' $below
        fi
        qemu-img create -q -f qcow2 -b $below -F $format $name.top 2M
        qemu-io -f qcow2 -c 'write -P 3 384k 64k' -c 'write -z 512k 64k' $name.top
    }";
    common::sh(&format!(
        "cd {}; {make}
         make two raw 300k 0;               make two-qcow2 qcow2 300k 0
         make short-bottom raw 300k 2M;     make short-bottom-qcow2 qcow2 300k 2M
         make short-middle raw 2M 700k;     make short-middle-qcow2 qcow2 2M 700k
         make long-bottom raw 3M 1M;        make long-bottom-qcow2 qcow2 3M 1M
         make stairs raw 300k 1M;           make stairs-qcow2 qcow2 300k 1M",
        dir.display()
    ));
    &[
        "two",
        "two-qcow2",
        "short-bottom",
        "short-bottom-qcow2",
        "short-middle",
        "short-middle-qcow2",
        "long-bottom",
        "long-bottom-qcow2",
        "stairs",
        "stairs-qcow2",
    ]
}

#[test]
fn zeros_past_the_end_of_a_short_layer_are_as_deep_as_qemu_nbd_says() {
    requires!("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo");
    let dir = common::tempdir();
    for name in short_layers(dir.path()) {
        let top = dir.path().join(format!("{name}.top"));
        let ask = "nbdinfo --map=qemu:allocation-depth --json";
        let parents = ["--allow-parent", dir.path().to_str().unwrap()];
        let ours = while_served(&top, &parents, &format!("{ask} \"$uri\""));
        let theirs =
            common::sh(&format!("timeout 60 {ask} -- [ qemu-nbd -r -A -f qcow2 {} ]", top.display()));
        assert_eq!(json(&ours), json(&theirs), "{name}");
    }
}

#[test]
fn zeros_past_the_end_of_a_short_layer_belong_in_a_map_to_the_one_above() {
    requires!("qemu-img", "qemu-io");
    let dir = common::tempdir();
    for name in short_layers(dir.path()) {
        let top = dir.path().join(format!("{name}.top"));
        let (parents, top) = (dir.path().to_str().unwrap(), top.to_str().unwrap());
        let ours = common::imgmount(["map", "--json", "--allow-parent", parents, top]);
        let theirs = common::sh(&format!("qemu-img map --output=json {top}"));
        let ours = (depths(&common::stdout(&ours), 0), common::stderr(&ours));
        assert_eq!(ours, (depths(&theirs, 0), String::new()), "{name}");
    }
}
