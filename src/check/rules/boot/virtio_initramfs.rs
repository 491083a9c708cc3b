//! Will the default kernel find a virtio disk, and have a virtio network?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::initramfs::End;
use crate::guest::{BootFile, Guest};
use crate::text::escape;
use std::collections::BTreeSet;

pub(in crate::check) struct VirtioInitramfs;

impl Check for VirtioInitramfs {
    fn id(&self) -> &'static str {
        "virtio-initramfs"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"The kernel that boots by default must find its disk on the target: a disk driver (params: disk, any one) and \
         its transport (params: transport, all), each with all that it depends on, must be built into the kernel or be \
         in the initramfs. A network driver (params: network, any one) must be built in or be a module of that kernel. \
         Modules are matched by their exact name: an initramfs that lists virtio.ko and nd_virtio.ko, but not \
         virtio_blk.ko, does not boot from a virtio disk, although 'lsinitrd | grep virtio' shows lines. What is \
         built in is read from modules.builtin and the kernel's config; without both, nothing counts as missing and the \
         rule is undecided.",
"",
)
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("disk", ParamKind::Words), Param::required("transport", ParamKind::Words), Param::required("network", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let wants = Wants {
            disk: args.words("disk")?,
            transport: args.words("transport")?,
            network: args.words("network")?,
        };
        let boot = guest.boot()?;
        let entry = boot.and_then(|boot| boot.default_entry()).filter(|entry| !entry.kernel.is_empty());
        if let Some(entry) = entry {
            let Some(kernel) = guest.boot_file(&entry.kernel)? else {
                return Err(not_there(&entry.kernel));
            };
            let release = release(guest, &kernel)?;
            let mut judged = judge(guest, &release, &entry.initrds, &wants)?;
            judged.evidence.push(entry.evidence.clone());
            return Ok(judged.outcome(guest, &release, &wants));
        }
        every_kernel(
            guest,
            &wants,
            boot.map_or("no boot menu of a kind that is read was found", |boot| &boot.why),
        )
    }
}

/// Without a known default: the answer is known if it is the same for every kernel.
fn every_kernel(guest: &Guest, wants: &Wants<'_>, why: &str) -> Result<Outcome> {
    let mut answers = Vec::new();
    for kernel in guest.kernels()? {
        let Some(image) = &kernel.image else { continue };
        let Some(file) = guest.boot_file(image.as_bytes())? else { continue };
        // Its initramfs goes by the name of its image, its modules by its release: /boot/vmlinuz-linux of Arch.
        let named = kernel.release.as_bytes();
        let names: [(&[u8], &[u8]); 5] = [
            (b"/boot/initrd.img-", b""),
            (b"/boot/initramfs-", b".img"),
            (b"/boot/initramfs-", b""),
            (b"/boot/initrd-", b".img"),
            (b"/boot/initrd-", b""),
        ];
        let mut initrds = Vec::new();
        for (before, after) in names {
            let path = [before, named, after].concat();
            if guest.boot_file(&path)?.is_some() {
                initrds.push(path);
                break;
            }
        }
        let release = release(guest, &file)?;
        let judged = judge(guest, &release, &initrds, wants)?;
        if initrds.is_empty() && !judged.missing.is_empty() {
            return Err(unsure(format!(
                "which initramfs kernel {} loads is not known: {why}",
                escape(&release)
            )));
        }
        answers.push((release, judged));
    }
    let failed = answers.iter().filter(|(_, judged)| !judged.missing.is_empty()).count();
    if (failed == answers.len() || failed == 0)
        && let Some((release, judged)) = answers.into_iter().next()
    {
        return Ok(judged.outcome(guest, &release, wants));
    }
    Err(unsure(format!("which kernel boots is not known: {why}")))
}

/// The release of a kernel's image, by which its modules are found.
fn release(guest: &Guest, file: &BootFile) -> Result<Vec<u8>> {
    let release = guest.release(file)?;
    release.ok_or_else(|| unsure(format!("the release of kernel {} is not known", escape(&file.path))))
}

fn unsure(why: String) -> Error {
    Error::new(ErrorKind::Unsupported, why)
}

struct Wants<'a> {
    disk: Vec<&'a str>,
    transport: Vec<&'a str>,
    network: Vec<&'a str>,
}

/// What was found for one kernel.
#[derive(Default)]
struct Judged {
    /// What is missing, one phrase each; nothing if the kernel is fit.
    missing: Vec<String>,
    /// How it is fit.
    found: Vec<String>,
    evidence: Vec<Evidence>,
}

fn not_there(path: &[u8]) -> Error {
    if path.contains(&b'$') {
        return unsure(format!("{} has a variable of the menu's script in it", escape(path)));
    }
    Error::new(ErrorKind::NotFound, format!("{}, which the boot menu starts, is not there", escape(path)))
}

