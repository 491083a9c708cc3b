//! Is SELinux as it must be, and can the guest boot with it?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::selinux::{Selinux as Fact, State};

pub(in crate::check) struct Selinux;

impl Check for Selinux {
    fn id(&self) -> &'static str {
        "selinux"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "SELinux must be in a state that is allowed (params: allow, of disabled, permissive, enforcing; without it the first two). \
             The kernel's arguments selinux=0 and enforcing=0 come before /etc/selinux/config. Where it enforces, files \
             such as /etc/shadow must have labels: a guest whose tree was copied or changed from outside cannot be logged \
             in to, unless /.autorelabel has the first boot label them.",
            "SELinux 必须处于允许的状态（params: allow，可为 disabled、permissive、enforcing；未设置时为前两者）。内核参数 selinux=0、\
             enforcing=0 优先于 /etc/selinux/config。处于 enforcing 时，/etc/shadow 等文件必须有标签：若文件系统在外部被复制或修改而丢失标签，\
             将无法登录，除非存在 /.autorelabel 让首次启动重新打标签。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::optional("allow", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let selinux = guest.fact::<Fact>()?;
        let state = selinux.state.name();
        let allowed = if args.has("allow") { args.words("allow")? } else { vec!["disabled", "permissive"] };
        if !allowed.contains(&state) {
            return Seen::new(words!(
                "SELinux is {state} after the boot.",
                "开机后 SELinux 处于 {state} 状态。"
            ))
            .all(selinux.evidence.clone())
            .fix(words!(
                "sed -i 's/^SELINUX=.*/SELINUX=disabled/' /etc/selinux/config",
                "sed -i 's/^SELINUX=.*/SELINUX=disabled/' /etc/selinux/config"
            ))
            .fail();
        }
        let first = selinux.unlabelled.first().and_then(|file| file.path.clone());
        if let Some(path) = first.filter(|_| selinux.state == State::Enforcing) {
            if let Some(relabels) = &selinux.relabels {
                return Seen::new(words!(
                    "SELinux enforces; files without labels get them at the first boot, which takes long.",
                    "SELinux 为 enforcing；缺少标签的文件会在首次启动时重新打标签，首次启动较慢。"
                ))
                .at(relabels.clone())
                .all(selinux.evidence.clone())
                .pass();
            }
            return Seen::new(words!(
                "SELinux enforces, but {path} has no label, so nobody could log in.",
                "SELinux 为 enforcing，但 {path} 没有安全标签，系统将无法登录。"
            ))
            .all(selinux.evidence.clone())
            .all(selinux.unlabelled.clone())
            .fix(words!("touch /.autorelabel", "touch /.autorelabel"))
            .fail();
        }
        Seen::new(words!("SELinux is {state} after the boot.", "开机后 SELinux 处于 {state} 状态。"))
            .all(selinux.evidence.clone())
            .pass()
    }
}
