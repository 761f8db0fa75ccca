//! Done: the last step of every message in every queue.
//!
//! Acknowledged, expired, dropped or purged, an entry leaves its queue here and nowhere else.
//! What is done in a durable queue is written as runs of offsets: a consumer that
//! acknowledges in order costs one small record a commit. A run that is not written yet when
//! power goes means a redelivery, never a loss.

use super::record::kind;
use super::Broker;
use crate::fixed::Writer;
use crate::flash::Flash;
use crate::model::entry::Flag;
use crate::model::pages::Slot;
use crate::units::{Offset, QueueId};

/// Bytes of a record of a few numbers at most.
const KEPT_MAX: usize = 40;

impl<F: Flash> Broker<'_, F> {
    /// Removes an entry and notes that in the log.
    pub(super) fn finish(&mut self, id: QueueId, slot: Slot) {
        let Some((_, offset)) = self.state.pages.owner(slot) else { return };
        let kept = self.is_kept(id, slot);
        self.remove_entry(id, slot);
        if kept {
            self.push_run(id, offset);
        }
    }

    /// Whether an entry would be there after a restart.
    pub(super) fn is_kept(&self, id: QueueId, slot: Slot) -> bool {
        let durable = self.state.queues.place(id).is_some_and(|queue| queue.policy.durable);
        durable && self.state.pages.entry(slot).is_some_and(|entry| !entry.is(Flag::Transient))
    }

    /// Removes an entry that is not in flight from memory. The log is not told.
    pub(super) fn remove_entry(&mut self, id: QueueId, slot: Slot) {
        let Some(entry) = self.state.pages.entry(slot).copied() else { return };
        let ready = self.state.pages.is_ready(slot);
        let most = self.pending_max();
        let was_full = self.state.pending_count >= most;
        let Some(queue) = self.state.queues.place_mut(id) else { return };
        if ready || (queue.is_stream() && !entry.is(Flag::Delayed)) {
            queue.ready = queue.ready.saturating_sub(1);
        } else if entry.is(Flag::Delayed) {
            queue.delayed = queue.delayed.saturating_sub(1);
        }
        if queue.is_fleeting(entry.grade()) {
            queue.fleeting = queue.fleeting.saturating_sub(1);
        }
        let was_out_of_pages = self.state.pages.free_count() == 0;
        let share = self.state.pages.remove(&mut queue.roots, slot, None);
        queue.bytes = queue.bytes.saturating_sub(u64::from(share));
        let is_group = queue.stream().is_some();
        if is_group {
            queue.first = self.state.pages.first_offset(&queue.roots).unwrap_or(queue.next);
            let counted = u32::from(queue.policy.durable);
            self.state.pending_count = self.state.pending_count.saturating_sub(counted);
        } else {
            self.state.live_bytes = self.state.live_bytes.saturating_sub(u64::from(share));
            self.state.live_count = self.state.live_count.saturating_sub(1);
            self.log.release(entry.at());
        }
        let is_freed = was_out_of_pages && self.state.pages.free_count() > 0;
        if is_freed || (was_full && self.state.pending_count < most) {
            // Groups may wait for that, and nothing need be synced any more.
            self.state.queues.wake_waiting();
        }
    }

    /// Notes that an offset of a durable queue is done.
    fn push_run(&mut self, id: QueueId, offset: Offset) {
        let Some(queue) = self.state.queues.place_mut(id) else { return };
        let (first, count) = queue.run;
        if count > 0 && offset.0 == first.0.wrapping_add(u64::from(count)) {
            queue.run.1 = count.saturating_add(1);
            return;
        }
        queue.run = (offset, 1);
        self.state.queues.list_run(id);
        self.lazy_since.get_or_insert(self.now);
        if count > 0 {
            self.write_run(id, first, count);
        }
    }

    /// Writes the acknowledgements that are still in memory.
    pub(super) fn write_runs(&mut self) {
        while let Some(id) = self.state.queues.next_run() {
            let Some(queue) = self.state.queues.place_mut(id) else { continue };
            let (first, count) = core::mem::take(&mut queue.run);
            if count > 0 {
                self.write_run(id, first, count);
            }
        }
        if !self.owes() {
            self.state.pages.forget_freed();
        }
    }

    pub(super) fn write_run(&mut self, id: QueueId, first: Offset, count: u32) {
        if !self.write_acks(id, first, count) {
            self.owe();
        }
    }

    /// Writes that offsets of a queue are done; false if the log does not take it.
    pub(super) fn write_acks(&mut self, id: QueueId, first: Offset, count: u32) -> bool {
        self.keep(kind::ACKS, &[u64::from(id.0), first.0, u64::from(count)])
    }

    /// The log did not take that something is gone: a restart finds it again, and until reclaim has passed all
    /// that was appended up to now, nothing may take its place.
    pub(super) fn owe(&mut self) {
        let tail = self.log.tail();
        self.owed = Some(tail);
        self.log.reclaim_upto(tail);
    }

    /// Whether a restart would find something again that is gone. A log that takes nothing more keeps what it has.
    pub(super) fn owes(&mut self) -> bool {
        if self.log.read_only() {
            return false;
        }
        if self.owed.take_if(|upto| self.log.is_reclaimed(*upto)).is_some() {
            self.held_owed = 0;
        }
        self.owed.is_some()
    }

    /// Writes a record of a few numbers that only says what has happened; false if the log does
    /// not take it. What it says is then lost at the next restart and nothing else: messages
    /// come again.
    pub(super) fn keep(&mut self, record_kind: u8, numbers: &[u64]) -> bool {
        let mut buffer = [0; KEPT_MAX];
        let mut writer = Writer::new(&mut buffer);
        numbers.iter().for_each(|&number| writer.varint(number));
        let Some(digest) = writer.finish() else { return false };
        let kept = self.log.append(record_kind, digest, &[], self.purpose).is_ok();
        self.state.counters.unwritten += u64::from(!kept);
        kept
    }
}
