//! Telling the layer above what is in the log, in its order.
//!
//! A closed segment is told from its footer: one read if the footer is short. Where the footer is
//! missing or damaged the records are read instead, and what is not whole among them is reported.
//! The segment behind says where the content of one ends, so it is looked at first: the buffer is
//! used in two halves that take turns.

use super::bytes::{take, take_mut};
use super::checksum::crc;
use super::index::IndexReader;
use super::layout::{Header, Trailer, TRAILER_SIZE, UNTIDY, WOUNDED};
use super::medium::Medium;
use super::scan::{Item, Scanner, Step};
use super::survey::{trailer, Survey};
use super::types::{Damage, Extent, MountError, MountReport, Restore, SegmentState, KIND_LIMIT};
use crate::flash::Flash;
use crate::units::Position;

/// Least bytes that are read of a segment's end.
const FOOTER_READ_MIN: u32 = 256;
/// Part of a segment that is read of its end.
const FOOTER_READ_PART: u32 = 64;

/// Tells what is in the log.
pub(super) struct Teller<'m, F, R: ?Sized> {
    pub(super) medium: &'m mut Medium<F>,
    pub(super) segments: &'m mut [SegmentState],
    pub(super) salt: u32,
    pub(super) survey: &'m Survey,
    pub(super) restore: &'m mut R,
    pub(super) report: &'m mut MountReport,
}

/// What the first look at a segment gave.
#[derive(Clone, Copy, Debug)]
struct Peek {
    sequence: u32,
    resume: Position,
    header: Option<Header>,
    trailer: Option<Trailer>,
    /// Bytes of the segment's end that are in the half.
    have: u32,
}

