//! Are the links to the system's libraries relative?

use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::guest::file;
use crate::text::escape;

pub(in crate::check) struct LibLinks;

/// Directories that a merged system has as links into `/usr`.
const PATHS: &[&str] = &["/lib", "/lib64", "/lib32", "/libx32"];

impl Check for LibLinks {
    fn id(&self) -> &'static str {
        "lib-links"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "/lib and /lib64 must be directories or relative links: a cloud that mounts the image beside its own system to \
             change it would follow an absolute link into its own libraries.",
            "/lib 和 /lib64 必须是目录或相对路径的链接：云平台把镜像挂载到自己的系统中修改时，\
             绝对路径的链接会指向云平台自己的库。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        guest.fstab()?;
        let tree = guest.facts();
        let mut links = Vec::new();
        let mut is_there = false;
        for path in PATHS {
            let Some(node) = file::entry(tree, path)? else { continue };
            is_there = true;
            if tree.stat(node)?.kind != FileType::Symlink {
                continue;
            }
            let target = tree.readlink(node)?;
            let evidence = Evidence::new(format!("a link to {}", escape(&target)));
            let evidence = evidence.on(tree.volume(node)).path(path.as_bytes());
            if target.starts_with(b"/") {
                let (shown, relative) = (escape(&target), target.strip_prefix(b"/").unwrap_or_default());
                let relative = escape(relative);
                return Seen::new(words!(
                    "{path} is an absolute link, to {shown}.",
                    "{path} 是指向 {shown} 的绝对路径链接。"
                ))
                .at(evidence)
                .fix(words!("cd / && ln -sfn {relative} {path}", "cd / && ln -sfn {relative} {path}"))
                .fail();
            }
            links.push(evidence);
        }
        if !is_there {
            return Err(Error::new(ErrorKind::NotFound, "there is neither /lib nor /lib64"));
        }
        Seen::new(words!(
            "/lib and /lib64 are directories or relative links.",
            "/lib 和 /lib64 是目录或相对路径链接。"
        ))
        .all(links)
        .pass()
    }
}
