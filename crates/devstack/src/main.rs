//! `cargo up`: the whole system on this machine, by one command, stopped by Ctrl-C.
//! Owns the order in which things start and stop. Does not own any of them: they are the programs that production
//! runs, each a process of its own, configured by the same files.

mod access;
mod arguments;
mod browser;
mod children;
mod compile;
mod customer;
mod guardian;
mod home;
mod onboarding;
mod stack;
mod summary;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match stack::run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\ncargo up: {error:#}");
            ExitCode::FAILURE
        }
    }
}
