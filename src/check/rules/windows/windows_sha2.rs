//! Can it check signatures made with SHA-2?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::keys::absent;
use crate::guest::windows::updates::Updates;

pub(in crate::check) struct WindowsSha2;

impl Check for WindowsSha2 {
    fn id(&self) -> &'static str {
        "windows-sha2"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Windows 7 and Server 2008 R2 load drivers that are signed with SHA-2 alone only with the update KB4474419 or KB3033929; \
             Windows Server 2008 needs KB4474419. Later systems can by themselves.",
            "Windows 7 和 Windows Server 2008 R2 只有安装了 KB4474419 或 KB3033929 才能加载仅用 SHA-2 签名的驱动；Windows Server 2008 需要 KB4474419。更新的系统本身即支持。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let product = guest.windows_product()?;
        let needed: &[&str] = match product.build {
            Some(7_600 | 7_601) => &["KB4474419", "KB3033929"],
            Some(6_001..=6_003) => &["KB4474419"],
            Some(build) if build > 7_601 => {
                return Ok(Outcome::NotApplicable(words!(
                    "this Windows knows SHA-2 by itself (build {build})",
                    "此 Windows 本身支持 SHA-2（内部版本 {build}）"
                )));
            }
            Some(build) => {
                return Ok(Outcome::NotApplicable(words!(
                    "there is no such update for build {build}",
                    "内部版本 {build} 没有此补丁"
                )));
            }
            None => return Err(absent("the number of the build, CurrentBuildNumber,")),
        };
        let updates = guest.fact::<Updates>()?;
        let names = needed.join(" / ");
        if let Some((name, evidence)) = needed.iter().find_map(|name| Some((name, updates.get(name)?))) {
            return Seen::new(words!(
                "{name} is installed: drivers signed with SHA-2 can be loaded.",
                "已安装 {name}：可加载 SHA-2 签名的驱动。"
            ))
            .at(evidence.clone())
            .pass();
        }
        if updates.listed == 0 {
            return Err(absent("the list of packages, Component Based Servicing\\Packages,"));
        }
        let count = updates.listed;
        Seen::new(words!(
            "{names} is not among the {count} packages: drivers signed with SHA-2 are refused.",
            "{count} 个更新包中没有 {names}：将拒绝加载 SHA-2 签名的驱动。"
        ))
        .all(product.evidence.clone())
        .fix(words!("install KB4474419 on the source and restart it", "在源系统中安装 KB4474419 并重启"))
        .fail()
    }
}
