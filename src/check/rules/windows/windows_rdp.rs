//! Can one log in by remote desktop?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::firewall::Firewall;
use crate::guest::windows::keys::Keys;

pub(in crate::check) struct WindowsRdp;

impl Check for WindowsRdp {
    fn id(&self) -> &'static str {
        "windows-rdp"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Remote desktop must be allowed (fDenyTSConnections 0, by group policy or else by the machine), its service not be disabled, \
             its port be 3389, and where the firewall filters, a rule must let the port in for every profile.",
            "必须允许远程桌面（fDenyTSConnections 为 0，组策略优先），其服务未被禁用，端口为 3389；防火墙启用时，每个配置文件都须有放行该端口的规则。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let policy = keys.software("Policies\\Microsoft\\Windows NT\\Terminal Services")?;
        let server = keys.current("Control\\Terminal Server")?;
        let mut denied = None;
        for key in [&policy, &server].into_iter().flatten() {
            if let Some(number) = key.number(DENY)? {
                denied = Some((number != 0, key.says(DENY, number)));
                break;
            }
        }
        let allow = words!(
            "on the source: reg add \"HKLM\\SYSTEM\\CurrentControlSet\\Control\\Terminal Server\" /v {DENY} /t REG_DWORD /d 0 /f",
            "在源系统中执行：reg add \"HKLM\\SYSTEM\\CurrentControlSet\\Control\\Terminal Server\" /v {DENY} /t REG_DWORD /d 0 /f"
        );
        let evidence = match denied {
            Some((false, evidence)) => evidence,
            Some((true, evidence)) => {
                return Seen::new(words!(
                    "Remote desktop is not allowed (fDenyTSConnections is 1).",
                    "未允许远程桌面（fDenyTSConnections 为 1）。"
                ))
                .at(evidence)
                .fix(allow)
                .fail();
            }
            None => {
                return Seen::new(words!(
                    "Remote desktop was never allowed: fDenyTSConnections is not written.",
                    "未启用远程桌面：没有 fDenyTSConnections。"
                ))
                .all(server.map(|key| key.lacks(DENY)))
                .fix(allow)
                .fail();
            }
        };
        if let Some(service) = keys.service("TermService")?.filter(|service| service.is_disabled()) {
            return Seen::new(words!(
                "Remote desktop is allowed, but its service TermService is disabled.",
                "已允许远程桌面，但其服务 TermService 被禁用。"
            ))
            .at(service.evidence)
            .fix(words!(
                "on the source: sc.exe config TermService start= demand",
                "在源系统中执行：sc.exe config TermService start= demand"
            ))
            .fail();
        }
        let tcp = keys.current("Control\\Terminal Server\\WinStations\\RDP-Tcp")?;
        let port = tcp.as_ref().map(|key| key.number("PortNumber")).transpose()?.flatten();
        if let (Some(key), Some(port)) = (&tcp, port.filter(|port| *port != PORT)) {
            return Seen::new(words!(
                "Remote desktop listens on port {port}, not on 3389.",
                "远程桌面监听端口 {port}，而不是 3389。"
            ))
            .at(key.says("PortNumber", port))
            .fix(words!(
                "set PortNumber back to 3389, or open port {port} in the security group",
                "将 PortNumber 改回 3389，或在安全组中放行端口 {port}"
            ))
            .fail();
        }
        let firewall = guest.fact::<Firewall>()?;
        let mut rules = Vec::new();
        for profile in firewall.on() {
            let Some(rule) = firewall.admits(PORT, profile.name) else {
                let name = profile.name;
                return Seen::new(words!(
                    "Remote desktop is allowed, but the firewall's profile '{name}' has no rule that lets in TCP 3389.",
                    "已允许远程桌面，但防火墙配置文件“{name}”没有放行 TCP 3389 的规则。"
                ))
                .at(profile.evidence.clone())
                .fix(words!(
                    "on the source: netsh advfirewall firewall add rule name=RDP dir=in action=allow protocol=TCP localport=3389",
                    "在源系统中执行：netsh advfirewall firewall add rule name=RDP dir=in action=allow protocol=TCP localport=3389"
                ))
                .fail();
            };
            rules.push(rule.clone());
        }
        Seen::new(words!(
            "Remote desktop is allowed and reachable on TCP 3389.",
            "远程桌面已启用，TCP 3389 可访问。"
        ))
        .at(evidence)
        .all(rules)
        .pass()
    }
}

const DENY: &str = "fDenyTSConnections";
const PORT: u64 = 3389;
