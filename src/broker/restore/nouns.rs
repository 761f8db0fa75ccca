//! Declarations played back: what they make, and what they take away.
//!
//! Each stands for its noun as it was when it was written, so the newest is the one that counts; that of
//! a group only once all that is pending stands behind it. Reclaim writes a declaration anew behind
//! messages that are older, so a queue that is declared may have entries already: they go to its lanes,
//! and those of an earlier queue of its id are dropped.

use super::super::meta::{BindingMeta, Meta, QueueMeta};
use super::super::record::dedup_key;
use super::super::state::State;
use super::Player;
use crate::command::{DedupKey, QueueKind};
use crate::log::RestoreError;
use crate::model::key::Key;
use crate::model::queue::{Life, Queue};
use crate::units::{At, Millis, Offset, QueueId};

impl Player<'_, '_> {
    pub(super) fn meta(&mut self, at: At, meta: &Meta<'_>) -> Result<(), RestoreError> {
        match *meta {
            Meta::Exchange(ref exchange) => {
                self.state.restore_exchange(exchange.id, exchange.name, exchange.options(), at)
            }
            Meta::ExchangeGone(id) => {
                self.state.forget_exchange(id);
                Ok(())
            }
            Meta::Queue(ref queue) => self.queue(at, queue),
            Meta::QueueGone(id) => {
                self.queue_gone(id);
                Ok(())
            }
            Meta::Binding(ref binding) => self.binding(at, binding),
            Meta::BindingGone(ref binding) => {
                self.state.unbind_meta(binding);
                Ok(())
            }
            Meta::RetainedGone(hash) => {
                self.state.retained.remove_hash(hash);
                Ok(())
            }
            Meta::Key(bits, expires) => self.key(dedup_key(bits), expires),
            Meta::KeyGone(bits) => {
                self.state.dedup.forget(dedup_key(bits));
                Ok(())
            }
            Meta::Producer(producer, epoch, sequence) => {
                self.key(DedupKey::Sequence { producer, epoch, sequence }, Millis::NEVER)
            }
            Meta::ProducerGone(producer) => {
                self.state.dedup.forget(DedupKey::Sequence { producer, epoch: 0, sequence: 0 });
                Ok(())
            }
            Meta::Anchor(time) => {
                self.last = self.last.max(time);
                Ok(())
            }
        }
    }

    /// A queue is gone, and the groups of a stream with it: their end is written behind its own and may
    /// be missing, and their ids may have been given to others since.
    fn queue_gone(&mut self, id: QueueId) {
        let may_be_stream = self.state.queues.get(id).is_none_or(Queue::is_stream);
        self.state.forget_queue(id);
        for group in (0..self.state.queues.capacity()).map(QueueId).filter(|_| may_be_stream) {
            if self.state.queues.get(group).and_then(Queue::stream) == Some(id) {
                self.state.forget_queue(group);
            }
        }
    }

    fn binding(&mut self, at: At, binding: &BindingMeta<'_>) -> Result<(), RestoreError> {
        let id = self.state.bind_meta(binding).map_err(RestoreError::Limit)?;
        self.state.bindings.set_at(id, Some(at));
        Ok(())
    }

    fn queue(&mut self, at: At, meta: &QueueMeta<'_>) -> Result<(), RestoreError> {
        let state = &mut *self.state;
        let hash = state.name_hash(meta.name);
        let place = state.queues.place(meta.id).ok_or(RestoreError::Limit("queues"))?;
        let is_new = !place.is_live();
        if is_new && matches!(meta.kind, QueueKind::Group { .. }) {
            // A group has no messages of its own: these are of an earlier queue of its id.
            while let Some(slot) =
                state.queues.place(meta.id).and_then(|queue| state.pages.any_live(&queue.roots))
            {
                state.remove_restored(meta.id, slot);
            }
        }
        if is_new {
            let (policy, tenancy) =
                state.policy_of_meta(meta).map_err(|_| RestoreError::Limit("text_bytes"))?;
            let name = state
                .texts
                .store(Key::dots(meta.name.as_bytes()))
                .map_err(|_| RestoreError::Limit("text_bytes"))?;
            let queue = state.queues.place_mut(meta.id).ok_or(RestoreError::Limit("queues"))?;
            queue.life = Life::Live;
            queue.name = Some(name);
            queue.policy = policy;
            queue.tenancy = tenancy;
            queue.born = meta.born;
            state.queues.index(meta.id, hash);
            state.set_lanes(meta.id)?;
        }
        let Some(queue) = state.queues.place_mut(meta.id) else { return Ok(()) };
        let is_group = queue.stream().is_some();
        if is_group {
            queue.settled = Offset(at.0);
        }
        // The one before it stays in charge until all that is pending was written behind this one: power may
        // have gone before, and reclaim would pass over what the one before it stands for.
        if is_new || !is_group || meta.exposed == Offset(0) {
            queue.at = Some(at);
        }
        // What came before the first declaration tells nothing of a group's pending messages, and of another
        // queue's offsets only what was true of an earlier queue of its id: where that is reclaimed a mount
        // would not know it any more.
        queue.next = if is_new { meta.next } else { queue.next.max(meta.next) };
        queue.exposed = queue.exposed.max(meta.exposed);
        queue.first = queue.first.max(meta.first);
        // What a group had acknowledged by then may have been written nowhere else.
        state.drop_below(meta.id, if is_group { meta.born.max(meta.first) } else { meta.born });
        state.link_group(meta.id);
        Ok(())
    }
}

impl State<'_> {
    /// Drops the entries below an offset: those of an earlier queue of the same id, or what is done.
    fn drop_below(&mut self, id: QueueId, born: Offset) {
        let mut from = None;
        while let Some(slot) =
            self.queues.place(id).and_then(|queue| self.pages.next_live(&queue.roots, from))
        {
            let old = self.pages.owner(slot).is_some_and(|(_, offset)| offset < born);
            if !old {
                return;
            }
            self.remove_restored(id, slot);
            from = None;
        }
    }
}
