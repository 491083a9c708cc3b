//! Is the distribution among those that are listed, and the one that the import will be told?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::Guest;
use crate::guest::os_release::OsRelease;
use crate::guest::version;

pub(in crate::check) struct Distribution;

impl Check for Distribution {
    fn id(&self) -> &'static str {
        "distribution"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The distribution should be one of those that are listed (params: ids, as ID, ID_LIKE or VARIANT_ID of \
             os-release), in a version that is listed (params: versions, words like x86_64:centos:7.0-7.9; an id without \
             such a word may have any version). With --set osType, platform and osVersion it must also be what the import \
             will be told.",
            "发行版应在列表中（参数 ids，对应 os-release 的 ID、ID_LIKE 或 VARIANT_ID），版本也应在列表中（参数 versions，\
             例如 x86_64:centos:7.0-7.9；没有列出版本的发行版不限版本）。用 --set 给出 osType、platform、osVersion 时，\
             镜像还必须与导入时声明的一致。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("ids", ParamKind::Words), Param::optional("versions", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.guest());
        if let Some(message) = told_otherwise(subject, guest) {
            return Seen::new(message).fail();
        }
        let guest = or_outcome!(subject.linux());
        let (os, ids) = (guest.os()?, args.words("ids")?);
        if os.id.is_empty() {
            let why = "nothing in the guest says which distribution it is";
            return Err(Error::new(ErrorKind::NotFound, why));
        }
        let seen = |message: Words| Seen::new(message).all(os.evidence.clone());
        let (name, full) = (&os.pretty, &os.full_version);
        if let Some(told) = subject.settings.get("platform").filter(|told| !is_told(os, told)) {
            return seen(words!(
                "The import will be told {told}, but the system is {name}.",
                "导入时声明的系统是 {told}，而镜像中是 {name}。"
            ))
            .fail();
        }
        if let Some(told) = subject.settings.get("osVersion") {
            match version::is_in(&full.to_string(), &told.replace('-', ".")) {
                Some(true) => {}
                Some(false) => {
                    return seen(words!(
                        "The import will be told version {told}, but the system has {full}.",
                        "导入时声明的版本是 {told}，而镜像中是 {full}。"
                    ))
                    .fail();
                }
                None => return Err(unsaid(os)),
            }
        }
        let versions = if args.has("versions") { args.words("versions")? } else { Vec::new() };
        let listed = ids.join(", ");
        let Some(id) = ids.iter().find(|id| has_id(os, id)) else {
            if let Some(id) = ids.iter().find(|id| is_like(os, id) && versions.is_empty()) {
                return seen(words!(
                    "{name} is based on {id}, which is listed.",
                    "{name} 基于 {id}，在支持列表中。"
                ))
                .pass();
            }
            return seen(words!(
                "{name} is not among the listed distributions: {listed}.",
                "{name} 不在支持的发行版列表中：{listed}。"
            ))
            .fail();
        };
        let versions = of_id(&versions, id);
        if versions.is_empty() {
            return seen(words!("{name} is listed.", "{name} 在支持列表中。")).pass();
        }
        let machine = guest.machine()?.map(|machine| machine.name.to_string());
        let fits = |version: &Listed<'_>| {
            let is_machine = version.machine.is_none_or(|wanted| machine.as_deref() == Some(wanted));
            if is_machine { version::is_in(&full.to_string(), version.range) } else { Some(false) }
        };
        if versions.iter().any(|version| fits(version) == Some(true)) {
            return seen(words!("{name}, version {full}, is listed.", "{name}（版本 {full}）在支持列表中。"))
                .pass();
        }
        if versions.iter().any(|version| fits(version).is_none()) {
            return Err(unsaid(os));
        }
        let listed: Vec<String> = versions.iter().map(Listed::shown).collect();
        let (listed, machine) = (listed.join(", "), machine.unwrap_or_default());
        seen(words!(
            "{name}, version {full} for {machine}, is not among the listed versions: {listed}.",
            "{name}（版本 {full}，{machine}）不在支持的版本列表中：{listed}。"
        ))
        .fail()
    }
}

/// A word of `versions`: `x86_64:centos:7.0-7.9`, `ubuntu:14.04`.
struct Listed<'a> {
    machine: Option<&'a str>,
    id: &'a str,
    range: &'a str,
}

impl<'a> Listed<'a> {
    fn parse(word: &'a str) -> Option<Self> {
        let (rest, range) = word.rsplit_once(':')?;
        Some(match rest.split_once(':') {
            Some((machine, id)) => Self { machine: Some(machine), id, range },
            None => Self { machine: None, id: rest, range },
        })
    }

    fn shown(&self) -> String {
        let machine = self.machine.map(|machine| format!(" ({machine})")).unwrap_or_default();
        format!("{} {}{machine}", self.id, self.range)
    }
}

fn of_id<'a>(words: &[&'a str], id: &str) -> Vec<Listed<'a>> {
    words.iter().filter_map(|word| Listed::parse(word)).filter(|listed| listed.id == id).collect()
}

fn has_id(os: &OsRelease, id: &str) -> bool {
    [&os.id, &os.variant].iter().any(|own| own.as_bytes().eq_ignore_ascii_case(id.as_bytes()))
}

fn is_like(os: &OsRelease, id: &str) -> bool {
    os.like.iter().any(|like| like.as_bytes().eq_ignore_ascii_case(id.as_bytes()))
}

/// The version is written less exactly than the one it is held against.
fn unsaid(os: &OsRelease) -> Error {
    let what =
        format!("{}: nothing in the guest says its version more exactly than {}", os.pretty, os.full_version);
    Error::new(ErrorKind::NotFound, what)
}

/// Is this a name of the system, as import calls spell them: `CentOS`, `RedHat`, `Others Linux`?
fn is_told(os: &OsRelease, told: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '-', '_'], "");
    let (told, pretty) = (plain(told), plain(&os.pretty.to_string()));
    ["other", "customized"].iter().any(|any| told.starts_with(any))
        || pretty.contains(&told)
        || plain(&os.id.to_string()) == told
}

/// What the import will be told about the kind of the system, if it is another one.
fn told_otherwise(subject: &Subject<'_>, guest: &Guest) -> Option<Words> {
    let is_windows = guest.windows().is_some();
    let name = guest.name();
    let is_other = |told: &&str| told.to_ascii_lowercase().contains("windows") != is_windows;
    if let Some(told) = subject.settings.get("osType").filter(is_other) {
        return Some(words!(
            "The import will be told that the system is of type {told}, but it is {name}.",
            "导入时声明的系统类型是 {told}，而镜像中是 {name}。"
        ));
    }
    let told = subject.settings.get("platform").filter(|told| is_windows && is_other(told))?;
    Some(words!(
        "The import will be told {told}, but the system is {name}.",
        "导入时声明的系统是 {told}，而镜像中是 {name}。"
    ))
}
