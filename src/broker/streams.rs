//! Streams: what is kept, and for how long.
//!
//! Entries of a stream are neither ready nor in flight: they are there until retention by
//! count, bytes or age takes the oldest. Age is the entry's due time, like any TTL. Groups are
//! queues of their own over the offsets of the stream (see `deliver`).
//!
//! A stream begins at offset 0 for those who read it. In the tables and in the log it may not: the id of a
//! queue is used again, and offsets go on where the one before it ended, so that no record of that can be
//! taken for one of the next even if the end of the one before was lost. What is told outside is
//! counted from where the stream was born; the core alone tells them as they are.

#[cfg(feature = "gateway")]
use super::record::read_payload;
use super::Broker;
#[cfg(feature = "gateway")]
use crate::command::{Refusal, Reply};
use crate::flash::Flash;
use crate::model::pages::Slot;
#[cfg(feature = "gateway")]
use crate::units::{Millis, Position};
use crate::units::{Offset, QueueId};

impl<F: Flash> Broker<'_, F> {
    /// The offset that is 0 for readers: where a stream, or that of a group, was born. Offsets of a work
    /// queue are told as they are.
    #[cfg(feature = "gateway")]
    pub fn base_of(&self, id: QueueId) -> Offset {
        let queue = self.state.queues.get(id);
        let stream = queue.map(|queue| queue.stream().unwrap_or(id));
        let stream = stream.and_then(|id| self.state.queues.get(id)).filter(|queue| queue.is_stream());
        stream.map_or(Offset(0), |stream| stream.born)
    }

    /// An offset of a queue as its readers are told it.
    pub fn offset_told(&self, id: QueueId, offset: Offset) -> Offset {
        #[cfg(feature = "gateway")]
        let offset = Offset(offset.0.saturating_sub(self.base_of(id).0));
        #[cfg(not(feature = "gateway"))]
        let _ = id;
        offset
    }

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

    /// Finds the first message of a stream that was published at a time or after it: a search by halves,
    /// since log time never goes back. One that cannot be read counts as earlier.
    #[cfg(feature = "gateway")]
    pub(super) fn locate(&mut self, id: QueueId, at: Millis) -> Result<Reply, Refusal> {
        let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
        if !queue.is_stream() {
            return Err(Refusal::NotAllowed);
        }
        let base = queue.born.0;
        let (mut low, mut high) = (queue.first.0, queue.next.0);
        let mut found = queue.next;
        while low < high {
            let middle = low + (high - low) / 2;
            let slot = self.state.pages.first_in(id, middle..high);
            let Some((slot, (_, offset))) = slot.and_then(|slot| Some((slot, self.state.pages.owner(slot)?)))
            else {
                high = middle;
                continue;
            };
            if self.published_at(id, slot).is_some_and(|published| published >= at) {
                found = offset;
                high = middle;
            } else {
                low = offset.0.saturating_add(1);
            }
        }
        Ok(Reply::Located(Offset(found.0.saturating_sub(base))))
    }

    #[cfg(feature = "gateway")]
    fn published_at(&mut self, id: QueueId, slot: Slot) -> Option<Millis> {
        let at = self.address_of(id, slot)?;
        let record = self.log.read(at).ok()?;
        Some(read_payload(record.kind, record.base, record.payload)?.stamp.published)
    }

    /// Removes a message that is not in flight from a queue, by its offset.
    #[cfg(feature = "gateway")]
    pub(super) fn cancel(&mut self, id: QueueId, offset: Offset) -> Result<Reply, Refusal> {
        let queue = self.state.queues.get(id).ok_or(Refusal::NoQueue)?;
        if queue.is_stream() || queue.stream().is_some() {
            return Err(Refusal::NotAllowed);
        }
        let slot = self.find_entry(id, offset).filter(|&slot| !self.state.pages.is_in_flight(slot));
        let slot = slot.ok_or(Refusal::NoMessage)?;
        let is_kept = self.is_kept(id, slot);
        if is_kept && self.log.read_only() {
            return Err(Refusal::ReadOnly);
        }
        self.finish(id, slot);
        if !is_kept {
            return Ok(Reply::Done(Position(0)));
        }
        let unwritten = self.state.counters.unwritten;
        self.write_runs();
        // What the log did not take is never durable.
        let is_written = self.state.counters.unwritten == unwritten;
        Ok(Reply::Done(if is_written { self.make_durable() } else { Position(u64::MAX) }))
    }

    /// The entry of an offset, in whatever lane it is.
    #[cfg(feature = "gateway")]
    pub(super) fn find_entry(&self, id: QueueId, offset: Offset) -> Option<Slot> {
        let highest = self.state.queues.get(id)?.policy.max_priority;
        (0..=highest).find_map(|lane| self.state.pages.find(id, lane, offset))
    }
}
