//! Settle: what consumers say of their deliveries.
//!
//! ```text
//! ack       done
//! received  remembered as received; the next delivery only asks for the release
//! reject    back to its place | back after a delay | dead letter
//! extend    the lease begins again
//! ```
//! A delivery that comes back stands at its own offset again, before everything younger.

use super::record::kind;
use super::Broker;
use crate::command::{Outlet, Reason, Refusal, Rejection, Reply};
use crate::flash::Flash;
use crate::model::entry::Flag;
use crate::model::flight::FlightIndex;
use crate::model::pages::Slot;
use crate::units::{ConsumerId, Millis, Position, QueueId, Tag};

impl<F: Flash> Broker<'_, F> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn ack(&mut self, tag: Tag) -> Result<Reply, Refusal> {
        let (id, slot) = self.take_tag(tag)?;
        self.state.counters.acked += 1;
        self.finish(id, slot);
        Ok(Reply::Done(Position(0)))
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn received(&mut self, tag: Tag) -> Result<Reply, Refusal> {
        let (_, id, slot) = self.tagged(tag)?;
        let is_kept = self.is_kept(id, slot);
        if is_kept && self.log.read_only() {
            // Released without a mark on flash it would be new to its receiver after a restart.
            return Err(Refusal::ReadOnly);
        }
        // So it would be if the log has no room for the mark.
        if is_kept && !self.write_received(id, slot) {
            return Err(Refusal::StoreFull);
        }
        if let Some(entry) = self.state.pages.entry_mut(slot) {
            entry.put(Flag::Received, true);
        }
        Ok(Reply::Done(if is_kept { self.make_durable() } else { Position(0) }))
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn reject(&mut self, tag: Tag, rejection: Rejection) -> Result<Reply, Refusal> {
        let (id, slot) = self.take_tag(tag)?;
        self.put_back(id, slot, rejection);
        Ok(Reply::Done(Position(0)))
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn extend(&mut self, tag: Tag) -> Result<Reply, Refusal> {
        let (_, id, slot) = self.tagged(tag)?;
        let lease_ms = self.state.queues.get(id).map_or(0, |queue| queue.policy.lease_ms);
        if lease_ms > 0 {
            self.state.pages.set_due(slot, self.now.after(lease_ms));
        }
        Ok(Reply::Done(Position(0)))
    }

    /// Detaches a consumer. What it has in flight goes back, the youngest first.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn unsubscribe(
        &mut self,
        consumer: ConsumerId,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        let id = self.state.consumers.get(consumer).ok_or(Refusal::NoConsumer)?.queue;
        while let Some(index) = self.state.consumers.get(consumer).map(|consumer| consumer.flights) {
            let Some(slot) = self.state.flights.get(index).map(|flight| flight.slot()) else { break };
            self.land(id, index);
            self.put_back(id, slot, Rejection::Requeue);
        }
        if self.state.detach(consumer) {
            #[cfg(feature = "gateway")]
            self.note_use(id);
            if self.state.queues.get(id).is_some_and(|queue| queue.policy.auto_delete) {
                self.delete_queue_by_id(id, outlet);
            }
        }
        Ok(Reply::Done(Position(0)))
    }

    /// Ends a delivery; its entry is in no state until the caller gives it one.
    fn take_tag(&mut self, tag: Tag) -> Result<(QueueId, Slot), Refusal> {
        let (index, id, slot) = self.tagged(tag)?;
        self.land(id, index);
        Ok((id, slot))
    }

    /// The delivery a tag names: its place in flight, its queue and its entry.
    pub(super) fn tagged(&self, tag: Tag) -> Result<(FlightIndex, QueueId, Slot), Refusal> {
        let found = self.state.flights.find(tag).and_then(|index| {
            let slot = self.state.flights.get(index)?.slot();
            Some((index, self.state.pages.owner(slot)?.0, slot))
        });
        found.ok_or(Refusal::UnknownTag)
    }

    /// Takes a delivery out of flight: its entry holds the address again.
    pub(super) fn land(&mut self, id: QueueId, index: FlightIndex) {
        let Some(flight) = self.state.flights.get(index).copied() else { return };
        if self.state.flights.is_full() {
            self.state.queues.wake_waiting();
        }
        if let Some(consumer) = self.state.consumers.get_mut(flight.consumer) {
            self.state.flights.remove(&mut consumer.flights, index);
            consumer.in_flight = consumer.in_flight.saturating_sub(1);
        }
        if let Some(queue) = self.state.queues.place_mut(id) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
        }
        // Its consumer has credit again.
        self.state.queues.make_runnable(id);
        self.state.pages.set_due(flight.slot(), Millis::NEVER);
        if let Some(entry) = self.state.pages.entry_mut(flight.slot()) {
            entry.put(Flag::InFlight, false);
            entry.set_at(flight.at());
        }
    }

    /// Gives an entry that was in flight its next state.
    pub(super) fn put_back(&mut self, id: QueueId, slot: Slot, rejection: Rejection) {
        self.state.counters.returned += 1;
        let Some(queue) = self.state.queues.place(id) else { return };
        let limit = queue.policy.delivery_limit;
        let worn_out = self.is_worn_out(id, slot);
        match rejection {
            Rejection::DeadLetter => self.dead_letter(id, slot, Reason::Rejected),
            _ if worn_out => self.dead_letter(id, slot, Reason::DeliveryLimit),
            Rejection::Delay(delay_ms) if delay_ms > 0 => {
                let due = self.now.after(delay_ms);
                self.delay_until(id, slot, due);
                self.write_returned(id, slot, due);
            }
            _ => {
                if limit > 0 {
                    self.write_returned(id, slot, Millis(0));
                }
                self.make_ready_or_expire(id, slot);
            }
        }
    }

    /// An entry was delivered as often as its queue allows.
    pub(super) fn is_worn_out(&self, id: QueueId, slot: Slot) -> bool {
        let limit = self.state.queues.place(id).map_or(0, |queue| queue.policy.delivery_limit);
        limit > 0 && self.state.pages.entry(slot).is_some_and(|entry| entry.deliveries >= limit)
    }

    /// An entry waits until a time.
    pub(super) fn delay_until(&mut self, id: QueueId, slot: Slot, due: Millis) {
        let Some(queue) = self.state.queues.place_mut(id) else { return };
        queue.delayed += 1;
        if let Some(entry) = self.state.pages.entry_mut(slot) {
            entry.put(Flag::Delayed, true);
        }
        self.state.pages.set_due(slot, due);
    }

    /// Writes how often a delivery was tried, and until when it waits.
    pub(super) fn write_returned(&mut self, id: QueueId, slot: Slot, due: Millis) {
        let deliveries = self.state.pages.entry(slot).map_or(0, |entry| entry.deliveries);
        let Some((_, offset)) = self.state.pages.owner(slot).filter(|_| self.is_kept(id, slot)) else {
            return;
        };
        self.keep(kind::RETURNED, &[u64::from(id.0), offset.0, u64::from(deliveries), due.0]);
        self.lazy_since.get_or_insert(self.now);
    }

    /// Writes that the receiver of an exactly-once delivery has it; false if the log does not take it.
    pub(super) fn write_received(&mut self, id: QueueId, slot: Slot) -> bool {
        let owner = self.state.pages.owner(slot);
        owner.is_some_and(|(_, offset)| self.keep(kind::RECEIVED, &[u64::from(id.0), offset.0]))
    }
}
