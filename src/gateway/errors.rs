//! Errors that end the program: one line that says what happened and what to do.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::path::Path;

use super::config::{Address, ConfigError};

/// The line; printed after `forebay: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal(pub String);

impl Fatal {
    /// A listener could not be opened.
    pub fn listen(address: &Address, error: &Error) -> Fatal {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => "another program listens there; stop it or choose another with --listen",
            ErrorKind::PermissionDenied => {
                "ports below 1024 and some directories need privileges; choose another with --listen"
            }
            ErrorKind::AddrNotAvailable => "this machine has no such address; 0.0.0.0:PORT is all it has",
            ErrorKind::NotFound => "there is no such directory or name",
            _ => return Fatal(format!("cannot listen on {address}: {error}")),
        };
        Fatal(format!("cannot listen on {address}: {advice}"))
    }

    /// A file could not be used.
    pub fn file(path: &Path, error: &Error) -> Fatal {
        let advice = match error.kind() {
            ErrorKind::PermissionDenied => "no permission to read and write it",
            ErrorKind::NotFound => "there is no such directory",
            ErrorKind::StorageFull => "the disk is full; free some space or choose a smaller --store-size",
            ErrorKind::ReadOnlyFilesystem => {
                "the file system is read-only; choose another place with --store"
            }
            ErrorKind::IsADirectory => "it is a directory; --store names a file",
            _ => return Fatal(format!("cannot use {}: {error}", path.display())),
        };
        Fatal(format!("cannot use {}: {advice}", path.display()))
    }

    /// The system refused something there is no advice for.
    pub fn system(what: &str, error: &Error) -> Fatal {
        Fatal(format!("{what}: {error}"))
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}

impl From<ConfigError> for Fatal {
    fn from(error: ConfigError) -> Fatal {
        Fatal(error.0)
    }
}
