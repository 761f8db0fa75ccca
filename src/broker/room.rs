//! Room: how much of the log what is live takes, in what is counted when a publish asks for some.
//!
//! ```text
//! an entry    | its share of the record | acknowledgement | growth | index |
//! ```
//! A copy that reclaim makes may be larger than its original: it tells how often the message was delivered and when
//! it is due, and what of it the segment's index could predict it may predict no longer. Copies that took more
//! room than there is would leave none for good, so each entry pays for the most it may take. The index pays
//! twice over: by its bytes, and because a segment ends when its index is full, however little is in it.

use super::Broker;
use crate::flash::Flash;

/// Bytes kept free for each entry: 12 of its acknowledgement, 12 of growth, and its place in the index.
const ENTRY_RESERVE: u64 = 24 + INDEX_SIZE as u64;
/// Bytes of an entry in the index of a segment, about, where nothing of it can be predicted.
const INDEX_SIZE: u32 = 20;
/// Bytes that a copy of a group's declaration writes for each of its entries, about: holes, receipts, returns.
const PENDING_SIZE: u32 = 64;

/// Bytes of a log with segments of this size that an entry's place in an index stands for, if an index may have so many.
pub fn index_share(segment_size: u32, index_bytes: u32) -> u32 {
    segment_size.saturating_mul(INDEX_SIZE).checked_div(index_bytes).unwrap_or(u32::MAX)
}

impl<F: Flash> Broker<'_, F> {
    /// Bytes of the log for all that is live, if so many entries come to it, and its acknowledgements.
    pub(super) fn bytes_needed(&self, more: u64) -> u64 {
        let count = self.state.live_count.saturating_add(more);
        let bytes = self.state.live_bytes.saturating_add(count.saturating_mul(ENTRY_RESERVE));
        let share = index_share(self.segment_size(), self.log.index_bytes());
        bytes.max(count.saturating_mul(share.into()))
    }

    /// Entries that all durable groups together may have: reclaim writes what is known of each of them in one go, into
    /// what is kept free for it.
    pub(super) fn pending_max(&self) -> u32 {
        self.segment_size() / PENDING_SIZE
    }

    fn segment_size(&self) -> u32 {
        self.log.device().geometry().segment_size
    }
}
