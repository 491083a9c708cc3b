//! Are tools of another platform installed?

use crate::check::{
    Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words,
};
use crate::error::Result;
use crate::guest::windows::keys::Keys;
use crate::guest::windows::programs::Programs;

pub(in crate::check) struct WindowsConflictingTools;

impl Check for WindowsConflictingTools {
    fn id(&self) -> &'static str {
        "windows-conflicting-tools"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Tools of other hypervisors (VMware Tools, VirtualBox Guest Additions, Xen and Parallels tools) and antivirus programs should be \
             removed before the image is made: they filter disks and networks that will not be there. Known by services and by the \
             list of installed programs.",
            "制作镜像前应卸载其他虚拟化平台的工具（VMware Tools、VirtualBox 增强功能、Xen 与 Parallels 工具）和杀毒软件：它们会过滤将不存在的磁盘和网卡。依据服务和已安装程序列表判断。参数 kinds 限定种类：vmware、virtualbox、xen、parallels、antivirus。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("kinds", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let kinds = if args.has("kinds") { Some(args.words("kinds")?) } else { None };
        let asked = |kind: &str| kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        let tools = || TOOLS.iter().filter(|(kind, ..)| asked(kind));
        let (mut names, mut evidence): (Vec<String>, Vec<Evidence>) = (Vec::new(), Vec::new());
        for (_, name, services, _) in tools() {
            if let Some(service) = keys.first_service(services)?.filter(|service| !service.is_disabled()) {
                names.push((*name).to_owned());
                evidence.push(service.evidence);
            }
        }
        let programs = guest.fact::<Programs>()?;
        for (_, name, _, words) in tools() {
            if names.iter().any(|known| known == name) {
                continue;
            }
            if let Some(program) = programs.find(words)? {
                names.push(program.name.clone());
                evidence.push(program.evidence.clone());
            }
        }
        if names.is_empty() {
            return Seen::new(words!(
                "No tools of another platform and no antivirus program are installed.",
                "未安装其他平台的工具或杀毒软件。"
            ))
            .pass();
        }
        let names = names.join(", ");
        Seen::new(words!(
            "Tools are installed that should be removed: {names}.",
            "已安装应卸载的工具：{names}。"
        ))
        .all(evidence)
        .fix(words!("uninstall on the source: {names} (appwiz.cpl)", "在源系统中卸载：{names}（appwiz.cpl）"))
        .fail()
    }
}

/// Its kind, what it is called, its services, and words in the names of its programs.
const TOOLS: &[(&str, &str, &[&str], &[&str])] = &[
    ("vmware", "VMware Tools", &["VMTools", "vmhgfs", "vm3dservice"], &["VMware Tools"]),
    (
        "virtualbox",
        "VirtualBox Guest Additions",
        &["VBoxService", "VBoxGuest"],
        &["VirtualBox Guest Additions"],
    ),
    (
        "xen",
        "Xen tools",
        &["xenagent", "xensvc", "xenservice", "XenTools"],
        &["XenServer Tools", "XenServer VM Tools", "Citrix Hypervisor"],
    ),
    ("parallels", "Parallels Tools", &["prl_tools_service", "Parallels Tools Service"], &["Parallels Tools"]),
    ("antivirus", "360", &["ZhuDongFangYu", "360rp"], &["360安全卫士", "360杀毒", "360 Total Security"]),
    ("antivirus", "火绒", &["HipsDaemon", "HRDevMon"], &["火绒安全", "Huorong"]),
    ("antivirus", "电脑管家", &["QQPCRTP"], &["电脑管家", "QQPCMgr"]),
    (
        "antivirus",
        "Symantec",
        &["SepMasterService", "Symantec AntiVirus"],
        &["Symantec Endpoint Protection", "Norton "],
    ),
    ("antivirus", "McAfee", &["mfemms", "McShield"], &["McAfee", "Trellix Endpoint"]),
    ("antivirus", "Kaspersky", &["AVP"], &["Kaspersky"]),
    ("antivirus", "Trend Micro", &["ntrtscan", "ds_agent"], &["Trend Micro", "OfficeScan"]),
    ("antivirus", "ESET", &["ekrn"], &["ESET "]),
    ("antivirus", "Sophos", &["Sophos Endpoint Defense Service", "SAVService"], &["Sophos "]),
    ("antivirus", "Avast or AVG", &["avast! Antivirus", "AVG Antivirus"], &["Avast ", "AVG "]),
    ("antivirus", "Bitdefender", &["VSSERV", "EPSecurityService"], &["Bitdefender"]),
];
