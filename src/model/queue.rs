//! Queues, streams and groups: the ring of one, its counters, its policies.
//!
//! ```text
//!   offsets   0 ........ first ........................ next
//!   work      gone       | ready, delayed, in flight    | to come
//!   stream    retention  | kept                         | to come
//!   group     acked      | floor .. pending .. cursor   | not handed out yet (= next)
//! ```
//! A stream is the ring without consumption: entries go by retention. A group is a ring over
//! the offsets of its stream: an entry is made in it when its cursor hands the offset out, and
//! goes when it is acknowledged. Delivery limits, leases, delays and dead letters are thereby
//! the same code for all three.

use super::pages::Roots;
use super::tenancy::Tenancy;
use super::text::TextId;
use crate::command::{Grade, Overflow, QueueKind};
use crate::model::key::Form;
use crate::units::{At, Millis, Offset, Position, QueueId};

/// No index.
pub const NONE: u16 = u16::MAX;
/// No consumer, no in-flight slot.
pub const NOBODY: u32 = u32::MAX;

/// The TTL of a queue that has none.
pub const NO_TTL: u64 = u64::MAX;

/// The life of a place in the table of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Nobody's.
    #[default]
    Free,
    /// Declared.
    Live,
    /// Deleted, its entries not all released yet.
    Dying,
}

/// The policies of a queue, as declared. 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Work queue, stream or group.
    pub kind: QueueKind,
    /// See `QueueOptions`.
    pub durable: bool,
    /// See `QueueOptions`.
    pub auto_delete: bool,
    /// See `QueueOptions`.
    pub session: bool,
    /// See `QueueOptions`.
    pub overflow: Overflow,
    /// See `QueueOptions`.
    pub delivery_limit: u8,
    /// See `QueueOptions`.
    pub max_priority: u8,
    /// See `QueueOptions`.
    pub max_count: u32,
    /// See `QueueOptions`.
    pub max_bytes: u64,
    /// See `QueueOptions`; `u64::MAX` is none.
    pub ttl_ms: u64,
    /// See `QueueOptions`.
    pub lease_ms: u64,
    /// Name of the dead-letter exchange.
    pub dead_letter_exchange: Option<TextId>,
    /// Routing key of dead letters, and its form.
    pub dead_letter_key: Option<(TextId, Form)>,
}

/// One queue, stream or group.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Free, live or dying.
    pub life: Life,
    /// Its name.
    pub name: Option<TextId>,
    /// Hash of its name.
    pub name_hash: u32,
    /// What was declared.
    pub policy: Policy,
    /// Where its declaration stands in the log, if it is durable.
    pub at: Option<At>,
    /// Its pages.
    pub roots: Roots,
    /// Offsets below this belong to an earlier queue of the same id.
    pub born: Offset,
    /// The next offset; for a group the next one to hand out.
    pub next: Offset,
    /// Offsets below this may have been delivered before a restart.
    pub exposed: Offset,
    /// Stream: the first offset kept. Group: everything below is acknowledged.
    pub first: Offset,
    /// Entries ready, of those in `roots`.
    pub ready: u32,
    /// Entries in flight.
    pub in_flight: u32,
    /// Entries waiting for their time.
    pub delayed: u32,
    /// Ready entries that were published to be handed over at most once.
    pub fleeting: u32,
    /// Bytes of records, by share.
    pub bytes: u64,
    /// First consumer of the ring of consumers, the next to be served.
    pub consumers: u32,
    /// Number of consumers; those that ask for messages are not among them.
    pub consumer_count: u16,
    /// It has entries in other lanes than the lowest.
    pub laned: bool,
    /// Who uses it, and how.
    pub tenancy: Tenancy,
    /// First of the groups on this stream; for a group the next one.
    pub group: u16,
    /// Next in the chain of names.
    pub chain: u16,
    /// Next in the list of runnable, waiting or free queues.
    pub list_next: u16,
    /// It stands in the runnable or the waiting list.
    pub runnable: bool,
    /// Acknowledgements not yet written: first offset and count.
    pub run: (Offset, u32),
    /// Next in the list of queues with such acknowledgements.
    pub run_next: u16,
    /// It stands in that list.
    pub run_listed: bool,
    /// A backlog is handed out only once the log is durable up to here: where `exposed` stands.
    pub exposed_at: Position,
    /// Messages below this were durable before reclaim moved them: offsets follow the order of the log.
    /// Of a group, whose messages are its stream's: where its newest declaration stands, during a mount.
    pub settled: Offset,
    /// The publish that last matched it, and its place among the routes of that publish.
    pub mark: u32,
    /// See `mark`.
    pub mark_place: u16,
}

impl Queue {
    /// All zeros, which a static array costs no code and no stack to begin with: whoever takes the table sets it up.
    pub const UNSET: Queue = Queue {
        policy: Policy {
            ttl_ms: 0,
            dead_letter_key: Some((TextId::NONE, Form::Dots)),
            ..Queue::EMPTY.policy
        },
        roots: Roots::UNSET,
        consumers: 0,
        group: 0,
        chain: 0,
        list_next: 0,
        run_next: 0,
        ..Queue::EMPTY
    };

    /// A free place.
    pub const EMPTY: Queue = Queue {
        life: Life::Free,
        name: None,
        name_hash: 0,
        policy: Policy {
            kind: QueueKind::Work,
            durable: false,
            auto_delete: false,
            session: false,
            overflow: Overflow::DropOldest,
            delivery_limit: 0,
            max_priority: 0,
            max_count: 0,
            max_bytes: 0,
            ttl_ms: NO_TTL,
            lease_ms: 0,
            dead_letter_exchange: None,
            dead_letter_key: None,
        },
        at: None,
        roots: Roots::NONE,
        born: Offset(0),
        next: Offset(0),
        exposed: Offset(0),
        first: Offset(0),
        ready: 0,
        in_flight: 0,
        delayed: 0,
        fleeting: 0,
        bytes: 0,
        consumers: NOBODY,
        consumer_count: 0,
        laned: false,
        tenancy: Tenancy::NONE,
        group: NONE,
        chain: NONE,
        list_next: NONE,
        runnable: false,
        run: (Offset(0), 0),
        run_next: NONE,
        run_listed: false,
        exposed_at: Position(0),
        settled: Offset(0),
        mark: 0,
        mark_place: 0,
    };

    /// Live entries in its pages.
    pub fn count(&self) -> u32 {
        self.ready.saturating_add(self.in_flight).saturating_add(self.delayed)
    }

    /// It is declared and not deleted.
    pub fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    /// Its entries stay after they were handed out.
    pub fn is_stream(&self) -> bool {
        self.policy.kind == QueueKind::Stream
    }

    /// The stream it reads, if it is a group.
    pub fn stream(&self) -> Option<QueueId> {
        match self.policy.kind {
            QueueKind::Group { stream } => Some(stream),
            _ => None,
        }
    }

    /// Somebody is there who may be handed a message as soon as it is durable.
    pub fn has_readers(&self) -> bool {
        self.consumer_count > 0 || self.tenancy.puller().is_some()
    }

    /// A message of this grade is done when it is handed over, and dropped while nobody consumes.
    pub fn is_fleeting(&self, grade: Grade) -> bool {
        self.policy.session && grade == Grade::AtMostOnce
    }

    /// When a message published at this time, with this TTL of its own, expires here.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn expiry(&self, published: Millis, ttl_ms: Option<u64>) -> Millis {
        let own = ttl_ms.map_or(Millis::NEVER, |ttl_ms| published.after(ttl_ms));
        own.min(published.after(self.policy.ttl_ms))
    }
}
