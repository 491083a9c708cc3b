//! Is cloud-init installed, and will it run?

use crate::check::{Args, Check, Outcome, Phrase, Seen, Subject, or_outcome};
use crate::error::Result;

pub(in crate::check) struct CloudInit;

impl Check for CloudInit {
    fn id(&self) -> &'static str {
        "cloud-init"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
"cloud-init must be installed (as a package or as a Python module), start at boot, and not be disabled by its \
         marker file or the kernel's argument. Configuration files left behind by a removed package do not count.",
"",
)
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.linux());
        let found = guest.cloud_init()?;
        let Some(installed) = &found.installed else {
            let list = guest.packages()?;
            let manager = list.manager.map_or_else(
                || "there is no package list".to_owned(),
                |manager| {
                    if list.get("cloud-init").is_some() {
                        format!("{manager} lists it, but its program is gone")
                    } else {
                        format!("it is not among the {} packages of {manager}", list.installed.len())
                    }
                },
            );
            return Seen::new(format!(
                "cloud-init is not installed: {manager}, and no Python has its module."
            ))
            .fix("install the package cloud-init and enable its services")
            .fail();
        };
        if let Some(disabled) = &found.disabled {
            return Seen::new("cloud-init is installed but disabled.")
                .all([installed.clone(), disabled.clone()])
                .fix("remove /etc/cloud/cloud-init.disabled, or cloud-init=disabled from the kernel's line")
                .fail();
        }
        let Some(enabled) = &found.enabled else {
            return Seen::new("cloud-init is installed, but nothing starts it at boot.")
                .at(installed.clone())
                .fix("systemctl enable cloud-init-local cloud-init cloud-config cloud-final")
                .fail();
        };
        Seen::new("cloud-init is installed and starts at boot.")
            .all([installed.clone(), enabled.clone()])
            .pass()
    }
}
