//! Dead letters: a message leaves a queue for that queue's dead-letter exchange.
//!
//! The move is one record: the message with its new routes, and the place it was taken from.
//! A loss of power leaves it in one queue or in the other, never in both or in none. The new
//! message has no TTL and no delay of its own (it would expire again at once) and counts its
//! age from the move. Where the exchange routes it nowhere, it is gone; where there is no room for
//! it, it stays in its queue and the move is tried again.

use super::copy::{Copy, Letter};
use super::publish::ROUTES_MAX;
use super::record::{read_payload, Head, Route, Stamp};
use super::Broker;
use crate::command::Reason;
use crate::flash::Flash;
use crate::log::{AppendError, Purpose, ReadError};
use crate::model::key::Key;
use crate::model::pages::Slot;
use crate::model::router::Keys;
use crate::units::{At, Offset, QueueId};
use core::ops::Range;

/// Longest name and dead-letter routing key, in bytes.
pub(super) const NAME_MAX: usize = 255;
/// A name, copied out of the pool of texts.
pub(super) type Name = heapless::String<NAME_MAX>;

/// How long a dead letter for which there is no room waits in its queue.
const RETRY_MS: u64 = 1_000;

/// Where a dead letter went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// To other queues.
    Made,
    /// Nowhere: no exchange or binding wants it.
    Unwanted,
    /// Nowhere yet: there is no room.
    NoRoom,
}

