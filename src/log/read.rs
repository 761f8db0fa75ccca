//! Reading records: from the open segment's memory, or through a few read windows.
//!
//! A window holds a stretch of one segment. A read that goes on where a window ends is taken for
//! a sequential one: the window moves there and reads ahead, 4 KiB first, twice as much each
//! time, up to its size. Any other read takes the window that was not used for longest and fetches
//! about as much as the last record took. Every record is checked whenever it is read, and
//! mended in the window if one bit of it is wrong.

use super::bytes::{put, take, take_mut};
use super::layout::Ring;
use super::medium::Medium;
use super::mend::{mend, MEND_MAX};
use super::record::{framed, framed_at, parse, verify, Parsed};
use super::survey::trailer;
use super::types::{ReadError, Record, KIND_LIMIT};
use super::Log;
use crate::flash::{Flash, FlashError};
use crate::units::{At, Millis};

/// Most windows the cache is split into. A microcontroller has memory for one or two.
const WINDOWS_MAX: usize = if cfg!(feature = "gateway") { 8 } else { 2 };
/// First read-ahead of a sequential read, in bytes.
const AHEAD_MIN: u32 = 4096;
/// Least bytes that are fetched for one record.
const FETCH_MIN: u32 = 128;
/// A read so few bytes behind a window's end goes on there: padding may be between.
const GAP_MAX: u32 = 512;

/// A record's segment, as far as reading it needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) sequence: u32,
    pub(super) index: u32,
    pub(super) offset: u32,
    /// Nothing from here on is on the device.
    pub(super) limit: u32,
    pub(super) salt: u32,
}

/// What one window holds; nothing if the length is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    sequence: u32,
    start: u32,
    len: u32,
    seed: u32,
    base: Millis,
    ahead: u32,
    used: u64,
}

impl Window {
    /// Bytes between the window's start and an offset it holds, or may be moved on to hold.
    fn reach(&self, source: &Source, gap: u32) -> Option<u32> {
        let end = self.start.saturating_add(self.len).saturating_add(gap);
        let here = self.len > 0 && self.sequence == source.sequence && source.offset < end;
        source.offset.checked_sub(self.start).filter(|_| here)
    }
}

impl Cached {
    /// Bytes of the whole record.
    pub(super) fn framed(&self) -> u32 {
        self.framed
    }
}

/// The windows and their memory.
#[derive(Debug)]
pub(super) struct Windows<'a> {
    memory: &'a mut [u8],
    size: u32,
    windows: [Window; WINDOWS_MAX],
    count: usize,
    clock: u64,
    fetch: u32,
}

/// Where a record lies in the windows' memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    at: usize,
    framed: u32,
    offset: u32,
    seed: u32,
    base: Millis,
}

impl<'a> Windows<'a> {
    /// Splits memory into windows of at least `least` bytes; None if it is less than one.
    pub(super) fn new(memory: &'a mut [u8], least: usize) -> Option<Self> {
        let count = memory.len().checked_div(least)?.min(WINDOWS_MAX);
        let size = memory.len().checked_div(count)? as u32;
        Some(Windows {
            memory,
            size,
            windows: [Window::default(); WINDOWS_MAX],
            count,
            clock: 0,
            fetch: FETCH_MIN,
        })
    }

    /// The whole memory, for something else; what was cached is forgotten.
    pub(super) fn memory(&mut self) -> &mut [u8] {
        self.windows = [Window::default(); WINDOWS_MAX];
        self.memory
    }

    /// The record that was brought into a window.
    pub(super) fn record(&self, cached: Cached) -> Option<(Parsed<'_>, Millis)> {
        let bytes = take(self.memory, cached.at, cached.framed as usize)?;
        Some((parse(bytes)?, cached.base))
    }

