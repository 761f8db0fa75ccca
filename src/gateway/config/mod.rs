//! The configuration: one TOML file, every key with a default, flags over the file.
//!
//! [`settings::SETTINGS`] is the one table of keys: the file is read by it, `--set key=value` and the
//! short flags go through it, an unknown key is answered with the nearest one of it, and
//! `forebay config` prints it. So a key cannot be readable but not printable, or undocumented.
//!
//! ```text
//! defaults  <-  --config FILE  <-  --listen --store ... --set KEY=VALUE
//! ```
//! The origin of every value is kept, so that a message about it names the line to change.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

pub mod amqp;
pub mod field;
pub mod load;
pub mod render;
pub mod settings;
pub mod wire;

pub use field::{Address, Field, Login, Size, Span};
pub use load::ConfigError;
pub use wire::{Endpoint, SerialPort};

use crate::flash::Geometry;
use crate::limits::Limits;
use crate::protocol::amqp::Permission;
use crate::protocol::wire::Device;
use settings::SETTINGS;

/// Where the value of a key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    #[default]
    Default,
    /// A line of the configuration file.
    Line(usize),
    /// The command line.
    Flag,
}

/// The store: one preallocated file that holds everything durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The file; it is made if it is not there.
    pub path: PathBuf,
    /// Its size; fixed when it is made.
    pub size: Size,
    /// Bytes reclaimed at once; fixed when it is made.
    pub segment_size: Size,
    /// How long a producer's identity of a publish is remembered.
    pub dedup_window: Span,
    /// Acknowledgements are written at the latest after this time.
    pub ack_delay: Span,
}

/// The MQTT room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// Where it listens.
    pub listen: Vec<Address>,
    /// The largest packet it takes.
    pub max_packet_size: u32,
    /// Most unacknowledged deliveries to one client.
    pub max_inflight: u16,
    /// Most messages waiting for one session.
    pub max_session_queue: u32,
}

/// The AMQP room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amqp {
    /// Where it listens.
    pub listen: Vec<Address>,
    /// Who may connect.
    pub users: Vec<Login>,
    /// What they may do; everybody everything if there is no entry.
    pub permissions: Vec<Permission>,
    /// Virtual hosts that may be opened.
    pub vhosts: Vec<String>,
    /// The largest frame.
    pub frame_max: u32,
    /// Most channels of a connection.
    pub channel_max: u16,
    /// The heartbeat that is proposed.
    pub heartbeat: Span,
    /// Most unacknowledged deliveries to one consumer.
    pub max_inflight: u16,
    /// A delivery that is not acknowledged for so long ends its channel; 0 is never.
    pub consumer_timeout: Span,
}

/// The wire room, for devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Where it listens, and the serial lines it is on.
    pub listen: Vec<Endpoint>,
    /// Who may do what; everybody everything if there is no entry.
    pub devices: Vec<Device>,
    /// The largest frame a device may send.
    pub max_frame: u16,
    /// Most unconfirmed messages of one device.
    pub window: u16,
    /// Most messages waiting for one device.
    pub max_queue: u32,
}

/// What the gateway sets aside besides the tables of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Most connections at one time.
    pub count: u32,
    /// Bytes all connections together may hold of unsent and unfinished packets.
    pub buffers: Size,
    /// Bytes unsent to one client before its deliveries wait.
    pub high_mark: Size,
    /// A client must have introduced itself after this.
    pub handshake: Span,
    /// A client that takes nothing for this long while bytes wait for it is cut off.
    pub stall: Span,
}

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store.
    pub store: Store,
    /// The MQTT room.
    pub mqtt: Mqtt,
    /// The AMQP room.
    pub amqp: Amqp,
    /// The wire room.
    pub wire: Wire,
    /// Connections and their buffers.
    pub connections: Connections,
    /// Capacities of the broker; 0 where a capacity follows from the segments.
    pub limits: Limits,
    /// Memory everything must fit in; 0 for what the limits come to.
    pub memory: Size,
    /// The least severe messages that are logged.
    pub log_level: log::LevelFilter,
    /// The file it was read from.
    pub file: Option<PathBuf>,
    origins: Vec<Origin>,
}

