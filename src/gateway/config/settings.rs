//! The table of every key of the configuration.
//!
//! One line a key: its name, its type, where it lives in [`Config`], and the sentence that stands
//! above it in `forebay config`.

use toml::de::DeValue;

use super::field::{Address, Field, Login, Size, Span};
use super::wire::Endpoint;
use super::Config;
use crate::protocol::amqp::Permission;
use crate::protocol::wire::Device;
use std::path::PathBuf;

/// One key.
pub struct Setting {
    /// `section.name`.
    pub key: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// What a value looks like.
    pub kind: &'static str,
    /// Sets it; false if the value is not of its kind.
    pub read: fn(&mut Config, &DeValue<'_>) -> bool,
    /// Its value as TOML.
    pub show: fn(&Config) -> String,
}

impl Setting {
    /// Section and name.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }
}

/// Finds a key.
pub fn find(key: &str) -> Option<(usize, &'static Setting)> {
    SETTINGS.iter().enumerate().find(|(_, setting)| setting.key == key)
}

/// The key that looks most like this one, if any does.
pub fn nearest(key: &str) -> Option<&'static str> {
    let name = key.rsplit('.').next().unwrap_or(key);
    let score = |setting: &Setting| {
        let own = setting.parts().1;
        distance(setting.key, key).min(distance(own, name) + usize::from(own != name))
    };
    let best = SETTINGS.iter().min_by_key(|setting| score(setting))?;
    (score(best) <= name.len() / 2 + 1).then_some(best.key)
}

/// Edits that lead from one word to the other (Levenshtein), one row of the table at a time.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (removed, left) in from.bytes().enumerate() {
        let mut diagonal = removed;
        let mut before = removed + 1;
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = before;
        }
        for (cell, right) in cells.zip(to.bytes()) {
            let edits = (diagonal + usize::from(left != right)).min(before + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, edits);
            before = edits;
        }
    }
    row.last().copied().unwrap_or(0)
}

macro_rules! settings {
    ($($key:literal : $kind:ty = $($place:ident).+, $doc:literal;)*) => {
        /// Every key, in the order it is printed.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: $key,
            doc: $doc,
            kind: <$kind as Field>::KIND,
            read: |config, value| match <$kind as Field>::read(value).map(TryInto::try_into) {
                Some(Ok(value)) => {
                    config.$($place).+ = value;
                    true
                }
                _ => false,
            },
            show: |config| <$kind>::from(config.$($place).+.clone()).show(),
        }),*];
    };
}

