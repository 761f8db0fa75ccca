//! Streams: what is kept, and for how long.
//!
//! Entries of a stream are neither ready nor in flight: they are there until retention by
//! count, bytes or age takes the oldest. Age is the entry's due time, like any TTL. Groups are
//! queues of their own over the offsets of the stream (see `deliver`).

use super::Broker;
use crate::flash::Flash;
use crate::model::pages::Slot;
use crate::units::QueueId;

impl<F: Flash> Broker<'_, F> {
    /// Drops the oldest of a stream while it is over its count or bytes. A message can push
    /// out more than one where sizes differ; each was paid for when it was published.
    pub(super) fn trim_stream(&mut self, id: QueueId) {
        loop {
            let Some(queue) = self.state.queues.get(id).filter(|queue| queue.is_stream()) else { return };
            let policy = &queue.policy;
            let over = policy.max_count > 0 && queue.ready > policy.max_count
                || policy.max_bytes > 0 && queue.bytes > policy.max_bytes && queue.ready > 1;
            let Some(slot) = self.state.pages.any_live(&queue.roots).filter(|_| over) else { return };
            self.state.counters.dropped += 1;
            self.drop_from_stream(id, slot);
        }
    }

    /// Retention takes one message of a stream.
    pub(super) fn drop_from_stream(&mut self, id: QueueId, slot: Slot) {
        self.finish(id, slot);
        self.set_stream_first(id);
    }

    /// Finds the first message that a stream still has.
    pub(super) fn set_stream_first(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get_mut(id) else { return };
        queue.first = self.state.pages.first_offset(&queue.roots).unwrap_or(queue.next);
    }
}
