//! Deliver: hand out what is ready to consumers that can take it.
//!
//! Queues that may have something stand in one list and are served in turn, a few messages
//! each, so that a busy queue does not starve the others. A queue whose next message is not
//! durable yet waits in another list until it is.
//!
//! What was queued while nobody consumed is handed out only after an `EXPOSED` mark is durable:
//! after a crash it tells which messages may have been seen, and only those are flagged as
//! redelivered. What is published while somebody consumes carries that mark in its own record.

use super::dead::NAME_MAX;
use super::record::{kind, read_payload, Head};
use super::state::State;
use super::Broker;
use crate::command::{Delivery, Grade, Offer, Outlet, Reason, Refusal, Reply, Subscription};
use crate::flash::Flash;
use crate::log::ReadError;
use crate::model::consumer::Consumer;
use crate::model::entry::{Entry, Flag};
use crate::model::exchange::UNNAMED;
use crate::model::pages::Slot;
use crate::units::{At, ConsumerId, Millis, Offset, Position, QueueId, Tag};

/// Messages handed out of one queue before the next has its turn.
const QUANTUM: u32 = 64;
/// Messages handed out, and queues looked at, in one call of `pump`.
const PUMP_BUDGET: u32 = 1024;

/// How serving a queue ended.
enum Served {
    /// Nothing ready, or nobody to take it.
    Idle,
    /// There is more.
    More,
    /// The next message waits for a sync, or for a place in flight.
    Waiting,
}

/// A message about to be handed out.
pub(super) struct Candidate {
    slot: Slot,
    at: At,
    entry: Entry,
    offset: Offset,
    consumer: ConsumerId,
    owner: u64,
    pub(super) needs_ack: bool,
}

