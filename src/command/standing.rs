//! Messages as they stand in a queue, for whoever looks without taking them out.

use super::{Grade, Message};
use crate::log::ReadError;
use crate::units::{At, Millis, Offset};

/// Which messages of a queue are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    #[default]
    Any,
    /// Those that can be handed out.
    Ready,
    /// Those that were handed out and are not acknowledged.
    InFlight,
    /// Those that wait for their time.
    Delayed,
}

/// Which state a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be handed out.
    Ready,
    /// It was handed out and is not acknowledged.
    InFlight,
    /// It waits until this log time.
    Delayed(Millis),
}

/// A message as it stands in a queue.
#[derive(Clone, Copy, Debug)]
pub struct Standee<'m> {
    /// Its offset in the queue.
    pub offset: Offset,
    /// Where its record is.
    pub at: At,
    /// Which state it is in.
    pub standing: Standing,
    /// 0 to 9.
    pub priority: u8,
    /// How it is handed over.
    pub grade: Grade,
    /// Deliveries so far, as far as that is known.
    pub deliveries: u8,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// The receiver has it: only its release is outstanding.
    pub received: bool,
    /// It is kept over a restart.
    pub durable: bool,
    /// When it was published and what it is; or why that cannot be read.
    pub content: Result<Content<'m>, ReadError>,
}

/// What is in a message's record.
#[derive(Clone, Copy, Debug)]
pub struct Content<'m> {
    /// When it was published, in log time.
    pub published: Millis,
    /// When it expires, in log time; `Millis::NEVER` if it does not.
    pub expires: Millis,
    /// The TTL it was published with.
    pub ttl_ms: Option<u64>,
    /// The message.
    pub message: Message<'m>,
}
