//! Does the kernel that boots belong to the distribution?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::packages::{self, Owner, Package, Packages};
use crate::guest::{BootFile, Guest};
use crate::text::{Text, escape};
use std::collections::BTreeSet;

pub(in crate::check) struct NativeKernel;

/// Packages that every system of one kind has from its distribution and from nobody else.
const BASE: &[&str] = &[
    "glibc",
    "bash",
    "filesystem",
    "setup",
    "rpm",
    "systemd",
    "coreutils",
    "base-files",
    "libc6",
    "dpkg",
    "apt",
];

impl Check for NativeKernel {
    fn id(&self) -> &'static str {
        "native-kernel"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The kernel that boots by default should be the distribution's own: its file belongs to a package, and that \
             package has the same maker as the base system's (rpm: the vendor; dpkg: the domain of the maintainer's \
             address). Where no default entry is known, this is asked of every kernel.",
            "默认启动的内核应为发行版的原生内核：内核文件属于某个软件包，且该软件包与基础系统的来源相同\
             （rpm 比较 Vendor，dpkg 比较维护者邮箱的域名）。无法确定默认启动项时，检查全部内核。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let list = guest.packages()?;
        if list.manager.is_none() {
            let why = "there is no package database, so nobody knows where the kernel comes from";
            return Err(Error::new(ErrorKind::NotFound, why));
        }
        let mut passed = None;
        let mut failed = None;
        for kernel in kernels(guest)? {
            match judge(guest, list, &kernel)? {
                Ok(seen) => passed = passed.or(Some(seen)),
                Err(seen) => failed = failed.or(Some(seen)),
            }
        }
        match (passed, failed) {
            (Some(seen), None) => seen.pass(),
            (None, Some(seen)) => seen.fail(),
            (Some(_), Some(failed)) => {
                let what =
                    format!("which kernel boots by default is not known, and of one: {}", failed.message.en);
                Err(Error::new(ErrorKind::Unsupported, what))
            }
            (None, None) => Err(Error::new(ErrorKind::NotFound, "no kernel was found")),
        }
    }
}

/// The kernel that boots, or each that might.
fn kernels(guest: &Guest) -> Result<Vec<BootFile>> {
    let entry = guest.boot()?.and_then(|boot| boot.default_entry()).filter(|entry| !entry.kernel.is_empty());
    if let Some(entry) = entry {
        let file = guest.boot_file(&entry.kernel)?;
        let none =
            || Error::new(ErrorKind::NotFound, format!("the kernel {} is not there", escape(&entry.kernel)));
        return Ok(vec![file.ok_or_else(none)?]);
    }
    let mut found = Vec::new();
    for image in guest.kernels()?.iter().filter_map(|kernel| kernel.image.as_ref()) {
        found.extend(guest.boot_file(image.as_bytes())?);
    }
    Ok(found)
}

/// Whether a kernel is the distribution's own.
fn judge(guest: &Guest, list: &Packages, kernel: &BootFile) -> Result<std::result::Result<Seen, Seen>> {
    let path = escape(&kernel.path);
    let Some(owner) = owner(guest, list, kernel)? else {
        let manager = list.manager.unwrap_or_default();
        return Ok(Err(Seen::new(words!(
            "The kernel {path} belongs to no package of {manager}: it was not brought by the distribution.",
            "内核 {path} 不属于 {manager} 的任何软件包，不是发行版的原生内核。"
        ))
        .at(kernel.evidence("the kernel"))
        .fix(install(guest))));
    };
    let package = &owner.package;
    let (name, version, maker) = (&package.name, &package.version, &package.maker);
    let makers = makers(list);
    let native = maker.is_empty() || makers.is_empty() || makers.contains(&origin(package));
    let evidence = [kernel.evidence("the kernel"), package.evidence.clone()];
    Ok(if native {
        Ok(Seen::new(words!(
            "The kernel {path} is the distribution's own: package {name} {version}.",
            "内核 {path} 是发行版的原生内核：软件包 {name} {version}。"
        ))
        .all(evidence))
    } else {
        let others: Vec<String> = makers.iter().map(ToString::to_string).collect();
        let others = others.join(", ");
        Err(Seen::new(words!(
            "The kernel {path} is of package {name} {version}, made by {maker}; the base system is made by {others}.",
            "内核 {path} 来自软件包 {name} {version}，提供者为 {maker}，而基础系统的提供者为 {others}。"
        ))
        .all(evidence)
        .fix(install(guest)))
    })
}

/// The package of a kernel: by its file in `/boot`, or by the one in the directory of its modules, from which some
/// distributions copy it.
fn owner(guest: &Guest, list: &Packages, kernel: &BootFile) -> Result<Option<Owner>> {
    let tree = guest.facts();
    let mut paths = BTreeSet::from([kernel.path.clone(), tree.canonical(&kernel.path)?]);
    let release = guest.release(kernel)?;
    if let Some(release) = &release {
        for dir in [&b"/lib/modules/"[..], b"/usr/lib/modules/"] {
            paths.insert([dir, release.as_slice(), b"/vmlinuz"].concat());
        }
    }
    let release = release.map(|release| escape(&release).to_string());
    // A kernel's package is named after it nearly always: the lists of all others are read only if it is not.
    let rank = |name: &Text| {
        let name = name.to_string();
        match &release {
            Some(release) if name.ends_with(release.as_str()) => 0,
            _ if name.starts_with("kernel") || name.starts_with("linux") => 1,
            _ => 2,
        }
    };
    for likely in 0..3 {
        for path in &paths {
            let found = list.owner(tree, path, &|name| rank(name) == likely)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// Whose a package is: the vendor, or the domain of an address.
fn origin(package: &Package) -> Text {
    let maker = package.maker.to_string();
    let Some((_, domain)) = maker.rsplit_once('@') else { return package.maker.clone() };
    let domain = domain.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    let mut labels = domain.rsplit('.');
    match (labels.next(), labels.next()) {
        (Some(top), Some(name)) => Text::from(format!("{name}.{top}").as_str()),
        _ => Text::from(domain.as_str()),
    }
}

/// Who made the base system.
fn makers(list: &Packages) -> BTreeSet<Text> {
    let base = list
        .installed
        .iter()
        .filter(|package| BASE.iter().any(|name| package.name.as_bytes() == name.as_bytes()));
    let mut found: BTreeSet<Text> = base.filter(|package| !package.maker.is_empty()).map(origin).collect();
    // Ubuntu's kernels are signed for Canonical, the rest is Ubuntu's.
    if found.contains(&Text::from("ubuntu.com")) {
        found.insert(Text::from("canonical.com"));
    }
    found
}

/// The command that installs the distribution's own kernel.
fn install(guest: &Guest) -> crate::check::Words {
    let is = |name: &str| {
        guest.os().is_ok_and(|os| {
            std::iter::once(&os.id).chain(&os.like).any(|id| id.as_bytes() == name.as_bytes())
        })
    };
    let package = if is("ubuntu") {
        "linux-image-generic"
    } else if is("debian") {
        if guest.arch().as_bytes() == b"aarch64" { "linux-image-arm64" } else { "linux-image-amd64" }
    } else if is("suse") || is("sles") || is("opensuse") {
        "kernel-default"
    } else if is("alpine") {
        "linux-virt"
    } else if is("arch") {
        "linux"
    } else {
        "kernel"
    };
    let command = packages::install(guest, package);
    words!("{command}, and make it the default entry of the boot menu", "执行 {command}，并设为默认启动项")
}
