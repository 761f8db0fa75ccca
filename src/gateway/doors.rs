//! The listeners, and the sockets that come in through them.
//!
//! Limits: `connections.count`; beyond it a connection is taken and closed at once, which the
//! peer sees, instead of being left in the kernel's queue, which it does not.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

use crate::units::Millis;

use super::config::{Address, Config, Endpoint, Origin, SerialPort, RUN};
use super::errors::Fatal;
use super::poller::Poller;
use super::rooms::Room;
use super::serial::SerialDoor;
use super::stream::{Listener, Stream};

/// Connections taken from one listener in one turn.
const ACCEPTS_COUNT: usize = 32;

/// Pause after the system refused to hand out another socket.
const EXHAUSTED_MS: u64 = 1000;

/// A serial line is looked at this often: whether it is open, or can be.
const SERIAL_MS: u64 = 1000;

/// How streams come about.
enum Entrance {
    Socket(Listener),
    Serial(SerialDoor),
}

/// A listener.
pub struct Door {
    entrance: Entrance,
    /// Which protocol those speak that come in through it.
    pub room: Room,
    file: Option<PathBuf>,
    is_pending: bool,
    not_before: Millis,
}

impl Door {
    /// Opens one, and puts it on the poller's list.
    pub fn open(address: &Address, room: Room, poller: &Poller, token: u64) -> Result<Door, Fatal> {
        let listener = match room {
            Room::Control => privately(|| Listener::bind(address)),
            _ => Listener::bind(address),
        };
        let listener = listener.map_err(|error| Fatal::listen(address, &error))?;
        let file = match address {
            Address::Unix(path) => Some(path.clone()),
            Address::Tcp(_) => None,
        };
        poller.add(&listener, token).map_err(|error| Fatal::system("epoll", &error))?;
        let entrance = Entrance::Socket(listener);
        Ok(Door { entrance, room, file, is_pending: true, not_before: Millis(0) })
    }

    /// A serial line; it is opened when it is there.
    fn serial(port: SerialPort) -> Door {
        let entrance = Entrance::Serial(SerialDoor::new(port));
        Door { entrance, room: Room::Wire, file: None, is_pending: true, not_before: Millis(0) }
    }

    /// Opens every door of a configuration; token of the first, counting up.
    pub fn open_all(config: &Config, poller: &Poller, token: u64) -> Result<Vec<Door>, Fatal> {
        let mut doors = Vec::new();
        let control = config.control_path();
        // systemd has made it, or it cannot be made and the message is that of the door.
        let _ = control.parent().filter(|parent| *parent == Path::new(RUN)).map(std::fs::create_dir);
        let control = Address::Unix(control);
        let rooms = config.mqtt.listen.iter().map(|address| (address, Room::Mqtt));
        let rooms = rooms.chain(config.amqp.listen.iter().map(|address| (address, Room::Amqp)));
        let wire = config.wire.listen.iter().filter_map(|endpoint| match endpoint {
            Endpoint::Socket(address) => Some((address, Room::Wire)),
            Endpoint::Serial(_) => None,
        });
        let rooms = rooms.chain(wire);
        for (address, room) in rooms.chain([(&control, Room::Control)]) {
            match Door::open(address, room, poller, token + doors.len() as u64) {
                Ok(door) => doors.push(door),
                // Nobody asked for this one: what else was asked for goes on.
                Err(error) if room == Room::Amqp && is_default(config) => {
                    log::warn!("AMQP is not served: {error}; set amqp.listen, to [] if it is not wanted");
                }
                Err(error) => return Err(error),
            }
        }
        doors.extend(config.wire.listen.iter().filter_map(|endpoint| match endpoint {
            Endpoint::Socket(_) => None,
            Endpoint::Serial(port) => Some(Door::serial(port.clone())),
        }));
        Ok(doors)
    }

    /// Where it is.
    pub fn address(&self) -> String {
        match &self.entrance {
            Entrance::Socket(listener) => listener.address(),
            Entrance::Serial(serial) => serial.port().to_string(),
        }
    }

    fn accept(&mut self, now: Millis) -> std::io::Result<Stream> {
        match &mut self.entrance {
            Entrance::Socket(listener) => listener.accept(),
            Entrance::Serial(serial) => {
                self.not_before = now.after(SERIAL_MS);
                serial.accept().map(Stream::Serial)
            }
        }
    }

    /// Somebody knocked.
    pub fn mark_pending(&mut self) {
        self.is_pending = true;
    }

    /// When it wants to be asked again.
    pub fn poll_timeout(&self) -> Millis {
        if self.is_pending {
            self.not_before
        } else {
            Millis::NEVER
        }
    }

    /// Those who wait, a bounded number.
    pub fn take(&mut self, now: Millis) -> Vec<Stream> {
        let mut streams = Vec::new();
        while self.is_pending && now >= self.not_before && streams.len() < ACCEPTS_COUNT {
            match self.accept(now) {
                Ok(stream) => streams.push(stream),
                Err(error) => {
                    match error.kind() {
                        std::io::ErrorKind::WouldBlock => {
                            self.is_pending = matches!(self.entrance, Entrance::Serial(_));
                        }
                        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::Interrupted => {}
                        _ => {
                            log::warn!("cannot take a connection: {error}; raise the limit of open files (ulimit -n)");
                            self.not_before = now.after(EXHAUSTED_MS);
                        }
                    }
                }
            }
        }
        streams
    }
}

/// Makes a socket that only its owner can connect to, and those of its group whom the mask of the process
/// leaves in: whoever cannot write the store is not to change what is in it.
fn privately<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::RWXO);
    umask(before | Mode::RWXO);
    let made = make();
    umask(before);
    made
}

fn is_default(config: &Config) -> bool {
    *config.origin("amqp.listen") == Origin::Default
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            if let Err(error) = std::fs::remove_file(file) {
                log::debug!("{}: {error}", file.display());
            }
        }
    }
}
