//! Does NetworkManager not start?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome, words};
use crate::error::Result;
use crate::guest::network::{Backend, Network};

pub(in crate::check) struct NetworkManagerDisabled;

impl Check for NetworkManagerDisabled {
    fn id(&self) -> &'static str {
        "network-manager-disabled"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "NetworkManager must not start at boot: no link of systemd or of a runlevel may start it.",
            "NetworkManager 不得开机启动：systemd 和各运行级别中都不得有启动它的链接。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let network = guest.fact::<Network>()?;
        let Some((_, starts)) = network.backends.iter().find(|(used, _)| *used == Backend::NetworkManager)
        else {
            return Seen::new(words!(
                "NetworkManager does not start at boot.",
                "NetworkManager 不会开机启动。"
            ))
            .pass();
        };
        let seen = Seen::new(words!("NetworkManager starts at boot.", "NetworkManager 会开机启动。"))
            .at(starts.clone());
        let is_alone = network.backends.len() == 1;
        if is_alone {
            // Switching off the only one would leave the guest without a network.
            return seen
                .fix(words!(
                    "set up another service for the network first, then: systemctl disable NetworkManager",
                    "先配置其他网络服务，再执行：systemctl disable NetworkManager"
                ))
                .fail();
        }
        seen.fix(words!("systemctl disable NetworkManager", "systemctl disable NetworkManager")).fail()
    }
}
