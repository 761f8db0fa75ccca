//! Making room: the oldest segment's live records move forward, then it is free.
//!
//! A segment nobody holds a reference into is freed without being read, as soon as it is the oldest, and
//! unless the broker has asked to see [all](Log::offer_from) from there on. In any other, the records
//! are offered one by one to the broker, which copies the live ones and releases the originals; the
//! segment is done as soon as no reference is left. Strict age order levels the wear, and an
//! acknowledgement may go with its segment, since every copy of what it acknowledges is older.
//!
//! Reclaim is paced. Below the low-water mark of free segments every byte appended makes a debt of
//! [`PACE`] bytes to be scanned, so that room is gained as long as no more than three quarters are live,
//! and many times that where new content is refused already: acknowledgements go on, and what they free
//! may be far from the oldest segment. The debt is never more than two segments, so no append waits for more.
//! Where all is live a lap around the ring gains nothing; then there is none until something is released.
//!
//! If power goes at any point, originals are still there unless the head's move is durable, and
//! then so are all copies, which were appended before it.

use super::bytes::{take_mut, Varint};
use super::checksum::crc;
use super::index::IndexReader;
use super::layout::{Ring, TRAILER_SIZE};
use super::read::Source;
use super::record::{framed, KIND_HEAD};
use super::scan::Scanner;
use super::space::FLOOR_PUBLISH;
use super::survey::trailer;
use super::tail::{padding, PADDING_MIN};
use super::types::{AppendError, LogError, Purpose, KIND_LIMIT};
use super::write::MARKS;
use super::Log;
use crate::flash::Flash;
#[cfg(feature = "gateway")]
use crate::flash::Geometry;
use crate::units::{At, Position};

/// Bytes to be scanned for a byte appended.
const PACE: u32 = 4;
/// The low-water mark is this part of all segments, and a little over what publishes leave.
const LOW_PART: u32 = 32;

/// A segment with so few live records, declarations mostly, is sparse.
const SPARSE_REFS: u32 = 8;

/// How far the oldest segment is looked through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    pub(super) sequence: u32,
    pub(super) offset: u32,
    pub(super) limit: u32,
    /// Something damaged was passed whose extent is not known: a reference may never be released.
    blind: bool,
    /// It was looked through before.
    again: bool,
    /// Something was found in it this time.
    offered: bool,
    /// It is looked through, and nobody refers to it.
    done: bool,
}

/// One time around the ring, to see whether there is anything to gain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lap {
    /// It ends when the head has passed this sequence.
    until: u32,
    /// References and free segments when it began.
    live: u64,
    free: u32,
    /// Bytes appended since then by others.
    fed: u32,
    /// The lap before gained nothing.
    futile: bool,
}

/// What [`Log::capacity_bytes`] is for a store of these sizes; 0 if they hold none.
#[cfg(feature = "gateway")]
pub fn capacity_bytes(geometry: Geometry) -> u64 {
    Ring::new(geometry).map_or(0, |ring| capacity(&ring))
}

fn capacity(ring: &Ring) -> u64 {
    let segments = ring.count().saturating_sub(low_water(ring)).saturating_sub(1);
    let each = ring.size().saturating_sub(ring.start()).saturating_sub(ring.size() / 32);
    u64::from(segments).saturating_mul(each.into()) / 4 * 3
}

/// Free segments below which room is made.
fn low_water(ring: &Ring) -> u32 {
    (ring.count() / LOW_PART).max(FLOOR_PUBLISH + 2)
}

