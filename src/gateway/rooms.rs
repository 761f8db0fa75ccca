//! Which protocol serves a connection, and what its sessions share.

use std::cell::RefCell;
use std::rc::Rc;

use crate::protocol::mqtt::{self, MqttSession};
use crate::protocol::{Session, WriteDirect};
use crate::units::Millis;

use super::config::Config;

/// The protocols that are listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// MQTT.
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
pub struct Rooms {
    mqtt: mqtt::Settings,
    clients: Rc<RefCell<mqtt::Shared>>,
}

impl Rooms {
    /// What the rooms need of the configuration.
    pub fn new(config: &Config) -> Rooms {
        Rooms {
            mqtt: mqtt::Settings {
                max_packet_size: config.mqtt.max_packet_size,
                max_inflight: config.mqtt.max_inflight,
                max_session_queue: config.mqtt.max_session_queue,
            },
            clients: Rc::default(),
        }
    }

    /// A session for a new connection.
    pub fn open(&mut self, room: Room, owner: u64, now: Millis) -> Box<dyn Session> {
        match room {
            Room::Mqtt => Box::new(MqttSession::new(self.mqtt, Rc::clone(&self.clients), owner, now)),
        }
    }

    /// How transient deliveries are written without a session.
    pub const fn write_direct() -> WriteDirect {
        mqtt::write_direct
    }
}
