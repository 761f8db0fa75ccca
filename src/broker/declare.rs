//! Declare: queues and bindings come and go; `exchanges` is the same for exchanges.
//!
//! A durable noun is a `META` record in the log, and its table entry points at it; the reply's
//! position says when it is safe. A deleted queue disappears from its name, its bindings and
//! its consumers at once; its messages are let go of a page at a time, and its id is not used
//! again until they are gone.

use super::dead::NAME_MAX;
use super::meta::{traits, BindingMeta, Meta, QueueMeta};
#[cfg(feature = "gateway")]
use super::state::State;
use super::topology::bond_of_meta;
use super::{refusal_of, Broker};
#[cfg(feature = "gateway")]
use crate::command::Grade;
use crate::command::{Bind, Outlet, QueueOptions, Refusal, Reply};
use crate::flash::Flash;
use crate::log::{Purpose, DIGEST_MAX};
use crate::model::binding::{BindError, Bound};
use crate::model::bond::{Bond, Target};
use crate::model::entry::Flag;
use crate::model::key::Form;
use crate::model::queue::{Life, Queue, NOBODY, NO_TTL};
use crate::model::text::TextId;
use crate::units::{At, BindingId, ConsumerId, Millis, Offset, Position, QueueId};

/// Longest pattern and arguments of a binding together, in bytes.
const BINDING_TEXT_MAX: usize = 960;
/// Entries of deleted queues let go in one call.
const EMPTY_BUDGET: u32 = 512;
/// Bytes of all texts of a declaration; what the core declares is one record.
const TEXTS_MAX: usize = if cfg!(feature = "gateway") { 3 * NAME_MAX } else { DIGEST_MAX };
/// Messages purged in one call.
const PURGE_MAX: u32 = 1024;

