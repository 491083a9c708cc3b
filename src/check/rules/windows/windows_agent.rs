//! Is the cloud's own agent there?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::Keys;

pub(in crate::check) struct WindowsAgent;

impl Check for WindowsAgent {
    fn id(&self) -> &'static str {
        "windows-agent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The cloud's agent must be installed: one of its services (params: services) registered and not disabled, or one of its files \
             (params: files, paths from the system's drive on) there.",
            "必须安装云平台的代理：其服务之一（参数 services）已注册且未禁用，或其文件之一（参数 files，Windows 路径）存在。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("files", ParamKind::Words), Param::optional("services", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let keys = Keys::of(guest)?;
        let words = |name: &str| if args.has(name) { args.words(name) } else { Ok(Vec::new()) };
        let (services, files) = (words("services")?, words("files")?);
        let mut disabled = None;
        for name in &services {
            match keys.service(name)? {
                Some(service) if service.is_disabled() => disabled = Some(service),
                Some(service) => {
                    return Seen::new(words!(
                        "The agent is installed: service {name}.",
                        "已安装代理：服务 {name}。"
                    ))
                    .at(service.evidence)
                    .pass();
                }
                None => {}
            }
        }
        if let Some(service) = disabled {
            let name = &service.name;
            let fix = words!(
                "on the source: sc.exe config {name} start= auto",
                "在源系统中执行：sc.exe config {name} start= auto"
            );
            return Seen::new(words!("The agent's service {name} is disabled.", "代理服务 {name} 被禁用。"))
                .at(service.evidence)
                .fix(fix)
                .fail();
        }
        for path in &files {
            // One without a drive is meant on the system's.
            let is_whole = path.contains(':') || path.starts_with(['%', '\\', '/']);
            let whole = if is_whole { (*path).to_owned() } else { format!("\\{path}") };
            if let Some(evidence) = keys.file(&whole)? {
                return Seen::new(words!("The agent is installed: {path}.", "已安装代理：{path}。"))
                    .at(evidence)
                    .pass();
            }
        }
        let all = [services, files].concat().join(", ");
        Seen::new(words!("The agent is not installed (looked for: {all}).", "未安装代理（已查找：{all}）。"))
            .fail()
    }
}
