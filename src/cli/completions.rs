//! `imgmount completions`.

use super::{Common, Exit, out};
use crate::error::Result;
use clap_complete::Shell;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, _common: &Common) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "imgmount", &mut script);
    out::bytes(&script);
    Ok(Exit::OK)
}
