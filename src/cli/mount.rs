//! `imgmount IMAGE MOUNTPOINT`.

use super::{Common, Exit};
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a path or URL
    #[arg(required = true)]
    image: Option<OsString>,
    /// An existing empty directory
    #[arg(required = true)]
    mountpoint: Option<PathBuf>,
}

pub(super) fn run(_args: &Args, _common: &Common) -> Result<Exit> {
    Err(Error::unsupported("mount"))
}
