//! How far setup is: a finished system, one that sysprep prepared to be started as new, or one in the middle of either.
//!
//! ```text
//!   HKLM\SYSTEM\Setup                                            SystemSetupInProgress, OOBEInProgress, CmdLine
//!   HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State   ImageState
//! ```
//! Microsoft, "Windows Setup States": `IMAGE_STATE_COMPLETE`; `…_GENERALIZE_RESEAL_TO_OOBE` and its three kin, which sysprep
//! leaves; `IMAGE_STATE_UNDEPLOYABLE`, which stands there while setup or sysprep is at work.

use super::keys::{KeyAt, Keys, plain};
use crate::error::Result;
use crate::guest::{Evidence, Fact, Guest};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Installed.
    Complete,
    /// Prepared by sysprep: it greets its owner at the next start.
    Sealed,
    /// In the middle of it.
    Unfinished,
    /// It does not say.
    Unknown,
}

/// The state of setup.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How far it is.
    pub stage: Stage,
    /// `ImageState` as it is written; empty where it is not, as before Vista.
    pub state: String,
    /// Where that is written.
    pub evidence: Vec<Evidence>,
}

impl Fact for Setup {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let image = keys.software("Microsoft\\Windows\\CurrentVersion\\Setup\\State")?;
        let state = image.as_ref().map(|key| key.text("ImageState")).transpose()?;
        let state = state.as_ref().map(plain).unwrap_or_default();
        let mut evidence: Vec<Evidence> = image.iter().map(|key| key.says("ImageState", &state)).collect();
        let setup = keys.system("Setup")?;
        let flag = |name: &str| -> Result<Option<Evidence>> {
            let read = |key: &KeyAt| Ok(key.number(name)?.map(|number| (number, key.says(name, number))));
            let found = setup.as_ref().map(read).transpose()?.flatten();
            Ok(found.filter(|(number, _)| *number != 0).map(|(_, evidence)| evidence))
        };
        let running = flag("SystemSetupInProgress")?;
        let stage = stage(&state, running.is_some());
        evidence.extend(running);
        evidence.extend(flag("OOBEInProgress")?);
        Ok(Self { stage, state, evidence })
    }
}

/// How far a system is that says so, and whose setup is said to run.
fn stage(state: &str, is_running: bool) -> Stage {
    match state {
        "IMAGE_STATE_COMPLETE" if is_running => Stage::Unfinished,
        "IMAGE_STATE_COMPLETE" => Stage::Complete,
        "IMAGE_STATE_UNDEPLOYABLE" => Stage::Unfinished,
        state if state.starts_with("IMAGE_STATE_") && state.contains("_RESEAL_TO_") => Stage::Sealed,
        "" if !is_running => Stage::Complete,
        _ => Stage::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_are_those_of_the_documentation() {
        assert_eq!(stage("IMAGE_STATE_COMPLETE", false), Stage::Complete);
        assert_eq!(stage("IMAGE_STATE_COMPLETE", true), Stage::Unfinished);
        assert_eq!(stage("IMAGE_STATE_UNDEPLOYABLE", false), Stage::Unfinished);
        for phase in ["GENERALIZE", "SPECIALIZE"] {
            for next in ["OOBE", "AUDIT"] {
                assert_eq!(stage(&format!("IMAGE_STATE_{phase}_RESEAL_TO_{next}"), true), Stage::Sealed);
            }
        }
        // Windows XP and Server 2003 do not say; nothing runs, so nothing is unfinished.
        assert_eq!(
            (stage("", false), stage("", true), stage("x", false)),
            (Stage::Complete, Stage::Unknown, Stage::Unknown)
        );
    }
}
