//! Is `/etc/issue` as the distribution brought it?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileType;
use crate::guest::file::{self, GuestFile};
use crate::guest::packages::Owner;
use crate::guest::{Evidence, Guest, packages};
use crate::text::Text;
use md5::Md5;
use sha2::{Digest as _, Sha256};

pub(in crate::check) struct IssueFile;

const PATH: &str = "/etc/issue";
/// The longest that is read.
const MAX: u64 = 64 << 10;

impl Check for IssueFile {
    fn id(&self) -> &'static str {
        "issue-file"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "Some clouds tell the distribution by /etc/issue. Its sum must be the one with which its package brought it \
             (dpkg's list of configuration files, rpm's sums). Where no package keeps a sum, it is enough that the file \
             names the distribution; a file that does not is undecided.",
            "部分云平台通过 /etc/issue 识别发行版。该文件的校验和应与软件包提供时一致（dpkg 的配置文件列表、rpm 的校验和）。\
             没有记录校验和时，文件中写有发行版名称即可；否则无法判定。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let list = guest.packages()?;
        let tree = guest.facts();
        if let Some(node) = file::entry(tree, PATH)?
            && tree.stat(node)?.kind == FileType::Symlink
            && tree.readlink(node)?.split(|byte| *byte == b'/').any(|part| part == b"run")
        {
            return Seen::new(words!("{PATH} is made anew at each boot.", "{PATH} 在每次启动时重新生成。"))
                .at(Evidence::new("a link into /run").on(tree.volume(node)).path(PATH.as_bytes()))
                .pass();
        }
        let owner = match list.owner(tree, PATH.as_bytes(), &is_likely)? {
            None => list.owner(tree, PATH.as_bytes(), &|name| !is_likely(name))?,
            found => found,
        };
        let Some(file) = file::read(tree, PATH, MAX)? else {
            return Seen::new(words!("There is no {PATH}.", "没有 {PATH} 文件。"))
                .fix(restore(guest, owner.as_ref()))
                .fail();
        };
        let seen = |message: Words| Seen::new(message).at(first_line(&file));
        if let Some((owner, is_same)) =
            owner.as_ref().and_then(|owner| Some((owner, has_sum(&file.bytes, owner.digest.as_deref()?)?)))
        {
            let name = &owner.package.name;
            return if is_same {
                seen(words!(
                    "{PATH} is as the package {name} brought it.",
                    "{PATH} 与软件包 {name} 提供的一致。"
                ))
                .pass()
            } else {
                seen(words!(
                    "{PATH} was changed since the package {name} brought it.",
                    "{PATH} 在软件包 {name} 提供之后被修改过。"
                ))
                .fix(restore(guest, Some(owner)))
                .fail()
            };
        }
        if names_system(guest, &file) {
            return seen(words!("{PATH} names the distribution.", "{PATH} 中写有发行版名称。")).pass();
        }
        let what = format!("no package says what {PATH} was, and it does not name the distribution");
        Err(Error::new(ErrorKind::NotFound, what))
    }
}

fn first_line(file: &GuestFile) -> Evidence {
    let (line, text) = file.lines().next().unwrap_or((1, b""));
    file.evidence("shown before the login").line(line, text)
}

/// Packages that bring it in most distributions; the others are asked only if none of these does.
fn is_likely(name: &Text) -> bool {
    let name = name.to_string();
    name.contains("release") || ["base-files", "setup", "filesystem", "alpine-base"].contains(&name.as_str())
}

/// Have the bytes this sum, in hexadecimal digits? `None` when it is of a kind that we do not make.
fn has_sum(bytes: &[u8], sum: &str) -> Option<bool> {
    let hex = |sum: &[u8]| sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let own = match sum.len() {
        32 => hex(&Md5::digest(bytes)),
        64 => hex(&Sha256::digest(bytes)),
        _ => return None,
    };
    Some(own.eq_ignore_ascii_case(sum))
}

/// Does it name the system, or let `agetty` do so (`\S`)?
fn names_system(guest: &Guest, file: &GuestFile) -> bool {
    let text = String::from_utf8_lossy(&file.bytes).to_lowercase();
    let name = guest.name().to_lowercase();
    let first = name.split_whitespace().next().unwrap_or_default();
    (first.len() > 2 && text.contains(first)) || file.bytes.windows(2).any(|pair| pair == b"\\S")
}

fn restore(guest: &Guest, owner: Option<&Owner>) -> Words {
    let package = owner.map(|owner| owner.package.name.to_string());
    match (package, guest.packages().ok().and_then(|list| list.manager)) {
        (Some(name), Some("dpkg")) => words!(
            "rm {PATH} && apt-get install --reinstall -o Dpkg::Options::=--force-confmiss {name}",
            "rm {PATH} && apt-get install --reinstall -o Dpkg::Options::=--force-confmiss {name}"
        ),
        (Some(name), Some("rpm")) => {
            let command = packages::install(guest, &name).replace(" install ", " reinstall ");
            words!("rm {PATH} && {command}", "rm {PATH} && {command}")
        }
        _ => words!(
            "restore {PATH} from an installation of the same version of the distribution",
            "从同版本发行版的原始安装中恢复 {PATH}"
        ),
    }
}
