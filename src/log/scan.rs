//! Reads a segment record by record, where there is no footer to tell where they are.
//!
//! A scan works in any buffer of [`SCAN_MIN`] bytes or more and steps over padding. Where no whole
//! record is, it says so and stays; [`Scanner::resync`] then looks for the next one: where the
//! damaged record's length leads to, or at the beginning of a batch, which is on a multiple of the
//! write unit and carries a watermark, whichever comes first.

use super::bytes::{take, take_mut};
use super::layout::{Header, Ring};
use super::medium::Medium;
use super::mend::{mend, MEND_MAX};
use super::record::{framed_at, parse, verify, Check, Parsed, WATERMARK};
use super::tail::{padding, PADDING_MIN};
use super::types::{DIGEST_MAX, RECORD_OVERHEAD};
use crate::flash::Flash;
use crate::units::Position;

/// Bytes that hold a record's front and digest.
const FRONT_MAX: usize = RECORD_OVERHEAD + DIGEST_MAX + 1;
/// Bytes of a record's length at most.
const LENGTH_MAX: u32 = 5;
/// Bytes of a record up to its kind, with the shortest length.
const FRONT_MIN: u32 = 6;
/// Least buffer of a scan.
pub(super) const SCAN_MIN: usize = FRONT_MAX + 48;

/// A record that was found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) offset: u32,
    pub(super) framed: u32,
    pub(super) kind: u8,
    pub(super) size: u32,
    pub(super) watermark: Option<Position>,
}

/// What is at the scan's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A whole record; the scan has gone past it.
    Record(Item),
    /// None; the scan stays.
    Bad,
    /// The limit.
    End,
}

/// A place in a segment, and which part of the segment is in the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner {
    ring: Ring,
    sequence: u32,
    seed: u32,
    pub(super) offset: u32,
    limit: u32,
    doubt: u32,
    /// Where the padding began that was stepped over last.
    padding: u32,
    start: u32,
    len: u32,
    /// A place that could not be read, where what is in the buffer ends.
    wall: u32,
}