fn judge(guest: &Guest, release: &[u8], initrds: &[Vec<u8>], wants: &Wants<'_>) -> Result<Judged> {
    let mut judged = Judged::default();
    let drivers = guest.drivers(release)?;
    if !drivers.is_known() {
        return Err(unsure(format!(
            "nothing in the guest says what kernel {} can drive: no modules.dep, modules.builtin or config of it",
            escape(release)
        )));
    }
    let transport: BTreeSet<String> = wants.transport.iter().flat_map(|name| drivers.closure(name)).collect();
    let disks: Vec<(&str, BTreeSet<String>)> =
        wants.disk.iter().map(|name| (*name, drivers.closure(name))).collect();
    let wanted: BTreeSet<String> =
        disks.iter().flat_map(|(_, needed)| needed).chain(&transport).cloned().collect();

    let mut loaded = BTreeSet::new();
    if !wanted.is_empty() {
        for named in initrds {
            let Some(file) = guest.boot_file(named)? else { return Err(not_there(named)) };
            let rest: BTreeSet<String> = wanted.difference(&loaded).cloned().collect();
            if rest.is_empty() {
                break;
            }
            let listing = guest.initramfs(&file, &rest)?;
            let virtio: Vec<&str> =
                listing.modules.iter().map(String::as_str).filter(|name| name.contains("virtio")).collect();
            let is_cut = matches!(listing.end, End::CutShort);
            let entries = if is_cut { "read until found" } else { "read to its end" };
            judged.evidence.push(file.evidence(format!(
                "{}, {} entries {entries}; of virtio: {}",
                listing.packing.join(" + "),
                listing.entries,
                if virtio.is_empty() { "nothing".to_owned() } else { list(&virtio) }
            )));
            loaded.extend(rest.into_iter().filter(|module| listing.loads(module)));
        }
    }
    let lacks = |needed: &BTreeSet<String>| needed.difference(&loaded).cloned().collect::<Vec<String>>();
    let holder = if initrds.is_empty() {
        "no initramfs is loaded, and the kernel lacks"
    } else {
        "the initramfs lacks"
    };
    match disks.iter().find(|(_, needed)| lacks(needed).is_empty()) {
        Some((name, needed)) if needed.is_empty() => judged.found.push(format!("{name} is built in")),
        Some((name, _)) => judged.found.push(format!("{name} is in the initramfs")),
        None => {
            let missing = disks.first().map(|(_, needed)| lacks(needed)).unwrap_or_default();
            judged.missing.push(format!("{holder} {}", list(&missing)));
        }
    }
    let missing = lacks(&transport);
    if missing.is_empty() {
        let how = if transport.is_empty() { "built in" } else { "there too" };
        judged.found.push(format!("{} is {how}", wants.transport.join(", ")));
    } else {
        judged.missing.push(format!("{holder} {}", list(&missing)));
    }
    if !judged.missing.is_empty() && !drivers.knows_built_in() {
        return Err(unsure(format!("{}, and what is built into it is not known", judged.missing.join("; "))));
    }
    let lists_all = drivers.lists_loadable && drivers.knows_built_in();
    match wants
        .network
        .iter()
        .find(|name| drivers.has_built_in(name) || drivers.loadable.contains_key(**name))
    {
        Some(name) => judged.found.push(format!("{name} is a driver of this kernel")),
        // What is missing already decides; else a network driver that no list could show is not missing.
        None if lists_all => judged.missing.push(format!("the kernel has no {}", wants.network.join(" or "))),
        None if judged.missing.is_empty() => {
            return Err(unsure(format!(
                "whether kernel {} has {} is not known: its lists of modules are not all there",
                escape(release),
                wants.network.join(" or ")
            )));
        }
        None => {}
    }
    judged.evidence.extend(drivers.evidence);
    judged.evidence.extend(drivers.config.map(|config| config.evidence));
    Ok(judged)
}

/// Names of modules, which come out of the image.
fn list<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<String> = names.iter().map(|name| escape(name.as_ref().as_bytes()).to_string()).collect();
    names.join(", ")
}

impl Judged {
    fn outcome(self, guest: &Guest, release: &[u8], wants: &Wants<'_>) -> Outcome {
        let kernel = escape(release);
        if self.missing.is_empty() {
            let seen = Seen::new(format!("Kernel {kernel} drives virtio: {}.", self.found.join(", ")));
            return Outcome::Pass(seen.all(self.evidence));
        }
        let seen = Seen::new(format!(
            "Kernel {kernel} would not find its disk or network on the target: {}.",
            self.missing.join("; ")
        ));
        Outcome::Fail(seen.all(self.evidence).fix(fix(guest, release, wants)))
    }
}

/// The command that makes the initramfs anew, by the tool that the guest has.
fn fix(guest: &Guest, release: &[u8], wants: &Wants<'_>) -> String {
    let kernel = escape(release);
    let drivers: Vec<&str> = wants.transport.iter().chain(wants.disk.first()).copied().collect();
    let (words, lines) = (drivers.join(" "), drivers.join("\\n"));
    let has = |path: &str| guest.has(path).unwrap_or(false);
    if has("/usr/bin/dracut") || has("/usr/sbin/dracut") || has("/sbin/dracut") {
        return format!("dracut -f --add-drivers \"{words}\" --kver {kernel}");
    }
    if has("/etc/initramfs-tools") {
        return format!(
            "printf '{lines}\\n' >> /etc/initramfs-tools/modules; update-initramfs -u -k {kernel}"
        );
    }
    if has("/etc/mkinitcpio.conf") {
        return format!("add {words} to MODULES in /etc/mkinitcpio.conf; mkinitcpio -P");
    }
    format!("load {words} in the initramfs of this kernel")
}
