//! Reports of real checks, read by programs that are not ours: `python3-jsonschema`, Python's XML parser, `xmllint`.

use super::{Made, guest, imgmount, made, stdout};
use crate::common::{self, sh, stderr};
use crate::requires;
use serde_json::Value;
use std::path::Path;

/// A guest with a blocker that has evidence with a line, a name that wants to be markup, and a warning.
const SPOILT: &str = "printf '/dev/sdb1 /data\"<script>alert(1)</script>&`|@root ext4\n' >> $R/etc/fstab; mkdir -p $R/data
    sed -i 's/^ID=.*/ID=nonesuch/; s/^PRETTY.*/PRETTY_NAME=\"<b>\\&amp; *Evil* \\x1b[31mOS\"/' $R/etc/os-release";

fn report(image: &Path, form: &str, more: &[&str]) -> String {
    let mut args = vec!["check", image.to_str().unwrap(), "-p", "tencent", "--report", form];
    args.extend(more);
    let output = imgmount(args);
    assert!(stderr(&output).is_empty() || more.len() > 1, "{}", stderr(&output));
    stdout(&output)
}

/// The report in a file beside the image.
fn file(made: &Made, form: &str, more: &[&str]) -> String {
    let path = made.path(&format!("report.{form}"));
    std::fs::write(&path, report(&made.path("disk.raw"), form, more)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_form_bears_hostile_names() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "xmllint", "python3");
    let made = guest(SPOILT);
    for form in ["text", "json", "jsonl", "sarif", "junit", "md", "html"] {
        let text = report(&made.path("disk.raw"), form, &["--all"]);
        assert!(text.contains("fstab-devices"), "{form}: {text}");
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(acts), "{form}: {text:?}");
    }
    let html = report(&made.path("disk.raw"), "html", &[]);
    assert!(!html.contains("<script") && !html.contains("<b>&") && html.contains("&lt;script&gt;"), "{html}");
    let md = report(&made.path("disk.raw"), "md", &[]);
    // Where no code stands, all of it is escaped.
    let prose: Vec<&str> =
        md.lines().filter(|line| line.contains("script") && !line.contains("``")).collect();
    assert!(
        !prose.is_empty() && prose.iter().all(|line| !line.contains("<script") && !line.contains("@root")),
        "{md}"
    );
}

#[test]
fn a_text_report_says_first_what_to_do_in_both_languages() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest(SPOILT);
    let english = report(&made.path("disk.raw"), "text", &[]);
    let lines: Vec<&str> = english.lines().collect();
    assert!(lines[1].starts_with("NOT IMPORTABLE: 1 blocker"), "{english}");
    let (blocker, warning) = (english.find("\nBLOCKER ").unwrap(), english.find("\nWARNING ").unwrap());
    assert!(blocker < warning && english[blocker..warning].contains("\n  fix "), "{english}");
    let chinese = report(&made.path("disk.raw"), "text", &["--lang=zh"]);
    assert!(chinese.lines().nth(1).unwrap().starts_with("不可导入：1 个阻断项"), "{chinese}");
    assert!(chinese.contains("\n阻断项    fstab-devices") && chinese.contains("\n  修复  "), "{chinese}");
}

#[test]
fn the_locale_decides_the_language_unless_an_option_does() {
    let made = made(": > disk.raw");
    let run = |env: &str, more: &str| {
        let image = made.path("disk.raw");
        sh(&format!(
            "env -u LC_ALL -u LC_MESSAGES -u LANG {env} {} check '{}' {more} 2>&1 || true",
            common::IMGMOUNT,
            image.display()
        ))
    };
    assert!(run("LANG=zh_CN.UTF-8", "").contains("未能检测"));
    assert!(run("LANG=zh_CN.UTF-8", "--lang en").contains("NOT CHECKED"));
    assert!(run("LC_ALL=C LANG=zh_CN.UTF-8", "").contains("NOT CHECKED"));
    assert!(run("IMGMOUNT_LANG=zh", "").contains("未能检测"));
    assert!(run("X=1", "").contains("NOT CHECKED"));
}