/// The limits of a gateway that nobody told otherwise.
const DEFAULT_LIMITS: Limits = Limits {
    queues: 1024,
    entries: 131_072,
    in_flight: 4096,
    consumers: 1024,
    exchanges: 32,
    bindings: 2048,
    nodes: 4096,
    text_bytes: 96 << 10,
    dedup: 2048,
    held: 1024,
    producers: 256,
    retained: 2048,
    max_message_bytes: 128 << 10,
    tail_bytes: 0,
    index_bytes: 0,
    windows: 2,
};

/// Directory for what must not be beside a store, since that would be among the devices.
pub const RUN: &str = "/run/forebay";

/// Sector of the media that stores are on.
pub const WRITE_UNIT: u32 = 512;

impl Default for Config {
    fn default() -> Config {
        Config {
            store: Store {
                path: "forebay.fby".into(),
                size: Size(256 << 20),
                segment_size: Size(256 << 10),
                dedup_window: Span(600_000),
                ack_delay: Span(50),
            },
            mqtt: Mqtt {
                listen: vec![Address::Tcp("127.0.0.1:1883".into())],
                max_packet_size: 128 << 10,
                max_inflight: 100,
                max_session_queue: 100_000,
            },
            amqp: Amqp {
                listen: vec![Address::Tcp("127.0.0.1:5672".into())],
                users: vec![Login { name: "guest".into(), password: "guest".into() }],
                permissions: Vec::new(),
                vhosts: vec!["/".into()],
                frame_max: 128 << 10,
                channel_max: 256,
                heartbeat: Span(60_000),
                max_inflight: 2048,
                consumer_timeout: Span(1_800_000),
            },
            wire: Wire {
                listen: Vec::new(),
                devices: Vec::new(),
                max_frame: 4096,
                window: 64,
                max_queue: 10_000,
            },
            connections: Connections {
                count: 1024,
                buffers: Size(8 << 20),
                high_mark: Size(256 << 10),
                handshake: Span(10_000),
                stall: Span(60_000),
            },
            limits: DEFAULT_LIMITS,
            memory: Size(0),
            log_level: log::LevelFilter::Info,
            file: None,
            origins: vec![Origin::Default; SETTINGS.len()],
        }
    }
}

impl Config {
    /// Where the value of a key comes from.
    pub fn origin(&self, key: &str) -> &Origin {
        let index = SETTINGS.iter().position(|setting| setting.key == key);
        index.and_then(|index| self.origins.get(index)).unwrap_or(&Origin::Default)
    }

    /// Names the place to change a key, for messages: `limits.entries (forebay.toml:7)`.
    pub fn place(&self, key: &str) -> String {
        match (self.origin(key), &self.file) {
            (Origin::Line(line), Some(file)) => format!("{key} ({}:{line})", file.display()),
            (Origin::Line(line), None) => format!("{key} (line {line})"),
            (Origin::Flag, _) => format!("{key} (command line)"),
            (Origin::Default, _) => format!("{key} (default)"),
        }
    }

    /// Sizes of the store.
    pub fn geometry(&self) -> Geometry {
        let segment_size = u32::try_from(self.store.segment_size.0).unwrap_or(0);
        let segments = self.store.size.0.checked_div(u64::from(segment_size)).unwrap_or(0);
        let segment_count = u32::try_from(segments).unwrap_or(u32::MAX);
        Geometry { segment_size, segment_count, write_unit: WRITE_UNIT }
    }

    /// The limits with those filled in that follow from the segments: all of the open one is kept in
    /// memory, so that what was just written is not read back, its index takes an eighth, and a
    /// message fits it twice.
    pub fn capacities(&self) -> Limits {
        let segment_size = self.geometry().segment_size;
        let or = |limit: u32, follows: u32| if limit == 0 { follows } else { limit.min(segment_size) };
        Limits {
            tail_bytes: or(self.limits.tail_bytes, segment_size),
            index_bytes: or(self.limits.index_bytes, (segment_size / 8).max(1024)),
            max_message_bytes: self.limits.max_message_bytes.min(segment_size / 2),
            ..self.limits
        }
    }

    /// Where `forebay status` finds the broker of this store: beside its file, or in [`RUN`] for a block device.
    pub fn control_path(&self) -> PathBuf {
        let path = &self.store.path;
        let is_block = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
        let mut name = match path.file_name().filter(|_| is_block) {
            Some(name) => Path::new(RUN).join(name).into_os_string(),
            None => path.clone().into_os_string(),
        };
        name.push(".sock");
        name.into()
    }
}
