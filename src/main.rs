//! The `imgmount` command. Everything is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    imgmount::cli::main()
}
