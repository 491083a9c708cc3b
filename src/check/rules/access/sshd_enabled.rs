//! Does an SSH server start?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::admin::Admin;
use crate::guest::sshd::SshServer;

pub(in crate::check) struct SshdEnabled;

impl Check for SshdEnabled {
    fn id(&self) -> &'static str {
        "sshd-enabled"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "An SSH server (OpenSSH or Dropbear) must be installed and start at boot: as a unit, by its socket, or as a script \
             of an older init system. It must have host keys where nothing makes them at boot.",
            "必须安装 SSH 服务（OpenSSH 或 Dropbear）并在启动时启用：通过服务单元、socket 或旧式 init 脚本。\
             若启动时无人生成主机密钥，则主机密钥必须已经存在。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let server = guest.fact::<SshServer>()?;
        let admin = guest.fact::<Admin>()?;
        let Some(program) = &server.program else {
            let install = admin.install(admin.ssh_package());
            return Seen::new(words!("No SSH server is installed.", "没有安装 SSH 服务。"))
                .fix(words!("{install}", "{install}"))
                .fail();
        };
        let Some(starts) = &server.starts else {
            let enable = admin.enable(&[admin.ssh_service()]);
            return Seen::new(words!(
                "The SSH server is installed, but nothing starts it at boot.",
                "已安装 SSH 服务，但没有设置开机启动。"
            ))
            .at(program.clone())
            .fix(words!("{enable}", "{enable}"))
            .fail();
        };
        if let Some(blocked) = &server.blocked {
            return Seen::new(words!(
                "The SSH server does not start, because /etc/ssh/sshd_not_to_be_run is there.",
                "由于存在 /etc/ssh/sshd_not_to_be_run，SSH 服务不会启动。"
            ))
            .at(blocked.clone())
            .fix(words!("rm /etc/ssh/sshd_not_to_be_run", "rm /etc/ssh/sshd_not_to_be_run"))
            .fail();
        }
        if server.lacks_host_keys && !guest.cloud_init()?.runs() {
            return Seen::new(words!(
                "The SSH server has no host keys and nothing makes them at boot, so it does not start.",
                "SSH 服务没有主机密钥，启动时也无人生成，因此无法启动。"
            ))
            .at(program.clone())
            .fix(words!("ssh-keygen -A", "ssh-keygen -A"))
            .fail();
        }
        Seen::new(words!("The SSH server starts at boot.", "SSH 服务会开机启动。")).at(starts.clone()).pass()
    }
}
