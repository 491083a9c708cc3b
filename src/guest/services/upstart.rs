//! upstart: a job in `/etc/init` starts by its own line `start on`, unless a line `manual` comes after it; a file
//! `.override` is read behind the job's own (init(5)).

use super::Services;
use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::file::{self, GuestFile};
use crate::text::Text;

const DIR: &str = "/etc/init";
/// The longest job that is read, and how many.
const MAX: u64 = 256 << 10;
const MAX_JOBS: usize = 4096;

pub(super) fn read(tree: &Tree, found: &mut Services) -> Result<()> {
    let names = file::names(tree, DIR)?;
    if names.len() > MAX_JOBS {
        return Err(Error::limit(format!("{DIR}: more than {MAX_JOBS} jobs")));
    }
    for name in names {
        let Some(job) = name.strip_suffix(b".conf") else { continue };
        let path = |end: &[u8]| [DIR.as_bytes(), b"/", job, end].concat();
        let (mut is_started, mut evidence) = (false, None);
        for end in [&b".conf"[..], b".override"] {
            if let Some(file) = file::read(tree, path(end), MAX)? {
                is_started = follow(&file, is_started);
                evidence.get_or_insert_with(|| file.evidence("starts at boot"));
            }
        }
        if let Some(evidence) = evidence.filter(|_| is_started) {
            found.enabled.entry(Text::from(job)).or_insert(evidence);
        }
    }
    Ok(())
}

/// Whether a job is started by itself after these lines. Those of its scripts are not upstart's.
fn follow(file: &GuestFile, mut is_started: bool) -> bool {
    let mut in_script = false;
    for (_, line) in file.lines() {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words = (words.next().unwrap_or_default(), words.next(), words.next());
        match words {
            (b"end", Some(b"script"), None) => in_script = false,
            _ if in_script => {}
            (b"script", None, _) | (_, Some(b"script"), None) => in_script = true,
            (b"start", Some(b"on"), _) => is_started = true,
            (b"manual", None, _) => is_started = false,
            _ => {}
        }
    }
    is_started
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::super::read;

    #[test]
    fn a_job_starts_unless_it_is_manual() {
        let files = [
            ("/etc/init/ssh.conf", "description \"x\"\nstart on runlevel [2345]\nstop on x\n"),
            ("/etc/init/task.conf", "task\nexec /bin/true\n"),
            ("/etc/init/off.conf", "start on filesystem\n"),
            ("/etc/init/off.override", "manual\n"),
            ("/etc/init/back.conf", "manual\n"),
            ("/etc/init/back.override", "start on (a\n    or b)\n"),
            ("/etc/init/script.conf", "start on a\npre-start script\n  manual\nend script\n"),
        ];
        let services = read(&MemoryFs::tree(&files)).unwrap();
        for job in ["ssh", "back", "script"] {
            assert!(services.enabled(job).is_some(), "{job}");
        }
        for job in ["task", "off"] {
            assert!(services.enabled(job).is_none(), "{job}");
        }
    }
}
