//! Burying: what is refused and wanted as a dead letter, and what dead letters do to the queues they come to.
//!
//! Dead letters that a queue receives count like any other: it is trimmed when it is served next, since
//! what it then has no place for may be a dead letter elsewhere, and so on.

use super::dead::{Name, NAME_MAX};
use super::overflow::{takes, TRIM_MAX};
use super::publish::{Content, ROUTES_MAX};
use super::record::{Head, Stamp};
use super::state::State;
use super::topology::partition;
use super::Broker;
use crate::command::{Overflow, Publish, Reason, Refusal};
use crate::flash::Flash;
use crate::model::deaths::{obituary, Death, Obituary};
use crate::model::router::Keys;
use crate::units::QueueId;

/// Queues that one refused message is buried for at most.
const BURIED_MAX: usize = 16;

impl<F: Flash> Broker<'_, F> {
    /// Trims a queue that dead letters have come to; true if there is more to be trimmed.
    pub(super) fn trim_overlong(&mut self, id: QueueId) -> bool {
        let Some(queue) = self.state.queues.get_mut(id).filter(|queue| queue.tenancy.overlong) else {
            return false;
        };
        queue.tenancy.overlong = false;
        let mut left = TRIM_MAX;
        let is_more = self.trim_queue(id, &mut left) && left == 0;
        if let Some(queue) = self.state.queues.get_mut(id) {
            queue.tenancy.overlong = is_more;
        }
        is_more
    }

    /// Sends a message that was refused to the dead letters of every full queue that wants it so.
    pub(super) fn bury_refused(&mut self, publish: &Publish<'_>) {
        let Ok(count) = self.route(publish) else { return };
        let count = self.drop_known(publish, count);
        let mut full = heapless::Vec::<QueueId, BURIED_MAX>::new();
        for route in self.state.routes.iter().take(count) {
            let policy = self.state.queues.get(route.queue).map(|queue| queue.policy);
            let buries = policy.is_some_and(|policy| policy.overflow == Overflow::DeadLetterNew);
            if buries && !self.may_enter(publish.message.body.len(), route) {
                // Beyond as many nobody would look for them.
                let _ = full.push(route.queue);
            }
        }
        for id in full {
            match self.bury(id, publish) {
                Ok(()) => self.state.counters.dead_lettered += 1,
                Err(_) => self.state.counters.dropped += 1,
            }
        }
    }

    /// Makes a dead letter of a message that never was in its queue.
    fn bury(&mut self, id: QueueId, publish: &Publish<'_>) -> Result<(), Refusal> {
        let policy = self.state.queues.get(id).ok_or(Refusal::NoQueue)?.policy;
        let exchange = policy.dead_letter_exchange.ok_or(Refusal::NoExchange)?;
        let exchange: Name = self.state.texts.to_string(exchange).ok_or(Refusal::NoExchange)?;
        let name = self.state.queues.get(id).and_then(|queue| queue.name);
        let name: Name = name.and_then(|name| self.state.texts.to_string(name)).ok_or(Refusal::NoQueue)?;
        let mut own_key = [0; NAME_MAX];
        let own_key = self.own_key(id, &mut own_key);
        let message = &publish.message;
        let key = own_key.unwrap_or(message.key);
        let routed = self.state.collect_routes(&exchange, Keys::one(key), message.headers)?;
        let death = Death {
            reason: Reason::MaxLength,
            count: 1,
            first: self.now,
            ttl_ms: publish.ttl_ms,
            queue: &name,
            exchange: publish.exchange,
            key: message.key,
        };
        let routed = self.keep_wanted(id, routed, message.body.len());
        let routed = self.state.drop_circles(routed, message.headers, &death);
        if routed == 0 || !self.make_room_for(routed, publish.priority) {
            return Err(Refusal::NoQueue);
        }
        self.number_routes(publish, routed);
        let headers = obituary(message.headers, &death);
        let content = Content { key, headers: pieces(message.headers, headers.as_ref()), body: message.body };
        let head = Head { priority: publish.priority.min(9), ..Head::default() };
        let stamp = Stamp { published: self.now, ttl_ms: None, delay_ms: 0 };
        for from in (0..routed).step_by(ROUTES_MAX) {
            self.append_content(&content, from..routed.min(from + ROUTES_MAX), &head, &stamp)?;
        }
        self.urgent |= publish.durable;
        self.note_dead(routed);
        Ok(())
    }

    /// Drops the routes to queues that are full and refuse what is new; returns how many are left. The queue
    /// it comes from makes room for it by that.
    pub(super) fn keep_wanted(&mut self, from: QueueId, count: usize, size: usize) -> usize {
        let State { routes, queues, .. } = &mut self.state;
        partition(routes, count, |route| {
            route.queue == from || queues.get(route.queue).is_none_or(|queue| takes(queue, size))
        })
    }

    /// Queues that dead letters have come to are looked at: they may be too long by that.
    pub(super) fn note_dead(&mut self, count: usize) {
        for place in 0..count {
            let Some(id) = self.state.routes.get(place).map(|route| route.queue) else { return };
            if let Some(queue) = self.state.queues.get_mut(id) {
                queue.tenancy.overlong = true;
                self.state.queues.make_runnable(id);
            }
        }
    }
}

/// A block of headers with one more death.
fn pieces<'m>(block: &'m [u8], obituary: Option<&'m Obituary>) -> [&'m [u8]; 5] {
    let Some(Obituary { front, kept: [again, before, after, rest], .. }) = obituary else {
        return [block, &[], &[], &[], &[]];
    };
    let part = |range: &core::ops::Range<usize>| block.get(range.clone()).unwrap_or_default();
    [front, part(again), part(before), part(after), part(rest)]
}
