//! Appending: records into the open segment, the open segment onto the device, syncs.
//!
//! ```text
//! append -> tail buffer -> flush: padded, programmed -> sync started -> sync done: durable
//! ```
//! What may be on flash if power goes: any part of what was flushed since the last sync, in any
//! order. What is appended next says how far the log was durable, so a mount can tell.
//!
//! After a failed write or sync the log is read-only for good: what was not durable is in doubt,
//! and writing on top of it would make it worse.

use super::index::cost_max;
use super::layout::{Header, Trailer, PROVISIONAL, UNTIDY, WOUNDED};
use super::record::{framed, Front};
use super::space::{FLOOR_PUBLISH, LAST_TWO};
use super::types::{AppendError, LogError, Purpose, DIGEST_MAX, KIND_LIMIT, RECORD_OVERHEAD};
use super::{Aftermath, Log, Open, Standing};
use crate::flash::{Flash, FlashError, SyncState};
use crate::log::checksum::crc;
use crate::units::{At, Millis, Position};
use core::ops::Range;

/// Most pieces of a copy.
pub const PIECES_MAX: usize = if cfg!(feature = "gateway") { 7 } else { 3 };

/// Records of the log's own that find room behind the others of a segment: marks, and a head's move.
pub(super) const SPARE_RECORDS: u32 = MARKS + 1;
/// Marks that are written together, one by one: the last may read well once and not again, and so may the
/// one before it, if power goes twice (`survey`).
pub(super) const MARKS: u32 = 3;
/// Most of a segment that is left for them, as a part of it: write units may be large.
const SPARE_PART: u32 = 16;

/// Index of so many of these records at most: they have digests of up to eight bytes.
pub(super) fn spare_index(records: u32) -> u32 {
    cost_max(8).saturating_mul(records)
}

/// Segments one after the other that cannot be begun before the medium is given up, not the segments.
const REFUSED_MAX: u32 = 3;