#[test]
fn sarif_has_a_run_a_profile_and_places() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest(SPOILT);
    let sarif: Value = serde_json::from_str(&report(&made.path("disk.raw"), "sarif", &[])).unwrap();
    assert_eq!((&sarif["version"], sarif["runs"].as_array().unwrap().len()), (&"2.1.0".into(), 1));
    let run = &sarif["runs"][0];
    let results = run["results"].as_array().unwrap();
    let result = results.iter().find(|result| result["ruleId"] == "fstab-devices").unwrap();
    assert_eq!((&result["kind"], &result["level"]), (&"fail".into(), &"error".into()));
    let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
    assert_eq!(rule["id"], "fstab-devices");
    let place = &result["locations"][0];
    assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], "p1:/etc/fstab:2");
    assert_eq!(place["physicalLocation"]["region"]["startLine"], 2);
    let uri = place["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
    assert_eq!(uri, format!("file://{}", made.path("disk.raw").display()));
    assert!(results.iter().all(|result| result["kind"] == "fail" || result["level"] == "none"));
}

#[test]
fn sarif_is_valid_by_its_schema() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "jsonschema");
    let Some(schema) = std::env::var_os("IMGMOUNT_SARIF_SCHEMA") else {
        return eprintln!("not compared: IMGMOUNT_SARIF_SCHEMA names no sarif-schema-2.1.0.json");
    };
    let made = guest(SPOILT);
    let path = file(&made, "sarif", &["--ignore", "fstab-devices", "/nonexistent"]);
    validate(Path::new(&schema), &path);
    validate(Path::new(&schema), &file(&made, "sarif", &[]));
}

/// Compares a document with a schema.
fn validate(schema: &Path, document: &str) {
    sh(&format!(
        "/usr/bin/python3 -c 'import json, sys, jsonschema
schema, document = (json.load(open(name)) for name in sys.argv[1:])
jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker()).validate(document)' '{}' '{document}'",
        schema.display()
    ));
}

#[test]
fn junit_is_read_by_other_parsers() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd", "python3", "xmllint");
    let made = guest(SPOILT);
    let path =
        file(&made, "junit", &["--set", "platform=CentOS", "--ignore", "architecture", "/nonexistent"]);
    sh(&format!("xmllint --noout '{path}'"));
    let counts = sh(&format!(
        "python3 -c 'import sys, xml.etree.ElementTree as E
root = E.parse(sys.argv[1]).getroot()
suites = root.findall(\"testsuite\")
count = lambda what: len(root.findall(\".//\" + what))
assert [int(root.get(n)) for n in (\"tests\", \"failures\", \"errors\", \"skipped\")] == [count(w) for w in (\"testcase\", \"failure\", \"error\", \"skipped\")]
for suite in suites:
    assert int(suite.get(\"tests\")) == len(suite.findall(\"testcase\"))
case = root.find(\".//testcase[@name=\\\"fstab-devices\\\"]/failure\")
print(len(suites), count(\"error\"), \"<script>\" in case.text)' '{path}'"
    ));
    assert_eq!(counts.trim(), "2 1 True");
}

#[test]
fn a_warning_fails_a_build_only_where_it_fails_the_command() {
    requires!("mkfs.ext4", "sfdisk", "cpio", "zstd");
    let made = guest("sed -i 's/^ID=.*/ID=nonesuch/' $R/etc/os-release");
    let failures = |more: &[&str]| report(&made.path("disk.raw"), "junit", more).matches("<failure").count();
    assert_eq!((failures(&[]), failures(&["--fail-on=never"])), (0, 0));
    // The system's name, and whatever else the profiles warn of.
    assert!(failures(&["--fail-on=warning"]) >= 1);
}

#[test]
fn a_profile_cannot_drive_the_terminal_or_fill_the_memory() {
    let dir = super::tempdir();
    let (image, profile) = (dir.path().join("an image;x.raw"), dir.path().join("own.toml"));
    std::fs::write(&image, [0; 4096]).unwrap();
    let text = "id = \"one\"\ntitle = \"x\"\ntitle_zh = \"x\"\ndocument = \"x\"\nurl = \"x\"\ndocument_date = \"\\u001b[31m\"\n\
                checked_on = \"x\"\n[[rule]]\ncheck = \"virtual-size-min\"\nlevel = \"blocker\"\nwhy = \"x\"\nwhy_zh = \"x\"\n\
                fix = \"x\"\nfix_zh = \"x\"\nclause = \"x\"\ncode = \"\\u001b]0;x\\u0007\"\nparams = { min = \"1 GiB\" }\n";
    std::fs::write(&profile, text).unwrap();
    let (image, profile) = (image.to_str().unwrap(), profile.to_str().unwrap());
    let shown = stdout(&imgmount(["check", image, "--profile-file", profile]));
    assert!(shown.contains("\\x1b]0;x\\x07") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains("an image;x.raw' 1G"), "a name in a command is one word: {shown}");
    let endless = imgmount(["check", image, "--profile-file", "/dev/zero"]);
    assert_eq!(endless.status.code(), Some(2), "{}", stderr(&endless));
}
