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
//! | provisional, and nothing says that something in it is durable | any | nothing: the originals are in charge, its sequence is used again |
//! | has no whole record | any | nothing: its header may be torn, its sequence is used again |
//! | provisional, the first of its marks with one more behind it | any | what counts, and all of it in doubt |
//! | any | no | the open segment of an unclean stop |
//! | any | whole, and all records too | closed: nothing is copied, writing goes on behind it |

use super::doubt::{head_told, Doubt};
use super::layout::{Header, Ring, Trailer, PROVISIONAL, TRAILER_SIZE};
use super::medium::Medium;
use super::record::KIND_MARK;
use super::scan::{Scanner, Step};
use super::space::Space;
use super::types::{MountError, SegmentState};
use crate::flash::Flash;
use crate::units::Position;

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

/// How many bytes copies may take, and how many of these their index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) room: u32,
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
    /// A provisional segment that does not count, whatever is in it.
    pub(super) without: Option<u32>,
}

/// What a look at a whole segment tells.
struct Look {
    watermark: Position,
    /// The same, but for the last thing in it, which may read differently later.
    hint: Position,
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

impl<F: Flash> Surveyor<'_, F> {
    /// Surveys the log whose newest header this is.
    pub(super) fn survey(&mut self, newest: Header) -> Result<Survey, MountError> {
        let ring = self.medium.ring;
        let (mut top, used, watermark, look) = self.last(newest);
        let bottom = self.chain(&mut top, used, watermark, look.head);
        let passed = self.pass_over_copied(&bottom, watermark);
        let freed = self.freed(&bottom, watermark, used);
        let mut doubt = self.doubt(&bottom, &mut top, used, watermark, (0, 0));
        if doubt.too_large {
            return Err(MountError::StorageTooSmall("windows"));
        }
        let closed = doubt.end.sequence() == top.sequence
            && self.trailer(&top).is_some_and(|trailer| trailer.end <= doubt.end.offset());
        let over = self.over(&doubt);
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
        // A head that is said in doubt counts where it stays, or when it is copied behind all that it stands for.
        let head = if resume == end { doubt.head } else { sure.max(doubt.stays) };
        // Whatever a header says, what was overwritten since is not there; also by a segment that does not count.
        let oldest = ring.oldest(newest.sequence);
        let head = head.max(oldest).min(used);
        Ok(Survey {
            newest: used,
            top,
            oldest: passed.min(bottom.sequence).max(oldest),
            watermark,
            end,
            copy_from,
            resume,
            closed,
            head,
            sure,
            freed: freed.max(sure).max(oldest).min(head),
            dropped: ring.distance(end, look.last),
            erase: self.erase,
        })
    }

