//! Expire: everything that happens because time has passed.
//!
//! ```text
//! delayed    its delay is over          -> ready, or expired
//! ready      its TTL is over            -> dead letter, or gone
//! in flight  its lease is over          -> put back
//! kept       a stream's age is reached  -> gone
//! ```
//! One mechanism serves them all: an entry has one due time, and what it means follows from
//! its state. A restored entry whose times stand in its record only is due at once and finds
//! them there.

use super::record::{read_payload, Stamp};
use super::Broker;
use crate::command::{Outlet, Reason, Rejection};
use crate::flash::Flash;
use crate::log::ReadError;
use crate::model::entry::Flag;
use crate::model::flight::FlightIndex;
use crate::model::pages::Slot;
use crate::model::queue::NO_TTL;
use crate::units::{Millis, QueueId};

/// The due time of an entry whose times have to be read from its record.
pub(super) const UNKNOWN: Millis = Millis(1);
/// Entries looked at in one call.
const BUDGET: u32 = 1024;

impl<F: Flash> Broker<'_, F> {
    /// Does what is due; a bounded piece. `poll_timeout` tells when to come again.
    #[cfg_attr(not(feature = "gateway"), inline(never), allow(unused_variables))]
    pub fn handle_timeout(&mut self, now: Millis, outlet: &mut dyn Outlet) {
        self.set_now(now);
        #[cfg(feature = "gateway")]
        self.expire_queues(outlet);
        self.state.dedup.expire(self.now);
        for _ in 0..BUDGET {
            let Some(slot) = self.state.pages.pop_due(self.now) else { break };
            self.entry_is_due(slot);
        }
    }

    /// Works off entries restored without their times, so that none is handed out of turn.
    /// True while there are more.
    pub(super) fn recheck_restored(&mut self) -> bool {
        for _ in 0..BUDGET {
            let Some(slot) = self.state.pages.pop_due(UNKNOWN) else { return false };
            self.entry_is_due(slot);
        }
        self.state.pages.next_wake() <= UNKNOWN
    }

    fn entry_is_due(&mut self, slot: Slot) {
        let Some(entry) = self.state.pages.entry(slot).copied() else { return };
        let Some((id, _)) = self.state.pages.owner(slot) else { return };
        if self.state.queues.get(id).is_none() {
            return;
        }
        if entry.is(Flag::InFlight) {
            self.land(id, entry.at().0 as FlightIndex);
            self.put_back(id, slot, Rejection::Requeue);
        } else if entry.is(Flag::Delayed) {
            self.delay_is_over(id, slot);
        } else {
            self.check_expiry(id, slot);
        }
    }

    fn delay_is_over(&mut self, id: QueueId, slot: Slot) {
        let stamp = match self.stamp_of(id, slot) {
            Ok(stamp) => stamp,
            Err(error) => return self.drop_delayed(id, slot, error),
        };
        // One without a delay is ready, even where it was published after the time the log knows of.
        if let Some(stamp) = stamp.filter(|stamp| stamp.delay_ms > 0 && stamp.ready_at() > self.now) {
            return self.state.pages.set_due(slot, stamp.ready_at());
        }
        self.end_delay(id, slot);
        self.make_ready_or_expire(id, slot);
    }

    fn drop_delayed(&mut self, id: QueueId, slot: Slot, error: ReadError) {
        self.end_delay(id, slot);
        self.lose(id, slot, error);
    }

    /// Takes the state of being delayed from an entry.
    pub(super) fn end_delay(&mut self, id: QueueId, slot: Slot) {
        if let Some(entry) = self.state.pages.entry_mut(slot) {
            entry.put(Flag::Delayed, false);
        }
        if let Some(queue) = self.state.queues.place_mut(id) {
            queue.delayed = queue.delayed.saturating_sub(1);
        }
    }

    /// An entry without a state becomes ready until its TTL is over, if it is not yet.
    pub(super) fn make_ready_or_expire(&mut self, id: QueueId, slot: Slot) {
        if self.is_worn_out(id, slot) {
            return self.dead_letter(id, slot, Reason::DeliveryLimit);
        }
        match self.expiry_of(id, slot) {
            Err(error) => self.lose(id, slot, error),
            Ok(expiry) if expiry <= self.now => self.expire(id, slot),
            Ok(expiry) => {
                self.state.pages.set_due(slot, expiry);
                self.make_ready(id, slot);
            }
        }
    }

    fn check_expiry(&mut self, id: QueueId, slot: Slot) {
        match self.expiry_of(id, slot) {
            Err(error) => self.lose(id, slot, error),
            Ok(expiry) if expiry <= self.now => self.expire(id, slot),
            Ok(expiry) => self.state.pages.set_due(slot, expiry),
        }
    }

    fn expire(&mut self, id: QueueId, slot: Slot) {
        self.state.counters.expired += 1;
        self.take_unready(id, slot);
        let is_stream = self.state.queues.get(id).is_some_and(|queue| queue.is_stream());
        if is_stream {
            self.drop_from_stream(id, slot);
        } else {
            self.dead_letter(id, slot, Reason::Expired);
        }
    }

    fn expiry_of(&mut self, id: QueueId, slot: Slot) -> Result<Millis, ReadError> {
        let Some(stamp) = self.stamp_of(id, slot)? else { return Ok(Millis::NEVER) };
        let queue = self.state.queues.get(id);
        let expiry = queue.map_or(Millis::NEVER, |queue| queue.expiry(stamp.published, stamp.ttl_ms));
        if expiry == stamp.published && self.state.has_taker(id) {
            // Without any time it still goes to a consumer that waits for it, which is asked again.
            return Ok(self.now.after(1));
        }
        Ok(expiry)
    }

    /// The times of a message, read from its record; None if it has none that matter here.
    fn stamp_of(&mut self, id: QueueId, slot: Slot) -> Result<Option<Stamp>, ReadError> {
        let timed = self.state.pages.entry(slot).is_some_and(|entry| entry.is(Flag::Timed));
        let queue_ttl = self.state.queues.get(id).is_some_and(|queue| queue.policy.ttl_ms != NO_TTL);
        if !timed && !queue_ttl {
            return Ok(None);
        }
        let Some(at) = self.address_of(id, slot) else { return Ok(None) };
        let record = self.log.read(at)?;
        let payload = read_payload(record.kind, record.base, record.payload).ok_or(ReadError::Corrupt)?;
        Ok(Some(payload.stamp))
    }
}
