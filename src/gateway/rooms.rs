//! Which protocol serves a connection.

use crate::command::{Commands, Delivery, Offer};
use crate::protocol::{Close, Dialect, Session, WriteDirect};
use crate::units::{Millis, Position};

use super::config::Config;

/// The protocols that are listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// MQTT 3.1.1 and 5.
    Mqtt,
}

impl Room {
    /// Its name in messages and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Room::Mqtt => "mqtt",
        }
    }
}

/// What the sessions of every room share.
#[derive(Default)]
pub struct Rooms {}

struct Closed;

impl Session for Closed {
    fn handle_input(&mut self, _: &[u8], _: &mut dyn Commands, _: &mut Vec<u8>) -> Result<usize, Close> {
        Err(Close::Refused("no protocol yet"))
    }
    fn handle_delivery(&mut self, _: &Delivery<'_>, _: &mut Vec<u8>) -> Offer {
        Offer::Busy
    }
    fn handle_durable(&mut self, _: Position, _: &mut dyn Commands, _: &mut Vec<u8>) {}
    fn poll_timeout(&self) -> Millis {
        Millis::NEVER
    }
    fn handle_timeout(&mut self, _: Millis, _: &mut dyn Commands, _: &mut Vec<u8>) -> Result<(), Close> {
        Ok(())
    }
    fn handle_close(&mut self, _: &Close, _: &mut dyn Commands) {}
}

fn write_nothing(_: Dialect, _: &Delivery<'_>, _: &mut Vec<u8>) {}

impl Rooms {
    /// What the rooms need of the configuration.
    pub fn new(_config: &Config) -> Rooms {
        Rooms {}
    }

    /// A session for a new connection.
    pub fn open(&mut self, _room: Room, _owner: u64) -> Box<dyn Session> {
        Box::new(Closed)
    }

    /// How transient deliveries are written without a session.
    pub const fn write_direct() -> WriteDirect {
        write_nothing
    }
}
