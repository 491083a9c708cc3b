//! Is the cloud's own agent there, and does it start?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::guest::admin::Admin;
use crate::guest::program::{Program, service_files};

pub(in crate::check) struct Agent;

impl Check for Agent {
    fn id(&self) -> &'static str {
        "agent"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "An agent of the cloud must be there: one of its files, packages or services (params). Where its services are \
             given, one of them must also start at boot.",
            "必须有云平台的组件：其文件、软件包或服务之一（由参数给出）。若给出了服务，其中之一还必须开机启动。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const {
            &[
                Param::optional("files", ParamKind::Words),
                Param::optional("packages", ParamKind::Words),
                Param::optional("services", ParamKind::Words),
            ]
        }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let given = |name: &str| if args.has(name) { args.words(name) } else { Ok(Vec::new()) };
        let (files, packages, services) = (given("files")?, given("packages")?, given("services")?);
        let services: Vec<&str> =
            services.iter().map(|name| name.strip_suffix(".service").unwrap_or(name)).collect();
        let Some(name) = services.iter().chain(&packages).chain(&files).next() else {
            return Err(Error::new(ErrorKind::Internal, "the profile's params name nothing to look for"));
        };
        let units: Vec<String> = services.iter().flat_map(|service| service_files(service)).collect();
        let places: Vec<&str> = files.iter().copied().chain(units.iter().map(String::as_str)).collect();
        let program = Program { packages: &packages, services: &services, files: &places };
        let found = program.find(guest)?;
        if found.installed.is_none() {
            return Seen::new(words!("The agent {name} is not installed.", "未安装组件 {name}。")).fail();
        }
        if !services.is_empty() && found.starts.is_none() {
            guest.services()?;
            let enable = guest.fact::<Admin>()?.enable(services.get(..1).unwrap_or_default());
            return Seen::new(words!(
                "The agent {name} is installed, but nothing starts it at boot.",
                "组件 {name} 已安装，但没有设置开机启动。"
            ))
            .all(found.evidence())
            .fix(words!("{enable}", "{enable}"))
            .fail();
        }
        Seen::new(words!("The agent {name} is installed.", "已安装组件 {name}。"))
            .all(found.evidence())
            .pass()
    }
}
