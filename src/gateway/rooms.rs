//! Which protocol serves a connection, and what its sessions share.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use crate::protocol::amqp::codec::FRAME_MIN;
use crate::protocol::amqp::{self, AmqpSession};
use crate::protocol::mqtt::{self, MqttSession};
use crate::protocol::wire::{self, WireSession};
use crate::protocol::{Session, WriteDirect};
use crate::units::Millis;

use super::config::{Config, Login};
use super::control::ControlSession;

/// The protocols that are listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// MQTT.
    Mqtt,
    /// AMQP 0-9-1.
    Amqp,
    /// Forebay's own, for devices.
    Wire,
    /// The control socket's.
    Control,
}

impl Room {
    /// Its name in messages and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Room::Mqtt => "mqtt",
            Room::Amqp => "amqp",
            Room::Wire => "wire",
            Room::Control => "control",
        }
    }
}

/// What the sessions of every room share.
pub struct Rooms {
    mqtt: mqtt::Settings,
    clients: Rc<RefCell<mqtt::Shared>>,
    amqp: Rc<amqp::Settings>,
    wire: Rc<wire::Settings>,
    devices: Rc<RefCell<wire::Shared>>,
    /// Secret: names that sessions make up follow from it.
    seed: u64,
}

impl Rooms {
    /// What the rooms need of the configuration.
    pub fn new(config: &Config) -> Rooms {
        let seed = RandomState::new().hash_one(std::process::id());
        Rooms {
            mqtt: mqtt::Settings {
                max_packet_size: config.mqtt.max_packet_size,
                max_inflight: config.mqtt.max_inflight,
                max_session_queue: config.mqtt.max_session_queue,
            },
            clients: Rc::default(),
            amqp: Rc::new(amqp::Settings {
                users: config.amqp.users.iter().map(Login::user).collect(),
                permissions: config.amqp.permissions.clone(),
                virtual_hosts: config.amqp.vhosts.clone(),
                frame_max: config.amqp.frame_max.max(FRAME_MIN),
                channel_max: config.amqp.channel_max,
                heartbeat_s: (config.amqp.heartbeat.0 / 1000).min(u64::from(u16::MAX)) as u16,
                max_inflight: config.amqp.max_inflight,
                consumer_timeout_ms: config.amqp.consumer_timeout.0,
                max_message_bytes: config.capacities().max_message_bytes,
            }),
            wire: Rc::new(wire::Settings {
                max_frame: config.wire.max_frame.into(),
                window: config.wire.window,
                max_queue: config.wire.max_queue,
                access: wire::Access { devices: config.wire.devices.clone() },
            }),
            devices: Rc::new(RefCell::new(wire::Shared::new(RandomState::new().hash_one(seed)))),
            seed,
        }
    }

    /// A session for a new connection; `is_local` says that it comes from this machine.
    pub fn open(&mut self, room: Room, owner: u64, is_local: bool, now: Millis) -> Box<dyn Session> {
        match room {
            Room::Mqtt => Box::new(MqttSession::new(self.mqtt, Rc::clone(&self.clients), owner, now)),
            Room::Amqp => Box::new(AmqpSession::new(Rc::clone(&self.amqp), owner, is_local, self.seed, now)),
            Room::Wire => self.device(owner, None, now),
            Room::Control => Box::new(ControlSession::new()),
        }
    }

    /// A session for a line that was opened.
    pub fn open_line(&mut self, line: wire::Line, owner: u64, now: Millis) -> Box<dyn Session> {
        self.device(owner, Some(line), now)
    }

    fn device(&self, owner: u64, line: Option<wire::Line>, now: Millis) -> Box<dyn Session> {
        Box::new(WireSession::new(Rc::clone(&self.wire), Rc::clone(&self.devices), owner, line, now))
    }

    /// How transient deliveries are written without a session.
    pub const fn write_direct() -> WriteDirect {
        mqtt::write_direct
    }
}
