//! The scheduler daemon. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::run("scheduler", env!("CARGO_PKG_VERSION"), scheduler::run)
}