impl<F: Flash> Log<'_, F> {
    /// Makes sure that one record of `size` more bytes (digest and payload) fits into the open
    /// segment, and opens the next one if not. Returns the base time of the segment the next
    /// append goes to, if it is no larger.
    pub fn prepare(&mut self, size: u32, purpose: Purpose) -> Result<Millis, AppendError> {
        if self.read_only {
            return Err(AppendError::ReadOnly);
        }
        if size > self.max_record {
            return Err(AppendError::TooLarge);
        }
        if !self.fits(size) || self.is_kept_from(purpose) {
            self.open_for(purpose)?;
        }
        Ok(self.open.as_ref().map_or(self.now, |open| open.base))
    }

    /// Opens the next segment for what there is no place for in the open one.
    pub(super) fn open_for(&mut self, purpose: Purpose) -> Result<(), AppendError> {
        let floor = self.space.floor(purpose);
        // A header that tells of a moved head makes room itself.
        let gains = self.head_unwritten && self.space.free_soon() > floor;
        // What is in doubt together with the copies might not fit into the last segment.
        let floor = if gains { LAST_TWO.min(floor) } else { floor };
        let floor = if self.is_in_doubt() { floor.max(LAST_TWO) } else { floor };
        let opened = self.open_next(floor, 0);
        if purpose == Purpose::Reclaim {
            self.is_refused = opened.is_err();
        }
        let scarce = opened.is_err() || self.space.free_soon() <= FLOOR_PUBLISH;
        if purpose != Purpose::Reclaim && scarce {
            self.debt = self.debt_max();
        }
        opened?;
        self.space.opened(purpose);
        Ok(())
    }

    /// Appends a record; its payload is the parts one after the other.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn append(
        &mut self,
        kind: u8,
        digest: &[u8],
        payload: &[&[u8]],
        purpose: Purpose,
    ) -> Result<At, AppendError> {
        let size = payload.iter().fold(digest.len(), |sum, part| sum.saturating_add(part.len()));
        let size = u32::try_from(size).map_err(|_| AppendError::TooLarge)?;
        if kind >= KIND_LIMIT || digest.len() > DIGEST_MAX {
            return Err(AppendError::TooLarge);
        }
        self.prepare(size, purpose)?;
        let at = self.write(kind, digest, payload)?;
        self.charge(size, purpose);
        Ok(at)
    }

    /// Appends a record whose payload is pieced together: new bytes and a range of the payload of the record
    /// at `from`, by turns. A range ends with the old payload; beyond [`PIECES_MAX`] pieces, nothing is taken.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn copy(
        &mut self,
        from: At,
        kind: u8,
        digest: &[u8],
        pieces: &[(&[u8], Range<usize>)],
        purpose: Purpose,
    ) -> Result<At, AppendError> {
        if kind >= KIND_LIMIT || digest.len() > DIGEST_MAX {
            return Err(AppendError::TooLarge);
        }
        let cached = self.stage(from).map_err(AppendError::Source)?;
        let corrupt = AppendError::Source(super::ReadError::Corrupt);
        let (source, _) = self.windows.record(cached).ok_or(corrupt)?;
        let payload = pieced(pieces, source.payload);
        let size = payload.iter().fold(digest.len(), |sum, part| sum.saturating_add(part.len()));
        let size = u32::try_from(size).map_err(|_| AppendError::TooLarge)?;
        self.prepare(size, purpose)?;
        // Borrowed apart from the log's other fields: the windows stay as they are while it writes.
        let (source, _) = self.windows.record(cached).ok_or(corrupt)?;
        let payload = pieced(pieces, source.payload);
        let writer = Writer {
            medium: &mut self.medium,
            tail: &mut self.tail,
            index: &mut self.index,
            open: &mut self.open,
            watermark: self.watermark,
        };
        let written = writer.write(kind, digest, &payload);
        let at = self.written(written)?;
        self.charge(size, purpose);
        Ok(at)
    }

    /// Programs what is buffered, padded to the write unit. No sync.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.read_only {
            return Err(LogError::ReadOnly);
        }
        if let Some(open) = &mut self.open {
            open.batching = false;
            let flushed = self.tail.flush(&mut self.medium);
            self.or_read_only(flushed)?;
        }
        Ok(())
    }

    /// If no sync is in flight: flushes and starts one that covers everything appended. If one is,
    /// nothing: the next commit will.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn commit(&mut self) -> Result<(), LogError> {
        if self.read_only {
            return Err(LogError::ReadOnly);
        }
        if self.syncing.is_some() || !self.unsynced() {
            return Ok(());
        }
        self.start_sync()
    }

    fn start_sync(&mut self) -> Result<(), LogError> {
        self.flush()?;
        if self.medium.flash.start_sync().is_err() {
            self.read_only = true;
            return Err(LogError::SyncFailed);
        }
        self.syncing = Some(self.tail());
        self.dirty = false;
        Ok(())
    }

    /// Asks the device how its sync is doing; true if the durable position moved. After a failed
    /// sync it never moves again.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn poll(&mut self) -> Result<bool, LogError> {
        loop {
            match self.medium.flash.poll_sync() {
                SyncState::Idle | SyncState::Pending => return Ok(false),
                SyncState::Failed => {
                    self.read_only = true;
                    self.syncing = None;
                    return Err(LogError::SyncFailed);
                }
                SyncState::Done => {}
            }
            let Some(covered) = self.syncing.take().filter(|_| !self.read_only) else {
                return Ok(false);
            };
            self.syncs = self.syncs.saturating_add(1);
            if self.standing == Standing::Provisional {
                // A mark of what is below it would not make it count.
                debug_assert!(self.open.as_ref().is_none_or(|open| open.sequence == covered.sequence()));
                // What is durable does not count before the marks are.
                let behind = self.tail() > covered;
                self.mark(covered)?;
                self.start_sync()?;
                if behind {
                    // They say nothing of what came meanwhile.
                    (self.syncing, self.dirty) = (Some(covered), true);
                }
                continue;
            }
            self.standing = Standing::Counts;
            let moved = covered > self.durable;
            self.durable = self.durable.max(covered);
            self.space.settle(self.durable);
            self.clear_up();
            return Ok(moved);
        }
    }

    /// Writes the footer of the open segment, so that the next mount need not look for its end,
    /// and starts a sync. The caller commits and polls until nothing is [`unsynced`](Log::unsynced) or
    /// [`syncing`](Log::syncing): before, so that the footer says that all is durable, and after.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn close(&mut self) -> Result<(), LogError> {
        if self.read_only {
            return Err(LogError::ReadOnly);
        }
        if self.open.is_some() {
            self.finish()?;
        }
        self.commit()?;
        self.poll()?;
        let sealed = self.seal();
        self.or_read_only(sealed)?;
        self.commit()
    }

    /// Whether a record fits into the open segment, with the footer it then needs.
    fn fits(&self, size: u32) -> bool {
        self.fits_beside(SPARE_RECORDS, size)
    }

    /// Whether a record fits into the open segment, and so many of the log's own behind it.
    pub(super) fn fits_beside(&self, spare: u32, size: u32) -> bool {
        let end = self.tail.end().saturating_add(framed(5, size));
        let cost = cost_max(size.min(DIGEST_MAX as u32));
        let index_size = (self.index.as_bytes().len() as u32).saturating_add(cost);
        self.open.is_some() && self.leaves(spare, end, index_size)
    }

    /// Whether a segment filled up to there has room for so many records of the log's own, and the footer.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn leaves(&self, spare: u32, end: u32, index_size: u32) -> bool {
        let ring = &self.medium.ring;
        let index_size = index_size.saturating_add(spare_index(spare));
        let units = ring.geometry.write_unit.saturating_mul(spare);
        let is_provisional = self.standing == Standing::Provisional;
        let units = if is_provisional { units } else { units.min(ring.size() / SPARE_PART) };
        let end = ring.align(end).saturating_add(units);
        index_size <= self.index.capacity() && end <= ring.footer(index_size)
    }

    /// Whether what is left of the open segment is for copies of reclaim alone: then all that is in doubt
    /// fits into the last free segment, together with what is still to be copied of the oldest.
    pub(super) fn is_kept_from(&self, purpose: Purpose) -> bool {
        purpose != Purpose::Reclaim && self.space.free() < LAST_TWO
    }

    /// Something is not known to be durable, or flash does not say yet that it is.
    fn is_in_doubt(&self) -> bool {
        self.dirty || self.syncing.is_some() || self.watermark < self.tail()
    }

    /// Closes the open segment and begins the next, if more than `floor` are free, also when some refused to be
    /// begun. The last one is provisional.
    pub(super) fn open_next(&mut self, floor: u32, flags: u8) -> Result<(), AppendError> {
        if self.space.free() <= floor || self.standing == Standing::Provisional {
            return Err(AppendError::Full);
        }
        let sealed = self.seal();
        self.or_read_only(sealed).map_err(refused)?;
        // A recovery begins before anybody could hold anything.
        if flags & PROVISIONAL == 0 {
            self.pass_dead();
        }
        let mut refused_count = 0;
        while self.space.free() > floor {
            let flags = if self.space.free() == 1 { flags | PROVISIONAL } else { flags };
            self.space.last = self.space.last.saturating_add(1);
            let index = self.medium.ring.index(self.space.last) as usize;
            if self.segments.get(index).is_none_or(|segment| segment.is_bad()) {
                continue;
            }
            let Err(error) = self.begin(self.space.last, flags) else { return Ok(()) };
            refused_count += 1;
            if error == FlashError::ReadOnly || refused_count == REFUSED_MAX {
                return self.or_read_only(Err(error)).map_err(refused);
            }
            if let Some(segment) = self.segments.get_mut(index) {
                segment.set_bad();
                self.space.bad = self.space.bad.saturating_add(1);
            }
        }
        Err(AppendError::Full)
    }

    /// Erases a segment and writes its header.
    pub(super) fn begin(&mut self, sequence: u32, flags: u8) -> Result<(), FlashError> {
        let ring = self.medium.ring;
        let index = ring.index(sequence);
        let segment = self.segments.get_mut(index as usize).ok_or(FlashError::OutOfBounds)?;
        let before = self.medium.header_at(index).ok().filter(|header| header.salt == self.salt);
        let erases = before.map_or(segment.wear(), |header| header.erases).saturating_add(1);
        segment.reset(erases);
        self.medium.erase(index)?;
        let base = self.now;
        let wounded = if self.is_wounded || self.space.bad > 0 { WOUNDED } else { 0 };
        let untidy = if matches!(self.aftermath, Aftermath::Erase(..)) { UNTIDY } else { 0 };
        let mut header = Header {
            flags: flags | wounded | untidy,
            geometry: ring.geometry,
            salt: self.salt,
            sequence,
            erases,
            head: self.space.head,
            resume: self.end,
            durable: self.watermark,
            base,
            nonce: self.medium.flash.nonce(),
            seed: 0,
        };
        let bytes = header.encode();
        self.dirty = true;
        self.tail.begin(index, header.seed);
        self.tail.push(&mut self.medium, &bytes)?;
        self.tail.flush(&mut self.medium)?;
        self.index.clear();
        if flags & PROVISIONAL != 0 {
            self.standing = Standing::Provisional;
        }
        self.open = Some(Open { sequence, seed: header.seed, base, resume: header.resume, batching: false });
        if self.head_unwritten {
            self.head_unwritten = false;
            self.space.moved(self.tail());
        }
        Ok(())
    }

    /// Writes the footer of the open segment.
    fn seal(&mut self) -> Result<(), FlashError> {
        if self.open.is_some() {
            // Where this fails the segment stays open: what is in memory only is read from there.
            self.tail.flush(&mut self.medium)?;
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        let ring = self.medium.ring;
        self.end = Position::new(open.sequence, self.tail.end());
        self.dirty = true;
        let index = self.index.as_bytes();
        let index_size = index.len() as u32;
        let footer = ring.footer(index_size);
        let not_durable = ring.distance(self.watermark, self.end);
        let trailer = Trailer {
            index_size,
            end: self.tail.end(),
            resume: open.resume,
            index_crc: crc(0, index),
            not_durable: u32::try_from(not_durable).unwrap_or(u32::MAX),
            seed: open.seed,
        };
        self.tail.jump(&mut self.medium, footer)?;
        let gap = ring.size().saturating_sub(footer).saturating_sub(index_size);
        for _ in super::layout::TRAILER_SIZE..gap {
            self.tail.push(&mut self.medium, &[0])?;
        }
        self.tail.push(&mut self.medium, index)?;
        self.tail.push(&mut self.medium, &trailer.encode(self.salt, open.sequence))?;
        self.tail.flush(&mut self.medium)
    }

    /// Writes a record that was prepared for.
    pub(super) fn write(&mut self, kind: u8, digest: &[u8], payload: &[&[u8]]) -> Result<At, AppendError> {
        let writer = Writer {
            medium: &mut self.medium,
            tail: &mut self.tail,
            index: &mut self.index,
            open: &mut self.open,
            watermark: self.watermark,
        };
        let written = writer.write(kind, digest, payload);
        self.written(written)
    }

    fn written(&mut self, written: Result<At, FlashError>) -> Result<At, AppendError> {
        self.dirty = true;
        self.appended = self.appended.saturating_add(1);
        self.or_read_only(written).map_err(refused)
    }

    fn or_read_only<T>(&mut self, done: Result<T, FlashError>) -> Result<T, LogError> {
        done.map_err(|error| {
            self.read_only = true;
            LogError::Medium(error)
        })
    }
}