    /// The last segment that counts, the newest sequence that is used up, how far the log says that it was
    /// durable, and what the segment tells.
    fn last(&mut self, newest: Header) -> (Header, u32, Position, Look) {
        let ring = self.medium.ring;
        let mut top = newest;
        let mut used = newest.sequence;
        let mut look = self.look(&top);
        let mut watermark = look.watermark;
        while self.without == Some(top.sequence)
            || !is_borne_out(&ring, &top, watermark.max(look.hint))
            || look.is_empty(&ring, top.sequence)
        {
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
        (top, used, watermark, look)
    }

    /// Whether the last segment left no more than one free, counts by a hint alone, and everything that it was
    /// made from is still there: then it is as well made again. Copies of it would need another, and fill
    /// the last one up to where the oldest segment's no longer fit.
    pub(super) fn is_dispensable(&mut self, survey: &Survey) -> bool {
        let ring = self.medium.ring;
        let top = &survey.top;
        let is_hinted = top.flags & PROVISIONAL != 0
            && top.sequence == survey.newest
            && survey.watermark < Position::new(top.sequence, ring.start());
        let is_scarce = Space::new(ring, survey.newest, survey.head, survey.freed).free() <= 1;
        let oldest = ring.oldest(top.sequence);
        let behind = top.resume.sequence().saturating_add(1)..top.sequence;
        is_hinted
            && is_scarce
            && core::iter::once(oldest)
                .chain(behind)
                .all(|sequence| self.medium.header(sequence, self.salt).is_some())
    }

    /// How many bytes, and of these how many of index, there are too many to be copied.
    fn over(&self, doubt: &Doubt) -> (u32, u32) {
        let all = doubt.records.saturating_add(doubt.index);
        (all.saturating_sub(self.budget.room), doubt.index.saturating_sub(self.budget.index))
    }

    /// Reads all of a segment for what its records tell of the log.
    fn look(&mut self, top: &Header) -> Look {
        let ring = self.medium.ring;
        let trailer = self.trailer(top);
        let limit = trailer.map_or(ring.size(), |trailer| trailer.end);
        // Padding is looked at: what stood there in an earlier life of the segment must not stand in for a
        // copy that did not reach the medium.
        let mut scanner = Scanner::new(ring, top, ring.start(), limit).doubting(0);
        let last = scanner.position();
        let mut look = Look { watermark: top.durable, hint: top.durable, last, head: top.head };
        if let Some(Trailer { end, not_durable, .. }) = trailer.filter(|t| t.not_durable < u32::MAX) {
            let told = ring.back(Position::new(top.sequence, end), not_durable.into());
            look.watermark = look.watermark.max(told);
        }
        // The last thing that was written before power went may read differently later. What a mark tells is a
        // hint once one thing is behind it, and certain with two: then no later look can find less than a hint,
        // and originals may be erased on the strength of it. Nothing is said to be durable before there are two.
        let mut marks = [Position::default(); 2];
        loop {
            match scanner.next(self.medium, self.buffer) {
                Step::Record(item) => {
                    let told = item.watermark.unwrap_or_default();
                    let [newer, older] = marks;
                    look.watermark = look.watermark.max(older);
                    look.hint = look.hint.max(newer);
                    marks = [told, newer];
                    if item.kind != KIND_MARK {
                        look.watermark = look.watermark.max(told);
                    }
                    look.head = look.head.max(head_told(&scanner, self.buffer, &item));
                    look.last = scanner.position();
                }
                Step::Bad if scanner.resync(self.medium, self.buffer) => {}
                Step::Bad | Step::End => {
                    look.hint = look.hint.max(look.watermark);
                    return look;
                }
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
            link = match found.filter(|header| self.counts(header, watermark)) {
                Some(header) => header,
                None => {
                    let Some(header) = self.before_counting(below, watermark) else { return link };
                    self.drop_between(header.sequence.saturating_add(1), used);
                    (*top, head) = (header, header.head);
                    header
                }
            };
        }
    }

    /// Whether a segment counts: a provisional one does once it is known that something in it is durable.
    fn counts(&mut self, header: &Header, watermark: Position) -> bool {
        let ring = self.medium.ring;
        is_borne_out(&ring, header, watermark) || is_borne_out(&ring, header, self.look(header).hint)
    }

    fn before_counting(&mut self, sequence: u32, watermark: Position) -> Option<Header> {
        let mut sequence = sequence;
        loop {
            let header = self.before(sequence)?;
            if self.counts(&header, watermark) {
                return Some(header);
            }
            sequence = header.sequence;
        }
    }

    /// The head that is sure to be durable: what is before it may be erased.
    fn freed(&mut self, bottom: &Header, watermark: Position, used: u32) -> u32 {
        // Whatever the newest headers know: a segment is at most one lap old.
        let oldest = self.medium.ring.oldest(used);
        if Position::new(bottom.sequence, self.medium.ring.start()) <= watermark {
            return bottom.head.max(oldest);
        }
        match self.before_counting(bottom.sequence, watermark) {
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
    pub(super) fn trailer(&mut self, header: &Header) -> Option<Trailer> {
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

    /// Where nothing says more than that the copies below the bottom are durable, what they were made from may
    /// still be there. The segment from which on something was dropped.
    fn pass_over_copied(&mut self, bottom: &Header, watermark: Position) -> u32 {
        let below = bottom.resume.sequence();
        if bottom.resume != watermark {
            return below;
        }
        let found = self.medium.header(below, self.salt).filter(|header| header.flags & PROVISIONAL != 0);
        found.map_or(below, |copies| {
            self.pass_over(&copies);
            copies.resume.sequence()
        })
    }

    /// Marks what is there of these segments, both included, as dropped, and to be erased.
    pub(super) fn drop_between(&mut self, from: u32, to: u32) {
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

/// Whether a segment counts where so much is known to be durable.
fn is_borne_out(ring: &Ring, header: &Header, watermark: Position) -> bool {
    header.flags & PROVISIONAL == 0 || watermark >= Position::new(header.sequence, ring.start())
}

/// The next segment that is there, up to the last, if it goes on where this one ends.
pub(super) fn goes_on<F: Flash>(
    medium: &mut Medium<F>,
    segments: &[SegmentState],
    salt: u32,
    link: u32,
    last: u32,
) -> Option<Header> {
    let there = (link.saturating_add(1).max(medium.ring.oldest(last))..=last).find_map(|sequence| {
        let index = medium.ring.index(sequence) as usize;
        segments.get(index).filter(|segment| segment.counts())?;
        medium.header(sequence, salt)
    });
    there.filter(|header| header.resume.sequence() == link)
}

/// The trailer of a segment, if it is closed.
pub(super) fn trailer<F: Flash>(medium: &mut Medium<F>, salt: u32, sequence: u32) -> Option<Trailer> {
    let ring = medium.ring;
    let mut bytes = [0; TRAILER_SIZE as usize];
    let offset = ring.size().checked_sub(TRAILER_SIZE)?;
    medium.read(ring.index(sequence), offset, &mut bytes).ok()?;
    Trailer::decode(&ring, &bytes, salt, sequence)
}
