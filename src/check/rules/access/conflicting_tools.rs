//! Are tools of another hypervisor, or a virus scanner, left in the system?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::admin::Admin;
use crate::guest::program::Program;

pub(in crate::check) struct ConflictingTools;

/// One product.
struct Tool {
    /// The word in params.
    kind: &'static str,
    name: &'static str,
    program: Program<'static>,
}

const fn tool(
    kind: &'static str,
    name: &'static str,
    packages: &'static [&'static str],
    services: &'static [&'static str],
    files: &'static [&'static str],
) -> Tool {
    Tool { kind, name, program: Program { packages, services, files } }
}

/// Names as the distributions package them and the vendors' installers place them.
const TOOLS: &[Tool] = &[
    tool(
        "vmware",
        "VMware Tools",
        &["open-vm-tools", "open-vm-tools-desktop", "vmware-tools", "vmware-tools-esx-nox"],
        &["vmtoolsd", "open-vm-tools", "vmware-tools"],
        &["/usr/bin/vmtoolsd", "/usr/sbin/vmtoolsd", "/usr/lib/vmware-tools", "/etc/vmware-tools/locations"],
    ),
    tool(
        "virtualbox",
        "VirtualBox Guest Additions",
        &[
            "virtualbox-guest-utils",
            "virtualbox-guest-x11",
            "virtualbox-guest-dkms",
            "virtualbox-guest-tools",
            "virtualbox-guest-additions",
            "virtualbox-guest-utils-nox",
        ],
        &["vboxadd", "vboxadd-service", "vboxservice", "virtualbox-guest-utils"],
        &["/usr/sbin/VBoxService", "/usr/bin/VBoxService", "/opt/VBoxGuestAdditions-*"],
    ),
    tool(
        "xen",
        "Xen guest tools",
        &["xe-guest-utilities", "xe-guest-utilities-latest", "xen-guest-agent", "xen-tools-domU"],
        &["xe-daemon", "xe-linux-distribution", "xen-guest-agent"],
        &["/usr/sbin/xe-daemon", "/usr/sbin/xe-linux-distribution", "/usr/sbin/xen-guest-agent"],
    ),
    tool(
        "parallels",
        "Parallels Tools",
        &["parallels-tools", "parallels-guest-tools"],
        &["prltoolsd"],
        &["/usr/bin/prltoolsd", "/usr/lib/parallels-tools"],
    ),
    tool(
        "hyperv",
        "Hyper-V daemons",
        &["hyperv-daemons", "hypervkvpd", "hv-kvp-daemon-init", "microsoft-hyper-v"],
        &["hypervkvpd", "hv-kvp-daemon", "hv_kvp_daemon"],
        &["/usr/sbin/hypervkvpd", "/usr/sbin/hv_kvp_daemon"],
    ),
    tool(
        "antivirus",
        "McAfee/Trellix Endpoint Security",
        &["McAfeeTP", "ISecTP"],
        &["mfetpd", "isectpd"],
        &["/opt/McAfee", "/opt/isec"],
    ),
    tool(
        "antivirus",
        "Symantec Endpoint Protection",
        &["sav", "sdcss-sepagent"],
        &["rtvscand", "sisamddaemon"],
        &["/opt/Symantec"],
    ),
    tool("antivirus", "Sophos", &[], &["sophos-spl", "sav-protect"], &["/opt/sophos-spl", "/opt/sophos-av"]),
    tool(
        "antivirus",
        "Trend Micro Deep Security",
        &["ds-agent", "ds_agent"],
        &["ds_agent"],
        &["/opt/ds_agent"],
    ),
    tool("antivirus", "CrowdStrike Falcon", &["falcon-sensor"], &["falcon-sensor"], &["/opt/CrowdStrike"]),
    tool(
        "antivirus",
        "SentinelOne",
        &["SentinelAgent", "sentinelagent"],
        &["sentinelone"],
        &["/opt/sentinelone"],
    ),
    tool("antivirus", "Kaspersky Endpoint Security", &["kesl"], &["kesl"], &["/opt/kaspersky"]),
    tool("antivirus", "ESET", &["efs", "eea"], &["efs", "eea"], &["/opt/eset"]),
    tool(
        "antivirus",
        "Bitdefender",
        &["bitdefender-security-tools"],
        &["bdsec"],
        &["/opt/bitdefender-security-tools", "/opt/BitDefender"],
    ),
    tool("antivirus", "Microsoft Defender", &["mdatp"], &["mdatp"], &["/opt/microsoft/mdatp"]),
    tool("antivirus", "ClamAV on access", &[], &["clamav-clamonacc", "clamonacc"], &[]),
];

impl Check for ConflictingTools {
    fn id(&self) -> &'static str {
        "conflicting-tools"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No tools of another hypervisor (VMware, VirtualBox, Xen, Parallels, Hyper-V) and no virus scanner may be \
             installed: they look for a host that is not there, or keep the cloud's own programs from working. They are known \
             by their packages, services and files. params kinds narrows what is looked for: vmware, virtualbox, xen, \
             parallels, hyperv, antivirus.",
            "不应安装其他虚拟化平台的工具（VMware、VirtualBox、Xen、Parallels、Hyper-V）和杀毒软件：它们会寻找并不存在的宿主机，\
             或妨碍云平台自己的程序。根据其软件包、服务和文件识别。参数 kinds 可限定范围：vmware、virtualbox、xen、parallels、hyperv、antivirus。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("kinds", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let kinds = if args.has("kinds") { Some(args.words("kinds")?) } else { None };
        if let Some(unknown) =
            kinds.iter().flatten().find(|kind| TOOLS.iter().all(|tool| tool.kind != **kind))
        {
            return Err(Error::new(ErrorKind::Internal, format!("params.kinds: there is no kind {unknown}")));
        }
        let (mut names, mut places, mut fixes, mut unread) = (Vec::new(), Vec::new(), Vec::new(), None);
        for tool in TOOLS.iter().filter(|tool| kinds.as_ref().is_none_or(|kinds| kinds.contains(&tool.kind)))
        {
            let found = match tool.program.find(guest) {
                Ok(found) => found,
                Err(error) => {
                    unread.get_or_insert(error);
                    continue;
                }
            };
            if found.installed.is_none() {
                continue;
            }
            let list = guest.packages().ok();
            let package =
                tool.program.packages.iter().find(|name| list.is_some_and(|list| list.get(name).is_some()));
            if let Some(package) = package {
                fixes.push(guest.fact::<Admin>()?.remove(package));
            }
            names.push(tool.name);
            places.extend(found.evidence());
        }
        match unread {
            _ if !names.is_empty() => {}
            Some(error) => return Err(error),
            None => {
                return Seen::new(words!(
                    "No tools of another hypervisor and no known virus scanner are installed.",
                    "未安装其他虚拟化平台的工具，也没有已知的杀毒软件。"
                ))
                .pass();
            }
        }
        let (all, all_zh) = (names.join(", "), names.join("、"));
        let verb = if names.len() == 1 { "is" } else { "are" };
        let seen = Seen::new(words!("{all} {verb} installed.", "已安装 {all_zh}。")).all(places);
        let fix = fixes.join("; ");
        if fix.is_empty() {
            seen.fix(words!("uninstall {all} with its own program", "用其自带的程序卸载 {all_zh}")).fail()
        } else {
            seen.fix(words!("{fix}", "{fix}")).fail()
        }
    }
}
