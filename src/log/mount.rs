//! Mounting: find the store, survey its end, tell what is in it, bring the end to safety.
//!
//! ```text
//! locate -> survey -> restore (tells all that stays where it is)
//!                        -> recover: begin a segment with copies of what was in doubt, telling
//!                           each at its new place
//! first sync             -> mark: say on flash that it is durable, which makes the segment count
//! second sync            -> the log is durable beyond the copies
//! ```
//! A mount writes only if there is something to copy; else the next segment is opened by the first
//! append. If power goes before the mark, the segment with the copies counts for nothing and the next mount
//! makes it again; if it goes behind the mark, the originals count for nothing. What was copied as a whole
//! is erased behind the mark, and what was dropped before it where nothing was copied from there. Where that is the last free segment, the mark waits for
//! reclaim to have moved the head behind the copies.
//!
//! Copies are limited to what fits into one segment. Of more than that (a device whose sync takes
//! several segments' time) the first part stays in place, and is durable from the next sync on.

use super::bytes::Varint;
use super::doubt::head_told;
use super::index::IndexWriter;
use super::layout::{Ring, PROVISIONAL, TRAILER_SIZE, WOUNDED};
use super::locate;
use super::medium::Medium;
use super::read::Windows;
use super::reclaim::Lap;
use super::record::{framed, KIND_END, KIND_HEAD, KIND_MARK};
use super::restore::Teller;
use super::scan::{Scanner, Step};
use super::space::Space;
use super::survey::{goes_on, trailer, Budget, Survey, Surveyor};
use super::tail::Tail;
use super::types::{
    AppendError, LogError, LogOptions, LogStorage, MountError, MountReport, Restore, SegmentState,
    DIGEST_MAX, KIND_LIMIT, RECORD_OVERHEAD, WINDOWS_MIN,
};
use super::write::{spare_index, MARKS, SPARE_RECORDS};
use super::{index, Aftermath, Log, Standing};
use crate::flash::{Flash, FlashError};
use crate::units::{At, Millis, Position};

/// Bytes of the open segment kept for the marks of a recovery, a head's move and paddings.
const RECOVERY_SPARE: u32 = 64;

impl<'a, F: Flash> Log<'a, F> {
    /// Opens a store and tells `restore` everything in it, as [`Log::new`] and [`Log::restore`] do together.
    pub fn mount(
        flash: F,
        storage: LogStorage<'a>,
        options: LogOptions,
        restore: &mut (impl Restore + ?Sized),
    ) -> Result<(Self, MountReport), MountError> {
        let mut log = Self::new(flash, storage, options)?;
        let report = log.restore(restore)?;
        Ok((log, report))
    }

    /// A log that knows nothing yet of what is on the device: [`Log::restore`] it before anything else. It is
    /// large, and two steps let it be where it stays before the second: a small stack has no room for copies.
    #[inline]
    pub fn new(flash: F, storage: LogStorage<'a>, options: LogOptions) -> Result<Self, MountError> {
        let ring = Ring::new(flash.geometry()).ok_or(MountError::Unusable)?;
        let LogStorage { segments, tail, index, windows } = storage;
        let segments =
            segments.get_mut(..ring.count() as usize).ok_or(MountError::StorageTooSmall("segments"))?;
        let tail = Tail::new(tail, ring.size(), ring.geometry.write_unit)
            .ok_or(MountError::StorageTooSmall("tail"))?;
        let windows = Some(windows)
            .filter(|memory| memory.len() >= WINDOWS_MIN)
            .and_then(|memory| Windows::new(memory, framed(5, options.max_record) as usize))
            .ok_or(MountError::StorageTooSmall("windows"))?;
        Ok(Log {
            medium: Medium::new(flash, ring),
            salt: 0,
            max_record: options.max_record,
            segments,
            space: Space::new(ring, 0, 0, 0),
            windows,
            tail,
            index: IndexWriter::new(index),
            open: None,
            end: Position::default(),
            durable: Position::default(),
            watermark: Position::default(),
            aftermath: Aftermath::None,
            syncing: None,
            dirty: false,
            read_only: options.read_only,
            now: Millis::default(),
            debt: 0,
            cursor: None,
            offered_from: None,
            unwanted: None,
            lap: Lap::default(),
            live: 0,
            head_unwritten: false,
            is_wounded: false,
            standing: Standing::Counts,
            is_refused: false,
            syncs: 0,
            appended: 0,
            copied: 0,
        })
    }