impl<F: Flash> Log<'_, F> {
    /// Reclaim is behind: call [`Log::reclaim_next`] until it is not, or that gives nothing.
    pub fn reclaim_due(&self) -> bool {
        let futile = self.is_futile();
        let scarce = self.space.free_soon() < self.low_water();
        let unwanted = Some(self.space.head) <= self.unwanted && !(scarce && futile);
        // What is free once the head's move is written down is not, for whoever needs it.
        let needed = self.space.free() < self.low_water() || Some(self.space.freed) <= self.unwanted;
        let pending = self.head_unwritten && needed;
        let due = unwanted || (self.debt > 0 && scarce && !futile);
        !self.read_only && (pending || (due && self.reclaimable()) || self.is_open_unwanted())
    }

    /// The lap before gained nothing, and another would not either.
    pub fn is_futile(&self) -> bool {
        self.lap.futile && self.gained_nothing()
    }

    /// Less than this can be published, or than half of what reclaim keeps free: whoever can
    /// should wait for a sync.
    pub fn is_tight(&self, need_bytes: u64) -> bool {
        !self.read_only && self.is_below(self.space.free(), need_bytes)
    }

    fn is_below(&self, free: u32, need_bytes: u64) -> bool {
        let size = u64::from(self.medium.ring.size());
        let room = |segments: u32| u64::from(segments.saturating_sub(FLOOR_PUBLISH)).saturating_mul(size);
        room(free) < need_bytes.min(room(self.low_water()) / 2)
    }

    /// The next record of the oldest segment that needs a verdict: if it is live, copy it forward with
    /// [`Purpose::Reclaim`], hold the copy and release the original; if it cannot be read, release
    /// it; then call again. None: nothing to do for now (done, or no room before a sync).
    /// A record may be offered again if it was not released.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn reclaim_next(&mut self) -> Result<Option<At>, LogError> {
        if self.read_only {
            return Err(LogError::ReadOnly);
        }
        if self.is_open_unwanted() && self.open_for(Purpose::Reclaim).is_err() {
            return Ok(None);
        }
        while self.reclaimable() {
            if core::mem::take(&mut self.is_refused) {
                // A copy found no room: what is passed over now is never offered again.
                self.cursor = None;
                break;
            }
            // A moved head that is all that is due is written down before anything else is looked at.
            let is_due = self.debt > 0 || !self.head_unwritten;
            if is_due && self.is_wanted() {
                if let Some(at) = self.offer() {
                    return Ok(Some(at));
                }
                continue;
            }
            if !self.finish()? || self.debt == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// Room for live records, in bytes with their overhead: up to here reclaim keeps pace.
    pub fn capacity_bytes(&self) -> u64 {
        capacity(&self.medium.ring)
    }

    /// Appended bytes make debt when segments are scarce.
    pub(super) fn charge(&mut self, size: u32, purpose: Purpose) {
        if purpose == Purpose::Reclaim {
            self.copied = self.copied.saturating_add(framed(0, size).into());
        } else if self.space.free_soon() < self.low_water() {
            // Where it is full, go around before a fraction of a segment is appended.
            let full = self.space.free_soon() <= FLOOR_PUBLISH;
            let pace = if full { self.medium.ring.count().saturating_mul(PACE) } else { PACE };
            let more = framed(0, size).saturating_mul(pace);
            self.debt = self.debt.saturating_add(more).min(self.debt_max());
            self.lap.fed = self.lap.fed.saturating_add(framed(0, size));
        }
    }

    /// The most one append waits for.
    pub(super) fn debt_max(&self) -> u32 {
        self.medium.ring.size().saturating_mul(2)
    }

    fn low_water(&self) -> u32 {
        low_water(&self.medium.ring)
    }

    /// There is a closed segment to look at.
    fn reclaimable(&self) -> bool {
        self.space.head < self.space.last || self.head_unwritten
    }

    fn referenced(&self) -> bool {
        let index = self.medium.ring.index(self.space.head) as usize;
        self.space.head < self.space.last && self.segments.get(index).is_some_and(|segment| segment.refs > 0)
    }

    /// Whether the oldest segment has something the broker has to see.
    fn is_wanted(&self) -> bool {
        let looked = self.cursor.is_some_and(|cursor| cursor.sequence == self.space.head && cursor.done);
        let asked = self.offered_from.is_some_and(|from| from.sequence() <= self.space.head);
        self.referenced() || (asked && !looked && self.space.head < self.space.last)
    }

    /// So little is live in the oldest segment that it is worth being moved just to shorten the next mount.
    pub fn is_oldest_sparse(&self) -> bool {
        let index = self.medium.ring.index(self.space.head) as usize;
        let sparse = self.segments.get(index).is_some_and(|segment| segment.refs <= SPARSE_REFS);
        !self.read_only && self.space.head < self.space.last && sparse && self.space.free() > FLOOR_PUBLISH
    }

    /// From here on the records of segments without references are offered too: something in them may
    /// be needed that nobody holds. None: there is nothing of the kind.
    pub fn offer_from(&mut self, from: Option<Position>) {
        self.offered_from = from;
    }

    /// Reclaims everything up to here though there may be room: what it says of records before it is not true
    /// any more.
    pub fn reclaim_upto(&mut self, position: Position) {
        self.unwanted = self.unwanted.max(Some(position.sequence()));
    }

    /// The open segment itself is to be passed, and nothing else is left before it: the next has to be begun.
    fn is_open_unwanted(&self) -> bool {
        let is_alone = self.space.head == self.space.last && Some(self.space.last) <= self.unwanted;
        is_alone && self.space.free() > FLOOR_PUBLISH
    }

    /// No mount finds anything that was appended up to here.
    pub fn is_reclaimed(&self, position: Position) -> bool {
        self.space.freed > position.sequence()
    }

    /// Moves the head over the oldest segment and all behind it that nobody needs. That counts once
    /// a record, or the header of the next segment, says so.
    pub(super) fn pass_dead(&mut self) {
        while self.space.head < self.space.last && !self.is_wanted() {
            let left = self.cursor.take().map_or(0, |cursor| cursor.limit.saturating_sub(cursor.offset));
            self.debt = self.debt.saturating_sub(left);
            self.space.head = self.space.head.saturating_add(1);
            self.head_unwritten = true;
            self.count_lap();
        }
        if self.space.free_soon() >= self.low_water() {
            self.debt = 0;
        }
    }

    /// Passes what is dead and records it; false if there is no room for that.
    pub(super) fn finish(&mut self) -> Result<bool, LogError> {
        self.pass_dead();
        if !self.head_unwritten {
            return Ok(true);
        }
        let head = Varint::new(self.space.head.into());
        let head = head.as_bytes();
        let fits = self.fits_beside(MARKS, head.len() as u32);
        match if fits { Ok(()) } else { self.open_for(Purpose::Reclaim) } {
            // The header of a segment that was just begun has told it.
            Ok(()) if !self.head_unwritten => Ok(true),
            Ok(()) => match self.write(KIND_HEAD, head, &[]) {
                Ok(_) => {
                    self.head_unwritten = false;
                    self.space.moved(self.tail());
                    Ok(true)
                }
                Err(AppendError::Medium(error)) => Err(LogError::Medium(error)),
                Err(_) => Err(LogError::ReadOnly),
            },
            Err(AppendError::Full | AppendError::TooLarge) => Ok(false),
            Err(AppendError::Medium(error)) => Err(LogError::Medium(error)),
            Err(_) => Err(LogError::ReadOnly),
        }
    }

    /// At the end of a lap, sees whether moving everything made room. If not, and nothing was released
    /// since, another lap would only use up what is kept in reserve.
    fn count_lap(&mut self) {
        if self.space.head <= self.lap.until {
            return;
        }
        let (live, free) = (self.live, self.space.free_soon());
        let futile = free <= self.lap.free && self.gained_nothing();
        self.lap = Lap { until: self.space.last, live, free, fed: 0, futile };
    }

    /// In this lap there was no more released than held, nor appended what could hold dead records: half a
    /// segment, since where content is refused by then no more comes.
    fn gained_nothing(&self) -> bool {
        self.live >= self.lap.live && self.lap.fed < self.medium.ring.size() / 2
    }

    /// The next record of the oldest segment; none when it is looked through.
    fn offer(&mut self) -> Option<At> {
        let mut cursor = match self.cursor {
            Some(cursor) if cursor.sequence == self.space.head => cursor,
            _ => self.begin_cursor(),
        };
        let ring = self.medium.ring;
        let mut found = None;
        while found.is_none() && cursor.offset < cursor.limit {
            let here = Position::new(cursor.sequence, cursor.offset);
            let before = cursor.offset;
            match self.kind_at(&cursor) {
                Some((0, _)) => cursor.offset = ring.align(cursor.offset),
                Some((framed, kind)) => {
                    cursor.offset = cursor.offset.saturating_add(framed);
                    found = (kind < KIND_LIMIT).then_some(ring.at(here));
                }
                None => {
                    self.pass_damage(&mut cursor);
                    found = Some(ring.at(here));
                }
            }
            self.debt = self.debt.saturating_sub(cursor.offset.saturating_sub(before));
        }
        cursor.offered |= found.is_some();
        if found.is_none() {
            self.look_again(&mut cursor);
        }
        self.cursor = Some(cursor);
        found
    }

    /// The segment is looked through and still referred to. Once more, for what the broker could not
    /// copy; but what cannot be found any more must not keep it for ever.
    fn look_again(&mut self, cursor: &mut Cursor) {
        let index = self.medium.ring.index(cursor.sequence) as usize;
        cursor.done = !self.referenced();
        if (cursor.blind && cursor.again) || !cursor.offered {
            if let Some(segment) = self.segments.get_mut(index) {
                segment.refs = 0;
            }
        }
        (cursor.offset, cursor.again, cursor.offered) = (self.medium.ring.start(), true, false);
    }

    fn begin_cursor(&mut self) -> Cursor {
        self.cursor_at(self.space.head)
    }

    /// A cursor at the start of a segment.
    pub(super) fn cursor_at(&mut self, sequence: u32) -> Cursor {
        let offset = self.medium.ring.start();
        let limit = self.content_end(sequence);
        Cursor { sequence, offset, limit, blind: false, again: false, offered: false, done: false }
    }

    /// Where the content of a segment ends.
    pub(super) fn content_end(&mut self, sequence: u32) -> u32 {
        let size = self.medium.ring.size();
        let own = match &self.open {
            Some(open) if open.sequence == sequence => self.tail.programmed(),
            _ if sequence == self.space.last && self.end.sequence() == sequence => self.end.offset(),
            _ => size,
        };
        let limit =
            trailer(&mut self.medium, self.salt, sequence).map_or(own, |trailer| trailer.end.min(own));
        // The next segment that is there says where this one's content ends; one that was dropped and is not
        // erased yet, or that went bad before it could be, says something else.
        let next = (sequence.saturating_add(1)..=self.space.last).find_map(|next| {
            let index = self.medium.ring.index(next) as usize;
            self.segments.get(index).filter(|segment| segment.counts())?;
            self.medium.header(next, self.salt)
        });
        match next {
            Some(next) if next.resume.sequence() == sequence => limit.min(next.resume.offset()),
            Some(next) if next.resume.sequence() < sequence => 0,
            _ => limit,
        }
    }

    /// Size and kind of the record at the cursor, size 0 for padding; none if it is damaged.
    pub(super) fn kind_at(&mut self, cursor: &Cursor) -> Option<(u32, u8)> {
        let ring = self.medium.ring;
        let source = Source {
            sequence: cursor.sequence,
            index: ring.index(cursor.sequence),
            offset: cursor.offset,
            limit: ring.size(),
            salt: self.salt,
        };
        let first = self.windows.byte(&mut self.medium, &source).ok()?;
        if first == 0 && self.is_padding(&source, cursor.again)? {
            return Some((0, 0));
        }
        let cached = self.windows.checked(&mut self.medium, &source).ok()?;
        let (record, _) = self.windows.record(cached)?;
        Some((cached.framed(), record.kind))
    }

    /// Whether what begins with a zero is padding: it may be a record that was overwritten. Where that cannot be told
    /// it is taken for a record if the segment was looked through before and somebody still refers to it.
    fn is_padding(&mut self, source: &Source, again: bool) -> Option<bool> {
        let left = self.medium.ring.align(source.offset).saturating_sub(source.offset);
        if left < PADDING_MIN {
            return Some(left > 0 && !again);
        }
        let mut found = [0; PADDING_MIN as usize];
        self.medium.read(source.index, source.offset, &mut found).ok()?;
        Some(found == padding(self.windows.seed(&mut self.medium, source)?, source.offset))
    }

    /// Moves the cursor past a damaged record: the footer knows where the next is, or it is looked for.
    pub(super) fn pass_damage(&mut self, cursor: &mut Cursor) {
        let next = self.next_by_footer(cursor).or_else(|| {
            cursor.blind = true;
            let header = self.medium.header(cursor.sequence, self.salt)?;
            let mut scanner = Scanner::new(self.medium.ring, &header, cursor.offset, cursor.limit);
            let found = scanner.resync(&mut self.medium, self.windows.memory());
            found.then_some(scanner.offset)
        });
        cursor.offset = next.unwrap_or(cursor.limit).max(cursor.offset.saturating_add(1));
    }

    fn next_by_footer(&mut self, cursor: &Cursor) -> Option<u32> {
        let ring = self.medium.ring;
        let trailer = trailer(&mut self.medium, self.salt, cursor.sequence)?;
        let at = ring.size().saturating_sub(TRAILER_SIZE).checked_sub(trailer.index_size)?;
        let memory = self.windows.memory();
        let index = take_mut(memory, 0, trailer.index_size as usize)?;
        self.medium.read(ring.index(cursor.sequence), at, index).ok()?;
        if crc(0, index) != trailer.index_crc {
            return None;
        }
        let mut reader = IndexReader::new(ring, index);
        while let Some(entry) = reader.next() {
            if entry.offset > cursor.offset {
                return Some(entry.offset);
            }
        }
        Some(trailer.end)
    }
}
