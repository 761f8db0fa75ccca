//! Serial lines: opened raw, and opened again when the device comes back.
//!
//! A line is no listener, but a device file that comes and goes with a cable. While nobody has it open
//! it is tried once a second; what is open says so by a token that the stream holds.
//!
//! ```text
//! waiting --there is a device file--> open --hang-up, error--> waiting
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};

use rustix::fs::{Mode, OFlags};
use rustix::termios::{self, ControlModes, OptionalActions, QueueSelector};

use super::config::SerialPort;
use crate::protocol::wire::Line;

/// A serial line that is open.
#[derive(Debug)]
pub struct Serial {
    fd: OwnedFd,
    port: Rc<SerialPort>,
    /// Tells the door that it is open.
    _token: Rc<()>,
}

impl Serial {
    /// Reads what is there.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, into)?)
    }

    /// Writes what fits.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.fd, bytes)?)
    }

    /// As its session knows it.
    pub fn line(&self) -> Line {
        Line { device: self.port.device.clone() }
    }

    /// Where it is.
    pub fn port(&self) -> &SerialPort {
        &self.port
    }
}

impl AsFd for Serial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A serial line, open or not.
#[derive(Debug)]
pub struct SerialDoor {
    port: Rc<SerialPort>,
    open: Weak<()>,
    /// That it cannot be opened was said.
    has_said: bool,
}

impl SerialDoor {
    /// One that is not open yet.
    pub fn new(port: SerialPort) -> SerialDoor {
        SerialDoor { port: Rc::new(port), open: Weak::new(), has_said: false }
    }

    /// Where it is.
    pub fn port(&self) -> &SerialPort {
        &self.port
    }

    /// Opens it; `WouldBlock` if it is, or cannot be for now.
    pub fn accept(&mut self) -> io::Result<Serial> {
        if self.open.strong_count() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match open(&self.port) {
            Ok(fd) => {
                log::info!("{}: open", self.port);
                let token = Rc::new(());
                self.open = Rc::downgrade(&token);
                self.has_said = false;
                Ok(Serial { fd, port: Rc::clone(&self.port), _token: token })
            }
            Err(error) => {
                if !self.has_said {
                    log::warn!("{}: {error}; {}", self.port, advice(&error));
                }
                self.has_said = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "it is opened when the device is plugged in",
        io::ErrorKind::PermissionDenied => "add the user of this program to the group that owns it (dialout)",
        io::ErrorKind::ResourceBusy => "another program has it open",
        _ => "it is tried again",
    }
}

fn open(port: &SerialPort) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&port.path, flags, Mode::empty())?;
    let mut modes = termios::tcgetattr(&fd)?;
    modes.make_raw();
    modes.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL | ControlModes::CS8;
    modes.control_modes -= ControlModes::CSTOPB | ControlModes::HUPCL | ControlModes::CRTSCTS;
    modes.set_speed(port.baud)?;
    termios::tcsetattr(&fd, OptionalActions::Now, &modes)?;
    // Two programs on one line would each get half of what comes.
    termios::ioctl_tiocexcl(&fd)?;
    termios::tcflush(&fd, QueueSelector::IOFlush)?;
    Ok(fd)
}
