//! Identity: what a queue has had.
//!
//! A queue that asks for it takes a message of the same identity once. That identity is the publisher's own
//! (AMQP's message-id) and counts for one queue only, so one message may be known in one of its queues and
//! new in another. It stands in the index of dedup keys, for the same window; the first queue's goes into
//! the record of the message itself, those of further queues into records behind it.

use super::meta::Meta;
use super::state::State;
use super::topology::partition;
use super::Broker;
use crate::command::{DedupKey, Publish};
use crate::flash::Flash;
use crate::model::hash::mix;
use crate::model::queues::Queues;
use crate::units::{Millis, QueueId};

/// Mixed into identities, so that they are none of a whole publish.
const IDENTITY_SEED: u64 = 0x6b6e_6f77_6e20_6964;

impl<F: Flash> Broker<'_, F> {
    /// The key of an identity in a queue, if that asks for it.
    fn known_key(&self, id: QueueId, identity: u64) -> Option<DedupKey> {
        key_in(&self.state.queues, id, identity)
    }

    /// Drops the routes to queues that know the message; returns how many are left, at the front.
    pub(super) fn drop_known(&mut self, publish: &Publish<'_>, count: usize) -> usize {
        let Some(identity) = publish.identity else { return count };
        self.state.dedup.expire(self.now);
        let State { routes, queues, dedup, counters, .. } = &mut self.state;
        let left = partition(routes, count, |route| {
            key_in(queues, route.queue, identity).is_none_or(|key| !dedup.contains(key))
        });
        counters.duplicates += (count - left) as u64;
        left
    }

    /// The key that goes into the record of a message with its first queue that asks for one.
    pub(super) fn first_identity(&self, publish: &Publish<'_>, count: usize) -> Option<(DedupKey, Millis)> {
        let identity = publish.identity?;
        let mut routes = self.state.routes.iter().take(count);
        let key = routes.find_map(|route| self.known_key(route.queue, identity))?;
        Some((key, self.dedup_expiry(key)))
    }

    /// Remembers the message in all its queues that ask for it and are not done yet.
    pub(super) fn remember(&mut self, publish: &Publish<'_>, count: usize) {
        let Some(identity) = publish.identity else { return };
        for place in 0..count {
            let route = self.state.routes.get(place).copied();
            let key = route.and_then(|route| self.known_key(route.queue, identity));
            let Some(key) = key.filter(|&key| !self.state.dedup.contains(key)) else { continue };
            let expires = self.dedup_expiry(key);
            if self.state.dedup.insert(key, expires).is_ok() && publish.durable {
                self.write_meta(&Meta::of_key(key, expires));
            }
        }
    }

    /// Forgets the message in its queues again, where it was remembered just now.
    pub(super) fn unremember(&mut self, publish: &Publish<'_>, count: usize) {
        let Some(identity) = publish.identity else { return };
        for place in 0..count {
            let route = self.state.routes.get(place).copied();
            let key = route.and_then(|route| self.known_key(route.queue, identity));
            let is_new = |key: DedupKey| self.state.dedup.expiry(key) == Some(self.dedup_expiry(key));
            let Some(key) = key.filter(|&key| is_new(key)) else { continue };
            self.state.dedup.forget(key);
            self.write_meta(&Meta::of_key_gone(key));
        }
    }
}

/// The key of an identity in a queue, if that asks for it.
fn key_in(queues: &Queues<'_>, id: QueueId, identity: u64) -> Option<DedupKey> {
    let queue = queues.get(id).filter(|queue| queue.tenancy.asks_identity())?;
    // The next queue of this id begins behind what this one has taken.
    let queue = mix(mix(IDENTITY_SEED, id.0.into()), queue.born.0);
    Some(DedupKey::Window(mix(queue, identity) >> 1))
}
