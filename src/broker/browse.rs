//! Browse: what is in the queues, without taking anything out of them.
//!
//! For whoever looks at a store (`status`, an export, a check) and not for delivery: nothing is
//! marked, nothing expires, a message that is in flight is shown like any other. One call shows
//! one message; where it was is a cursor, so no step depends on how many there are.

use super::record::{read_payload, Payload};
use super::Broker;
use crate::command::{Grade, Message};
use crate::flash::Flash;
use crate::log::{Damage, ReadError, Scrubbed};
use crate::model::entry::Flag;
use crate::model::flight::FlightIndex;
use crate::model::pages::Slot;
use crate::units::{At, Millis, Offset, QueueId};

/// How far the messages of a queue were looked at. Changes of the queue in between may hide some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Option<Slot>);

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

impl<F: Flash> Broker<'_, F> {
    /// The offset of the next message, and the cursor behind it, without reading the message.
    pub fn next_offset(&self, queue: QueueId, after: Cursor) -> Option<(Cursor, Offset)> {
        let slot = self.state.pages.next_live(&self.state.queues.get(queue)?.roots, after.0)?;
        Some((Cursor(Some(slot)), self.state.pages.owner(slot)?.1))
    }

    /// The next message of a queue, stream or group, and the cursor to go on with. They come in the order in
    /// which their places were taken, which for restored ones is not always that of their offsets.
    pub fn browse(&mut self, queue: QueueId, after: Cursor) -> Option<(Cursor, Standee<'_>)> {
        let place = self.state.queues.get(queue)?;
        let slot = self.state.pages.next_live(&place.roots, after.0)?;
        let (_, offset) = self.state.pages.owner(slot)?;
        let entry = *self.state.pages.entry(slot)?;
        let in_flight = entry.is(Flag::InFlight);
        let at = match in_flight {
            true => self.state.flights.get(entry.at().0 as FlightIndex).map(|flight| flight.at()),
            false => self.address_of(queue, slot),
        };
        let priority = self.state.pages.lane(slot);
        let found = at.ok_or(ReadError::Gone).and_then(|at| payload_at(&mut self.log, at));
        let place = self.state.queues.get(queue)?;
        let content = found.map(|payload| Content {
            published: payload.stamp.published,
            expires: place.expiry(payload.stamp.published, payload.stamp.ttl_ms),
            ttl_ms: payload.stamp.ttl_ms,
            message: payload.message,
        });
        let standing = if in_flight {
            Standing::InFlight
        } else if entry.is(Flag::Delayed) {
            let own = found.map_or(entry.due(), |payload| payload.stamp.ready_at());
            Standing::Delayed(if entry.deliveries > 0 { entry.due() } else { own })
        } else {
            Standing::Ready
        };
        let standee = Standee {
            offset,
            at: at.unwrap_or_default(),
            standing,
            priority,
            grade: entry.grade(),
            deliveries: entry.deliveries,
            redelivered: entry.deliveries > 0 || entry.is(Flag::Exposed),
            received: entry.is(Flag::Received),
            durable: place.policy.durable && !entry.is(Flag::Transient),
            content,
        };
        Some((Cursor(Some(slot)), standee))
    }

    /// Reads every record of a segment and tells what is damaged; see [`Log::scrub`](crate::log::Log::scrub).
    pub fn scrub(&mut self, segment: Option<u32>, found: &mut dyn FnMut(&Damage<'_>)) -> Scrubbed {
        self.log.scrub(segment, found)
    }

    /// The next retained value, starting at cursor 0, and the cursor to go on with. A step may show
    /// nothing.
    pub fn browse_retained(&mut self, cursor: u32) -> Option<(u32, Option<Result<Content<'_>, ReadError>>)> {
        let (after, at) = self.state.retained.next(cursor)?;
        let content = at.map(|at| {
            let payload = payload_at(&mut self.log, at)?;
            let Payload { stamp, message, .. } = payload;
            let expires = stamp.ttl_ms.map_or(Millis::NEVER, |ttl_ms| stamp.published.after(ttl_ms));
            Ok(Content { published: stamp.published, expires, ttl_ms: stamp.ttl_ms, message })
        });
        Some((after, content))
    }
}

fn payload_at<'l, F: Flash>(log: &'l mut crate::log::Log<'_, F>, at: At) -> Result<Payload<'l>, ReadError> {
    let record = log.read(at)?;
    read_payload(record.kind, record.base, record.payload).ok_or(ReadError::Corrupt)
}