impl<F: Flash> Broker<'_, F> {
    /// Sends an entry that is not in flight to its queue's dead letters, for a reason.
    pub(super) fn dead_letter(&mut self, id: QueueId, slot: Slot, reason: Reason) {
        match self.move_on(id, slot, reason) {
            Move::Made => {}
            // One whose time was over is counted as that.
            Move::Unwanted => self.state.counters.dropped += u64::from(reason != Reason::Expired),
            Move::NoRoom => self.delay_until(id, slot, self.now.after(RETRY_MS)),
        }
    }

    /// The same for one that its queue has no place for. False: there is none elsewhere either.
    pub(super) fn push_out(&mut self, id: QueueId, slot: Slot) -> bool {
        let is_out = self.move_on(id, slot, Reason::MaxLength) != Move::NoRoom;
        if !is_out {
            self.make_ready(id, slot);
        }
        is_out
    }

    /// Moves an entry, or lets it go if nobody wants it. Where there is no room it is in no state.
    fn move_on(&mut self, id: QueueId, slot: Slot, reason: Reason) -> Move {
        self.take_unready(id, slot);
        let has_exchange =
            self.state.queues.place(id).is_some_and(|queue| queue.policy.dead_letter_exchange.is_some());
        let moved = if has_exchange { self.append_dead_letter(id, slot, reason) } else { Ok(Move::Unwanted) };
        match moved {
            Ok(Move::Made) => self.state.counters.dead_lettered += 1,
            Ok(Move::Unwanted) => self.finish(id, slot),
            Ok(Move::NoRoom) => {}
            Err(error) => self.lose(id, slot, error),
        }
        moved.unwrap_or(Move::Made)
    }

    /// Appends the moved message.
    fn append_dead_letter(&mut self, id: QueueId, slot: Slot, reason: Reason) -> Result<Move, ReadError> {
        let Some(at) = self.address_of(id, slot) else { return Ok(Move::Unwanted) };
        let Some((count, priority)) = self.route_dead_letter(id, at)? else { return Ok(Move::Unwanted) };
        let mut count = count;
        if reason != Reason::Rejected {
            // It would be a circle without an end.
            count = self.state.keep_routes(count, |route| route.queue != id);
            #[cfg(feature = "gateway")]
            {
                count = self.drop_circles(id, at, count, reason)?;
            }
        }
        #[cfg(feature = "gateway")]
        {
            let size = self.log.read(at)?.payload.len();
            count = self.keep_wanted(id, count, size);
        }
        if count == 0 {
            return Ok(Move::Unwanted);
        }
        if !self.make_room_for(count, priority) {
            return Ok(Move::NoRoom);
        }
        let kept = self.is_kept(id, slot);
        let Some((_, offset)) = self.state.pages.owner(slot) else { return Ok(Move::Unwanted) };
        self.number_moved(count, kept);
        for from in (0..count).step_by(ROUTES_MAX) {
            let to = count.min(from + ROUTES_MAX);
            // Only the last takes it away: power may go between them, or room.
            let is_last = to == count;
            let removes = (kept && is_last).then_some((id, offset));
            if !self.copy_dead_letter(id, at, from..to, removes, reason)? {
                return Ok(Move::NoRoom);
            }
            match removes {
                Some(_) => self.remove_entry(id, slot),
                None if is_last => self.finish(id, slot),
                None => {}
            }
        }
        self.urgent |= kept;
        #[cfg(feature = "gateway")]
        self.note_dead(count);
        Ok(Move::Made)
    }

    /// Routes the message at `at` through the dead-letter exchange of a queue: the number of routes, and
    /// its priority.
    pub(super) fn route_dead_letter(
        &mut self,
        id: QueueId,
        at: At,
    ) -> Result<Option<(usize, u8)>, ReadError> {
        let Some(policy) = self.state.queues.place(id).map(|queue| queue.policy) else { return Ok(None) };
        let Some(exchange) = policy.dead_letter_exchange else { return Ok(None) };
        let (mut name, mut key) = ([0; NAME_MAX], [0; NAME_MAX]);
        let Some(name) = self.state.texts.copy_str(exchange, &mut name) else { return Ok(None) };
        let own_key = self.own_key(id, &mut key);
        let record = self.log.read(at)?;
        let payload = read_payload(record.kind, record.base, record.payload).ok_or(ReadError::Corrupt)?;
        let (head, _) = Head::read(record.kind, record.digest).ok_or(ReadError::Corrupt)?;
        let key = own_key.unwrap_or(payload.message.key);
        let routed = self.state.collect_routes(name, Keys::one(key), payload.message.headers);
        Ok(routed.ok().map(|count| (count, head.priority)))
    }

    /// The routing key that dead letters of a queue get, if it is not the message's own.
    pub(super) fn own_key<'b>(&self, id: QueueId, into: &'b mut [u8]) -> Option<Key<'b>> {
        let (text, form) = self.state.queues.place(id)?.policy.dead_letter_key?;
        Some(Key { text: self.state.texts.copy_out(text, into)?, form })
    }

    /// Copies the message at `at` for a range of the routes. False: there is no room.
    #[cfg_attr(not(feature = "gateway"), allow(unused_variables))]
    fn copy_dead_letter(
        &mut self,
        id: QueueId,
        at: At,
        places: Range<usize>,
        removes: Option<(QueueId, Offset)>,
        reason: Reason,
    ) -> Result<bool, ReadError> {
        let Range { start: from, end: to } = places;
        let record = self.log.read(at)?;
        let (old_head, _) = Head::read(record.kind, record.digest).ok_or(ReadError::Corrupt)?;
        let head = Head { priority: old_head.priority, removes, ..Head::default() };
        let mut key = [0; NAME_MAX];
        let key = self.own_key(id, &mut key);
        let stamp = Stamp { published: self.now, ttl_ms: None, delay_ms: 0 };
        let exchange = self.state.source;
        #[cfg(feature = "gateway")]
        let letter = {
            let mut letter = Letter { stamp, key, exchange, obituary: None };
            self.record_death(id, at, reason, &mut letter)?;
            letter
        };
        #[cfg(not(feature = "gateway"))]
        let letter = Letter { stamp, key, exchange };
        let copy = Copy { head, from, to, letter: Some(letter), purpose: Purpose::Keep };
        match self.copy_message(at, &copy) {
            Ok((new_at, size)) => self.enter_routes(from, to, new_at, size, &head, &stamp),
            Err(AppendError::Source(error)) => return Err(error),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    fn number_moved(&mut self, count: usize, kept: bool) {
        for route in self.state.routes.iter_mut().take(count) {
            if let Some(queue) = self.state.queues.get(route.queue) {
                *route = Route {
                    offset: queue.next,
                    transient: !(kept || queue.is_stream()) || !queue.policy.durable,
                    exposed: queue.has_readers(),
                    ..*route
                };
            }
        }
    }
}
