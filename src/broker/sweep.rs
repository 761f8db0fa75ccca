//! Sweep: the end of a restore. What belongs to nothing is dropped, and what follows from the rest set.

use super::expire::UNKNOWN;
use super::state::State;
use super::Broker;
use crate::flash::Flash;
use crate::log::Log;
use crate::model::entry::Flag;
use crate::model::queue::NO_TTL;
use crate::units::{At, Offset, QueueId};

impl<F: Flash> Broker<'_, F> {
    /// Marks of what may have been delivered are as much in doubt as the rest until the next sync: a
    /// backlog waits for it.
    pub(super) fn doubt_exposed(&mut self) {
        let tail = self.log.tail();
        for index in 0..self.state.queues.capacity() {
            if let Some(queue) = self.state.queues.get_mut(QueueId(index)) {
                queue.exposed_at = tail;
            }
        }
    }
}

impl<'a> State<'a> {
    /// Ends a mount: drops what belongs to nothing and sets what follows from the rest. True if something was
    /// dropped: the log tells it to the next start as well.
    pub(super) fn sweep(&mut self) -> bool {
        let mut is_dropped = false;
        for index in 0..self.queues.capacity() {
            let id = QueueId(index);
            let stream = self.queues.get(id).and_then(|queue| queue.stream());
            if stream.is_some_and(|stream| !self.queues.get(stream).is_some_and(|queue| queue.is_stream())) {
                // Its end need not have been written: it goes with its stream.
                self.forget_queue(id);
                is_dropped = true;
            }
            if self.queues.get(id).is_some() {
                self.finish_restored(id);
                continue;
            }
            while let Some(slot) = self.queues.place(id).and_then(|queue| self.pages.any_live(&queue.roots)) {
                self.remove_restored(id, slot);
                is_dropped = true;
            }
        }
        self.expose_groups();
        self.queues.rebuild_free();
        self.drop_loose_bindings() || is_dropped
    }

    /// How far a group had handed out is not written, so all that is in its stream may have been.
    fn expose_groups(&mut self) {
        for index in 0..self.queues.capacity() {
            let id = QueueId(index);
            let Some(stream) = self.queues.get(id).and_then(|queue| queue.stream()) else { continue };
            let end = self.queues.get(stream).map_or(Offset(0), |stream| stream.next);
            if let Some(group) = self.queues.get_mut(id) {
                group.exposed = end;
            }
        }
    }

    fn finish_restored(&mut self, id: QueueId) {
        let Some(queue) = self.queues.place_mut(id) else { return };
        let mut from = None;
        while let Some(slot) = self.pages.next_live(&queue.roots, from) {
            from = Some(slot);
            let exposed = self.pages.owner(slot).is_some_and(|(_, offset)| offset < queue.exposed);
            if let Some(entry) = self.pages.entry_mut(slot) {
                entry.put(Flag::Exposed, entry.is(Flag::Exposed) || exposed);
                if queue.is_stream() {
                    entry.put(Flag::Delayed, false);
                }
            }
            let waits = self.pages.entry(slot).is_some_and(|entry| entry.is(Flag::Delayed));
            if queue.policy.ttl_ms != NO_TTL && !waits {
                self.pages.set_due(slot, UNKNOWN);
            }
        }
        if queue.is_stream() {
            self.pages.unready_all(&mut queue.roots);
            // What came before the declaration was taken for a work queue's.
            queue.ready = queue.ready.saturating_add(core::mem::take(&mut queue.delayed));
            queue.first = self.pages.first_offset(&queue.roots).unwrap_or(queue.next);
        }
        if queue.stream().is_none() {
            self.live_bytes = self.live_bytes.saturating_add(queue.bytes);
            self.live_count = self.live_count.saturating_add(u64::from(queue.count()));
        } else if queue.policy.durable {
            self.pending_count = self.pending_count.saturating_add(queue.count());
        }
    }

    /// Drops entries that the head was moved over. Nobody referred to them any more, so they were done,
    /// and power went before that was written.
    pub(super) fn drop_passed<F: Flash>(&mut self, log: &Log<'a, F>) {
        let head = log.stats().head_sequence;
        let is_passed = |at: Option<At>| at.is_some_and(|at| log.position(at).sequence() < head);
        for index in 0..self.queues.capacity() {
            let id = QueueId(index);
            if is_passed(self.queues.get(id).and_then(|queue| queue.at)) {
                // Its end found no room in the log.
                self.forget_queue(id);
                continue;
            }
            let Some(queue) = self.queues.place(id).filter(|queue| queue.stream().is_none()) else {
                continue;
            };
            let mut here = self.pages.next_live(&queue.roots, None);
            while let Some(slot) = here {
                let Some(queue) = self.queues.place(id) else { break };
                here = self.pages.next_live(&queue.roots, Some(slot));
                let at = self.pages.entry(slot).map_or(At(0), |entry| entry.at());
                if is_passed(Some(at)) {
                    self.remove_restored(id, slot);
                }
            }
        }
        self.drop_passed_nouns(is_passed);
    }

    /// Where the first message or value stands that is like that.
    pub(super) fn find_live(&self, mut is_it: impl FnMut(At) -> bool) -> Option<At> {
        let mut found = None;
        let mut look = |at: At| found = found.or_else(|| is_it(at).then_some(at));
        self.pages.for_each_live(|_, _, at| look(at));
        let mut cursor = 0;
        while let Some((next, at)) = self.retained.next(cursor) {
            cursor = next;
            at.into_iter().for_each(&mut look);
        }
        found
    }

    /// Makes the log keep everything the tables point at.
    pub(super) fn hold_all<F: Flash>(&self, log: &mut Log<'a, F>) {
        self.pages.for_each_live(|_, id, at| {
            if self.queues.place(id).is_some_and(|queue| queue.stream().is_none()) {
                log.hold(at);
            }
        });
        let mut cursor = 0;
        while let Some((next, at)) = self.retained.next(cursor) {
            cursor = next;
            at.into_iter().for_each(|at| log.hold(at));
        }
        self.queues.iter().filter_map(|(_, queue)| queue.at).for_each(|at| log.hold(at));
        self.for_each_declared(|at| log.hold(at));
    }
}
