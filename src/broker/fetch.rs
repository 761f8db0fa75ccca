//! Fetch: a consumer asks for messages instead of being handed them.
//!
//! The same steps as in `deliver`, at the consumer's word and one queue long. What waits for a sync is
//! not waited for: the caller is told until where, and asks again. A queue that has such consumers
//! marks what is published as possibly seen, so that only its backlog waits for a mark of its own.

use super::Broker;
use crate::command::{Outlet, Reason, Refusal, Reply};
use crate::flash::Flash;
use crate::model::consumer::Consumer;
use crate::units::{At, ConsumerId, Position, QueueId};

/// Messages handed over, and entries looked at, in one call.
const BUDGET: u32 = 1024;

/// What came of one attempt to hand over a message.
enum Attempt {
    /// It was handed over.
    Made,
    /// Its place was empty, or it was not fit to be handed over.
    Passed,
    /// There is none, or the consumer takes no more.
    Ended,
    /// It waits for the log.
    Waits(Position),
}

impl<F: Flash> Broker<'_, F> {
    pub(super) fn fetch(
        &mut self,
        consumer: ConsumerId,
        count: u32,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        let &Consumer { queue: id, pull, .. } =
            self.state.consumers.get(consumer).ok_or(Refusal::NoConsumer)?;
        if !pull {
            return Err(Refusal::NotAllowed);
        }
        self.note_use(id);
        let mut fetched = 0;
        for _ in 0..BUDGET {
            if fetched == count {
                break;
            }
            match self.fetch_one(id, consumer, outlet) {
                Ok(Attempt::Made) => fetched += 1,
                Ok(Attempt::Passed) => {}
                Ok(Attempt::Waits(position)) if fetched == 0 => return Ok(Reply::Wait(position)),
                Ok(Attempt::Ended | Attempt::Waits(_)) => break,
                Err(refusal) if fetched == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        if let Some(consumer) = self.state.consumers.get_mut(consumer) {
            // It says by itself when it takes more.
            consumer.paused = false;
        }
        Ok(Reply::Fetched { count: fetched, remaining: self.ready_to(id) })
    }

    fn fetch_one(
        &mut self,
        id: QueueId,
        consumer: ConsumerId,
        outlet: &mut dyn Outlet,
    ) -> Result<Attempt, Refusal> {
        if !self.state.consumers.get(consumer).is_some_and(Consumer::has_credit) {
            return Ok(Attempt::Ended);
        }
        let Some(slot) = self.next_slot(id, true) else { return Ok(Attempt::Ended) };
        let Some(at) = self.address_of(id, slot) else {
            self.take_unready(id, slot);
            self.finish(id, slot);
            return Ok(Attempt::Passed);
        };
        if !self.may_be_seen(id, slot, at) {
            return self.wait_for(id, at);
        }
        if self.is_worn_out(id, slot) {
            self.dead_letter(id, slot, Reason::DeliveryLimit);
            return Ok(Attempt::Passed);
        }
        let Some(candidate) = self.candidate(id, slot, at, consumer) else { return Ok(Attempt::Ended) };
        if candidate.needs_ack && self.state.flights.is_full() {
            return Err(Refusal::Limit("in_flight"));
        }
        let before = self.state.counters.delivered;
        self.hand_over(id, &candidate, outlet);
        let is_made = self.state.counters.delivered > before;
        Ok(if is_made { Attempt::Made } else { Attempt::Passed })
    }

    fn wait_for(&mut self, id: QueueId, at: At) -> Result<Attempt, Refusal> {
        if self.log.read_only() {
            return Err(Refusal::ReadOnly);
        }
        self.urgent |= self.log.unsynced();
        let marked_at = self.state.queues.get(id).map_or(Position(0), |queue| queue.exposed_at);
        let written = Position(self.log.position(at).0.saturating_add(1));
        Ok(Attempt::Waits(written.max(marked_at)))
    }

    /// Messages a consumer could still be handed; of a group also those it has not taken in yet.
    fn ready_to(&self, id: QueueId) -> u32 {
        let Some(queue) = self.state.queues.get(id) else { return 0 };
        let stream = queue.stream().and_then(|stream| self.state.queues.get(stream));
        let lag = stream.map_or(0, |stream| stream.next.0.saturating_sub(queue.next.max(stream.first).0));
        queue.ready.saturating_add(u32::try_from(lag).unwrap_or(u32::MAX))
    }
}