impl<F: Flash, R: Restore + ?Sized> Teller<'_, F, R> {
    /// Tells every record from the head up to where copies begin. `index` is memory for footers
    /// that are longer than a half.
    pub(super) fn tell(&mut self, buffer: &mut [u8], index: &mut [u8]) -> Result<(), MountError> {
        let half = buffer.len() / 2;
        let Some((mut here, mut there)) = buffer.split_at_mut_checked(half) else {
            return Err(MountError::StorageTooSmall("windows"));
        };
        if self.survey.top.flags & (WOUNDED | UNTIDY) != 0 {
            self.drop_passed_over(here);
        }
        let mut next = self.peek_from(self.survey.head, here);
        self.gap(self.survey.head, next.as_ref());
        while let Some(current) = next {
            let behind = current.sequence.saturating_add(1);
            next = self.peek_from(behind, there);
            let limit = self.limit(&current, next.as_ref());
            if limit > self.medium.ring.start() && !self.by_footer(&current, limit, here, index)? {
                self.by_records(&current, limit, here)?;
            }
            self.gap(behind, next.as_ref());
            (here, there) = (there, here);
        }
        Ok(())
    }

    /// Segments that the log went on without are erased before anything behind them counts; the ones that refused
    /// that are still there. From the top down each segment tells which one it goes on from.
    fn drop_passed_over(&mut self, half: &mut [u8]) {
        let head = self.survey.head;
        let (mut link, mut resume) = (self.survey.top.sequence, self.survey.top.resume);
        while link > head {
            let below = resume.sequence().min(link.saturating_sub(1));
            for sequence in below.saturating_add(1).max(head)..link {
                if self.peek(sequence, half).is_some() {
                    let index = self.medium.ring.index(sequence) as usize;
                    self.segments.get_mut(index).into_iter().for_each(SegmentState::set_dropped);
                }
            }
            let Some(found) = (head..=below).rev().find_map(|sequence| self.peek(sequence, half)) else {
                return;
            };
            (link, resume) = (found.sequence, found.resume);
        }
    }

    /// The first segment that can be read, from this sequence on.
    fn peek_from(&mut self, from: u32, half: &mut [u8]) -> Option<Peek> {
        (from..=self.survey.top.sequence).find_map(|sequence| self.peek(sequence, half))
    }

    fn peek(&mut self, sequence: u32, half: &mut [u8]) -> Option<Peek> {
        let ring = self.medium.ring;
        let index = ring.index(sequence);
        if self.segments.get(index as usize).is_none_or(|segment| !segment.counts()) {
            return None;
        }
        let read = FOOTER_READ_MIN.max(ring.size() / FOOTER_READ_PART);
        let have = ring.size().min(read).min(half.len() as u32);
        let end = take_mut(half, 0, have as usize)?;
        let read = self.medium.read(index, ring.size().saturating_sub(have), end).is_ok();
        let (trailer, have) = match read {
            true => (Trailer::decode(&ring, end, self.salt, sequence), have),
            // What cannot be read may be before the footer.
            false => (trailer(self.medium, self.salt, sequence), 0),
        };
        // What was written lately may be a trailer of an earlier use of the sequence.
        let settled = sequence < self.survey.oldest;
        if let Some(found) = trailer.filter(|_| settled) {
            let resume = found.resume;
            return Some(Peek { sequence, resume, header: None, trailer, have });
        }
        let Some(header) = self.medium.header(sequence, self.salt) else {
            // A trailer whose header is lost belongs to what is in the segment now, if the first record does.
            let found = trailer
                .filter(|trailer| self.medium.begins_with_record(sequence, trailer.seed, trailer.end))?;
            return Some(Peek { sequence, resume: found.resume, header: None, trailer, have });
        };
        let trailer = trailer.filter(|trailer| trailer.seed == header.seed);
        Some(Peek { sequence, resume: header.resume, header: Some(header), trailer, have })
    }

    /// Where the records of a segment that are told end.
    fn limit(&self, current: &Peek, next: Option<&Peek>) -> u32 {
        let own = current.trailer.map_or(self.medium.ring.size(), |trailer| trailer.end);
        let within = |position: Position| match position.sequence().cmp(&current.sequence) {
            core::cmp::Ordering::Less => 0,
            core::cmp::Ordering::Equal => position.offset(),
            core::cmp::Ordering::Greater => u32::MAX,
        };
        let next = next.map_or(u32::MAX, |next| within(next.resume));
        own.min(next).min(within(self.survey.resume))
    }

    /// Segments from here to the next that can be read are lost, unless the next says that the log
    /// went on without them.
    fn gap(&mut self, from: u32, next: Option<&Peek>) {
        let top = self.survey.top.sequence;
        // The watermark may say that there was more than is found.
        let last = top.max(self.survey.watermark.sequence().min(self.survey.newest));
        let to = next.map_or(last.saturating_add(1), |next| next.sequence);
        for sequence in from..to {
            let index = self.medium.ring.index(sequence);
            let dropped = self.segments.get(index as usize).is_none_or(|segment| !segment.counts());
            let passed = next.is_some_and(|next| next.resume.sequence() < sequence);
            // What is behind that is not told here, and may be gone any time.
            let start = Position::new(sequence, self.medium.ring.start());
            let lost = sequence > top && start < self.survey.watermark;
            if lost || (!dropped && !passed && start < self.survey.resume) {
                let position = Position::new(sequence, 0);
                self.damage(position, self.medium.ring.size(), Extent::Segment);
            }
        }
    }

    /// Tells a segment's records from its footer; false if that cannot be read.
    fn by_footer(
        &mut self,
        peek: &Peek,
        limit: u32,
        half: &[u8],
        memory: &mut [u8],
    ) -> Result<bool, MountError> {
        let ring = self.medium.ring;
        let Some(trailer) = peek.trailer else { return Ok(false) };
        let whole = trailer.index_size.saturating_add(TRAILER_SIZE);
        let index = match peek.have.checked_sub(whole) {
            Some(at) => take(half, at as usize, trailer.index_size as usize),
            None => self.read_index(peek.sequence, trailer.index_size, memory),
        };
        let Some(index) = index.filter(|index| crc(0, index) == trailer.index_crc) else {
            return Ok(false);
        };
        let mut reader = IndexReader::new(ring, index);
        while let Some(entry) = reader.next() {
            if entry.offset >= limit {
                break;
            }
            if entry.kind < KIND_LIMIT {
                let at = ring.at(Position::new(peek.sequence, entry.offset));
                let told = self.restore.record(at, entry.kind, entry.digest, entry.size);
                told.map_err(|error| MountError::Refused(at, error))?;
                self.report.records = self.report.records.saturating_add(1);
            }
        }
        Ok(true)
    }

    fn read_index<'i>(&mut self, sequence: u32, size: u32, memory: &'i mut [u8]) -> Option<&'i [u8]> {
        let ring = self.medium.ring;
        let offset = ring.size().checked_sub(TRAILER_SIZE)?.checked_sub(size)?;
        let index = take_mut(memory, 0, size as usize)?;
        self.medium.read(ring.index(sequence), offset, index).ok()?;
        Some(index)
    }

    /// Tells a segment's records by reading them.
    fn by_records(&mut self, peek: &Peek, limit: u32, buffer: &mut [u8]) -> Result<(), MountError> {
        let ring = self.medium.ring;
        self.report.scanned = self.report.scanned.saturating_add(1);
        let Some(header) = peek.header.or_else(|| self.medium.header(peek.sequence, self.salt)) else {
            self.damage(Position::new(peek.sequence, 0), ring.size(), Extent::Segment);
            return Ok(());
        };
        // Padding is looked at: it may be a record whose length lost its bit, with others behind it.
        let mut scanner = Scanner::new(ring, &header, ring.start(), limit).doubting(0);
        loop {
            match scanner.next(self.medium, buffer) {
                Step::Record(item) => self.tell_item(peek.sequence, &scanner, &item, buffer)?,
                Step::Bad if scanner.position() >= self.survey.watermark => return Ok(()),
                Step::Bad => {
                    let from = scanner.position();
                    if let Some(item) = self.mended(&mut scanner, buffer) {
                        self.tell_item(peek.sequence, &scanner, &item, buffer)?;
                        continue;
                    }
                    scanner.resync(self.medium, buffer);
                    let lost = scanner.offset.min(limit).saturating_sub(from.offset());
                    self.damage(from, lost, Extent::Records);
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// What was durable is mended, if one bit of it is wrong.
    fn mended(&mut self, scanner: &mut Scanner, buffer: &mut [u8]) -> Option<Item> {
        if scanner.position() >= self.survey.watermark {
            return None;
        }
        let item = scanner.mend(self.medium, buffer)?;
        self.report.mended = self.report.mended.saturating_add(1);
        Some(item)
    }

    fn tell_item(
        &mut self,
        sequence: u32,
        scanner: &Scanner,
        item: &Item,
        buffer: &[u8],
    ) -> Result<(), MountError> {
        if item.kind >= KIND_LIMIT {
            return Ok(());
        }
        let at = self.medium.ring.at(Position::new(sequence, item.offset));
        let (digest, _) = scanner.content(buffer, item);
        let told = self.restore.record(at, item.kind, digest, item.size);
        told.map_err(|error| MountError::Refused(at, error))?;
        self.report.records = self.report.records.saturating_add(1);
        Ok(())
    }

    fn damage(&mut self, position: Position, size: u32, extent: Extent) {
        self.report.damages = self.report.damages.saturating_add(1);
        let at = self.medium.ring.at(position);
        self.restore.damage(&Damage { at, position, size, extent, record: None });
    }
}
