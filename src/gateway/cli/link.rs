//! A blocking MQTT 3.1.1 client over one connection, for `publish` and `subscribe`.
//!
//! It speaks through the broker's own codec, waits where it has to, and turns every way a
//! conversation can fail into a line that says what to do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::gateway::config::Address;
use crate::gateway::errors::Fatal;
use crate::protocol::mqtt::codec::{
    decode, ConnAck, Connect, Packet, Properties, Reason, Version, DISCONNECT, PINGREQ,
};

/// Every broker speaks it.
const VERSION: Version = Version::V311;

/// Bytes read at once.
const INPUT_BYTES: usize = 16 * 1024;

/// The broker hears from us at least this often.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long an answer to the first packet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who connects, and how the session is to be kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'a> {
    /// The client id; the broker chooses one if there is none.
    pub client: Option<&'a str>,
    /// The session outlives the connection.
    pub persistent: bool,
    /// The connection may be silent for as long as it likes.
    pub silent: bool,
}

/// A connection to a broker.
pub struct Link {
    stream: Stream,
    place: String,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    is_pinged: bool,
    is_welcome: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    /// Connects and introduces itself.
    pub fn open(address: &Address, identity: Identity<'_>) -> Result<Link, Fatal> {
        let place = address.to_string();
        let stream = Stream::connect(address).map_err(|error| unreachable(&place, &error))?;
        let mut link = Link {
            stream,
            place,
            input: Vec::with_capacity(INPUT_BYTES),
            used: 0,
            output: Vec::new(),
            is_pinged: false,
            is_welcome: false,
        };
        let keep_alive_s = if identity.silent { 0 } else { KEEP_ALIVE.as_secs() as u16 };
        link.push(&Packet::Connect(Connect {
            version: VERSION,
            clean_start: !identity.persistent,
            keep_alive_s,
            client_id: identity.client.unwrap_or_default(),
            will: None,
            user_name: None,
            password: None,
            properties: Properties::NONE,
        }))?;
        link.flush()?;
        link.stream.set_patience(Some(PATIENCE)).map_err(|error| link.lost(&error))?;
        link.next(|packet| match packet {
            Packet::ConnAck(ack) => welcome(&ack),
            _ => Err(Fatal("what listens there does not speak MQTT".into())),
        })?;
        link.is_welcome = true;
        let patience = (!identity.silent).then_some(KEEP_ALIVE / 2);
        link.stream.set_patience(patience).map_err(|error| link.lost(&error))?;
        Ok(link)
    }

    /// Puts a packet behind those that wait to be sent.
    pub fn push(&mut self, packet: &Packet<'_>) -> Result<(), Fatal> {
        packet
            .append(VERSION, &mut self.output)
            .map_err(|error| Fatal(format!("this cannot be sent over MQTT: {error}")))
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// Sends everything.
    pub fn flush(&mut self) -> Result<(), Fatal> {
        let sent = self.stream.write_all(&self.output);
        self.output.clear();
        sent.map_err(|error| self.lost(&error))
    }

    /// Hands over the next packet; sends what waits before it waits itself.
    pub fn next<R>(&mut self, take: impl FnOnce(Packet<'_>) -> Result<R, Fatal>) -> Result<R, Fatal> {
        loop {
            let rest = self.input.get(self.used..).unwrap_or_default();
            match decode(rest, VERSION, u32::MAX) {
                Ok(Some((Packet::PingResp, size))) => {
                    self.is_pinged = false;
                    self.used += size;
                }
                Ok(Some((Packet::Disconnect(goodbye), _))) => {
                    return Err(Fatal(format!("the broker ended the connection: {}", words(goodbye.reason))));
                }
                Ok(Some((packet, size))) => {
                    self.used += size;
                    return take(packet);
                }
                Ok(None) => {
                    self.flush()?;
                    self.read()?;
                }
                Err(error) => return Err(Fatal(format!("{} does not speak MQTT: {error}", self.place))),
            }
        }
    }

    fn read(&mut self) -> Result<(), Fatal> {
        self.input.drain(..self.used);
        self.used = 0;
        let kept = self.input.len();
        self.input.resize(kept + INPUT_BYTES, 0);
        let outcome = self.stream.read(self.input.get_mut(kept..).unwrap_or_default());
        self.input.truncate(kept + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => Err(self.lost(&io::Error::from(ErrorKind::UnexpectedEof))),
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut if self.is_pinged || !self.is_welcome => {
                    Err(Fatal(format!("the broker at {} does not answer any more", self.place)))
                }
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    self.is_pinged = true;
                    self.output.extend_from_slice(&PINGREQ);
                    self.flush()
                }
                _ => Err(self.lost(&error)),
            },
        }
    }

    /// Says goodbye.
    pub fn close(mut self) -> Result<(), Fatal> {
        self.output.extend_from_slice(&DISCONNECT);
        self.flush()
    }

    fn lost(&self, error: &io::Error) -> Fatal {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Fatal(format!("the broker at {} closed the connection; its log says why", self.place))
            }
            _ => Fatal(format!("the connection to {} failed: {error}", self.place)),
        }
    }
}

fn unreachable(place: &str, error: &io::Error) -> Fatal {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Fatal(format!(
            "no broker listens on {place}; start one with `forebay`, or say where it is with --to HOST:PORT"
        )),
        _ => Fatal(format!("cannot reach {place}: {error}")),
    }
}

fn welcome(ack: &ConnAck<'_>) -> Result<(), Fatal> {
    match ack.reason {
        Reason::Success => Ok(()),
        other => Err(Fatal(format!("the broker refused the connection: {}", words(other)))),
    }
}

/// A reason code in words: `NotAuthorized` is `not authorized`.
pub fn words(reason: Reason) -> String {
    let mut text = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

impl Stream {
    fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(text) => {
                let stream = TcpStream::connect(text.as_str())?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }

    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(patience),
            Stream::Unix(stream) => stream.set_read_timeout(patience),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }
}
