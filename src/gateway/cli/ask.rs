//! `forebay status`, `list` and `cancel`: asks the broker that runs on a store, and prints what it says.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::written;
use crate::gateway::config::Config;
use crate::gateway::control::request::{Request, DONE, LAST};
use crate::gateway::errors::Fatal;

/// A broker that says nothing for this long is reported; a slow card takes seconds for a sync.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks, and prints the answer as it comes. What went wrong with one piece of a request keeps none of the
/// others from being tried.
pub fn ask(config: &Config, request: &Request) -> Result<(), Fatal> {
    let mut failures = Vec::new();
    for piece in request.pieces() {
        failures.extend(ask_piece(config, &piece)?);
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Fatal(failures.join("; "))),
    }
}

/// What went wrong, if the broker said so.
fn ask_piece(config: &Config, request: &Request) -> Result<Option<String>, Fatal> {
    let silent = |error: io::Error| Fatal::system("the broker did not answer", &error);
    let mut stream = connect(config)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
    stream.write_all(request.line().as_bytes()).map_err(silent)?;
    let mut answer = BufReader::new(stream);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        let outcome = answer.read_until(b'\n', &mut line);
        match line.split_last() {
            Some((b'\n', [LAST, verdict @ ..])) => {
                written(out.flush())?;
                let verdict = String::from_utf8_lossy(verdict);
                return Ok((verdict != DONE).then(|| verdict.into_owned()));
            }
            Some((b'\n', _)) => match out.write_all(&line) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(None),
                outcome => written(outcome)?,
            },
            _ => {
                written(out.flush())?;
                outcome.map_err(silent)?;
                return Err(Fatal("the broker's answer is incomplete, since it ended; try again".into()));
            }
        }
    }
}

fn connect(config: &Config) -> Result<UnixStream, Fatal> {
    let path = config.control_path();
    UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Fatal(format!(
            "no broker runs on {}; start it with `forebay serve`, or name its store with --store",
            config.store.path.display()
        )),
        _ => Fatal::file(&path, &error),
    })
}
