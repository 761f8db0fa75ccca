//! The narrow waist: what a protocol can ask of the broker, and what comes back.
//!
//! A protocol turns bytes into [`Command`]s and [`Reply`]s and [`Delivery`]s into bytes; the
//! broker knows nothing of protocols. Everything here borrows: a command lives as long as the
//! read buffer it was parsed from, a delivery as long as the call that hands it over.
//!
//! Confirms are positions, not events: [`Reply::Published`] carries the position that must be
//! durable before the publisher may be told, and a session compares it with the durable
//! position it is shown after every sync.

mod nouns;
mod standing;

pub use nouns::*;
pub use standing::*;

use crate::model::key::Key;
use crate::units::{ConsumerId, Millis, Offset, Position, QueueId, Tag};
use core::cell::Cell;

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

impl Message<'_> {
    /// Bytes of all of it.
    pub fn size(&self) -> usize {
        self.key.text.len() + self.headers.len() + self.body.len()
    }
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
    /// Identity by which a queue that asks for it knows a repeated message; what it knows is not kept there
    /// again. Folded to 64 bits.
    #[cfg(feature = "gateway")]
    pub identity: Option<u64>,
    /// It is routed by these keys too, each queue getting it once.
    #[cfg(feature = "gateway")]
    pub more_keys: &'a [Key<'a>],
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

/// Who consumes from a queue, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The queue.
    pub queue: QueueId,
    /// Whom deliveries are addressed to; the caller's own number.
    pub owner: u64,
    /// Most deliveries in flight; 0 for none that wait for an acknowledgement.
    pub credit: u32,
    /// Deliveries are done when handed over.
    pub no_ack: bool,
    /// Consumers of a higher priority are served as long as they can take more.
    pub priority: i8,
    /// The only consumer of its queue, or refused with [`Refusal::Exclusive`].
    pub exclusive: bool,
    /// Receives only what it asks for with [`Command::Fetch`], and does not count as a consumer. Keep one
    /// for as long as its client may fetch: what is published meanwhile need not wait for a second sync.
    pub pull: bool,
}

/// One step of a transaction.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Publishes a message, and notes to how many queues, each step in a cell of its own.
    Publish(Publish<'a>, &'a Cell<u16>),
    /// A delivery was processed.
    Ack(Tag),
    /// A delivery was not accepted.
    Reject(Tag, Rejection),
}

