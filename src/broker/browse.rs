//! Browse: what is in the queues, without taking anything out of them.
//!
//! For whoever looks (`list`, an export, a check) and not for delivery: nothing is marked, nothing
//! expires, a message that is in flight is shown like any other. One call shows one message; the next
//! goes on with an offset, so the queue may change in between as it likes, and what stays is shown once.
//! What is not asked for is passed over by its entry alone, a bounded number a call.

use super::record::{read_payload, Payload};
use super::Broker;
use crate::command::{Content, Standee, Standing, Which};
use crate::flash::Flash;
use crate::log::{Damage, ReadError, Scrubbed};
use crate::model::entry::{Entry, Flag};
use crate::model::pages::Slot;
use crate::units::{At, Millis, Offset, QueueId};

/// Entries that one call passes over because they stand otherwise than asked.
const PASSED_MAX: u32 = 4096;

impl<F: Flash> Broker<'_, F> {
    /// The next message of a queue, stream or group at this offset or above it, in the order of offsets, and
    /// the offset to go on with. A step may show nothing: it looks at [`PASSED_MAX`] entries at most, and reads
    /// no record but that of what it shows. Offsets are those that readers are told.
    pub fn browse(
        &mut self,
        queue: QueueId,
        from: Offset,
        which: Which,
    ) -> Option<(Offset, Option<Standee<'_>>)> {
        let base = self.base_of(queue).0;
        let mut from = Offset(from.0.saturating_add(base));
        for _ in 0..PASSED_MAX {
            let place = self.state.queues.get(queue)?;
            let highest = place.policy.max_priority;
            let slot = self.state.pages.next_from(&place.roots, queue, highest, from)?;
            let offset = self.state.pages.owner(slot)?.1;
            let entry = *self.state.pages.entry(slot)?;
            from = Offset(offset.0.saturating_add(1));
            if stands(&entry, which) {
                let standee = self.standee(queue, slot, Offset(offset.0.saturating_sub(base)), &entry)?;
                return Some((Offset(from.0.saturating_sub(base)), Some(standee)));
            }
        }
        Some((Offset(from.0.saturating_sub(base)), None))
    }

    fn standee(&mut self, queue: QueueId, slot: Slot, offset: Offset, entry: &Entry) -> Option<Standee<'_>> {
        let in_flight = entry.is(Flag::InFlight);
        let at = self.address_of(queue, slot);
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
        Some(Standee {
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
        })
    }

    /// Whether the record at a place survives a loss of power by now.
    pub fn is_durable(&self, at: At) -> bool {
        self.log.position(at) < self.log.durable()
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

/// Whether an entry stands as asked.
fn stands(entry: &Entry, which: Which) -> bool {
    let (in_flight, delayed) = (entry.is(Flag::InFlight), entry.is(Flag::Delayed));
    match which {
        Which::Any => true,
        Which::Ready => !in_flight && !delayed,
        Which::InFlight => in_flight,
        Which::Delayed => delayed && !in_flight,
    }
}