settings! {
    "store.path": PathBuf = store.path, "File that holds everything durable; made if it is not there.";
    "store.size": Size = store.size, "Size of a store that is made; an existing one keeps its own.";
    "store.segment_size": Size = store.segment_size, "Bytes reclaimed at once in a store that is made; an existing one keeps its own.";
    "store.dedup_window": Span = store.dedup_window, "How long the identity of a publish is remembered, to recognise it when it comes again.";
    "store.ack_delay": Span = store.ack_delay, "Acknowledgements are written at the latest after this time; what is not written is delivered again after a loss of power.";

    "mqtt.listen": Vec<Address> = mqtt.listen, "Where MQTT clients connect: HOST:PORT or unix:PATH. 0.0.0.0:1883 is every network.";
    "mqtt.max_packet_size": Size = mqtt.max_packet_size, "The largest packet a client may send.";
    "mqtt.max_inflight": u16 = mqtt.max_inflight, "Most unacknowledged deliveries to one client.";
    "mqtt.max_session_queue": u32 = mqtt.max_session_queue, "Most messages waiting for one session, the oldest being dropped beyond it; 0 is as many as limits.entries.";

    "amqp.listen": Vec<Address> = amqp.listen, "Where AMQP 0-9-1 clients connect: HOST:PORT or unix:PATH; [] is nowhere.";
    "amqp.users": Vec<Login> = amqp.users, "Who may connect, as NAME:PASSWORD; guest only from this machine.";
    "amqp.permissions": Vec<Permission> = amqp.permissions, "What users may do, as [[amqp.permissions]] tables with user, configure, write and read (* in a pattern is anything; what is left out is everything); the first that matches counts, who has none may do nothing. Without any, every user may do everything.";
    "amqp.vhosts": Vec<String> = amqp.vhosts, "Virtual hosts that clients may open; all are the same name space.";
    "amqp.frame_max": Size = amqp.frame_max, "The largest frame that is agreed on; at least 4K.";
    "amqp.channel_max": u16 = amqp.channel_max, "Most channels of one connection.";
    "amqp.heartbeat": Span = amqp.heartbeat, "The heartbeat that is proposed to clients, in whole seconds; 0 is none.";
    "amqp.max_inflight": u16 = amqp.max_inflight, "Most unacknowledged deliveries to one consumer, whatever prefetch it asks for.";
    "amqp.consumer_timeout": Span = amqp.consumer_timeout, "A delivery that is not acknowledged for this long, at most twice as long, ends its channel and comes again; 0 is never.";

    "wire.listen": Vec<Endpoint> = wire.listen, "Where devices speak Forebay's own protocol: HOST:PORT, unix:PATH or serial:///dev/ttyACM0?baud=115200&device=NAME; device names the only one that may be there.";
    "wire.devices": Vec<Device> = wire.devices, "Which devices may come and what each may do, as [[wire.devices]] tables with name (* at its end is anything), secret, publish and subscribe; the first that matches counts. Without any, every device may do everything.";
    "wire.max_frame": u16 = wire.max_frame, "The largest frame a device may send.";
    "wire.window": u16 = wire.window, "Most unconfirmed messages of one device.";
    "wire.max_queue": u32 = wire.max_queue, "Most messages waiting for one device, the oldest being dropped beyond it; 0 is as many as limits.entries.";

    "connections.count": u32 = connections.count, "Most connections at one time.";
    "connections.buffers": Size = connections.buffers, "Bytes that all connections together may hold unsent or unfinished.";
    "connections.high_mark": Size = connections.high_mark, "Bytes unsent to one client before its deliveries wait.";
    "connections.handshake": Span = connections.handshake, "A client that has not introduced itself by then is disconnected.";
    "connections.stall": Span = connections.stall, "A client that reads nothing for this long while bytes wait for it is disconnected.";

    "limits.queues": u32 = limits.queues, "Queues, streams and groups; an MQTT session with subscriptions is one.";
    "limits.entries": u32 = limits.entries, "Messages in all queues together, counted once a queue.";
    "limits.in_flight": u32 = limits.in_flight, "Deliveries that wait for their acknowledgement.";
    "limits.consumers": u32 = limits.consumers, "Consumers; a connected MQTT client with subscriptions is one.";
    "limits.exchanges": u32 = limits.exchanges, "Exchanges; six are there from the start.";
    "limits.bindings": u32 = limits.bindings, "Bindings; an MQTT subscription is one.";
    "limits.nodes": u32 = limits.nodes, "Words of all binding patterns together, common beginnings counted once.";
    "limits.text_bytes": Size = limits.text_bytes, "Bytes of all names, words and arguments together.";
    "limits.dedup": u32 = limits.dedup, "Identities of publishes that are remembered.";
    "limits.held": u32 = limits.held, "Inbound exactly-once publishes that are not released yet.";
    "limits.producers": u32 = limits.producers, "Devices of the wire protocol whose last message is remembered; beyond it the one that was silent for longest is forgotten, and may repeat a message.";
    "limits.retained": u32 = limits.retained, "Retained messages.";
    "limits.max_message_bytes": Size = limits.max_message_bytes, "The largest message, with topic and headers.";
    "limits.tail_bytes": Size = limits.tail_bytes, "Bytes of the open segment kept in memory; 0 is all of it, so that nothing recent is read back.";
    "limits.index_bytes": Size = limits.index_bytes, "Bytes for the index of the open segment; 0 is an eighth of it.";
    "limits.windows": u32 = limits.windows, "Windows of the read cache, each as large as the largest message; 1 to 8.";

    "memory.total": Size = memory, "Everything above must fit in this; limits left at their defaults shrink until it does. 0 is no bound.";

    "log.level": log::LevelFilter = log_level, "off, error, warn, info, debug or trace; re-read on SIGHUP.";
}
