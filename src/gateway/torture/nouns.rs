//! The queues, topics and bindings of the simulated world: few, and of every kind.

use crate::command::{Overflow, QueueKind, QueueOptions};
use crate::model::key::Key;
use crate::units::{Offset, QueueId};

/// A queue of the simulated world.
#[derive(Clone, Copy, Debug)]
pub struct Noun {
    /// Its name.
    pub name: &'static str,
    /// Its options, but for the kind of a group.
    pub options: QueueOptions<'static>,
    /// Of a group: which noun is its stream.
    pub stream: Option<usize>,
    /// Its dead letters go to [`DEAD`].
    pub dead: bool,
}

/// Number of queues.
pub const NOUNS: usize = 14;
/// The queue of dead letters.
pub const DEAD: usize = 0;
/// The queue that is a session.
pub const SESSION: usize = 9;

const PLAIN: QueueOptions<'static> = QueueOptions {
    kind: QueueKind::Work,
    durable: true,
    auto_delete: false,
    exclusive: 0,
    single_active: false,
    dedup: false,
    expires_ms: 0,
    session: false,
    max_count: 0,
    max_bytes: 0,
    overflow: Overflow::DropOldest,
    ttl_ms: None,
    delivery_limit: 0,
    max_priority: 0,
    lease_ms: 0,
    dead_letter_exchange: None,
    dead_letter_key: None,
    start: Offset(0),
};
const MORTAL: QueueOptions<'static> =
    QueueOptions { dead_letter_exchange: Some(""), dead_letter_key: Some(Key::dots(b"dead")), ..PLAIN };

const fn noun(name: &'static str, options: QueueOptions<'static>) -> Noun {
    let dead = options.dead_letter_exchange.is_some();
    Noun { name, options, stream: None, dead }
}

const fn group(name: &'static str, stream: usize, options: QueueOptions<'static>) -> Noun {
    Noun { stream: Some(stream), ..noun(name, options) }
}

/// Every queue there can be. A stream comes before its groups.
pub const ALL: [Noun; NOUNS] = [
    noun("dead", PLAIN),
    noun("work", PLAIN),
    noun("other", PLAIN),
    noun("limited", QueueOptions { max_count: 6, ..MORTAL }),
    noun("small", QueueOptions { max_bytes: 600, ..PLAIN }),
    noun("full", QueueOptions { max_count: 8, overflow: Overflow::Reject, ..PLAIN }),
    noun("retry", QueueOptions { delivery_limit: 2, lease_ms: 700, ..MORTAL }),
    noun("short", QueueOptions { ttl_ms: Some(3_000), ..MORTAL }),
    noun("ranked", QueueOptions { max_priority: 5, ttl_ms: Some(20_000), ..PLAIN }),
    noun("session", QueueOptions { session: true, ..PLAIN }),
    noun("passing", QueueOptions { durable: false, ..PLAIN }),
    noun("stream", QueueOptions { kind: QueueKind::Stream, max_count: 40, ttl_ms: Some(60_000), ..PLAIN }),
    group("first", 11, PLAIN),
    group("second", 11, QueueOptions { start: Offset(u64::MAX), delivery_limit: 2, lease_ms: 900, ..MORTAL }),
];

/// The queue whose name this is.
pub fn find(name: &str) -> Option<usize> {
    ALL.iter().position(|noun| noun.name == name)
}

/// The options to declare a queue with; its stream's id is needed for a group.
pub fn options(index: usize, stream: Option<u16>) -> QueueOptions<'static> {
    let kind = match stream {
        Some(id) => QueueKind::Group { stream: QueueId(id) },
        None => ALL[index].options.kind,
    };
    QueueOptions { kind, ..ALL[index].options }
}

/// Topics messages are published with; also the keys of retained values.
pub const TOPICS: [&str; 4] = ["t.a", "t.b", "s.a", "s"];

/// A binding there can be.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// The exchange.
    pub exchange: &'static str,
    /// The pattern.
    pub pattern: &'static str,
    /// The queue it leads to.
    pub queue: usize,
    /// Which of the topics it matches.
    pub matches: [bool; 4],
}

/// Number of bindings.
pub const WIRES: usize = 9;

const fn wire(exchange: &'static str, pattern: &'static str, queue: usize, matches: [bool; 4]) -> Wire {
    Wire { exchange, pattern, queue, matches }
}

/// Every binding there can be.
pub const WIRING: [Wire; WIRES] = [
    wire("amq.topic", "t.#", 1, [true, true, false, false]),
    wire("amq.topic", "*.a", 2, [true, false, true, false]),
    wire("amq.topic", "#", 3, [true; 4]),
    wire("amq.topic", "t.b", 11, [false, true, false, false]),
    wire("amq.topic", "s.#", 9, [false, false, true, true]),
    wire("amq.topic", "*", 10, [false, false, false, true]),
    wire("amq.fanout", "", 8, [true; 4]),
    wire("amq.fanout", "", 11, [true; 4]),
    wire("amq.fanout", "", 5, [true; 4]),
];

/// The exchanges that are published to, besides the default one.
pub const EXCHANGES: [&str; 2] = ["amq.topic", "amq.fanout"];