    /// Tells `restore` everything on the device, in log order, and goes on from there. Afterwards the caller
    /// holds what is live, sets the time, and commits if something is unsynced.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn restore(&mut self, restore: &mut (impl Restore + ?Sized)) -> Result<MountReport, MountError> {
        let mut report = MountReport::default();
        let survey = self.survey(&mut report)?;
        let mut teller = Teller {
            medium: &mut self.medium,
            segments: self.segments,
            salt: self.salt,
            survey: &survey,
            restore,
            report: &mut report,
        };
        teller.tell(self.windows.memory(), self.index.memory())?;
        if survey.copy_from < survey.end {
            self.recover_somewhere(&survey, restore, &mut report)?;
        }
        // What is scarce now may be needed by the next start.
        self.debt = self.debt_max();
        Ok(report)
    }

    /// Finds the store and its end, and takes over what that says.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn survey(&mut self, report: &mut MountReport) -> Result<Survey, MountError> {
        let ring = self.medium.ring;
        let mut survey = self.find_end()?;
        // What a failed sync lost may still be read from a cache.
        if survey.end > survey.watermark && self.medium.flash.forget() {
            survey = self.find_end()?;
        }
        self.space = Space::new(ring, survey.newest, survey.head, survey.freed);
        report.unclean = !survey.closed && survey.end != survey.top.resume;
        report.dropped = survey.dropped;
        report.base = survey.top.base;
        if survey.copy_from < survey.end && (self.read_only || self.space.free() == 0) {
            (survey.copy_from, survey.resume) = (survey.end, survey.end);
            report.in_place = true;
        }
        if survey.head > survey.sure {
            self.space.moved(survey.end);
        }
        self.end = survey.resume;
        self.durable = survey.watermark;
        self.watermark = survey.watermark;
        self.dirty = survey.end > survey.watermark && !self.read_only;
        self.now = survey.top.base;
        if !self.read_only && survey.erase {
            self.aftermath = Aftermath::Erase(survey.oldest, survey.newest, u32::MAX);
            self.dirty = true;
        }
        Ok(survey)
    }

    /// Finds the store and its end.
    fn find_end(&mut self) -> Result<Survey, MountError> {
        let budget = self.budget()?;
        let ring = self.medium.ring;
        let newest = locate::newest(&mut self.medium)?;
        self.salt = newest.salt;
        self.is_wounded = newest.flags & WOUNDED != 0;
        let mut without = None;
        loop {
            guess_wear(&ring, self.segments, ring.index(newest.sequence), newest.erases);
            let mut surveyor = Surveyor {
                medium: &mut self.medium,
                buffer: self.windows.memory(),
                segments: self.segments,
                salt: self.salt,
                budget,
                erase: false,
                without,
            };
            let survey = surveyor.survey(newest)?;
            if without.is_some() || !surveyor.is_dispensable(&survey) {
                return Ok(survey);
            }
            without = Some(survey.top.sequence);
        }
    }

    /// Copies what is in doubt into a segment of its own. If that refuses to be written, the originals are
    /// still in charge, and the next one is tried: a segment that went bad must not keep a store shut.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn recover_somewhere(
        &mut self,
        survey: &Survey,
        restore: &mut (impl Restore + ?Sized),
        report: &mut MountReport,
    ) -> Result<(), MountError> {
        loop {
            let (space, aftermath, told) = (self.space.clone(), self.aftermath, *report);
            let done = self.recover(survey, restore, report);
            let Some(open) = self.open.take_if(|_| done == Err(MountError::Medium(FlashError::Medium)))
            else {
                return done;
            };
            let index = self.medium.ring.index(open.sequence) as usize;
            self.segments.get_mut(index).into_iter().for_each(SegmentState::set_bad);
            let (last, bad) = (self.space.last, self.space.bad.saturating_add(1));
            self.space = space;
            (self.space.last, self.space.bad) = (last, bad);
            (self.read_only, self.standing) = (false, Standing::Counts);
            (self.watermark, self.aftermath) = (survey.watermark, aftermath);
            *report = told;
        }
    }

    /// Copies what is in doubt into a segment of its own.
    fn recover(
        &mut self,
        survey: &Survey,
        restore: &mut (impl Restore + ?Sized),
        report: &mut MountReport,
    ) -> Result<(), MountError> {
        let in_place = self.open_next(0, PROVISIONAL).is_err();
        report.in_place = in_place;
        let mut link = survey.copy_from.sequence();
        let mut from = survey.copy_from.offset();
        while link <= survey.end.sequence() {
            let last = survey.end.sequence();
            let next = goes_on(&mut self.medium, self.segments, self.salt, link, last);
            let limit = match next {
                Some(next) => next.resume.offset(),
                None if link == last => survey.end.offset(),
                // It was there before: the log now ends here.
                None => trailer(&mut self.medium, self.salt, link).map_or(u32::MAX, |trailer| trailer.end),
            };
            if !self.recover_from(link, from, limit, in_place, restore, report)? {
                break;
            }
            (link, from) = (next.map_or(u32::MAX, |next| next.sequence), self.medium.ring.start());
        }
        if in_place {
            self.end = survey.end;
            return Ok(());
        }
        self.flush().map_err(|_| MountError::Medium(FlashError::Medium))?;
        let failed = |error| match error {
            LogError::SyncFailed => MountError::Medium(FlashError::ReadOnly),
            _ => MountError::Medium(FlashError::Medium),
        };
        // What was dropped below where the copies go on from is erased before the mark: behind that no mount looks
        // whether it counts. Above may be what the copies were made from.
        let below = survey.resume.sequence();
        if survey.erase {
            self.erase_dropped(survey.oldest, below, u32::MAX);
        }
        let whole = survey.copy_from.sequence().saturating_add(1);
        if survey.erase || whole <= survey.end.sequence() {
            self.aftermath = Aftermath::Erase(below.saturating_add(1), survey.newest, whole);
        }
        while self.unsynced() && self.syncing.is_none() {
            self.commit().and_then(|()| self.poll()).map_err(failed)?;
        }
        Ok(())
    }

    /// What was recovered is durable and counts: now the segments that it passes over are erased. Only once
    /// that is durable too may a watermark pass them, because from then on no mount looks whether they
    /// count.
    pub(super) fn clear_up(&mut self) {
        self.aftermath = match self.aftermath {
            Aftermath::Erase(from, to, whole) => {
                self.erase_dropped(from, to, whole);
                self.dirty = true;
                Aftermath::Settle
            }
            Aftermath::Settle | Aftermath::None => {
                self.watermark = self.durable;
                Aftermath::None
            }
        };
    }

    /// Says on flash that what is in the open segment up to here is durable: from then on it counts.
    pub(super) fn mark(&mut self, durable: Position) -> Result<(), LogError> {
        self.watermark = durable;
        self.standing = Standing::Marked;
        for _ in 0..MARKS {
            self.flush()?;
            self.write(KIND_MARK, &[], &[]).map_err(|_| LogError::ReadOnly)?;
        }
        self.flush()
    }

    /// Copies, or only tells, the records between two offsets of a segment; false if not all of them were
    /// there any more.
    fn recover_from(
        &mut self,
        sequence: u32,
        from: u32,
        limit: u32,
        in_place: bool,
        restore: &mut (impl Restore + ?Sized),
        report: &mut MountReport,
    ) -> Result<bool, MountError> {
        let ring = self.medium.ring;
        let Some(header) = self.medium.header(sequence, self.salt) else { return Ok(false) };
        if from == ring.start() {
            self.recover_head(header.head, in_place, restore)?;
        }
        let mut scanner = Scanner::new(ring, &header, from, limit);
        loop {
            let item = match scanner.next(&mut self.medium, self.windows.memory()) {
                Step::Record(item) => item,
                Step::Bad => return Ok(false),
                Step::End => return Ok(true),
            };
            if item.kind == KIND_END && !in_place {
                self.write(KIND_END, &[], &[]).map_err(medium)?;
                continue;
            }
            if item.kind >= KIND_LIMIT {
                let head = head_told(&scanner, self.windows.memory(), &item);
                self.recover_head(head, in_place, restore)?;
                continue;
            }
            let (digest, payload) = scanner.content(self.windows.memory(), &item);
            let at = if in_place {
                ring.at(Position::new(sequence, item.offset))
            } else {
                report.copied = report.copied.saturating_add(1);
                let payload = payload.ok_or(MountError::StorageTooSmall("windows"))?;
                let writer = super::write::Writer {
                    medium: &mut self.medium,
                    tail: &mut self.tail,
                    index: &mut self.index,
                    open: &mut self.open,
                    watermark: self.watermark,
                };
                writer.write(item.kind, digest, &[payload]).map_err(MountError::Medium)?
            };
            let told = restore.record(at, item.kind, digest, item.size);
            told.map_err(|error| MountError::Refused(at, error))?;
            report.records = report.records.saturating_add(1);
        }
    }

    /// The head moves if the record that says so is copied: what it stands for is copied before. What it
    /// passes was told, since that was not yet certain.
    fn recover_head(
        &mut self,
        head: u32,
        in_place: bool,
        restore: &mut (impl Restore + ?Sized),
    ) -> Result<(), MountError> {
        let before = self.space.head;
        if head <= before || in_place {
            return Ok(());
        }
        let ring = self.medium.ring;
        for sequence in before.max(ring.oldest(head))..head {
            let from = ring.at(Position::new(sequence, 0));
            restore.passed(from, At(from.0.saturating_add(ring.size().into())));
        }
        self.space.head = head;
        self.write(KIND_HEAD, Varint::new(head.into()).as_bytes(), &[]).map_err(medium)?;
        self.space.moved(self.tail());
        Ok(())
    }

    /// Most that a recovery may copy; refuses options with which not even one record fits a segment.
    fn budget(&mut self) -> Result<Budget, MountError> {
        let (ring, max_record) = (self.medium.ring, self.max_record);
        let index = self.index.memory().len() as u32;
        let each = index::cost_max(max_record.min(DIGEST_MAX as u32));
        let spare = each.saturating_add(spare_index(SPARE_RECORDS));
        let index = index.checked_sub(spare).ok_or(MountError::StorageTooSmall("index"))?;
        let largest = ring.align(ring.start().saturating_add(framed(5, max_record)));
        let largest = largest.saturating_add(ring.geometry.write_unit.saturating_mul(SPARE_RECORDS));
        let too_large = !self.read_only && largest > ring.footer(spare);
        if too_large || max_record as usize > u32::MAX as usize - RECORD_OVERHEAD {
            return Err(MountError::Unusable);
        }
        let units = ring.geometry.write_unit.saturating_mul(SPARE_RECORDS);
        let taken = ring.start().saturating_add(TRAILER_SIZE).saturating_add(spare);
        let room = ring.size().saturating_sub(taken).saturating_sub(units).saturating_sub(RECOVERY_SPARE);
        let room = room.saturating_sub(self.tail.padding_max(room, ring.geometry.write_unit));
        Ok(Budget { room, index })
    }

    fn erase_dropped(&mut self, from: u32, to: u32, whole: u32) {
        for sequence in from..=to {
            let index = self.medium.ring.index(sequence);
            let Some(segment) = self.segments.get_mut(index as usize) else { continue };
            if segment.is_dropped() || sequence >= whole {
                let wear = segment.wear().saturating_add(1);
                segment.reset(wear);
                if self.medium.erase(index).is_err() {
                    segment.set_bad();
                    self.space.bad = self.space.bad.saturating_add(1);
                }
            }
        }
    }
}

/// Wear of segments whose headers are not read: each lap is one erase of each.
fn guess_wear(ring: &Ring, segments: &mut [SegmentState], newest: u32, erases: u32) {
    for (index, segment) in (0..ring.count()).zip(segments.iter_mut()) {
        segment.reset(if index <= newest { erases } else { erases.saturating_sub(1) });
    }
}

fn medium(error: AppendError) -> MountError {
    match error {
        AppendError::Medium(error) => MountError::Medium(error),
        _ => MountError::Medium(FlashError::ReadOnly),
    }
}
