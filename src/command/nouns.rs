//! The nouns of the waist: exchanges, queues and bindings as they are declared.

use super::Grade;
use crate::model::key::Key;
use crate::units::{Offset, QueueId};

/// Kinds of exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExchangeKind {
    /// Routes to bindings whose key equals the routing key.
    #[default]
    Direct,
    /// Routes to every binding.
    Fanout,
    /// Routes to bindings whose pattern matches the routing key.
    Topic,
    /// Routes to bindings whose arguments match the headers.
    Headers,
}

/// Everything that can be said of an exchange when it is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeOptions<'a> {
    /// How it routes.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when the last binding from it goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges and from queues' dead letters only.
    pub internal: bool,
    /// Where messages go that match no binding.
    pub alternate: Option<&'a str>,
}

/// What a queue does when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Overflow {
    /// Drop from the head, to the dead-letter exchange if there is one.
    #[default]
    DropOldest,
    /// Refuse the publish.
    Reject,
    /// Send the new message to the dead-letter exchange.
    DeadLetterNew,
}

/// How a queue keeps its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum QueueKind {
    /// An entry is gone when it is acknowledged.
    #[default]
    Work,
    /// Entries stay until retention drops them; groups read them.
    Stream,
    /// A consumer group: a cursor and a pending list over a stream.
    Group {
        /// The stream it reads.
        stream: QueueId,
    },
}

/// Everything that can be said of a queue when it is declared. 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueOptions<'a> {
    /// Work queue, stream or group.
    pub kind: QueueKind,
    /// Survives a restart, with its durable messages.
    pub durable: bool,
    /// Goes when its last consumer goes; pull consumers do not count.
    pub auto_delete: bool,
    /// The owner that alone may use it, which its protocol sees to; 0 is nobody. It goes with
    /// [`Command::DeleteExclusive`](super::Command::DeleteExclusive) and is never there after a
    /// restart, however durable.
    pub exclusive: u64,
    /// One consumer at a time receives; when it goes, another takes over.
    pub single_active: bool,
    /// Takes a message of the same identity once within the dedup window.
    pub dedup: bool,
    /// The queue goes after so long without consumers, fetches and declarations.
    pub expires_ms: u32,
    /// Messages that arrive at most once are dropped while nobody consumes.
    pub session: bool,
    /// Most messages.
    pub max_count: u32,
    /// Most bytes of records.
    pub max_bytes: u64,
    /// What to do beyond these.
    pub overflow: Overflow,
    /// Messages expire this long after they were published (a stream drops them at that age). After
    /// 0 they expire as soon as no consumer could take them.
    pub ttl_ms: Option<u64>,
    /// Most deliveries of one message; it is dead-lettered instead of the next.
    pub delivery_limit: u8,
    /// Priorities 0 to this; at most 9.
    pub max_priority: u8,
    /// An unacknowledged delivery returns to the queue after this time.
    pub lease_ms: u64,
    /// Exchange for dead letters; none drops them.
    pub dead_letter_exchange: Option<&'a str>,
    /// Routing key for dead letters; none keeps their own.
    pub dead_letter_key: Option<Key<'a>>,
    /// For a group: where it starts; the first message of a stream has offset 0. `Offset(u64::MAX)` is after
    /// the last.
    pub start: Offset,
}

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// To a queue, by name.
    Queue(&'a str),
    /// To an exchange, by name.
    Exchange(&'a str),
}

/// A binding, to be made or unmade.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// The exchange that routes.
    pub exchange: &'a str,
    /// Where to.
    pub destination: Destination<'a>,
    /// The binding key or pattern.
    pub pattern: Key<'a>,
    /// Arguments of a headers binding, in the encoding of `model::headers`.
    pub arguments: &'a [u8],
    /// The most its messages are handed over with.
    pub grade: Grade,
}

/// Why a message left a queue for its dead-letter exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A consumer did not want it.
    Rejected,
    /// Its time was over.
    Expired,
    /// Its queue was full.
    MaxLength,
    /// It was delivered as often as its queue allows.
    DeliveryLimit,
}

impl Reason {
    /// The word RabbitMQ has for it.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}
