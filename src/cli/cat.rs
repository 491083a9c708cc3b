//! `imgmount cat`.

use super::content::{Piece, pieces, zeros};
use super::out::{Stream, Tally};
use super::plan::{Images, Target};
use super::{Common, Exit, out, plan};
use crate::error::{ErrorKind, Result};
use crate::fs::tree::Follow;
use std::ffi::OsString;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// IMAGE:PATH…, or IMAGE PATH…
    #[arg(required = true, value_name = "IMAGE:PATH")]
    files: Vec<OsString>,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<Exit> {
    let mut images = Images::new(common);
    let mut tally = Tally::default();
    let mut stream = Stream::new();
    for target in plan::targets(&args.files) {
        let mut sent = 0_usize;
        match cat(&target, &mut images, &mut stream, &mut sent) {
            Ok(()) => tally.done(),
            // There is nobody to write to.
            Err(error) if error.kind() == ErrorKind::Host => return Err(error),
            Err(error) => {
                out::report(&error, common);
                tally.failed(&error);
                if sent > 0 {
                    tally.partial();
                }
            }
        }
    }
    stream.end()?;
    Ok(tally.exit())
}

fn cat(target: &Target, images: &mut Images<'_>, stream: &mut Stream, sent: &mut usize) -> Result<()> {
    target.need_path("cat")?;
    let (tree, _, node) = images.find(target, Follow::Yes)?;
    let mut send = |bytes: &[u8]| {
        *sent = sent.saturating_add(bytes.len());
        stream.bytes(bytes)
    };
    let done = pieces(&tree, node, &mut |piece| match piece {
        Piece::Data(bytes) => send(bytes),
        Piece::Hole(len) => zeros(len, &mut send),
    });
    done.map_err(|error| error.context(target.shown()))
}
