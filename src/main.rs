//! The program: see `forebay --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    forebay::gateway::cli::run(std::env::args_os().skip(1))
}
