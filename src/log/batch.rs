//! Batches: several records that count together or not at all.
//!
//! ```text
//! | begin | record | record | ... | end |        in one segment, with nothing else in between
//! ```
//! Nothing is synced among them, so a batch lies wholly before what is known to be durable, or
//! behind it. There the log ends at its begin if its end is not there; below, it was whole, and
//! damage in it is damage. Copies of a recovery need none: their segment counts as a whole or not at all.

use super::index::cost_max;
use super::record::{framed, KIND_BEGIN, KIND_END};
use super::types::{AppendError, Purpose, DIGEST_MAX, RECORD_OVERHEAD};
use super::write::SPARE_RECORDS;
use super::Log;
use crate::flash::Flash;

/// What the records of a batch need at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSize {
    /// How many.
    pub records: u32,
    /// Bytes of their digests and payloads.
    pub bytes: u32,
    /// Bytes of their digests.
    pub digests: u32,
}

impl BatchSize {
    /// One more record.
    pub fn add(&mut self, digest: usize, payload: usize) {
        let digest = digest.min(DIGEST_MAX) as u32;
        self.records = self.records.saturating_add(1);
        self.digests = self.digests.saturating_add(digest);
        self.bytes =
            self.bytes.saturating_add(digest).saturating_add(u32::try_from(payload).unwrap_or(u32::MAX));
    }
}

impl<F: Flash> Log<'_, F> {
    /// Begins a batch: the next appends, which need no more than this, and then [`Log::end_batch`]. Refused as
    /// too large if no segment holds it.
    pub fn begin_batch(&mut self, size: &BatchSize, purpose: Purpose) -> Result<(), AppendError> {
        if self.read_only {
            return Err(AppendError::ReadOnly);
        }
        if !self.fits_all(size, self.tail.end(), self.index.as_bytes().len() as u32) {
            if !self.fits_all(size, self.medium.ring.start(), 0) {
                return Err(AppendError::TooLarge);
            }
            self.open_for(purpose)?;
        } else if self.open.is_none() || self.is_kept_from(purpose) {
            self.open_for(purpose)?;
        }
        self.write(KIND_BEGIN, &[], &[]).map(|_| ())
    }

    /// Ends a batch. What was appended since its begin counts from now on.
    ///
    /// The end stands in a unit of its own, written after the others: the unit that power was cut in may be
    /// read once and not again, and must not take a record with it that was read with the end.
    pub fn end_batch(&mut self) -> Result<(), AppendError> {
        self.flush().map_err(|_| AppendError::ReadOnly)?;
        self.write(KIND_END, &[], &[]).map(|_| ())
    }

    /// Whether a batch fits into a segment that is filled up to here, with the footer it then needs.
    fn fits_all(&self, size: &BatchSize, end: u32, index_size: u32) -> bool {
        let ring = &self.medium.ring;
        let records = size.records.saturating_add(2);
        let overhead = (RECORD_OVERHEAD as u32).saturating_mul(records);
        // What is programmed in between is padded.
        let flushes = if self.tail.retains() { 1 } else { records };
        let padding = ring.geometry.write_unit.saturating_mul(flushes);
        let bytes = size.bytes.saturating_add(overhead).saturating_add(padding);
        let cost = size.digests.saturating_add(cost_max(0).saturating_mul(records));
        let index_size = index_size.saturating_add(cost);
        self.leaves(SPARE_RECORDS, end.saturating_add(framed(5, bytes)), index_size)
    }
}