impl<F: Flash> Broker<'_, F> {
    /// Hands out what can be handed out, a bounded piece; true if there is more to do now.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn pump(&mut self, now: Millis, outlet: &mut dyn Outlet) -> bool {
        self.set_now(now);
        if self.recheck_restored() {
            return true;
        }
        let is_awaited = self.reclaim();
        self.empty_dying();
        let mut budget = PUMP_BUDGET;
        let mut queues = self.state.queues.runnable_count();
        while queues > 0 && budget > 0 {
            queues -= 1;
            let Some(id) = self.state.queues.next_runnable() else { break };
            match self.serve(id, &mut budget, outlet) {
                Served::Idle => {}
                Served::More => self.state.queues.make_runnable(id),
                Served::Waiting => self.state.queues.make_waiting(id),
            }
        }
        is_awaited || self.state.queues.runnable_count() > 0 || self.state.queues.dying_count > 0
    }

    fn serve(&mut self, id: QueueId, budget: &mut u32, outlet: &mut dyn Outlet) -> Served {
        #[cfg(feature = "gateway")]
        if self.trim_overlong(id) {
            return Served::More;
        }
        for _ in 0..QUANTUM {
            if *budget == 0 {
                return Served::More;
            }
            *budget -= 1;
            let Some(slot) = self.next_slot(id, false) else { return Served::Idle };
            let Some(at) = self.address_of(id, slot) else {
                // A group's message that its stream has dropped meanwhile.
                self.take_unready(id, slot);
                self.finish(id, slot);
                continue;
            };
            if !self.may_be_seen(id, slot, at) {
                // Reclaim may have moved it since it was durable, and nobody else may ask for a sync.
                self.urgent |= self.log.unsynced();
                return Served::Waiting;
            }
            if self.is_worn_out(id, slot) {
                // Its last delivery was under way when power went.
                self.dead_letter(id, slot, Reason::DeliveryLimit);
                continue;
            }
            let Some(queue) = self.state.queues.get_mut(id) else { return Served::Idle };
            let serving = queue.tenancy.serving();
            let Some(consumer) = self.state.consumers.next_with_credit(&mut queue.consumers, serving) else {
                return Served::Idle;
            };
            let Some(candidate) = self.candidate(id, slot, at, consumer) else { return Served::Idle };
            if candidate.needs_ack && self.state.flights.is_full() {
                return Served::Waiting;
            }
            self.hand_over(id, &candidate, outlet);
        }
        Served::More
    }

    /// The next ready entry of a queue; a group makes one from its stream, if somebody asks for it or could
    /// take it.
    pub(super) fn next_slot(&mut self, id: QueueId, is_asked: bool) -> Option<Slot> {
        let queue = self.state.queues.get(id)?;
        match self.state.pages.first_ready(&queue.roots) {
            Some(slot) => Some(slot),
            None => self.advance_group(id, is_asked),
        }
    }

    /// Takes the next offset of its stream into a group, if there is one and somebody to take it.
    fn advance_group(&mut self, id: QueueId, is_asked: bool) -> Option<Slot> {
        let stream_id = self.state.queues.get(id)?.stream()?;
        if !is_asked && !self.state.has_taker(id) {
            return None;
        }
        let stream = self.state.queues.get(stream_id)?;
        let (first, end) = (stream.first, stream.next);
        let group = self.state.queues.get_mut(id)?;
        let exposed = group.exposed;
        let offset = group.next.max(first);
        if offset >= end {
            return None;
        }
        let Some(source) = self.state.pages.find(stream_id, 0, offset) else {
            return self.advance_past(id, offset);
        };
        if !self.pass_gap(id, offset) {
            return None;
        }
        let from = *self.state.pages.entry(source)?;
        let group = self.state.queues.get(id)?;
        let is_durable = group.policy.durable;
        let is_full = is_durable && self.state.pending_count >= self.pending_max();
        if is_full || (!self.state.pages.has_page(&group.roots, id, 0, offset) && !self.has_pages(1)) {
            self.state.queues.make_waiting(id);
            return None;
        }
        let mut entry = Entry::new(from.at(), Grade::AtLeastOnce);
        entry.put(Flag::Transient, from.is(Flag::Transient));
        entry.put(Flag::Exposed, offset < exposed);
        let group = self.state.queues.get_mut(id)?;
        let slot = self.state.pages.insert(&mut group.roots, id, 0, offset, entry, 0).ok()?;
        if group.count() == 0 {
            group.first = offset;
        }
        group.next = Offset(offset.0 + 1);
        self.state.pages.set_ready(&mut group.roots, slot, true);
        group.ready += 1;
        self.state.pending_count += u32::from(is_durable);
        Some(slot)
    }

    /// An offset whose message is not there is skipped: the group goes on at the next turn.
    fn advance_past(&mut self, id: QueueId, offset: Offset) -> Option<Slot> {
        if self.pass_gap(id, Offset(offset.0 + 1)) {
            self.state.queues.make_runnable(id);
        }
        None
    }

    /// A group goes on from this offset. What it passes over is done, and that is written before anything behind
    /// it: a restart would take it for handed out and pending, with pages set aside that nobody had before. False
    /// if the log does not take it: then the group waits.
    fn pass_gap(&mut self, id: QueueId, offset: Offset) -> bool {
        let Some(group) = self.state.queues.get(id) else { return true };
        let (from, durable, (first, done)) = (group.next, group.policy.durable, group.run);
        let Some(gap) = offset.0.checked_sub(from.0).filter(|&gap| gap > 0) else { return true };
        if durable && !self.log.read_only() {
            let gap = u32::try_from(gap).unwrap_or(u32::MAX);
            let joins = done > 0 && first.0.wrapping_add(u64::from(done)) == from.0;
            let (start, count) = if joins { (first, done.saturating_add(gap)) } else { (from, gap) };
            if !self.write_acks(id, start, count) {
                self.state.queues.make_waiting(id);
                return false;
            }
            self.lazy_since.get_or_insert(self.now);
            if joins {
                self.state.queues.place_mut(id).into_iter().for_each(|group| group.run.1 = 0);
            }
        }
        let Some(group) = self.state.queues.get_mut(id) else { return true };
        group.next = offset;
        if group.count() == 0 {
            group.first = offset;
        }
        true
    }

    /// Where the message of an entry stands; a group asks its stream.
    pub(super) fn address_of(&self, id: QueueId, slot: Slot) -> Option<At> {
        let queue = self.state.queues.place(id)?;
        let Some(stream) = queue.stream() else { return self.state.stands_at(slot) };
        let (_, offset) = self.state.pages.owner(slot)?;
        self.state.stands_at(self.state.pages.find(stream, 0, offset)?)
    }

    /// Whether handing a message out now can never be undone by a loss of power.
    pub(super) fn may_be_seen(&self, id: QueueId, slot: Slot, at: At) -> bool {
        let (Some(entry), Some(queue)) = (self.state.pages.entry(slot), self.state.queues.get(id)) else {
            return false;
        };
        if entry.is(Flag::Transient) {
            return true;
        }
        let durable = self.log.durable();
        // A log that takes nothing can promise nothing more; what is there is served.
        let is_marked = queue.exposed_at <= durable || self.log.read_only();
        is_marked && (self.log.position(at) < durable || self.was_durable(id, slot))
    }

    /// Reclaim has moved a message that was durable where it stood before.
    fn was_durable(&self, id: QueueId, slot: Slot) -> bool {
        let holder = self.state.queues.get(id).and_then(|queue| queue.stream()).unwrap_or(id);
        let settled = self.state.queues.get(holder).map_or(Offset(0), |queue| queue.settled);
        self.state.pages.owner(slot).is_some_and(|(_, offset)| offset < settled)
    }

    pub(super) fn candidate(
        &self,
        id: QueueId,
        slot: Slot,
        at: At,
        consumer: ConsumerId,
    ) -> Option<Candidate> {
        let queue = self.state.queues.get(id)?;
        let entry = *self.state.pages.entry(slot)?;
        let Consumer { owner, no_ack, .. } = *self.state.consumers.get(consumer)?;
        let (_, offset) = self.state.pages.owner(slot)?;
        let needs_ack = !no_ack && !queue.is_fleeting(entry.grade());
        Some(Candidate { slot, at, entry, offset, consumer, owner, needs_ack })
    }

    pub(super) fn hand_over(&mut self, id: QueueId, candidate: &Candidate, outlet: &mut dyn Outlet) {
        self.take_unready(id, candidate.slot);
        let tag = if candidate.needs_ack { self.put_in_flight(id, candidate) } else { None };
        match self.offer(id, candidate, tag, outlet) {
            Ok(Offer::Taken) => {
                self.state.counters.delivered += 1;
                if tag.is_none() {
                    self.finish(id, candidate.slot);
                }
            }
            Ok(Offer::Busy) => {
                if let Some(consumer) = self.state.consumers.get_mut(candidate.consumer) {
                    consumer.paused = true;
                }
                self.take_back(id, candidate, tag);
            }
            Err(error) => {
                self.take_back(id, candidate, tag);
                self.lose(id, candidate.slot, error);
            }
        }
    }

    fn offer(
        &mut self,
        id: QueueId,
        candidate: &Candidate,
        tag: Option<Tag>,
        outlet: &mut dyn Outlet,
    ) -> Result<Offer, ReadError> {
        let offset = self.offset_told(id, candidate.offset);
        let record = self.log.read(candidate.at)?;
        let payload = read_payload(record.kind, record.base, record.payload).ok_or(ReadError::Corrupt)?;
        let damaged = self.state.counters.damaged > 0;
        if damaged && !names(record.kind, record.digest, id, candidate.offset, &self.state) {
            return Err(ReadError::Gone);
        }
        let mut name = UNNAMED;
        let delivery = Delivery {
            consumer: candidate.consumer,
            owner: candidate.owner,
            queue: id,
            exchange: self.state.exchanges.shown(payload.exchange, &mut name),
            offset: Some(offset),
            tag,
            grade: candidate.entry.grade(),
            redelivered: candidate.entry.deliveries > 0 || candidate.entry.is(Flag::Exposed),
            received: candidate.entry.is(Flag::Received),
            retained: record.kind & kind::REPLAYED != 0,
            delivery_count: candidate.entry.deliveries,
            published: payload.stamp.published,
            message: payload.message,
        };
        Ok(outlet.deliver(&delivery))
    }

    /// An entry is ready no more; what it is next is the caller's.
    pub(super) fn take_unready(&mut self, id: QueueId, slot: Slot) {
        if !self.state.pages.is_ready(slot) {
            return;
        }
        if let Some(queue) = self.state.queues.place_mut(id) {
            self.state.pages.set_ready(&mut queue.roots, slot, false);
            queue.ready = queue.ready.saturating_sub(1);
        }
    }

    fn put_in_flight(&mut self, id: QueueId, candidate: &Candidate) -> Option<Tag> {
        let queue = self.state.queues.get_mut(id)?;
        let lease_ms = queue.policy.lease_ms;
        let consumer = self.state.consumers.get_mut(candidate.consumer)?;
        let list = &mut consumer.flights;
        let index = self.state.flights.add(list, candidate.consumer, candidate.slot, candidate.at)?;
        consumer.in_flight += 1;
        queue.in_flight += 1;
        let due = if lease_ms > 0 { self.now.after(lease_ms) } else { Millis::NEVER };
        self.state.pages.set_due(candidate.slot, due);
        let entry = self.state.pages.entry_mut(candidate.slot)?;
        entry.put(Flag::InFlight, true);
        entry.set_at(At(u64::from(index)));
        entry.deliveries = entry.deliveries.saturating_add(1);
        Some(self.state.flights.tag(index))
    }

    /// Undoes `take_unready` and `put_in_flight`.
    fn take_back(&mut self, id: QueueId, candidate: &Candidate, tag: Option<Tag>) {
        if let Some(index) = tag.and_then(|tag| self.state.flights.find(tag)) {
            self.land(id, index);
        }
        if let Some(entry) = self.state.pages.entry_mut(candidate.slot) {
            entry.deliveries = candidate.entry.deliveries;
        }
        self.state.pages.set_due(candidate.slot, candidate.entry.due());
        self.make_ready(id, candidate.slot);
    }

    /// Marks an entry ready.
    pub(super) fn make_ready(&mut self, id: QueueId, slot: Slot) {
        if let Some(queue) = self.state.queues.place_mut(id) {
            self.state.pages.set_ready(&mut queue.roots, slot, true);
            queue.ready += 1;
            let is_group = queue.stream().is_some();
            if queue.consumer_count > 0 {
                self.state.queues.make_runnable(id);
                if is_group {
                    // It may be among those that wait to take more from their stream.
                    self.state.queues.wake_waiting();
                }
            }
        }
    }

    /// A message that cannot be read is reported and counted, and the queue goes on.
    pub(super) fn lose(&mut self, id: QueueId, slot: Slot, _error: ReadError) {
        self.state.counters.damaged += 1;
        if let Some((_, offset)) = self.state.pages.owner(slot) {
            let name = self.state.queues.place(id).and_then(|queue| queue.name);
            let mut buffer = [0; NAME_MAX];
            let name = name.and_then(|name| self.state.texts.copy_str(name, &mut buffer)).unwrap_or_default();
            log::error!("queue {name} offset {}: the message is damaged and lost", offset.0);
        }
        self.take_unready(id, slot);
        self.finish(id, slot);
    }

    /// Attaches a consumer.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn subscribe(&mut self, asked: &Subscription) -> Result<Reply, Refusal> {
        let &Subscription { queue: id, owner, credit, no_ack, priority, exclusive, pull } = asked;
        if cfg!(not(feature = "gateway")) && (priority != 0 || exclusive || pull) {
            return Err(Refusal::NotAllowed);
        }
        let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
        if queue.is_stream() {
            return Err(Refusal::NotAllowed);
        }
        let (durable, exposed, next) = (queue.policy.durable, queue.exposed, queue.next);
        let backlog = queue.count() > 0 && queue.stream().is_none();
        let consumer = Consumer {
            owner,
            queue: id,
            credit,
            no_ack,
            #[cfg(feature = "gateway")]
            pull,
            #[cfg(feature = "gateway")]
            exclusive,
            #[cfg(feature = "gateway")]
            priority,
            ..Consumer::EMPTY
        };
        let consumer = self.state.attach(consumer)?;
        if durable && backlog && exposed < next {
            let exposed_at = self.mark_exposed(id, next);
            if let Some(queue) = self.state.queues.get_mut(id) {
                queue.exposed = next;
                queue.exposed_at = exposed_at;
            }
        }
        self.state.queues.make_runnable(id);
        Ok(Reply::Consumer(consumer))
    }

    fn mark_exposed(&mut self, id: QueueId, next: Offset) -> Position {
        match self.keep(kind::EXPOSED, &[u64::from(id.0), next.0]) {
            true => self.make_durable(),
            // A log that takes nothing can promise nothing more; what is there is served.
            false => Position(0),
        }
    }

    /// A consumer's connection is full, or can take more again.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn pause(&mut self, id: ConsumerId, paused: bool) -> Result<Reply, Refusal> {
        let consumer = self.state.consumers.get_mut(id).ok_or(Refusal::NoConsumer)?;
        consumer.paused = paused;
        let queue = consumer.queue;
        if !paused {
            self.state.queues.make_runnable(queue);
        }
        Ok(Reply::Done(Position(0)))
    }
}

/// Whether a record is the message of this queue and offset. Asked once anything was found
/// damaged: an entry whose record was lost must not be taken for what stands there now.
fn names(record_kind: u8, digest: &[u8], id: QueueId, offset: Offset, state: &State<'_>) -> bool {
    let id = state.queues.get(id).and_then(|queue| queue.stream()).unwrap_or(id);
    let routes = Head::read(record_kind, digest).map(|(_, routes)| routes);
    routes.is_some_and(|mut routes| routes.any(|route| route.queue == id && route.offset == offset))
}
