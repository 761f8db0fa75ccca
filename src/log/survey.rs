//! What of the log is to be believed after a stop: the watermark, and where the content ends.
//!
//! ```text
//! sequence      ... | below | bottom |  ...  | top | newest
//!                       watermark |<- in doubt ->| end |<- dropped
//! ```
//! The watermark is the highest that any whole record or header tells. Below it everything was
//! durable, so what is damaged there is damage. Above it, records count up to the first that is not
//! whole, and segments only as long as each goes on where the one before ends (`resume`). Whatever
//! lies behind is dropped: it was never confirmed, and it must not come back later.
//!
//! | newest segment | its footer | it is |
//! |---|---|---|
//! | begins with copies, no seal, no watermark in it | no | nothing: the originals are in charge, its sequence is used again |
//! | has no whole record | any | nothing: its header may be torn, its sequence is used again |
//! | any | no | the open segment of an unclean stop |
//! | any | whole, and all records too | closed: nothing is copied, writing goes on behind it |

use super::bytes::Varint;
pub(super) use super::chain::{goes_on, trailer};
use super::layout::{Header, Ring, Trailer, RECOVERY};
use super::medium::Medium;
use super::record::{KIND_BEGIN, KIND_END, KIND_HEAD, KIND_SEAL};
use super::scan::{Item, Scanner, Step};
use super::types::{MountError, SegmentState, KIND_LIMIT};
use crate::flash::Flash;
use crate::units::{Millis, Position};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    /// Newest sequence that is used up.
    pub(super) newest: u32,
    /// Last segment that counts.
    pub(super) top: Header,
    /// No segment before this one was dropped.
    pub(super) oldest: u32,
    /// The log was durable up to here.
    pub(super) watermark: Position,
    /// The content ends here.
    pub(super) end: Position,
    /// What is from here to the end is to be copied.
    pub(super) copy_from: Position,
    /// The content that stays where it is ends here, and the next segment goes on from here. Where all that
    /// is in doubt is copied this is not behind the watermark, so that nothing depends on what may read
    /// differently later.
    pub(super) resume: Position,
    /// The last segment has its footer.
    pub(super) closed: bool,
    /// Oldest segment with content; behind what is copied there may be a later one.
    pub(super) head: u32,
    /// The head that is said below the watermark.
    pub(super) sure: u32,
    /// Oldest segment that may not be erased yet.
    pub(super) freed: u32,
    /// Bytes of whole records behind the end.
    pub(super) dropped: u64,
    /// What was dropped has to be erased before a watermark passes it.
    pub(super) erase: bool,
}

/// How many bytes of records and of index copies may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) records: u32,
    pub(super) index: u32,
}

/// Reads what a survey needs.
pub(super) struct Surveyor<'m, F> {
    pub(super) medium: &'m mut Medium<F>,
    pub(super) buffer: &'m mut [u8],
    pub(super) segments: &'m mut [SegmentState],
    pub(super) salt: u32,
    pub(super) budget: Budget,
    /// Something was dropped that has to be erased.
    pub(super) erase: bool,
}

/// What a look at the whole newest segment tells.
struct Look {
    watermark: Position,
    sealed: bool,
    last: Position,
    head: u32,
}

impl Look {
    /// There is no whole record: the segment was begun, and that may not have been finished. Where it is
    /// known that something in it was durable, that is damaged instead.
    fn is_empty(&self, ring: &Ring, sequence: u32) -> bool {
        self.last.offset() <= ring.start() && self.watermark <= Position::new(sequence, ring.start())
    }
}

/// What goes on between the watermark and the end.
struct Doubt {
    end: Position,
    head: u32,
    /// The same, as it is said below the watermark.
    sure: u32,
    /// The first record that is copied, and where its segment goes on from.
    first: Option<(Position, Position)>,
    /// The segment of the last record in doubt that is left where it is.
    left: Option<u32>,
    records: u32,
    index: u32,
    too_large: bool,
    /// Where a batch begins whose end is not there.
    batch: Option<Position>,
    /// Base time of the segment that copies go to. What counts from another would be read wrong there,
    /// so it stays.
    base: Millis,
    /// The segment that is read has that base.
    may_move: bool,
}

