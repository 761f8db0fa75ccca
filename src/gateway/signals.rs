//! Signals as something to read: each writes a byte into a socket the loop waits for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Becomes readable when one of its signals came.
#[derive(Debug)]
pub struct Signals(UnixStream);

impl Signals {
    /// SIGTERM and SIGINT.
    pub fn stop() -> io::Result<Signals> {
        Signals::of(&[SIGTERM, SIGINT])
    }

    /// SIGHUP.
    pub fn reload() -> io::Result<Signals> {
        Signals::of(&[SIGHUP])
    }

    fn of(signals: &[i32]) -> io::Result<Signals> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        for signal in signals {
            pipe::register(*signal, writer.try_clone()?)?;
        }
        Ok(Signals(reader))
    }

    /// Whether one came since the last call.
    pub fn take(&mut self) -> bool {
        let mut bytes = [0; 16];
        matches!(self.0.read(&mut bytes), Ok(count) if count > 0)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
