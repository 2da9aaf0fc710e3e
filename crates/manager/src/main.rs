//! The manager's process. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("manager", env!("CARGO_PKG_VERSION"), manager::serve)
}