impl<F: Flash> Surveyor<'_, F> {
    /// Surveys the log whose newest header this is.
    pub(super) fn survey(&mut self, newest: Header) -> Result<Survey, MountError> {
        let ring = self.medium.ring;
        let mut top = newest;
        let mut used = newest.sequence;
        let mut look = self.look(&top);
        let mut watermark = look.watermark;
        while !self.is_complete(&top, watermark) || look.is_empty(&ring, top.sequence) {
            // The very first segment of a store may be empty.
            let Some(before) = self.before(top.sequence) else { break };
            used = used.min(top.sequence.saturating_sub(1));
            if watermark.sequence() >= top.sequence {
                // It does not count, and what did before it ends where it goes on from.
                watermark = watermark.min(top.resume);
            }
            top = before;
            look = self.look(&top);
            watermark = watermark.max(look.watermark);
        }
        let bottom = self.chain(&mut top, used, watermark, look.head);
        let freed = self.freed(&bottom, watermark, used);
        let mut doubt = self.doubt(&bottom, &mut top, used, watermark, (0, 0));
        if doubt.too_large {
            return Err(MountError::StorageTooSmall("windows"));
        }
        let closed = doubt.end.sequence() == top.sequence
            && self.trailer(&top).is_some_and(|trailer| trailer.end <= doubt.end.offset());
        let over = (
            doubt.records.saturating_sub(self.budget.records),
            doubt.index.saturating_sub(self.budget.index),
        );
        if over != (0, 0) || doubt.base != top.base {
            doubt = self.doubt(&bottom, &mut top, used, watermark, over);
        }
        let end = doubt.end.max(watermark.min(Position::new(top.sequence, ring.size())));
        let copy_from = match doubt.first {
            Some((first, _)) if !closed => first,
            _ => end,
        };
        let resume = if closed { end } else { doubt.resume(&ring, &bottom, watermark, end) };
        let sure = doubt.sure.max(freed.min(doubt.head));
        // A head that is said in doubt counts when it is copied, behind all that it stands for.
        let head = if resume == end { doubt.head } else { sure };
        // Whatever a header says, what was overwritten since is not there.
        let oldest = ring.oldest(used);
        let head = head.max(oldest).min(used);
        Ok(Survey {
            newest: used,
            top,
            oldest: bottom.resume.sequence().min(bottom.sequence).max(oldest),
            watermark,
            end,
            copy_from,
            resume,
            closed,
            head,
            sure,
            freed: freed.max(oldest).min(head),
            dropped: ring.distance(end, look.last),
            erase: self.erase,
        })
    }

    /// Reads all of a segment for what its records tell of the log.
    fn look(&mut self, top: &Header) -> Look {
        let ring = self.medium.ring;
        let trailer = self.trailer(top);
        let limit = trailer.map_or(ring.size(), |trailer| trailer.end);
        let mut scanner = Scanner::new(ring, top, ring.start(), limit);
        let last = scanner.position();
        let mut look = Look { watermark: top.durable, sealed: false, last, head: top.head };
        if let Some(Trailer { end, not_durable, .. }) = trailer.filter(|t| t.not_durable < u32::MAX) {
            let told = ring.back(Position::new(top.sequence, end), not_durable.into());
            look.watermark = look.watermark.max(told);
        }
        let mut whole = true;
        // What a seal tells counts once something is behind it: originals are erased on the strength of it,
        // and the last thing that was written may read differently later.
        let mut told = Position::default();
        loop {
            match scanner.next(self.medium, self.buffer) {
                Step::Record(item) => {
                    look.watermark = look.watermark.max(told);
                    told = item.watermark.unwrap_or_default();
                    if item.kind != KIND_SEAL {
                        look.watermark = look.watermark.max(core::mem::take(&mut told));
                    }
                    look.sealed |= whole && item.kind == KIND_SEAL;
                    look.head = look.head.max(head_told(&scanner, self.buffer, &item));
                    look.last = scanner.position();
                }
                Step::Bad if scanner.resync(self.medium, self.buffer) => whole = false,
                Step::Bad | Step::End => return look,
            }
        }
    }

    /// Follows the segments down from the top to the first that begins below the watermark. Where
    /// one is missing or counts for nothing, the top moves below it. What does not belong is marked
    /// as dropped. What is missing from before the head was reclaimed: then the watermark that was
    /// known when the log stopped is lost, but the chain is whole.
    fn chain(&mut self, top: &mut Header, used: u32, watermark: Position, head: u32) -> Header {
        let mut link = *top;
        let mut head = head;
        self.drop_between(top.sequence.saturating_add(1), used);
        loop {
            let below = link.resume.sequence();
            self.pass_over(&link);
            if link.resume <= watermark || below >= link.sequence {
                return link;
            }
            let found = self.medium.header(below, self.salt);
            if found.is_none() && below < head {
                return link;
            }
            link = match found.filter(|header| self.is_complete(header, watermark)) {
                Some(header) => header,
                None => {
                    let Some(header) = self.before_complete(below, watermark) else { return link };
                    self.drop_between(header.sequence.saturating_add(1), used);
                    (*top, head) = (header, header.head);
                    header
                }
            };
        }
    }

    /// Whether a segment counts: not if it begins with copies that were not finished.
    fn is_complete(&mut self, header: &Header, watermark: Position) -> bool {
        let start = Position::new(header.sequence, self.medium.ring.start());
        header.flags & RECOVERY == 0 || watermark > start || self.look(header).sealed
    }

    fn before_complete(&mut self, sequence: u32, watermark: Position) -> Option<Header> {
        let mut sequence = sequence;
        loop {
            let header = self.before(sequence)?;
            if self.is_complete(&header, watermark) {
                return Some(header);
            }
            sequence = header.sequence;
        }
    }

    /// Reads from the bottom to where the log ends. `skip` is how much of records and of index is
    /// to be left where it is, from the watermark on.
    fn doubt(
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
                    // A head that moved is copied too: what it frees may be all the room there is.
                    let moves = doubt.tell_head(head, here < watermark);
                    if moves || (here >= watermark && item.kind < KIND_LIMIT) {
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

    /// The head that is sure to be durable: what is before it may be erased.
    fn freed(&mut self, bottom: &Header, watermark: Position, used: u32) -> u32 {
        // Whatever the newest headers know: a segment is at most one lap old.
        let oldest = self.medium.ring.oldest(used);
        if Position::new(bottom.sequence, self.medium.ring.start()) <= watermark {
            return bottom.head.max(oldest);
        }
        match self.before(bottom.sequence) {
            Some(header) => self.head_below(&header, watermark).max(oldest),
            None => oldest,
        }
    }

    /// The head that a segment tells below a position.
    fn head_below(&mut self, header: &Header, limit: Position) -> u32 {
        let ring = self.medium.ring;
        let limit = if limit.sequence() > header.sequence { ring.size() } else { limit.offset() };
        let mut scanner = Scanner::new(ring, header, ring.start(), limit);
        let mut head = header.head;
        loop {
            match scanner.next(self.medium, self.buffer) {
                Step::Record(item) => head = head.max(head_told(&scanner, self.buffer, &item)),
                Step::Bad if scanner.resync(self.medium, self.buffer) => {}
                Step::Bad | Step::End => return head,
            }
        }
    }

    fn before(&mut self, sequence: u32) -> Option<Header> {
        let count = self.medium.ring.count();
        (1..count).find_map(|back| self.medium.header(sequence.checked_sub(back)?, self.salt))
    }

    /// The trailer that belongs to a header: one of an earlier use of the sequence may be there.
    fn trailer(&mut self, header: &Header) -> Option<Trailer> {
        let found = trailer(self.medium, self.salt, header.sequence);
        found.filter(|trailer| trailer.seed == header.seed)
    }

    /// Marks what a segment does not go on from as dropped. What went on from the same place may stay: it
    /// tells nobody anything else, also when it is not looked for any more.
    fn pass_over(&mut self, link: &Header) {
        let oldest = self.medium.ring.oldest(link.sequence);
        for sequence in link.resume.sequence().saturating_add(1).max(oldest)..link.sequence {
            let header = self.medium.header(sequence, self.salt);
            let erase = header.is_none_or(|header| header.resume != link.resume);
            self.drop_one(sequence, erase);
        }
    }

    /// Marks what is there of these segments, both included, as dropped, and to be erased.
    fn drop_between(&mut self, from: u32, to: u32) {
        for sequence in from.max(self.medium.ring.oldest(to))..=to {
            self.drop_one(sequence, true);
        }
    }

    fn drop_one(&mut self, sequence: u32, erase: bool) {
        let index = self.medium.ring.index(sequence) as usize;
        let headed = self.medium.header(sequence, self.salt).is_some();
        if !headed && trailer(self.medium, self.salt, sequence).is_none() {
            return;
        }
        self.erase |= erase;
        if let Some(segment) = self.segments.get_mut(index) {
            segment.set_dropped();
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
    fn resume(&self, ring: &Ring, bottom: &Header, watermark: Position, end: Position) -> Position {
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
            match self.records >= skip.0 && self.index >= skip.1 && self.may_move {
                true => self.first = Some((here, below)),
                false => self.left = Some(here.sequence()),
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
