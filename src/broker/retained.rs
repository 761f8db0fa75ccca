//! Retained values: the last message of a key, kept for those who subscribe later.
//!
//! The value is a message in the log that need not be in any queue; the index holds its
//! address by the hash of its key. A new subscription is sent each matching value: straight
//! from the log where it may be handed over once or not at all, else as a copy in its queue,
//! so that it is acknowledged, repeated and remembered like any other message.

use super::copy::Copy;
use super::declare::append_meta;
use super::meta::Meta;
use super::record::{read_payload, Head, Route, Stamp};
use super::Broker;
use crate::command::{DedupKey, Delivery, Grade, Offer, Outlet, Refusal, Reply};
use crate::flash::Flash;
use crate::log::Purpose;
use crate::model::exchange::UNNAMED;
use crate::model::key::Key;
use crate::model::topics::matches;
use crate::units::{At, ConsumerId, Position, QueueId};

impl<F: Flash> Broker<'_, F> {
    /// Sets or forgets the last value of a key.
    pub(super) fn set_retained(&mut self, retain: bool, hash: u64, at: Option<At>) {
        if !retain {
            return;
        }
        let before = match at {
            Some(at) => {
                self.log.hold(at);
                self.state.retained.insert_hash(hash, at).unwrap_or(None)
            }
            None => self.state.retained.remove_hash(hash),
        };
        if let Some(before) = before {
            self.log.release(before);
        }
    }

    /// Sends every retained value that matches a pattern to a consumer.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn send_retained(
        &mut self,
        consumer: ConsumerId,
        pattern: Key<'_>,
        grade: Grade,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        let id = self.state.consumers.get(consumer).ok_or(Refusal::NoConsumer)?.queue;
        let mut cursor = 0;
        let mut sent = 0;
        while let Some((next, at)) = self.state.retained.next(cursor) {
            cursor = next;
            let Some(at) = at else { continue };
            if self.send_value(id, consumer, pattern, grade, at, outlet)? {
                sent += 1;
            }
        }
        Ok(Reply::Removed(sent))
    }

    fn send_value(
        &mut self,
        id: QueueId,
        consumer: ConsumerId,
        pattern: Key<'_>,
        grade: Grade,
        at: At,
        outlet: &mut dyn Outlet,
    ) -> Result<bool, Refusal> {
        let owner = self.state.consumers.get(consumer).ok_or(Refusal::NoConsumer)?.owner;
        let Some(queue) = self.state.queues.get(id) else { return Err(Refusal::NoQueue) };
        let Ok(record) = self.log.read(at) else { return Ok(false) };
        let Some(payload) = read_payload(record.kind, record.base, record.payload) else { return Ok(false) };
        if !matches(pattern, payload.message.key) {
            return Ok(false);
        }
        let stamp = payload.stamp;
        if queue.expiry(stamp.published, stamp.ttl_ms) <= self.now {
            return Ok(false);
        }
        if queue.is_fleeting(grade) && queue.fleeting == 0 {
            let mut name = UNNAMED;
            let delivery = Delivery {
                consumer,
                owner,
                queue: id,
                exchange: self.state.exchanges.shown(payload.exchange, &mut name),
                offset: None,
                tag: None,
                grade,
                redelivered: false,
                received: false,
                retained: true,
                delivery_count: 0,
                published: stamp.published,
                message: payload.message,
            };
            if outlet.deliver(&delivery) == Offer::Taken {
                return Ok(true);
            }
            if let Some(consumer) = self.state.consumers.get_mut(consumer) {
                consumer.paused = true;
            }
        }
        self.queue_value(id, grade, at, stamp)?;
        Ok(true)
    }

    /// Puts a copy of a retained value into a queue.
    fn queue_value(&mut self, id: QueueId, grade: Grade, at: At, stamp: Stamp) -> Result<(), Refusal> {
        let Some(queue) = self.state.queues.get(id) else { return Err(Refusal::NoQueue) };
        let transient = !queue.policy.durable || queue.is_fleeting(grade);
        let route = Route { queue: id, offset: queue.next, grade, transient, exposed: true };
        let head = Head { replayed: true, timed: stamp.is_timed(), ..Head::default() };
        if let Some(first) = self.state.routes.first_mut() {
            *first = route;
        }
        if !self.make_room_for(1, 0) {
            return Err(Refusal::Limit("entries"));
        }
        let copy = Copy { head, from: 0, to: 1, letter: None, purpose: Purpose::Publish };
        let (new_at, size) = self.copy_message(at, &copy).map_err(super::refusal_of)?;
        self.enter_routes(0, 1, new_at, size, &head, &stamp);
        if !transient {
            self.make_durable();
        }
        Ok(())
    }

    /// An exactly-once publish was released: its packet id may be used again.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn forget(&mut self, key: DedupKey) -> Result<Reply, Refusal> {
        if !self.outlasts_a_restart(key) {
            self.state.dedup.forget(key);
            return Ok(Reply::Done(Position(0)));
        }
        if self.log.read_only() {
            return Err(Refusal::ReadOnly);
        }
        if self.state.dedup.contains(key) {
            let gone = Meta::of_key_gone(key);
            append_meta(&mut self.log, self.state.scratch, &gone, self.purpose)?;
            self.state.dedup.forget(key);
        } else if matches!(key, DedupKey::Window(_)) && self.now > self.anchored {
            // It may have expired, and log time may go back to before that.
            append_meta(&mut self.log, self.state.scratch, &Meta::Anchor(self.now), self.purpose)?;
            self.anchored = self.now;
        }
        // Also where it was forgotten before: that need not be on flash yet.
        Ok(Reply::Done(self.make_durable()))
    }
}
