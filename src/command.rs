//! The narrow waist: what a protocol can ask of the broker, and what comes back.
//!
//! A protocol turns bytes into [`Command`]s and [`Reply`]s and [`Delivery`]s into bytes; the
//! broker knows nothing of protocols. Everything here borrows: a command lives as long as the
//! read buffer it was parsed from, a delivery as long as the call that hands it over.
//!
//! Confirms are positions, not events: [`Reply::Published`] carries the position that must be
//! durable before the publisher may be told, and a session compares it with the durable
//! position it is shown after every sync.

use crate::model::key::Key;
use crate::units::{ConsumerId, Millis, Offset, Position, QueueId, Tag};

/// How surely a message is to be handed over; also the most a binding asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Handed over once or not at all; done when handed over.
    AtMostOnce,
    /// Handed over until acknowledged.
    #[default]
    AtLeastOnce,
    /// Handed over until received, then remembered until released.
    ExactlyOnce,
}

/// A message as it is published and as it is delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Routing key or topic.
    pub key: Key<'a>,
    /// Headers in the encoding of `model::headers`; empty if none.
    pub headers: &'a [u8],
    /// The payload.
    pub body: &'a [u8],
}

/// What a publisher asks for besides the message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publish<'a> {
    /// Name of the exchange; empty is the default exchange, which routes to the queue of that key.
    pub exchange: &'a str,
    /// The message.
    pub message: Message<'a>,
    /// Keep it through a loss of power, and confirm it only then.
    pub durable: bool,
    /// The most any receiver gets it with.
    pub grade: Grade,
    /// Keep it as the last value of its key (MQTT retain); an empty body forgets the value.
    pub retain: bool,
    /// Drop or dead-letter it this long after it was published.
    pub ttl_ms: Option<u64>,
    /// Hand it over only this long after it was published.
    pub delay_ms: Option<u64>,
    /// 0 to 9; higher is delivered first by queues that have priorities.
    pub priority: u8,
    /// Identity by which a repeated publish is recognised.
    pub dedup: Option<DedupKey>,
}

/// Identity of a publish within the dedup index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupKey {
    /// Producer and message id, folded to 64 bits; kept for the configured time window.
    Window(u64),
    /// Packet id of an inbound exactly-once publish of a session; kept until `Forget`.
    Held {
        /// The session's queue.
        queue: QueueId,
        /// Its packet id.
        packet: u16,
    },
    /// A producer that counts what it publishes: what is not above its last is known.
    Sequence {
        /// Its number, of which 62 bits count.
        producer: u64,
        /// Life of its counter; another one than the last known begins anew.
        epoch: u32,
        /// How far it has counted.
        sequence: u64,
    },
}

/// Kinds of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExchangeKind {
    /// Routes to bindings whose key equals the routing key.
    Direct,
    /// Routes to every binding.
    Fanout,
    /// Routes to bindings whose pattern matches the routing key.
    Topic,
    /// Routes to bindings whose arguments match the headers.
    Headers,
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
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Messages that arrive at most once are dropped while nobody consumes.
    pub session: bool,
    /// Most messages.
    pub max_count: u32,
    /// Most bytes of records.
    pub max_bytes: u64,
    /// What to do beyond these.
    pub overflow: Overflow,
    /// Messages expire this long after they were published (a stream drops them at that age).
    pub ttl_ms: u64,
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
    /// For a group: where it starts. `Offset(u64::MAX)` is after the last message.
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

/// What becomes of a message that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Back to its place in the queue.
    Requeue,
    /// Back to its place after this time.
    Delay(u64),
    /// To the dead-letter exchange, or gone.
    DeadLetter,
}