impl<F: Flash> Broker<'_, F> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn declare_queue(&mut self, name: &str, options: &QueueOptions<'_>) -> Result<Reply, Refusal> {
        let &QueueOptions { exclusive, expires_ms, single_active, dedup, .. } = options;
        if cfg!(not(feature = "gateway")) && (exclusive > 0 || expires_ms > 0 || single_active || dedup) {
            return Err(Refusal::NotAllowed);
        }
        // Its owner is not there after a restart.
        let options = &QueueOptions { durable: options.durable && exclusive == 0, ..*options };
        if let Some(id) = self.state.find_queue(name) {
            let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
            if !self.state.is_as_asked(queue, options) {
                return Err(Refusal::Mismatch);
            }
            let at = queue.at;
            #[cfg(feature = "gateway")]
            self.note_use(id);
            let durable_at = self.durable_at(at);
            return self.queue_reply(id, true, durable_at);
        }
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Refusal::Malformed);
        }
        if options.durable && self.owes() {
            return Err(Refusal::StoreFull);
        }
        let id = self.state.add_queue(name, options)?;
        let written = if options.durable { self.rewrite_queue(id) } else { Ok(()) };
        if let Err(refusal) = written {
            self.state.drop_queue(id);
            return Err(refusal);
        }
        #[cfg(feature = "gateway")]
        self.note_use(id);
        let durable_at = if options.durable { self.make_durable() } else { Position(0) };
        self.queue_reply(id, false, durable_at)
    }

    pub(super) fn find_queue(&mut self, name: &str) -> Result<Reply, Refusal> {
        let id = self.state.find_queue(name).ok_or(Refusal::NoQueue)?;
        self.queue_reply(id, true, Position(0))
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn queue_reply(&self, id: QueueId, existed: bool, durable_at: Position) -> Result<Reply, Refusal> {
        let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
        let (ready, consumers) = (queue.ready, u32::from(queue.consumer_count));
        let (kind, exclusive) = (queue.policy.kind, queue.tenancy.exclusive());
        Ok(Reply::Queue { id, existed, ready, consumers, kind, exclusive, durable_at })
    }

    /// When a noun that is there already is safe, given where it is written. Nothing has to be synced for one
    /// that is on flash, so that clients which declare everything at each start cost no sync.
    pub(super) fn durable_at(&mut self, at: Option<At>) -> Position {
        match at {
            Some(at) if self.log.position(at) >= self.log.durable() => self.make_durable(),
            _ => Position(0),
        }
    }

    /// Writes the declaration of a queue as it stands.
    pub(super) fn rewrite_queue(&mut self, id: QueueId) -> Result<(), Refusal> {
        let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
        let (Some(name), policy) = (queue.name, &queue.policy) else { return Err(Refusal::NoQueue) };
        let texts = &self.state.texts;
        let mut buffer = [0; TEXTS_MAX];
        let mut buffer = buffer.as_mut_slice();
        let too_long = Refusal::Limit("declaration");
        let mut take = |text: TextId| texts.take_out(text, &mut buffer).ok_or(too_long);
        let name = core::str::from_utf8(take(name)?).map_err(|_| Refusal::Malformed)?;
        let exchange = policy.dead_letter_exchange.map(&mut take).transpose()?;
        let exchange = exchange.and_then(|exchange| core::str::from_utf8(exchange).ok());
        let key = policy.dead_letter_key.map(|(text, form)| Ok((take(text)?, form == Form::Slashes)));
        let key = key.transpose()?;
        let first = queue.first;
        let is_group = queue.stream().is_some();
        let has_pending = is_group && queue.count() > 0;
        let meta = Meta::Queue(QueueMeta {
            id,
            name,
            kind: policy.kind,
            auto_delete: policy.auto_delete,
            session: policy.session,
            traits: traits::of(&queue.tenancy),
            expires_ms: queue.tenancy.expires_ms(),
            overflow: policy.overflow,
            delivery_limit: policy.delivery_limit,
            max_priority: policy.max_priority,
            max_count: policy.max_count,
            max_bytes: policy.max_bytes,
            ttl_ms: Some(policy.ttl_ms).filter(|&ttl_ms| ttl_ms != NO_TTL),
            lease_ms: policy.lease_ms,
            dead_letter_exchange: exchange,
            dead_letter_key: key,
            born: queue.born,
            next: if is_group { first } else { queue.next },
            exposed: if is_group { Offset(has_pending.into()) } else { queue.exposed },
            first,
        });
        let at = append_meta(&mut self.log, self.state.scratch, &meta, self.purpose)?;
        self.log.hold(at);
        if has_pending && !self.rewrite_pending(id) {
            // The one before it stays in charge.
            self.log.release(at);
            return Err(Refusal::StoreFull);
        }
        if let Some(before) = self.state.queues.get_mut(id).and_then(|queue| queue.at.replace(at)) {
            self.log.release(before);
        }
        Ok(())
    }

    /// Writes what of a group's messages beyond its first pending one is acknowledged, which of the others
    /// were received, and how often they were delivered; false if there is no room for all of it.
    fn rewrite_pending(&mut self, id: QueueId) -> bool {
        let unwritten = self.state.counters.unwritten;
        let Some(mut expected) = self.state.queues.get(id).map(|queue| queue.first) else { return true };
        let mut from = None;
        while let Some(slot) =
            self.state.queues.get(id).and_then(|queue| self.state.pages.next_live(&queue.roots, from))
        {
            from = Some(slot);
            let Some((_, offset)) = self.state.pages.owner(slot) else { break };
            if offset > expected {
                self.write_acks(id, expected, (offset.0 - expected.0) as u32);
            }
            let entry = self.state.pages.entry(slot).copied().unwrap_or_default();
            if entry.is(Flag::Received) {
                let _ = self.write_received(id, slot);
            }
            if entry.deliveries > 0 {
                let due = if entry.is(Flag::Delayed) { entry.due() } else { Millis(0) };
                self.write_returned(id, slot, due);
            }
            expected = Offset(offset.0 + 1);
        }
        let next = self.state.queues.get(id).map_or(expected, |queue| queue.next);
        if next > expected {
            self.write_acks(id, expected, (next.0 - expected.0) as u32);
        }
        let is_whole = self.state.counters.unwritten == unwritten;
        is_whole && self.keep(super::record::kind::EXPOSED, &[id.0.into(), 0])
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn delete_queue(
        &mut self,
        name: &str,
        if_unused: bool,
        if_empty: bool,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        let id = self.state.find_queue(name).ok_or(Refusal::NoQueue)?;
        let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
        if if_unused && queue.consumer_count > 0 {
            return Err(Refusal::InUse);
        }
        if if_empty && queue.ready.saturating_add(queue.delayed) > 0 {
            return Err(Refusal::NotEmpty);
        }
        let (count, durable) = (queue.ready, queue.at.is_some());
        if durable {
            // It would be there again after a restart, beside the next one of its name.
            append_meta(&mut self.log, self.state.scratch, &Meta::QueueGone(id), self.purpose)?;
            self.forget_place(id);
        }
        self.delete_queue_by_id(id, outlet);
        Ok(Reply::Removed(count))
    }

    /// The log knows that a queue is gone.
    fn forget_place(&mut self, id: QueueId) {
        let at = self.state.queues.get_mut(id).and_then(|queue| queue.at.take());
        at.into_iter().for_each(|at| self.log.release(at));
        self.urgent = true;
    }

    /// Deletes a queue, and the groups of a stream with it.
    pub(super) fn delete_queue_by_id(&mut self, id: QueueId, outlet: &mut dyn Outlet) {
        let is_stream = self.state.queues.get(id).is_some_and(Queue::is_stream);
        while let Some(group) =
            self.state.queues.get(id).map(|queue| QueueId(queue.group)).filter(|_| is_stream)
        {
            if self.state.queues.get(group).is_none() {
                break;
            }
            self.delete_one(group, outlet);
        }
        self.delete_one(id, outlet);
    }

    fn delete_one(&mut self, id: QueueId, outlet: &mut dyn Outlet) {
        self.cancel_consumers(id, outlet);
        let Some(is_written) = self.state.queues.get(id).map(|queue| queue.at.is_some()) else { return };
        self.drop_bindings_to(Target::Queue(id));
        self.drop_unbound();
        let held = self.state.dedup.forget_queue(id);
        self.state.unlink_group(id);
        self.state.queues.unindex(id);
        if is_written {
            if !self.write_gone(&Meta::QueueGone(id)) {
                self.held_owed = self.held_owed.saturating_add(held);
            }
            self.forget_place(id);
        }
        self.state.free_texts(id);
        if let Some(queue) = self.state.queues.place_mut(id) {
            queue.life = Life::Dying;
            queue.at = None;
            queue.run.1 = 0;
            self.state.queues.dying_count += 1;
        }
    }

    fn cancel_consumers(&mut self, id: QueueId, outlet: &mut dyn Outlet) {
        while let Some(first) = self.state.queues.get(id).and_then(|queue| match queue.consumers {
            NOBODY => queue.tenancy.puller(),
            first => Some(first),
        }) {
            let consumer = ConsumerId(first);
            let owner = self.state.consumers.get(consumer).map(|consumer| consumer.owner);
            self.take_flights(id, consumer);
            if let Some(queue) = self.state.queues.get_mut(id) {
                queue.policy.auto_delete = false;
            }
            if self.unsubscribe(consumer, outlet).is_err() {
                return;
            }
            owner.into_iter().for_each(|owner| outlet.cancelled(owner, consumer));
        }
    }

    /// Ends the deliveries of a consumer whose queue goes: they are its messages like the others, and
    /// neither expire nor become dead letters.
    fn take_flights(&mut self, id: QueueId, consumer: ConsumerId) {
        while let Some(index) = self.state.consumers.get(consumer).map(|consumer| consumer.flights) {
            let Some(slot) = self.state.flights.get(index).map(|flight| flight.slot()) else { return };
            self.land(id, index);
            self.make_ready(id, slot);
        }
    }

    /// Lets go of messages of deleted queues, a bounded piece.
    pub(super) fn empty_dying(&mut self) {
        if self.state.queues.dying_count == 0 {
            return;
        }
        let dying = self.state.queues.iter().find(|(_, queue)| queue.life == Life::Dying).map(|(id, _)| id);
        let Some(id) = dying else { return };
        for _ in 0..EMPTY_BUDGET {
            let slot = self.state.queues.place(id).and_then(|queue| self.state.pages.any_live(&queue.roots));
            match slot {
                Some(slot) => self.remove_entry(id, slot),
                None => {
                    self.state.queues.dying_count -= 1;
                    self.state.queues.release(id);
                    return;
                }
            }
        }
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn purge(&mut self, name: &str) -> Result<Reply, Refusal> {
        let id = self.state.find_queue(name).ok_or(Refusal::NoQueue)?;
        let mut count = 0;
        let mut more = false;
        let mut from = None;
        while let Some(slot) =
            self.state.queues.get(id).and_then(|queue| self.state.pages.next_live(&queue.roots, from))
        {
            if self.state.pages.is_in_flight(slot) {
                from = Some(slot);
                continue;
            }
            more = count == PURGE_MAX;
            if more {
                break;
            }
            // The page may go with its last entry, so the walk starts again behind what stays.
            self.finish(id, slot);
            count += 1;
        }
        if self.state.queues.get(id).is_some_and(|queue| queue.is_stream()) {
            self.set_stream_first(id);
        }
        Ok(Reply::Purged { count, more })
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn bind(&mut self, bind: &Bind<'_>) -> Result<Reply, Refusal> {
        let bond = self.state.bond(bind)?;
        if bind.pattern.text.len() + bind.arguments.len() > BINDING_TEXT_MAX {
            return Err(Refusal::TooLarge);
        }
        if let Some(at) = self.state.equal_binding(&bond, bind.grade) {
            return Ok(Reply::Done(self.durable_at(Some(at))));
        }
        if self.state.is_durable_bond(&bond) && self.owes() {
            return Err(Refusal::StoreFull);
        }
        let bound = self.state.bindings.bind(&bond, bind.grade).map_err(|error| match error {
            BindError::Limit(limit) => Refusal::Limit(limit),
            BindError::Malformed => Refusal::Malformed,
        })?;
        if !self.state.is_durable_bond(&bond) {
            self.state.exchanges.set_bound(bond.source.id);
            return Ok(Reply::Done(Position(0)));
        }
        self.state.exchanges.set_bound(bond.source.id);
        let id = bound.id();
        let meta = meta_of_bond(&bond, bind.grade as u8);
        match append_meta(&mut self.log, self.state.scratch, &Meta::Binding(meta), self.purpose) {
            Ok(at) => self.set_binding_at(id, at),
            Err(refusal) => {
                if matches!(bound, Bound::Made(_)) {
                    self.state.bindings.remove(id);
                }
                return Err(refusal);
            }
        }
        Ok(Reply::Done(self.make_durable()))
    }

    pub(super) fn set_binding_at(&mut self, id: BindingId, at: At) {
        self.log.hold(at);
        let before = self.state.bindings.get(id).and_then(|binding| binding.at);
        before.into_iter().for_each(|before| self.log.release(before));
        self.state.bindings.set_at(id, Some(at));
    }

    /// Writes the binding of a record anew, if that is where it stands.
    pub(super) fn rewrite_binding_at(&mut self, at: At) {
        let Ok(record) = self.log.read(at) else { return };
        let Some(Meta::Binding(meta)) = Meta::read(record.digest) else { return };
        let Some(id) = self.state.bindings.find(&bond_of_meta(&meta)) else { return };
        if self.state.bindings.get(id).and_then(|binding| binding.at) != Some(at) {
            return;
        }
        let kind = record.kind;
        let Some(size) = self.state.scratch.get_mut(..record.digest.len()) else { return };
        size.iter_mut().zip(record.digest).for_each(|(to, &from)| *to = from);
        let digest_len = record.digest.len();
        let Some(digest) = self.state.scratch.get(..digest_len) else { return };
        if let Ok(new_at) = self.log.append(kind, digest, &[], Purpose::Reclaim) {
            self.set_binding_at(id, new_at);
        }
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn unbind(&mut self, bind: &Bind<'_>) -> Result<Reply, Refusal> {
        let bond = self.state.bond(bind)?;
        let Some(id) = self.state.bindings.find(&bond) else { return Ok(Reply::Removed(0)) };
        if let Some(at) = self.state.bindings.get(id).and_then(|binding| binding.at) {
            let gone = Meta::BindingGone(meta_of_bond(&bond, 0));
            append_meta(&mut self.log, self.state.scratch, &gone, self.purpose)?;
            self.log.release(at);
            self.make_durable();
        }
        self.state.bindings.unbind(&bond);
        self.state.has_unbound |= self.state.exchanges.goes_unbound(bond.source.id);
        self.drop_unbound();
        Ok(Reply::Removed(1))
    }

    /// Writes that something is gone, or owes it.
    pub(super) fn write_gone(&mut self, meta: &Meta<'_>) -> bool {
        let is_written = self.write_meta(meta);
        if !is_written {
            self.owe();
        }
        is_written
    }

    /// Writes a record that says what has happened; see `keep`.
    pub(super) fn write_meta(&mut self, meta: &Meta<'_>) -> bool {
        let kept = append_meta(&mut self.log, self.state.scratch, meta, self.purpose).is_ok();
        self.state.counters.unwritten += u64::from(!kept);
        kept
    }
}

/// Writes a record of what is to happen; nothing may be changed yet.
pub(super) fn append_meta<F: Flash>(
    log: &mut crate::log::Log<'_, F>,
    scratch: &mut [u8],
    meta: &Meta<'_>,
    purpose: Purpose,
) -> Result<At, Refusal> {
    let digest = meta.write(scratch).ok_or(Refusal::Limit("declaration"))?;
    if digest.len() > DIGEST_MAX {
        #[cfg(feature = "gateway")]
        return super::pieces::append(log, meta, digest, purpose);
        #[cfg(not(feature = "gateway"))]
        return Err(Refusal::Limit("declaration"));
    }
    log.append(super::record::kind::META, digest, &[], purpose).map_err(refusal_of)
}

#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn meta_of_bond<'k>(bond: &Bond<'k>, grade: u8) -> BindingMeta<'k> {
    let (to_exchange, destination) = match bond.target {
        Target::Exchange(id) => (true, id.0),
        Target::Queue(id) => (false, id.0),
    };
    BindingMeta {
        exchange: bond.source.id,
        kind: bond.source.kind,
        to_exchange,
        destination,
        pattern: bond.pattern.text,
        slashes: bond.pattern.form == Form::Slashes,
        arguments: bond.arguments,
        grade,
    }
}

/// The ends, pattern and arguments of a binding, spelled into borrowed memory, and its grade.
#[cfg(feature = "gateway")]
pub(super) fn bond_of_id<'k>(
    state: &State<'_>,
    id: BindingId,
    pattern: &'k mut [u8],
    arguments: &'k mut [u8],
) -> Option<(Bond<'k>, Grade)> {
    let binding = state.bindings.get(id)?;
    let bond = Bond {
        source: state.exchanges.source(binding.exchange)?,
        target: binding.target,
        pattern: state.bindings.pattern(id, pattern)?,
        arguments: state.bindings.arguments(id, arguments)?,
    };
    Some((bond, binding.grade))
}
