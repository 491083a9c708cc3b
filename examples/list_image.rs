//! Lists the files of an image's system with owner, mode and size.
//!
//! `cargo run --example list_image disk.vmdk`
#![allow(clippy::print_stdout, reason = "an example talks")]

use imgmount::error::{Error, ErrorKind, Result};
use imgmount::fs::tree::Enter;
use imgmount::locator::Locator;
use imgmount::source::gate::Given;
use imgmount::stack::{self, Options};
use imgmount::text::escape;
use std::sync::Arc;

fn main() -> Result<()> {
    let image = std::env::args_os().nth(1);
    let image = image.ok_or_else(|| Error::new(ErrorKind::Usage, "list_image IMAGE"))?;
    // The image and its directory are opened here; what the image names besides would need to be allowed.
    let given = Arc::new(Given::open(Locator::parse(&image), &[])?);
    let stack = stack::open(given, &Options::default())?;
    let tree = stack.tree(None)?;
    tree.walk(b"/", tree.root(), &mut |visit| {
        let path = escape(visit.path);
        match visit.found {
            Ok(stat) => {
                println!("{:06o} {:>5} {:>5} {:>12} {path}", stat.mode, stat.uid, stat.gid, stat.size);
            }
            // One bad file spoils that file; the walk goes on.
            Err(error) => println!("{path}: {}", error.chain()),
        }
        Ok(Enter::Yes)
    })
}