/// The parts of a log that writing touches; the read windows are not among them.
pub(super) struct Writer<'w, 'a, F> {
    pub(super) medium: &'w mut super::medium::Medium<F>,
    pub(super) tail: &'w mut super::tail::Tail<'a>,
    pub(super) index: &'w mut super::index::IndexWriter<'a>,
    pub(super) open: &'w mut Option<Open>,
    pub(super) watermark: Position,
}

impl<F: Flash> Writer<'_, '_, F> {
    /// Writes a record into the open segment, where it fits.
    pub(super) fn write(self, kind: u8, digest: &[u8], payload: &[&[u8]]) -> Result<At, FlashError> {
        let open = self.open.as_mut().ok_or(FlashError::ReadOnly)?;
        let ring = self.medium.ring;
        let here = Position::new(open.sequence, self.tail.end());
        let distance = (!open.batching).then(|| ring.distance(self.watermark, here));
        let front = Front::new(open.seed, here.offset(), kind, distance, digest, payload);
        let mut bytes = [0; RECORD_OVERHEAD];
        let len = front.encode(&mut bytes);
        self.tail.push(self.medium, bytes.get(..len).unwrap_or(&[]))?;
        self.tail.push(self.medium, digest)?;
        for part in payload {
            self.tail.push(self.medium, part)?;
        }
        let size = payload.iter().fold(digest.len(), |sum, part| sum.saturating_add(part.len()));
        let begins = distance.map(|_| front.watermark_size() as u8);
        self.index.add(kind, size as u32, digest, begins);
        open.batching = true;
        // A record must not be half in memory: it could be read from neither side.
        if self.tail.base() > here.offset() {
            open.batching = false;
            self.tail.flush(self.medium)?;
        }
        Ok(ring.at(here))
    }
}

/// The parts of a payload that is pieced together from an old one.
fn pieced<'p>(pieces: &[(&'p [u8], Range<usize>)], old: &'p [u8]) -> [&'p [u8]; 2 * PIECES_MAX] {
    let mut parts = [&[][..]; 2 * PIECES_MAX];
    for (pair, (new, kept)) in parts.chunks_exact_mut(2).zip(pieces) {
        if let [first, second] = pair {
            let kept = kept.start..kept.end.min(old.len());
            (*first, *second) = (new, old.get(kept).unwrap_or(&[]));
        }
    }
    parts
}

fn refused(error: LogError) -> AppendError {
    match error {
        LogError::Medium(error) => AppendError::Medium(error),
        LogError::Full => AppendError::Full,
        LogError::SyncFailed | LogError::ReadOnly => AppendError::ReadOnly,
    }
}
