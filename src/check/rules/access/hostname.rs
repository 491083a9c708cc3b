//! Does every instance get the name of the machine that the image was made of?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::hostname::Hostname as Fixed;

pub(in crate::check) struct Hostname;

/// Names that mean none.
const NONE: &[&str] = &["localhost", "localhost.localdomain", "localhost.localdomain.localdomain", "(none)"];

impl Check for Hostname {
    fn id(&self) -> &'static str {
        "hostname"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "No host name of the source machine may be fixed (/etc/hostname, /etc/HOSTNAME, /etc/sysconfig/network): every \
             instance would have it. Where cloud-init runs, it sets the name. With params wanted a fixed name must be one of \
             these, whatever runs.",
            "不应固定源机器的主机名（/etc/hostname、/etc/HOSTNAME、/etc/sysconfig/network），否则每个实例都会使用它。\
             若 cloud-init 会运行，则由它设置主机名。设置参数 wanted 时，固定的主机名必须是其中之一。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("wanted", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let fixed = guest.fact::<Fixed>()?;
        let Some(fixed) = &fixed.0 else {
            return Seen::new(words!("No host name is fixed.", "没有固定的主机名。")).pass();
        };
        let name = &fixed.name;
        let is_one = |names: &[&str]| names.iter().any(|other| other.as_bytes() == name.as_bytes());
        let seen = |message| Seen::new(message).at(fixed.evidence.clone());
        let has_wanted = args.has("wanted");
        let is_wanted = if has_wanted { is_one(&args.words("wanted")?) } else { is_one(NONE) };
        if is_wanted {
            return seen(words!("The host name is {name}.", "主机名为 {name}。")).pass();
        }
        if !has_wanted && guest.cloud_init()?.runs() {
            return seen(words!(
                "The host name is {name}; cloud-init sets that of the instance.",
                "主机名为 {name}；cloud-init 会设置实例的主机名。"
            ))
            .pass();
        }
        let to = if has_wanted {
            args.words("wanted")?.first().copied().unwrap_or("localhost")
        } else {
            "localhost"
        };
        let path = fixed.evidence.path.clone().unwrap_or_default();
        seen(words!(
            "Every instance gets the host name {name} of the source machine.",
            "每个实例都会使用源机器的主机名 {name}。"
        ))
        .fix(words!("write {to} into {path}", "在 {path} 中写入 {to}"))
        .fail()
    }
}