/// What a protocol asks of the broker.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// Makes an exchange, or checks that it is as asked.
    DeclareExchange {
        /// Its name.
        name: &'a str,
        /// Its options.
        options: ExchangeOptions<'a>,
    },
    /// Finds an exchange by name.
    FindExchange {
        /// Its name.
        name: &'a str,
    },
    /// Removes an exchange and its bindings.
    DeleteExchange {
        /// Its name.
        name: &'a str,
        /// Refused with [`Refusal::InUse`] if bindings lead from it.
        if_unused: bool,
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
    /// Removes a queue, its bindings and its messages; its consumers are cancelled. The reply counts
    /// the messages that were ready.
    DeleteQueue {
        /// Its name.
        name: &'a str,
        /// Refused with [`Refusal::InUse`] if it has consumers.
        if_unused: bool,
        /// Refused with [`Refusal::NotEmpty`] if it has messages.
        if_empty: bool,
    },
    /// Removes every queue that only this owner may use: it is gone.
    DeleteExclusive {
        /// The owner.
        owner: u64,
    },
    /// Removes messages of a queue that are not in flight, a bounded number: while the reply says that
    /// there are more, the caller asks again.
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
    Subscribe(Subscription),
    /// Hands a pull consumer messages that are ready, up to a number, before this returns. A session
    /// calls [`Commands::fetch`] instead, to get them itself.
    Fetch {
        /// The consumer.
        consumer: ConsumerId,
        /// Most messages.
        count: u32,
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
    /// Finds the first message of a stream that was published at this log time or after it.
    Locate {
        /// The stream.
        queue: QueueId,
        /// Log time.
        at: Millis,
    },
    /// Removes a message that is ready or waits for its time, or is refused with [`Refusal::NoMessage`].
    Cancel {
        /// Its queue.
        queue: QueueId,
        /// Its offset there.
        offset: Offset,
    },
    /// Publishes, acknowledges and rejects as one: all of it or nothing, also if power goes. If one step is
    /// refused, none is done.
    Tx(&'a [Step<'a>]),
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
        /// Consumers attached, pull consumers not counted.
        consumers: u32,
        /// Work queue, stream or group.
        kind: QueueKind,
        /// The owner that alone may use it, or 0.
        exclusive: u64,
        /// Durable once the log is durable up to this position.
        durable_at: Position,
    },
    /// The exchange.
    Exchange {
        /// How it routes.
        kind: ExchangeKind,
        /// Survives a restart.
        durable: bool,
        /// Goes when the last binding from it goes.
        auto_delete: bool,
        /// Refuses what clients publish.
        internal: bool,
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
    /// Messages removed, and whether there are more.
    Purged {
        /// Removed by this command.
        count: u32,
        /// There is more to be removed.
        more: bool,
    },
    /// Messages were handed to a pull consumer.
    Fetched {
        /// How many.
        count: u32,
        /// Messages that are still ready.
        remaining: u32,
    },
    /// Nothing was handed over yet: the next message is not durable before the log is up to this position.
    Wait(Position),
    /// The offset that was asked for, or the next one there will be.
    Located(Offset),
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
    /// No such message, or it is in flight.
    NoMessage,
    /// Exists with other properties.
    Mismatch,
    /// Not possible with this kind of queue, exchange or consumer; published to an internal exchange.
    NotAllowed,
    /// The queue has consumers, or bindings lead from the exchange.
    InUse,
    /// The queue has messages.
    NotEmpty,
    /// The queue has a consumer that wants to be the only one, or already has others.
    Exclusive,
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
    /// The exchange it was published or dead-lettered to last; empty for the default exchange, and for
    /// one that is gone.
    pub exchange: &'a str,
    /// Its offset there, of a stream counted from its first message; none for one that was never stored.
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
    /// Executes [`Command::Fetch`]; the deliveries go to `outlet` and nowhere else.
    fn fetch(&mut self, consumer: ConsumerId, count: u32, outlet: &mut dyn Outlet) -> Result<Reply, Refusal>;
    /// The next message of a queue at this offset or above it that stands as asked, in the order of offsets, and
    /// the offset to go on with. A step may show nothing; nothing is marked or taken out. As with the two that
    /// follow, there is nothing to see where the broker runs in no program that has an operator.
    fn browse(
        &mut self,
        _queue: QueueId,
        _from: Offset,
        _which: Which,
    ) -> Option<(Offset, Option<Standee<'_>>)> {
        None
    }
    /// Tells the name of every queue, stream and group.
    fn for_each_name(&self, _tell: &mut dyn FnMut(&str)) {}
    /// What an operator is told of everything that runs here, as text or as JSON.
    fn report(&self, _is_json: bool, _out: &mut dyn core::fmt::Write) {}
    /// A consumer of the session that executes which ended because of what it executed: its queue is gone.
    /// A session that has consumers asks for these after deleting a queue or detaching a consumer.
    fn poll_cancelled(&mut self) -> Option<ConsumerId> {
        None
    }
    /// Everything before this position survives a loss of power.
    fn durable(&self) -> Position;
    /// Log time.
    fn now(&self) -> Millis;
    /// There is little room left: publishers that can wait should be asked to, before they are refused.
    fn is_short(&self) -> bool;
    /// Ends the connection of another owner now, with `Close::TakenOver`; its session has
    /// detached from the broker when this returns.
    fn disconnect(&mut self, owner: u64);
}
