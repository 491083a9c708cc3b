//! Is the guest made for a machine that is offered?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct Architecture;

impl Check for Architecture {
    fn id(&self) -> &'static str {
        "architecture"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The guest's programs must be for a machine that is offered (params: machines), read from the ELF header of \
             its shell, in a Windows from the header of its kernel. With --set architecture=A it must also be the one that \
             the import will be told.",
            "系统程序的架构必须受支持（参数 machines）：Linux 读取 shell 的 ELF 头，Windows 读取内核文件的 PE 头。\
             用 --set architecture=A 给出架构时，还必须与导入时声明的一致。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("machines", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.guest());
        let machines = args.words("machines")?;
        let Some(machine) = guest.machine()? else {
            return Err(Error::new(ErrorKind::NotFound, "no program was found whose machine could be read"));
        };
        let name = machine.name.to_string();
        let seen = |message: Words| Seen::new(message).at(machine.evidence.clone());
        if let Some(told) = subject.settings.get("architecture").filter(|told| usual(told) != name) {
            return seen(words!(
                "The import will be told {told}, but the system is for {name}.",
                "导入时声明的架构是 {told}，而镜像中的系统是 {name}。"
            ))
            .fail();
        }
        if machines.iter().any(|offered| usual(offered) == name) {
            return seen(words!("The system is for {name}.", "系统架构为 {name}。")).pass();
        }
        let offered = machines.join(", ");
        seen(words!(
            "The system is for {name}, and only {offered} are offered.",
            "系统架构为 {name}，仅支持 {offered}。"
        ))
        .fail()
    }
}

/// The name that we have for what clouds also call otherwise: `amd64`, `arm_64`.
fn usual(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "amd64" | "x64" | "x86-64" => "x86_64".to_owned(),
        "i686" | "i586" | "x86" | "x86_32" => "i386".to_owned(),
        "arm64" | "arm_64" | "armv8" => "aarch64".to_owned(),
        _ => name,
    }
}
