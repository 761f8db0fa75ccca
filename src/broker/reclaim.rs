//! Reclaim: which records of the oldest segment are still needed.
//!
//! The log offers the records of its oldest segment one by one; what is live is copied
//! forward. The tables are the truth: a message is live in a queue if its entry there points
//! at this record, a declaration if its noun does. What marks told of a message (received,
//! returned) goes into its copy, since they go with a segment of their own.

use super::copy::Copy;
use super::meta::{ExchangeMeta, Meta, QueueMeta};
use super::record::{dedup_key, kind, share_of, Head, Marks, Route, Routes};
use super::Broker;
use crate::command::DedupKey;
use crate::flash::Flash;
use crate::log::{AppendError, Purpose};
use crate::model::entry::Flag;
use crate::model::flight::FlightIndex;
use crate::model::pages::{Pages, Slot};
use crate::model::queues::Queues;
use crate::units::{At, Millis, Offset};
use core::ops::Range;

/// Bytes that one turn may append, about.
const TIGHT_BYTES: u64 = 512 * 1024;
/// Records looked at in one call.
const BUDGET: u32 = 256;
/// Records looked at when the broker is closed.
const TIDY_BUDGET: u32 = 65_536;

impl<F: Flash> Broker<'_, F> {
    /// Whoever can should wait with publishes until the next sync instead of having them refused.
    #[cfg(feature = "gateway")]
    pub fn is_tight(&self) -> bool {
        self.log.is_provisional() || self.is_scarce()
    }

    /// The log has little room for now, but enough that is dead.
    fn is_scarce(&self) -> bool {
        let live = self.state.live_bytes.saturating_add(TIGHT_BYTES);
        self.log.is_tight(TIGHT_BYTES) && live < self.log.capacity_bytes()
    }

    /// Moves reclaim forward as far as the log asks for it, a bounded piece; true if somebody waits for the rest.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn reclaim(&mut self) -> bool {
        if self.state.dedup.is_empty() {
            self.log.offer_from(None);
        }
        let scarce = self.is_scarce();
        // What is reclaimed is free only after a sync.
        self.urgent |= self.log.is_tight(TIGHT_BYTES) && self.log.unsynced();
        for _ in 0..BUDGET {
            // By bytes there may be room where the index of a segment fills first: then laps would never end.
            if !self.log.reclaim_due() && (!scarce || self.log.is_futile()) {
                return false;
            }
            self.write_first();
            match self.log.reclaim_next() {
                Ok(Some(at)) => self.judge(at),
                Ok(None) => {
                    // A finished segment is free once what was copied out of it is durable.
                    self.urgent |= self.log.unsynced();
                    return false;
                }
                Err(_) => return false,
            }
        }
        self.owed.is_some()
    }

    /// Moves the little that is live in old segments, so that the next mount need not read them. One
    /// lap at most, and a bounded number of records.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn tidy_up(&mut self) {
        let last = self.log.stats().tail_sequence;
        for _ in 0..TIDY_BUDGET {
            if !self.log.is_oldest_sparse() || self.log.stats().head_sequence >= last {
                return;
            }
            self.write_first();
            match self.log.reclaim_next() {
                Ok(Some(at)) => self.judge(at),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// What is acknowledged in memory holds no segment any more. Were the head moved over it before that
    /// stands in the log, a restart between the two would miss the message. What told the time before this
    /// start may go as well, and the open segment may have been begun by the mount, as of an earlier one.
    fn write_first(&mut self) {
        self.purpose = Purpose::Reclaim;
        if self.anchored == Millis(0) {
            self.write_anchor();
        }
        if self.state.queues.has_runs() {
            self.write_runs();
        }
        self.purpose = Purpose::Keep;
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn judge(&mut self, at: At) {
        let Ok(record) = self.log.read(at) else { return self.judge_lost(at) };
        let record_kind = record.kind;
        // Declarations and marks make room too when they are moved.
        self.purpose = Purpose::Reclaim;
        if record_kind & kind::MESSAGE != 0 {
            self.judge_message(at);
        } else if record_kind == kind::META {
            self.judge_meta(at);
        }
        self.purpose = Purpose::Keep;
    }

    fn judge_message(&mut self, at: At) {
        let Ok(record) = self.log.read(at) else { return };
        let Some((head, routes)) = Head::read(record.kind, record.digest) else { return };
        let before =
            share_of(record.digest.len().saturating_add(record.payload.len()) as u32, routes.count());
        let count = live_routes(&mut self.state, routes, at, head.priority);
        let count = self.let_go_of_deleted(count, at, head.priority);
        let retained = head.retained.filter(|&hash| self.state.retained.get_hash(hash) == Some(at));
        let key = head.dedup.filter(|&(key, expires)| self.state.dedup.is_needed(key, expires));
        if count == 0 && retained.is_none() {
            if let Some((key, expires)) = key {
                self.write_key(key, expires);
            }
            return;
        }
        let mut head = Head { retained, dedup: key, removes: None, ..head };
        let (mut from, mut most) = (0_usize, count);
        loop {
            let to = count.min(from.saturating_add(most));
            let copy = Copy { head, from, to, letter: None, purpose: Purpose::Reclaim };
            match self.copy_message(at, &copy) {
                Ok((new_at, size)) => {
                    let share = share_of(size, to.saturating_sub(from));
                    self.redirect(from..to, (at, before), (new_at, share), &head);
                }
                // With all that marks told it may be more than one record.
                Err(AppendError::TooLarge) if most > 1 => {
                    most = most.div_ceil(2);
                    continue;
                }
                Err(_) => return,
            }
            if to == count {
                return;
            }
            (from, head) = (to, Head { retained: None, dedup: None, ..head });
        }
    }

    /// Lets go of a message in queues that are deleted and not emptied yet: how many routes are left. A copy
    /// behind their end would stand for a queue of that id, and take a page from what a restart needs.
    fn let_go_of_deleted(&mut self, count: usize, at: At, priority: u8) -> usize {
        let mut left = 0;
        for place in 0..count {
            let Some(route) = self.state.routes.get(place).copied() else { break };
            if self.state.queues.get(route.queue).is_none() {
                let slot = find_live(&self.state, &route, at, priority);
                slot.into_iter().for_each(|slot| self.remove_entry(route.queue, slot));
            } else if let Some(to) = self.state.routes.get_mut(left) {
                *to = route;
                left += 1;
            }
        }
        left
    }

    /// Points all that the copy stands for at it: entries of a range of the routes, and the value of a key. Those
    /// that share the copy are charged for it, for a restart finds nothing else.
    fn redirect(
        &mut self,
        places: Range<usize>,
        (at, before): (At, u32),
        (new_at, share): (At, u32),
        head: &Head,
    ) {
        if let Some(hash) = head.retained {
            self.log.hold(new_at);
            self.log.release(at);
            let _ = self.state.retained.insert_hash(hash, new_at);
        }
        let was_durable = self.log.position(at) < self.log.durable();
        for place in places {
            let Some(route) = self.state.routes.get(place).copied() else { return };
            let Some(slot) = find_live(&self.state, &route, at, head.priority) else { continue };
            let charged = self.state.pages.recharge(slot, before, share);
            let charge = |bytes: u64| bytes.saturating_sub(charged.into()).saturating_add(share.into());
            self.state.live_bytes = charge(self.state.live_bytes);
            if let Some(queue) = self.state.queues.place_mut(route.queue) {
                queue.bytes = charge(queue.bytes);
                if was_durable {
                    queue.settled = queue.settled.max(Offset(route.offset.0.saturating_add(1)));
                }
            }
            let Some(entry) = self.state.pages.entry_mut(slot) else { continue };
            if entry.is(Flag::InFlight) {
                let index = entry.at().0 as FlightIndex;
                self.state.flights.set_at(index, new_at);
            } else {
                entry.set_at(new_at);
            }
            self.log.hold(new_at);
            self.log.release(at);
        }
    }

    fn write_key(&mut self, key: DedupKey, expires: Millis) {
        self.write_meta(&Meta::of_key(key, expires));
    }

    /// Declarations are written anew from the tables. Where there is no room for one, its
    /// segment stays referenced and the log offers it again.
    fn judge_meta(&mut self, at: At) {
        let Ok(record) = self.log.read(at) else { return };
        let Some(meta) = Meta::read(record.digest) else {
            #[cfg(feature = "gateway")]
            self.judge_piece(at);
            return;
        };
        let exchange_at = |id| self.state.exchanges.get(id).and_then(|exchange| exchange.at);
        let queue_at = |id| self.state.queues.get(id).and_then(|queue| queue.at);
        match meta {
            Meta::Exchange(ExchangeMeta { id, .. }) if exchange_at(id) == Some(at) => {
                let _ = self.rewrite_exchange(id);
            }
            Meta::Queue(QueueMeta { id, .. }) if queue_at(id) == Some(at) => {
                let _ = self.rewrite_queue(id);
            }
            Meta::Binding(_) => self.rewrite_binding_at(at),
            Meta::Key(bits, expires) if self.state.dedup.is_needed(dedup_key(bits), expires) => {
                self.write_key(dedup_key(bits), expires);
            }
            Meta::Producer(producer, epoch, sequence) => {
                let key = DedupKey::Sequence { producer, epoch, sequence };
                if self.state.dedup.is_needed(key, Millis::NEVER) {
                    self.write_key(key, Millis::NEVER);
                }
            }
            _ => {}
        }
    }
}

/// The live entry of a route, if it is the message at `at`. What a group has is its stream's: a queue before it may have
/// had its id, and the same offsets.
fn find_live(state: &super::state::State<'_>, route: &Route, at: At, priority: u8) -> Option<Slot> {
    let queue = state.queues.place(route.queue).filter(|queue| queue.stream().is_none())?;
    let lane = priority.min(queue.policy.max_priority);
    let slot = state.pages.find(route.queue, lane, route.offset)?;
    (state.stands_at(slot) == Some(at)).then_some(slot)
}

/// What marks told of the message of a route: a copy of it has to tell it again.
pub(super) fn marks_of(queues: &Queues<'_>, pages: &Pages<'_>, route: &Route, priority: u8) -> Option<Marks> {
    let policy = &queues.place(route.queue).filter(|_| !route.transient)?.policy;
    let slot = pages.find(route.queue, priority.min(policy.max_priority), route.offset)?;
    let entry = pages.entry(slot).filter(|entry| entry.deliveries > 0 || entry.is(Flag::Received))?;
    let waits = entry.is(Flag::Delayed);
    let due = if waits { entry.due() } else { Millis(0) };
    let returned = entry.deliveries > 0 && (waits || policy.delivery_limit > 0);
    Some(Marks { received: entry.is(Flag::Received), returned: returned.then_some((entry.deliveries, due)) })
}

/// Fills the table of routes with those of a message that are live; returns their number.
fn live_routes(state: &mut super::state::State<'_>, routes: Routes<'_>, at: At, priority: u8) -> usize {
    let mut count = 0;
    for mut route in routes {
        let Some(slot) = find_live(state, &route, at, priority) else { continue };
        route.exposed |=
            state.pages.entry(slot).is_some_and(|entry| entry.deliveries > 0 || entry.is(Flag::Exposed));
        if let Some(place) = state.routes.get_mut(count) {
            *place = route;
            count += 1;
        }
    }
    count
}
