//! The command line: what is asked for, done, and answered with an exit code.
//!
//! Exit codes: 0 done, 1 it could not be done, 2 the words make no sense. `fsck` has codes as other
//! checks of that name do: 0 sound, 1 damaged, 2 it could not be checked.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub mod args;
mod ask;
mod cat;
mod export;
mod fsck;
mod help;
mod link;
mod publish;
mod subscribe;
mod torture;

use super::config::render::render;
use super::errors::Fatal;
use super::plan::Plan;
use super::{logger, serve};
use args::{Invocation, Misuse};

/// Does what the words after the program's name ask for.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut failure = ExitCode::FAILURE;
    let outcome = match args::parse(words) {
        Ok(invocation) => {
            if matches!(invocation, Invocation::Fsck(_)) {
                failure = ExitCode::from(2);
            }
            execute(invocation)
        }
        Err(Misuse::Fatal(error)) => Err(error),
        Err(Misuse::Usage(text)) => {
            complain(&format!("{text}\nTry `forebay --help`."));
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        complain(&error.0);
        failure
    })
}

fn execute(invocation: Invocation) -> Result<ExitCode, Fatal> {
    match invocation {
        Invocation::Serve(config) => {
            logger::start(config.log_level);
            serve::serve(config)
        }
        Invocation::Plan(mut config) => print(&Plan::fit(&mut config)?.render()),
        Invocation::Show(mut config) => {
            Plan::fit(&mut config)?;
            print(&render(&config))
        }
        Invocation::Ask(config, request) => ask::ask(&config, &request),
        Invocation::Publish(task) => publish::publish(&task),
        Invocation::Subscribe(task) => subscribe::subscribe(&task),
        Invocation::Fsck(task) => return fsck::fsck(&task),
        Invocation::Cat(task) => return cat::cat(&task),
        Invocation::Export(task) => return export::export(&task),
        Invocation::Torture(task) => torture::torture(&task),
        Invocation::Text(text) => print(&text),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Prints to standard output; a reader that left early (`| head`) is no error.
fn print(text: &str) -> Result<(), Fatal> {
    written(io::stdout().write_all(text.as_bytes()))
}

/// What came of writing to standard output; a reader that left early is no error.
fn written(outcome: io::Result<()>) -> Result<(), Fatal> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fatal::system("cannot write the output", &error))
        }
        _ => Ok(()),
    }
}

/// The exit code of a command that reads a store with so many damages.
fn verdict(damaged: u64, store: &Path) -> ExitCode {
    if damaged == 0 {
        return ExitCode::SUCCESS;
    }
    let path = store.display();
    complain(&format!("damaged places in {path}: {damaged}; `forebay fsck {path}` says what is lost"));
    ExitCode::FAILURE
}

fn complain(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "forebay: {text}");
}
