//! `imgmount demo`.

use super::{Common, Exit};
use crate::error::{Error, Result};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, _common: &Common) -> Result<Exit> {
    Err(Error::unsupported("demo"))
}
