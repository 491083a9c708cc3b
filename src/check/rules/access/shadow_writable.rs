//! Can the cloud write the password into `/etc/shadow`?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::Evidence;

pub(in crate::check) struct ShadowWritable;

/// File systems that nobody can write to.
const READ_ONLY: &[&str] = &["squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"];

impl Check for ShadowWritable {
    fn id(&self) -> &'static str {
        "shadow-writable"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/etc/shadow must be writable for root: neither the file nor /etc carries the immutable mark (chattr +i), and the \
             file system is not read-only or mounted so by /etc/fstab. The mode does not matter: 000 is usual, root writes \
             all the same.",
            "root 必须能写 /etc/shadow：该文件和 /etc 都没有不可变标记（chattr +i），文件系统不是只读的，/etc/fstab 也没有以只读方式挂载它。\
             文件权限位不影响判断：000 很常见，root 依然可写。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let fstab = guest.fstab()?;
        let tree = guest.facts();
        let Some(shadow) = tree.find(b"/etc/shadow")? else {
            return Ok(Outcome::NotApplicable(words!("there is no /etc/shadow", "没有 /etc/shadow")));
        };
        let seen_at =
            |path: &str| Evidence::new("who may write it").on(tree.volume(shadow)).path(path.as_bytes());
        for path in ["/etc/shadow", "/etc"] {
            // Tools write a new file beside it and rename that, so the directory counts too.
            let Some(node) = tree.find(path.as_bytes())? else { continue };
            if tree.is_immutable(node)? == Some(true) {
                return Seen::new(words!(
                    "{path} is marked immutable, so no password can be set.",
                    "{path} 带有不可变标记，无法设置密码。"
                ))
                .at(Evidence { what: "immutable mark (chattr +i)".to_owned(), ..seen_at(path) })
                .fix(words!("chattr -i {path}", "chattr -i {path}"))
                .fail();
            }
        }
        let kind = tree.mounts().get(shadow.fs).map(|mount| mount.fs.facts().kind).unwrap_or_default();
        if READ_ONLY.contains(&kind) {
            return Seen::new(words!(
                "/etc/shadow is on {kind}, which nobody can write to.",
                "/etc/shadow 位于 {kind}，任何人都无法写入。"
            ))
            .at(seen_at("/etc/shadow"))
            .fix(words!("install the system on a writable file system", "把系统安装到可写的文件系统上"))
            .fail();
        }
        if let Some(root) = fstab.root().filter(|line| shadow.fs == 0 && line.has("ro") && !line.has("rw")) {
            return Seen::new(words!(
                "/etc/fstab mounts the root read-only, so no password can be set.",
                "/etc/fstab 以只读方式挂载根文件系统，无法设置密码。"
            ))
            .at(root.evidence.clone())
            .fix(words!(
                "take the option ro out of the line of / in /etc/fstab",
                "在 /etc/fstab 中去掉 / 一行的 ro 选项"
            ))
            .fail();
        }
        Seen::new(words!("/etc/shadow can be written by root.", "root 可以写 /etc/shadow。"))
            .at(seen_at("/etc/shadow"))
            .pass()
    }
}
