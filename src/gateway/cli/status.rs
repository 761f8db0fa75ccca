//! `forebay status`: asks the broker that runs on a store.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::gateway::config::Config;
use crate::gateway::errors::Fatal;
use crate::gateway::report::SEPARATOR;

/// A broker that does not answer for this long is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer of the broker, for people or for programs.
pub fn ask(config: &Config, is_json: bool) -> Result<String, Fatal> {
    let path = config.control_path();
    let mut stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Fatal(format!(
            "no broker runs on {}; start it with `forebay serve`, or name its store with --store",
            config.store.path.display()
        )),
        _ => Fatal::file(&path, &error),
    })?;
    let mut answer = String::new();
    let read = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_string(&mut answer));
    read.map_err(|error| Fatal::system("the broker did not answer", &error))?;
    match answer.split_once(SEPARATOR) {
        Some((text, json)) => Ok(if is_json { json } else { text }.to_string()),
        None => Err(Fatal("the broker's answer is incomplete; try again".into())),
    }
}