impl Scanner {
    /// Scans from `offset` up to `limit`.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn new(ring: Ring, header: &Header, offset: u32, limit: u32) -> Scanner {
        Scanner::with_seed(ring, header.sequence, header.seed, offset, limit)
    }

    /// The same where the header is known by its checksum alone.
    pub(super) fn with_seed(ring: Ring, sequence: u32, seed: u32, offset: u32, limit: u32) -> Scanner {
        let limit = limit.min(ring.size());
        let (doubt, wall) = (u32::MAX, u32::MAX);
        Scanner { ring, sequence, seed, offset, limit, doubt, padding: 0, start: 0, len: 0, wall }
    }

    /// From this offset on padding is looked at as well: a unit that was torn between two records does not
    /// end in any.
    pub(super) fn doubting(self, doubt: u32) -> Scanner {
        Scanner { doubt, ..self }
    }

    /// Where the scan is.
    pub(super) fn position(&self) -> Position {
        Position::new(self.sequence, self.offset)
    }

    /// Where the scan ends.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// The next record.
    pub(super) fn next<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8]) -> Step {
        while self.offset < self.limit {
            let first = self.bytes(medium, buffer, self.offset, 1).first().copied();
            let aligned = self.ring.align(self.offset);
            if first == Some(0) && aligned != self.offset {
                if !self.is_padding(medium, buffer, aligned) {
                    return Step::Bad;
                }
                (self.padding, self.offset) = (self.offset, aligned);
                continue;
            }
            let Some(item) = self.probe(medium, buffer, self.offset) else { return Step::Bad };
            self.offset = self.offset.saturating_add(item.framed);
            return Step::Record(item);
        }
        Step::End
    }

    /// Whether what begins with a zero is padding, as far as that is in doubt and can be told.
    fn is_padding<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8], end: u32) -> bool {
        if self.offset < self.doubt || end.saturating_sub(self.offset) < PADDING_MIN {
            return true;
        }
        let want = padding(self.seed, self.offset);
        self.bytes(medium, buffer, self.offset, PADDING_MIN) == want
    }

    /// Digest and payload of the record that was found last; the payload only if the record is no
    /// larger than the buffer.
    pub(super) fn content<'b>(&self, buffer: &'b [u8], item: &Item) -> (&'b [u8], Option<&'b [u8]>) {
        let at = item.offset.wrapping_sub(self.start) as usize;
        let len = (item.framed as usize).min(buffer.len().saturating_sub(at));
        match take(buffer, at, len).and_then(parse) {
            Some(record) => (record.digest, (len == item.framed as usize).then_some(record.payload)),
            None => (&[], None),
        }
    }

    /// Mends the record at a bad place, if one bit of it is wrong, and goes past it. Only for what is
    /// known to have been durable. What was taken for padding may be a record whose length lost its bit.
    pub(super) fn mend<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8]) -> Option<Item> {
        let padding = self.padding;
        let is_behind = padding != 0 && self.ring.align(padding) == self.offset;
        let here = self.mend_at(medium, buffer, self.offset);
        here.or_else(|| is_behind.then(|| self.mend_at(medium, buffer, padding))?)
    }

    fn mend_at<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8], offset: u32) -> Option<Item> {
        self.fill(medium, buffer, offset, MEND_MAX.min(buffer.len()) as u32);
        let room = self.limit.saturating_sub(offset).min(self.len);
        let bytes = take_mut(buffer, 0, room as usize)?;
        let len = mend(self.seed, offset, bytes)?;
        let item = self.item(offset, len, parse(take(bytes, 0, len as usize)?)?);
        self.offset = offset.saturating_add(len);
        Some(item)
    }

    /// Goes from a bad place to the next whole record; false if there is none before the limit.
    pub(super) fn resync<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8]) -> bool {
        let bad = self.offset;
        let claimed = framed_at(self.bytes(medium, buffer, bad, 16)).and_then(|len| bad.checked_add(len));
        let mut claimed = claimed.filter(|&next| next < self.limit);
        let mut next = self.ring.align(bad.saturating_add(1));
        // In order, so that a wrong length does not lead past a whole record.
        while next < self.limit {
            let within = claimed.take_if(|claimed| *claimed <= next);
            if within.is_some_and(|within| self.probe(medium, buffer, within).is_some()) {
                self.offset = within.unwrap_or(next);
                return true;
            }
            let (begins, run) = self.glance(medium, buffer, next);
            if begins && self.probe(medium, buffer, next).is_some() {
                self.offset = next;
                return true;
            }
            next = self.ring.align(next.saturating_add(run.saturating_sub(FRONT_MIN - 1).max(1)));
        }
        self.offset = self.limit;
        false
    }

    /// Whether a record with a watermark may begin at an offset, and how many bytes from there on are the
    /// same. Where [`FRONT_MIN`] are, none begins: they end no length, or their kind has no watermark.
    fn glance<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8], offset: u32) -> (bool, u32) {
        self.bytes(medium, buffer, offset, LENGTH_MAX + FRONT_MIN);
        let (at, end) = (offset.saturating_sub(self.start) as usize, self.len as usize);
        let bytes = buffer.get(at..end).unwrap_or(&[]);
        let first = bytes.first().copied().unwrap_or(0);
        let run = bytes.iter().position(|&byte| byte != first).unwrap_or(bytes.len());
        let length = bytes.iter().take(LENGTH_MAX as usize).position(|&byte| byte < 0x80);
        let kind = length.and_then(|length| bytes.get(length.checked_add(FRONT_MIN as usize - 1)?));
        (kind.is_some_and(|kind| kind & WATERMARK != 0), run as u32)
    }

    /// The record at an offset, if it is whole.
    fn probe<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8], offset: u32) -> Option<Item> {
        let framed = framed_at(self.bytes(medium, buffer, offset, 5))?;
        if offset.checked_add(framed)? > self.limit {
            return None;
        }
        let record = if framed as usize <= buffer.len() {
            let seed = self.seed;
            verify(seed, offset, self.bytes(medium, buffer, offset, framed))?
        } else {
            if !self.check_long(medium, buffer, offset, framed) {
                return None;
            }
            parse(take(buffer, 0, FRONT_MAX)?)?
        };
        Some(self.item(offset, framed, record))
    }

    fn item(&self, offset: u32, framed: u32, record: Parsed<'_>) -> Item {
        let here = Position::new(self.sequence, offset);
        let watermark = record.distance.map(|distance| self.ring.back(here, distance));
        Item { offset, framed, kind: record.kind, size: record.size, watermark }
    }

    /// Checks a record that is larger than the buffer; its front stays at the buffer's start.
    fn check_long<F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        buffer: &mut [u8],
        offset: u32,
        framed: u32,
    ) -> bool {
        self.fill(medium, buffer, offset, FRONT_MAX as u32);
        let Some(mut check) =
            take(buffer, 0, FRONT_MAX).and_then(|front| Check::new(self.seed, offset, front))
        else {
            return false;
        };
        let index = self.ring.index(self.sequence);
        let mut done = FRONT_MAX as u32;
        while done < framed {
            let rest = buffer.len().saturating_sub(FRONT_MAX).min(framed.saturating_sub(done) as usize);
            let Some(piece) = take_mut(buffer, FRONT_MAX, rest).filter(|piece| !piece.is_empty()) else {
                return false;
            };
            if medium.read(index, offset.saturating_add(done), piece).is_err() {
                return false;
            }
            check.add(piece);
            done = done.saturating_add(rest as u32);
        }
        check.holds()
    }

    /// Up to `len` bytes at an offset; fewer at the end of the segment or where it is unreadable.
    fn bytes<'b, F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        buffer: &'b mut [u8],
        offset: u32,
        len: u32,
    ) -> &'b [u8] {
        let len = len.min(self.ring.size().saturating_sub(offset));
        let end = self.start.saturating_add(self.len);
        let is_all = offset.saturating_add(len) <= end || (end == self.wall && offset <= end);
        if offset < self.start || !is_all {
            self.fill(medium, buffer, offset, buffer.len() as u32);
        }
        let have = self.start.saturating_add(self.len).saturating_sub(offset);
        take(buffer, offset.wrapping_sub(self.start) as usize, len.min(have) as usize).unwrap_or(&[])
    }

    fn fill<F: Flash>(&mut self, medium: &mut Medium<F>, buffer: &mut [u8], offset: u32, len: u32) {
        let len = len.min(self.ring.size().saturating_sub(offset)) as usize;
        let index = self.ring.index(self.sequence);
        let into = buffer.get_mut(..len).unwrap_or(&mut []);
        // Behind what cannot be read there may be more of it, and to find that out may take a second each time.
        let unit = (self.ring.geometry.write_unit as usize).min(len);
        let is_dead = offset > self.wall
            && into.get_mut(..unit).is_none_or(|unit| medium.flash.read(index, offset, unit).is_err());
        let read = if is_dead { 0 } else { medium.read_front(index, offset, into) };
        (self.start, self.len) = (offset, read as u32);
        self.wall = if read < len { offset.saturating_add(self.len) } else { u32::MAX };
    }
}
