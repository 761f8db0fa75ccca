//! What is in doubt after a stop: everything between the watermark and the end of the log.
//!
//! The chain of segments is read from the bottom up, record by record, to the first that is not whole. On the
//! way it is counted how much room copies would take, records and their index together, and from which record
//! on they fit.

use super::bytes::Varint;
use super::layout::{Header, Ring};
use super::record::{KIND_BEGIN, KIND_END, KIND_HEAD};
use super::scan::{Item, Scanner, Step};
use super::survey::{goes_on, Surveyor};
use super::types::KIND_LIMIT;
use crate::flash::Flash;
use crate::units::{Millis, Position};

/// What goes on between the watermark and the end.
pub(super) struct Doubt {
    pub(super) end: Position,
    pub(super) head: u32,
    /// The same, as it is said below the watermark.
    pub(super) sure: u32,
    /// The same, as it is said by what is left where it is.
    pub(super) stays: u32,
    /// The first record that is copied, and where its segment goes on from.
    pub(super) first: Option<(Position, Position)>,
    /// The segment of the last record in doubt that is left where it is.
    pub(super) left: Option<u32>,
    pub(super) records: u32,
    pub(super) index: u32,
    pub(super) too_large: bool,
    /// Where a batch begins whose end is not there.
    batch: Option<Position>,
    /// Base time of the segment that copies go to. What counts from another would be read wrong there,
    /// so it stays.
    pub(super) base: Millis,
    /// The segment that is read has that base.
    pub(super) may_move: bool,
}

impl<F: Flash> Surveyor<'_, F> {
    /// Reads from the bottom to where the log ends. `skip` is how much, and how much of index, is to be left
    /// where it is, from the watermark on.
    pub(super) fn doubt(
        &mut self,
        bottom: &Header,
        top: &mut Header,
        used: u32,
        watermark: Position,
        skip: (u32, u32),
    ) -> Doubt {
        let ring = self.medium.ring;
        let mut doubt = Doubt {
            end: Position::new(bottom.sequence, ring.start()),
            head: 0,
            sure: 0,
            stays: 0,
            first: None,
            left: None,
            records: 0,
            index: 0,
            too_large: false,
            batch: None,
            base: top.base,
            may_move: false,
        };
        let mut link = *bottom;
        loop {
            doubt.tell_head(link.head, Position::new(link.sequence, ring.start()) <= watermark);
            let next = goes_on(self.medium, self.segments, self.salt, link.sequence, top.sequence);
            let trailer = self.trailer(&link).map_or(ring.size(), |trailer| trailer.end);
            let limit = next.map_or(trailer, |next| next.resume.offset());
            let reached = self.read_link(&link, limit, watermark, skip, &mut doubt);
            match next {
                Some(next) if reached => link = next,
                _ => break,
            }
        }
        doubt.cut(watermark);
        if link.sequence < top.sequence {
            self.drop_between(link.sequence.saturating_add(1), used);
            *top = link;
        }
        doubt
    }

    /// Reads one segment of the chain; false if the log ends in it before the limit.
    fn read_link(
        &mut self,
        link: &Header,
        limit: u32,
        watermark: Position,
        skip: (u32, u32),
        doubt: &mut Doubt,
    ) -> bool {
        let ring = self.medium.ring;
        let in_doubt = match watermark.sequence().cmp(&link.sequence) {
            core::cmp::Ordering::Less => 0,
            core::cmp::Ordering::Equal => watermark.offset(),
            core::cmp::Ordering::Greater => u32::MAX,
        };
        let mut scanner = Scanner::new(ring, link, ring.start(), limit).doubting(in_doubt);
        loop {
            let step = scanner.next(self.medium, self.buffer);
            doubt.end = doubt.end.max(scanner.position());
            match step {
                Step::Record(item) => {
                    let (digest, payload) = scanner.content(self.buffer, &item);
                    let here = Position::new(link.sequence, item.offset);
                    let head = head_told(&scanner, self.buffer, &item);
                    doubt.note(item.kind, here);
                    // A head that moved is copied too: what it frees may be all the room there is. So is the end of
                    // a batch, whose first part may be left where it is.
                    let moves = doubt.tell_head(head, here < watermark);
                    let is_copied = item.kind < KIND_LIMIT || item.kind == KIND_END;
                    if moves || (here >= watermark && is_copied) {
                        let cost = super::index::cost_max(digest.len() as u32);
                        doubt.may_move = link.base == doubt.base;
                        doubt.add((here, link.resume), &item, cost, payload.is_none(), skip);
                    }
                }
                Step::Bad => {
                    if scanner.position() >= watermark {
                        return false;
                    }
                    scanner.resync(self.medium, self.buffer);
                    // A batch began at the watermark; it is not there any more.
                    if scanner.position() > watermark {
                        doubt.end = watermark;
                        return false;
                    }
                }
                Step::End => return true,
            }
        }
    }
}

impl Doubt {
    /// A head is told; true if nobody told it before and it is in doubt.
    fn tell_head(&mut self, head: u32, is_sure: bool) -> bool {
        let is_news = head > self.head;
        self.head = self.head.max(head);
        self.sure = if is_sure { self.sure.max(head) } else { self.sure };
        is_news && !is_sure
    }

    /// Where the content ends that is not copied.
    pub(super) fn resume(
        &self,
        ring: &Ring,
        bottom: &Header,
        watermark: Position,
        end: Position,
    ) -> Position {
        match (self.left, self.first) {
            (Some(_), None) => end,
            (Some(left), Some((first, _))) if first.sequence() == left => first,
            (Some(_), Some((_, below))) => below,
            _ if watermark < Position::new(bottom.sequence, ring.start()) => bottom.resume,
            _ => watermark.min(end),
        }
    }

    /// A batch begins or ends here.
    fn note(&mut self, kind: u8, here: Position) {
        match kind {
            KIND_BEGIN => self.batch = Some(here),
            KIND_END => self.batch = None,
            _ => {}
        }
    }

    /// The content ends before a batch that is not whole, if that was not durable.
    fn cut(&mut self, watermark: Position) {
        let Some(begin) = self.batch.filter(|&begin| begin >= watermark) else { return };
        self.end = begin;
        self.first = self.first.filter(|&(first, _)| first < begin);
    }

    fn add(
        &mut self,
        (here, below): (Position, Position),
        item: &Item,
        cost: u32,
        too_large: bool,
        skip: (u32, u32),
    ) {
        if self.first.is_none() {
            let passed = self.records.saturating_add(self.index);
            match passed >= skip.0 && self.index >= skip.1 && self.may_move {
                true => self.first = Some((here, below)),
                false => (self.left, self.stays) = (Some(here.sequence()), self.head),
            }
        }
        // A copy may carry a watermark where the original did not.
        self.records = self.records.saturating_add(item.framed).saturating_add(5);
        self.index = self.index.saturating_add(cost);
        self.too_large |= too_large;
    }
}

/// The head this record tells of; 0 if it is another.
pub(super) fn head_told(scanner: &Scanner, buffer: &[u8], item: &Item) -> u32 {
    if item.kind != KIND_HEAD {
        return 0;
    }
    let (digest, _) = scanner.content(buffer, item);
    Varint::decode(digest).map_or(0, |(head, _)| head as u32)
}
