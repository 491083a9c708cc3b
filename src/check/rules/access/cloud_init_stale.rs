//! Has cloud-init still the state of the machine that the image was made of?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;

pub(in crate::check) struct CloudInitStale;

impl Check for CloudInitStale {
    fn id(&self) -> &'static str {
        "cloud-init-stale"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Where cloud-init is installed, /var/lib/cloud must have no instance that it ran for: its data can be taken for \
             that of the new one.",
            "若安装了 cloud-init，/var/lib/cloud 中不应有它曾运行过的实例：其数据可能被当作新实例的数据。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = guest.cloud_init()?;
        if found.installed.is_none() {
            return Ok(Outcome::NotApplicable(words!("cloud-init is not installed", "未安装 cloud-init")));
        }
        let Some(stale) = &found.stale else {
            return Seen::new(words!(
                "cloud-init has no state of an earlier instance.",
                "cloud-init 没有此前实例的状态。"
            ))
            .pass();
        };
        Seen::new(words!(
            "cloud-init still has the state of the machine that the image was made of.",
            "cloud-init 仍保留着制作镜像的机器的状态。"
        ))
        .at(stale.clone())
        .fix(words!("cloud-init clean --logs", "cloud-init clean --logs"))
        .fail()
    }
}
