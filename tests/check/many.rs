//! Many images at once, and the JSON schemas of what comes of them, compared by `python3-jsonschema`.

use super::{Made, guest, imgmount, made};
use crate::common::{self, IMGMOUNT, sh, stderr, stdout};
use crate::requires;
use serde_json::Value;
use std::path::Path;

/// Empty disks with a table, `00.raw` to `24.raw`; the odd ones are GPT. And what is no image, and a list of all.
fn rack() -> Made {
    made(
        "truncate -s 4M 00.raw 01.raw
         printf 'label: dos\\n' | sfdisk -q 00.raw; printf 'label: gpt\\n' | sfdisk -q 01.raw
         for n in $(seq -w 2 24); do cp --sparse=always 0$((10#$n % 2)).raw $n.raw; done
         : > zz.bad; ls -d $PWD/*.raw $PWD/zz.bad > list.txt; sed -i '1i # images\\n' list.txt",
    )
}

fn run(made: &Made, args: &str) -> (i32, String, String) {
    let script = format!(
        "cd '{}'; code=0; {IMGMOUNT} {args} 2>err || code=$?; echo \"exit $code\"",
        made.path("").display()
    );
    let out = sh(&script);
    let (out, code) = out.rsplit_once("exit ").unwrap();
    (code.trim().parse().unwrap(), out.to_owned(), std::fs::read_to_string(made.path("err")).unwrap())
}

fn images(jsonl: &str) -> Vec<String> {
    let line =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["image"].as_str().unwrap().to_owned();
    jsonl.lines().map(line).collect()
}

#[test]
fn many_images_are_reported_in_order_and_a_bad_one_stops_no_other() {
    requires!("sfdisk");
    let made = rack();
    let (code, jsonl, err) = run(&made, "check -p tencent --from list.txt -j 4 --report jsonl");
    assert_eq!(code, 1);
    let list = std::fs::read_to_string(made.path("list.txt")).unwrap();
    let names: Vec<&str> = list.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!((names.len(), images(&jsonl)), (26, names.iter().map(|name| (*name).to_owned()).collect()));
    // A line an image on stderr, where stdout has the JSON.
    let lines: Vec<&str> = err.lines().filter(|line| !line.starts_with("checked ")).collect();
    assert_eq!(lines.len(), 26, "{err}");
    assert!(lines[0].starts_with("NOT IMPORTABLE  ") && lines[25].starts_with("NOT CHECKED"), "{err}");
    let (_, one, _) = run(&made, "check -p tencent --from list.txt -j 1 --report jsonl -q");
    assert_eq!(one, jsonl);
}

#[test]
fn the_text_of_many_images_is_a_line_each_and_what_they_have_in_common() {
    requires!("sfdisk");
    let made = rack();
    let (code, text, _) = run(&made, "check -p tencent --from . --glob '[01]?.raw'");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines[20]), (1, ""), "{text}");
    assert_eq!(lines[21], "20 images: 0 importable, 20 not importable, 0 undecided, 0 not checked");
    assert!(text.contains("\nBLOCKER partition-table  10 images"), "{text}");
    assert!(text.contains("\nBLOCKER root-partition RootPartitionNotFound  20 images"), "{text}");
    assert_eq!(run(&made, "check -p tencent --from . --glob '*.nothing'").0, 4);
    assert_eq!(run(&made, "check -p tencent --from nowhere").0, 4);
    assert_eq!(run(&made, "check -p tencent --glob '*'").0, 2);
    let (code, text, _) = run(&made, "check -p tencent --from - --fail-on never < list.txt");
    assert_eq!((code, text.lines().position(str::is_empty)), (6, Some(26)), "{text}");
}

#[test]
fn what_was_checked_is_not_checked_again_unless_it_changed() {
    requires!("sfdisk");
    let made = rack();
    let lines = || std::fs::read_to_string(made.path("done.jsonl")).unwrap().lines().count();
    let check = "check -p tencent --resume done.jsonl";
    let (code, first, _) = run(&made, &format!("{check} 00.raw 01.raw zz.bad"));
    assert_eq!((code, lines()), (1, 3));
    // What could not be opened is tried again, the rest is said again without being read.
    let (code, again, _) = run(&made, &format!("{check} 00.raw 01.raw zz.bad"));
    assert_eq!((code, lines(), again), (1, 4, first));
    // A run that was ended by force leaves half a line.
    sh(&format!("cd '{}'; printf '{{\"schema\":' >> done.jsonl; touch 01.raw", made.path("").display()));
    let (_, _, err) = run(&made, &format!("{check} 00.raw 01.raw 02.raw"));
    assert!(err.contains("1 lines are no reports"), "{err}");
    assert_eq!(lines(), 7);
    // Asked otherwise, or by another profile, it is another question.
    run(&made, &format!("{check} 00.raw --set forceImport=true"));
    run(&made, "check -p generic-kvm --resume done.jsonl 00.raw");
    assert_eq!(lines(), 9);
}

#[test]
fn causes_are_read_from_lines_of_json() {
    requires!("sfdisk", "jsonschema");
    let made = rack();
    run(&made, "check -p tencent --from list.txt --report jsonl=all.jsonl");
    let (code, json, _) = run(&made, "report all.jsonl --json");
    assert_eq!(code, 0);
    let causes: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&causes["images"], &causes["not_opened"]), (&26.into(), &1.into()));
    let cause =
        |rule: &str| causes["causes"].as_array().unwrap().iter().find(|cause| cause["rule"] == rule).unwrap();
    assert_eq!(cause("partition-table")["count"], 12);
    assert_eq!(cause("root-partition")["code"], "RootPartitionNotFound");
    std::fs::write(made.path("causes.json"), &json).unwrap();
    validate("causes", &made.path("causes.json"));
    for form in ["text", "md", "html"] {
        assert!(
            run(&made, &format!("report - --report {form} --all < all.jsonl")).1.contains("23.raw"),
            "{form}"
        );
    }
    assert_eq!(run(&made, "report list.txt").0, 3);
    assert_eq!(run(&made, "report nowhere all.jsonl").0, 6);
    assert_eq!(run(&made, "report all.jsonl --report pdf").0, 2);
}

/// Compares a document, or each line of one, with the schema of that name.
fn validate(name: &str, document: &Path) {
    let schema = imgmount(["schema", name]);
    assert!(schema.status.success(), "{}", stderr(&schema));
    let folder = common::tempdir();
    std::fs::write(folder.path().join("schema"), &schema.stdout).unwrap();
    sh(&format!(
        "/usr/bin/python3 -c 'import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
text = open(sys.argv[2]).read()
try: documents = [json.loads(text)]
except ValueError: documents = [json.loads(line) for line in text.splitlines()]
for document in documents: jsonschema.Draft202012Validator(schema).validate(document)' '{}' '{}'",
        folder.path().join("schema").display(),
        document.display()
    ));
}

#[test]
fn documents_fit_their_schemas() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "jsonschema");
    let made = guest("echo /dev/sdb1 /data ext4 >> $R/etc/fstab; mkdir $R/data");
    let keep = |args: &str, name: &str, schema: &str| {
        std::fs::write(made.path(name), run(&made, args).1).unwrap();
        validate(schema, &made.path(name));
    };
    keep("check disk.raw /nonexistent --json", "check.json", "check");
    keep("check disk.raw part.img /nonexistent --report jsonl", "check.jsonl", "imgmount.check/1");
    keep("info disk.raw --json", "info.json", "info");
    keep("info part.img --json", "part.json", "info");
    keep("info /nonexistent --json", "error.json", "error");
    let names = stdout(&imgmount(["schema"]));
    let all = ["check", "causes", "error", "info", "list", "serve", "stats"];
    assert!(names.lines().eq(all), "{names}");
    assert_eq!(imgmount(["schema", "nothing"]).status.code(), Some(2));
}