    /// Brings the record at a place into a window and checks it; one wrong bit is mended there.
    pub(super) fn checked<F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        source: &Source,
    ) -> Result<Cached, ReadError> {
        let found = self.cache(medium, source);
        if let Ok(cached) = found {
            let bytes = take(self.memory, cached.at, cached.framed as usize).unwrap_or(&[]);
            if verify(cached.seed, cached.offset, bytes).is_some() {
                return Ok(cached);
            }
        }
        match self.mended(medium, source) {
            Some(cached) => Ok(cached),
            None => Err(found.err().unwrap_or(ReadError::Corrupt)),
        }
    }

    /// Reads a damaged record anew and mends it, if one bit of it is wrong.
    fn mended<F: Flash>(&mut self, medium: &mut Medium<F>, source: &Source) -> Option<Cached> {
        let number = self.oldest();
        self.fill(medium, number, source, 0, MEND_MAX as u32).ok()?;
        let window = self.windows.get_mut(number)?;
        let at = number.checked_mul(self.size as usize)?;
        let bytes = take_mut(self.memory, at, window.len as usize)?;
        let Some(framed) = mend(window.seed, source.offset, bytes) else {
            *window = Window::default();
            return None;
        };
        Some(Cached { at, framed, offset: source.offset, seed: window.seed, base: window.base })
    }

    /// Caches a record that is in other memory.
    pub(super) fn load(
        &mut self,
        source: &Source,
        seed: u32,
        base: Millis,
        bytes: &[u8],
    ) -> Result<Cached, ReadError> {
        let number = self.oldest();
        let at = number.saturating_mul(self.size as usize);
        let window = self.windows.get_mut(number).ok_or(ReadError::Corrupt)?;
        let framed = bytes.len() as u32;
        *window = Window::default();
        if framed > self.size || !put(self.memory, at, bytes) {
            return Err(ReadError::Corrupt);
        }
        let (sequence, start) = (source.sequence, source.offset);
        *window = Window { sequence, start, len: framed, seed, base, ahead: 0, used: self.clock };
        Ok(Cached { at, framed, offset: start, seed, base })
    }

    /// One byte of the segment.
    pub(super) fn byte<F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        source: &Source,
    ) -> Result<u8, ReadError> {
        let (number, within) = self.cover(medium, source)?;
        let at = number.saturating_mul(self.size as usize).saturating_add(within as usize);
        take(self.memory, at, 1).and_then(|bytes| bytes.first().copied()).ok_or(ReadError::Corrupt)
    }

    /// Brings the record at a place into a window. It is not checked here.
    fn cache<F: Flash>(&mut self, medium: &mut Medium<F>, source: &Source) -> Result<Cached, ReadError> {
        let (number, within) = self.cover(medium, source)?;
        match self.whole(number, within, source) {
            Some(cached) => Ok(cached),
            None => {
                self.fetch_rest(medium, number, source)?;
                let within = self.windows.get(number).and_then(|w| source.offset.checked_sub(w.start));
                self.whole(number, within.ok_or(ReadError::Corrupt)?, source).ok_or(ReadError::Corrupt)
            }
        }
    }

    /// The record in a window, if the window holds all of it.
    fn whole(&mut self, number: usize, within: u32, source: &Source) -> Option<Cached> {
        let window = self.windows.get(number)?;
        let at = number.checked_mul(self.size as usize)?.checked_add(within as usize)?;
        let have = window.len.checked_sub(within)?;
        let framed = framed_at(take(self.memory, at, have.min(16) as usize)?)?;
        if framed > have {
            return None;
        }
        self.fetch = framed.saturating_add(15) & !15;
        Some(Cached { at, framed, offset: source.offset, seed: window.seed, base: window.base })
    }

    /// Finds or fills a window so that it holds the first bytes at an offset; tells how far in.
    fn cover<F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        source: &Source,
    ) -> Result<(usize, u32), ReadError> {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let held = self.find(source, 0);
        if let Some((number, within)) = held {
            if let Some(window) = self.windows.get_mut(number) {
                window.used = clock;
            }
            return Ok((number, within));
        }
        let (number, ahead) = match self.find(source, GAP_MAX) {
            Some((number, _)) => (number, self.next_ahead(number)),
            None => (self.oldest(), 0),
        };
        let want = ahead.max(self.fetch).max(FETCH_MIN);
        self.fill(medium, number, source, ahead, want)?;
        Ok((number, 0))
    }

    /// The window ends within the record at the offset: moves it there and reads ahead.
    fn fetch_rest<F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        number: usize,
        source: &Source,
    ) -> Result<(), ReadError> {
        let window = self.windows.get(number).copied().ok_or(ReadError::Corrupt)?;
        let within = source.offset.saturating_sub(window.start);
        let at = number.saturating_mul(self.size as usize).saturating_add(within as usize);
        let have = window.len.saturating_sub(within);
        let framed = take(self.memory, at, have.min(16) as usize).and_then(framed_at).unwrap_or(0);
        if framed > self.size {
            return Err(ReadError::Corrupt);
        }
        let ahead = if within == 0 { window.ahead } else { self.next_ahead(number) };
        self.fill(medium, number, source, ahead, ahead.max(framed).max(FETCH_MIN))
    }

    fn fill<F: Flash>(
        &mut self,
        medium: &mut Medium<F>,
        number: usize,
        source: &Source,
        ahead: u32,
        want: u32,
    ) -> Result<(), ReadError> {
        let (seed, base) = self.facts(medium, source)?;
        let at = number.saturating_mul(self.size as usize);
        let len = want.min(self.size).min(source.limit.saturating_sub(source.offset));
        let window = self.windows.get_mut(number).ok_or(ReadError::Corrupt)?;
        *window = Window::default();
        let into = take_mut(self.memory, at, len as usize).ok_or(ReadError::Corrupt)?;
        let len = medium.read_front(source.index, source.offset, into) as u32;
        if len == 0 {
            return Err(ReadError::Medium(FlashError::Medium));
        }
        let (sequence, start) = (source.sequence, source.offset);
        *window = Window { sequence, start, len, seed, base, ahead, used: self.clock };
        Ok(())
    }

    /// Seed and base time of a segment: from a window on it, or from its header.
    fn facts<F: Flash>(&self, medium: &mut Medium<F>, source: &Source) -> Result<(u32, Millis), ReadError> {
        let known = self.windows.iter().find(|w| w.len > 0 && w.sequence == source.sequence);
        if let Some(window) = known {
            return Ok((window.seed, window.base));
        }
        if let Some(header) = medium.header(source.sequence, source.salt) {
            return Ok((header.seed, header.base));
        }
        // The footer knows the checksum of a header that is lost; its time is about that of its neighbours.
        let trailer = trailer(medium, source.salt, source.sequence).ok_or(ReadError::Corrupt)?;
        let neighbours = [source.sequence.saturating_add(1), source.sequence.saturating_sub(1)];
        let header = neighbours.into_iter().find_map(|sequence| medium.header(sequence, source.salt));
        Ok((trailer.seed, header.map_or(Millis(0), |header| header.base)))
    }

    /// The checksum that records of a segment are seeded with.
    pub(super) fn seed<F: Flash>(&self, medium: &mut Medium<F>, source: &Source) -> Option<u32> {
        self.facts(medium, source).ok().map(|(seed, _)| seed)
    }

    fn find(&self, source: &Source, gap: u32) -> Option<(usize, u32)> {
        let windows = self.windows.iter().take(self.count).enumerate();
        windows.filter_map(|(number, w)| Some((number, w.reach(source, gap)?))).next()
    }

    fn oldest(&self) -> usize {
        let windows = self.windows.iter().take(self.count).enumerate();
        windows.min_by_key(|(_, w)| w.used).map_or(0, |(number, _)| number)
    }

    fn next_ahead(&self, number: usize) -> u32 {
        let last = self.windows.get(number).map_or(0, |window| window.ahead);
        last.saturating_mul(2).clamp(AHEAD_MIN, AHEAD_MIN.max(self.size)).min(self.size)
    }
}