/// What a protocol asks of the broker.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// Makes an exchange, or checks that it is as asked.
    DeclareExchange {
        /// Its name.
        name: &'a str,
        /// Its kind.
        kind: ExchangeKind,
        /// Survives a restart.
        durable: bool,
        /// Where messages go that match no binding.
        alternate: Option<&'a str>,
    },
    /// Removes an exchange and its bindings.
    DeleteExchange {
        /// Its name.
        name: &'a str,
    },
    /// Makes a queue, stream or group, or checks that it is as asked.
    DeclareQueue {
        /// Its name.
        name: &'a str,
        /// Its options.
        options: QueueOptions<'a>,
    },
    /// Finds a queue by name.
    FindQueue {
        /// Its name.
        name: &'a str,
    },
    /// Removes a queue, its bindings and its messages; its consumers are cancelled.
    DeleteQueue {
        /// Its name.
        name: &'a str,
    },
    /// Removes the messages of a queue that are not in flight.
    Purge {
        /// Its name.
        name: &'a str,
    },
    /// Makes a binding; an equal one is replaced.
    Bind(Bind<'a>),
    /// Removes a binding.
    Unbind(Bind<'a>),
    /// Publishes a message.
    Publish(Publish<'a>),
    /// Attaches a consumer to a queue.
    Subscribe {
        /// The queue.
        queue: QueueId,
        /// Whom deliveries are addressed to; the caller's own number.
        owner: u64,
        /// Most deliveries in flight; 0 for none that wait for an acknowledgement.
        credit: u32,
        /// Deliveries are done when handed over.
        no_ack: bool,
    },
    /// Detaches a consumer; what it had in flight returns to the queue.
    Unsubscribe(ConsumerId),
    /// A consumer cannot take more for now, or can again.
    Pause(ConsumerId, bool),
    /// A delivery was processed.
    Ack(Tag),
    /// A delivery was received and is to be remembered as such until acknowledged.
    Received(Tag),
    /// A delivery was not accepted.
    Reject(Tag, Rejection),
    /// A delivery is still being worked on: its lease starts again.
    Extend(Tag),
    /// The holder of an exactly-once publish has released it.
    Forget(DedupKey),
    /// Sends the retained messages that match a pattern to a consumer.
    Retained {
        /// The consumer.
        consumer: ConsumerId,
        /// The pattern.
        pattern: Key<'a>,
        /// The most they are handed over with.
        grade: Grade,
    },
}

/// What the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; durable once the log is durable up to this position.
    Done(Position),
    /// The queue, and whether it was there before.
    Queue {
        /// Its id.
        id: QueueId,
        /// It existed before this command.
        existed: bool,
        /// Messages ready.
        ready: u32,
        /// Consumers attached.
        consumers: u32,
        /// Durable once the log is durable up to this position.
        durable_at: Position,
    },
    /// The consumer.
    Consumer(ConsumerId),
    /// The message was accepted.
    Published {
        /// Confirm once the log is durable up to this position.
        confirm_at: Position,
        /// Queues it was routed to.
        routed: u16,
        /// It had been published before; nothing was done.
        duplicate: bool,
    },
    /// Messages removed.
    Removed(u32),
}

/// Why the broker refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No exchange of that name.
    NoExchange,
    /// No queue of that name or id.
    NoQueue,
    /// No such consumer.
    NoConsumer,
    /// No such delivery: acknowledged before, or returned to the queue.
    UnknownTag,
    /// Exists with other properties.
    Mismatch,
    /// Not possible with this kind of queue or exchange.
    NotAllowed,
    /// The table of this noun is full; the name is that of its limit.
    Limit(&'static str),
    /// A destination queue is full and rejects.
    QueueFull,
    /// The store has no room until messages are consumed or expire.
    StoreFull,
    /// The store takes no writes: a sync or write failed, or the medium is read-only.
    ReadOnly,
    /// The message or name is larger than the limit.
    TooLarge,
    /// A name, pattern or header block is malformed.
    Malformed,
}

/// One message handed to one consumer.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Who consumes.
    pub consumer: ConsumerId,
    /// The number the consumer subscribed with.
    pub owner: u64,
    /// The queue it comes from.
    pub queue: QueueId,
    /// Its offset there; none for a message that was never stored.
    pub offset: Option<Offset>,
    /// Names the delivery until it is acknowledged; none if that is not expected.
    pub tag: Option<Tag>,
    /// How it is handed over: the lesser of publisher's and binding's.
    pub grade: Grade,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// The receiver has it already: only its release is outstanding.
    pub received: bool,
    /// It is the kept last value of its key, sent because of a new subscription.
    pub retained: bool,
    /// How often it was delivered before.
    pub delivery_count: u8,
    /// When it was published, in log time.
    pub published: Millis,
    /// The message.
    pub message: Message<'a>,
}

/// What became of a delivery that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Taken.
    Taken,
    /// Not now: the consumer is paused until it says otherwise.
    Busy,
}

/// Takes deliveries: the other side of the broker.
pub trait Outlet {
    /// Offers a delivery. It must not call back into the broker.
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer;
    /// A consumer was cancelled because its queue is gone.
    fn cancelled(&mut self, owner: u64, consumer: ConsumerId);
}

/// Executes commands: the broker, as a protocol sees it.
pub trait Commands {
    /// Executes one command at once; nothing changes if it is refused.
    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal>;
    /// Everything before this position survives a loss of power.
    fn durable(&self) -> Position;
    /// Log time.
    fn now(&self) -> Millis;
    /// Ends the connection of another owner now, with `Close::TakenOver`; its session has
    /// detached from the broker when this returns.
    fn disconnect(&mut self, owner: u64);
}
