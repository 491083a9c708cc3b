//! OpenRC: a service starts by a link in the directory of its runlevel (openrc-run(8), "Runlevels").

use super::{Services, entries, join, starts};
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::file;
use crate::text::Text;

/// The runlevels of a usual boot.
const LEVELS: [&str; 3] = ["sysinit", "boot", "default"];

pub(super) fn read(tree: &Tree, found: &mut Services) -> Result<()> {
    for level in LEVELS {
        let dir = format!("/etc/runlevels/{level}").into_bytes();
        for entry in entries(tree, &dir)? {
            let link = join(&dir, &entry.name);
            if file::exists(tree, &link)? {
                found.enabled.entry(Text::new(entry.name)).or_insert_with(|| starts(tree, entry.node, &link));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::MemoryFs;
    use super::super::{Init, read};

    #[test]
    fn what_a_runlevel_of_the_boot_links_starts() {
        let files = [
            ("/sbin/openrc", "x"),
            ("/etc/init.d/sshd", "#!/sbin/openrc-run\n"),
            ("/etc/runlevels/default/sshd", "-> /etc/init.d/sshd"),
            ("/etc/runlevels/shutdown/killprocs", "-> /etc/init.d/sshd"),
            ("/etc/runlevels/default/gone", "-> /etc/init.d/gone"),
        ];
        let services = read(&MemoryFs::tree(&files)).unwrap();
        assert_eq!(services.init, Init::OpenRc);
        assert!(services.enabled("sshd").is_some());
        assert!(services.enabled("gone").is_none() && services.enabled("killprocs").is_none());
    }
}