impl<F: Flash> Log<'_, F> {
    /// Reads a record and checks it.
    pub fn read(&mut self, at: At) -> Result<Record<'_>, ReadError> {
        let source = self.source(at)?;
        let (record, base) = if self.in_tail(&source) {
            let (seed, base) = self.open_facts();
            let bytes = self.tail_record(&source).ok_or(ReadError::Corrupt)?;
            (verify(seed, source.offset, bytes).ok_or(ReadError::Corrupt)?, base)
        } else {
            let cached = self.windows.checked(&mut self.medium, &source)?;
            self.windows.record(cached).ok_or(ReadError::Corrupt)?
        };
        if record.kind >= KIND_LIMIT {
            return Err(ReadError::Gone);
        }
        let Parsed { kind, digest, payload, size, .. } = record;
        Ok(Record { kind, digest, payload, base, size })
    }

    /// Puts a record, checked, into a window, wherever it is now, so that it stays while others are written.
    pub(super) fn stage(&mut self, at: At) -> Result<Cached, ReadError> {
        let source = self.source(at)?;
        if !self.in_tail(&source) {
            return self.windows.checked(&mut self.medium, &source);
        }
        let (seed, base) = self.open_facts();
        let bytes = self.tail.from(source.offset).ok_or(ReadError::Corrupt)?;
        let framed = framed_at(bytes).ok_or(ReadError::Corrupt)?;
        let bytes = take(bytes, 0, framed as usize).ok_or(ReadError::Corrupt)?;
        verify(seed, source.offset, bytes).ok_or(ReadError::Corrupt)?;
        self.windows.load(&source, seed, base, bytes)
    }

    /// The largest record that is taken and read, by the bytes of its digest and payload.
    pub fn max_record(&self) -> u32 {
        self.max_record
    }

    /// Whether the record at a place is larger than that: it was written when more was allowed.
    pub fn is_too_large(&mut self, at: At) -> bool {
        let Ok(source) = self.source(at) else { return false };
        let mut front = [0; 5];
        let read = self.medium.read(source.index, source.offset, &mut front);
        read.is_ok() && framed_at(&front).is_some_and(|size| size > framed(5, self.max_record))
    }

    /// Where a record is to be looked for.
    pub(super) fn source(&self, at: At) -> Result<Source, ReadError> {
        let ring: &Ring = &self.medium.ring;
        let (index, offset) = ring.split(at);
        let sequence = self.space.sequence(index).ok_or(ReadError::Gone)?;
        let limit = match &self.open {
            Some(open) if open.sequence == sequence => self.tail.programmed(),
            _ => ring.size(),
        };
        if offset < ring.start() || (offset >= limit && self.tail.from(offset).is_none()) {
            return Err(ReadError::Gone);
        }
        Ok(Source { sequence, index, offset, limit, salt: self.salt })
    }

    fn in_tail(&self, source: &Source) -> bool {
        let open = self.open.as_ref().is_some_and(|open| open.sequence == source.sequence);
        open && self.tail.from(source.offset).is_some()
    }

    fn tail_record(&self, source: &Source) -> Option<&[u8]> {
        let bytes = self.tail.from(source.offset)?;
        take(bytes, 0, framed_at(bytes)? as usize)
    }

    fn open_facts(&self) -> (u32, Millis) {
        self.open.as_ref().map_or((0, self.now), |open| (open.seed, open.base))
    }
}
