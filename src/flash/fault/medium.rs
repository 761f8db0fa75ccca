//! The bytes of the simulated device and what is physically wrong with them.
//!
//! The device that is written to and the player of a tape both hold one, and everything that changes
//! bytes goes through it; so a tape that is played makes the very bytes the device had.
//!
//! Invariants
//! - `marks` says up to where a segment is programmed: nothing before it may be programmed again.
//! - A segment whose bytes or mark change is stamped, so that a copy of it can be told from a fresh one.

use super::journal::{Act, Journal};
use super::random::Random;
use crate::flash::{Geometry, WIPED};

/// What never changes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) geometry: Geometry,
    pub(super) erased: u8,
    /// An erase wipes the ends of a segment only, as in a file.
    pub(super) cached: bool,
    pub(super) ecc: bool,
}

/// Something that goes wrong at rest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Flip(u64),
    Stick(u64, bool),
    WearOut(u32),
    Blind(u32),
    Decay(u32, u32),
}

/// A place that power went away under and that is not simply what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Torn {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
    /// Reads until it decays; 0 if it does not.
    pub(super) reads_left: u32,
    /// What it decays to.
    pub(super) seed: u64,
    pub(super) unreadable: bool,
}

impl Torn {
    pub(super) fn overlaps(&self, segment: u32, offset: u32, len: u64) -> bool {
        let (start, own) = (u64::from(offset), u64::from(self.offset));
        self.segment == segment && start < own + u64::from(self.len) && own < start + len
    }
}

#[derive(Clone, Debug)]
pub(super) struct Medium {
    pub(super) shape: Shape,
    pub(super) image: Vec<u8>,
    pub(super) marks: Vec<u32>,
    pub(super) torn: Vec<Torn>,
    pub(super) stuck: Vec<(u64, bool)>,
    pub(super) worn: Vec<u32>,
    pub(super) blind: Vec<u32>,
    pub(super) journal: Journal,
    /// Which state of a segment is here; 0 if it is nobody else's.
    stamps: Vec<u64>,
    /// What a segment is stamped with when it changes.
    pub(super) stamp: u64,
}

impl Medium {
    pub(super) fn new(shape: Shape) -> Option<Medium> {
        let geometry = shape.geometry;
        let size = usize::try_from(geometry.segment_size).ok()?;
        let count = usize::try_from(geometry.segment_count).ok()?;
        let unit = geometry.write_unit;
        if !unit.is_power_of_two() || size == 0 || geometry.segment_size & unit.wrapping_sub(1) != 0 {
            return None;
        }
        Some(Medium {
            shape,
            image: vec![shape.erased; size.checked_mul(count)?],
            marks: vec![0; count],
            torn: Vec::new(),
            stuck: Vec::new(),
            worn: Vec::new(),
            blind: Vec::new(),
            journal: Journal::default(),
            stamps: vec![0; count],
            stamp: 0,
        })
    }

    /// Makes all segments another state than whatever was known of them.
    pub(super) fn stamp_all(&mut self) {
        self.stamps.fill(self.stamp);
    }

    pub(super) fn touch(&mut self, segment: u32) {
        if let Some(stamp) = self.stamps.get_mut(segment as usize) {
            *stamp = self.stamp;
        }
    }

    /// Becomes what another medium is, copying the segments only that are not the same already. The
    /// journal is left out.
    pub(super) fn adopt(&mut self, other: &Medium) {
        if self.shape != other.shape {
            self.shape = other.shape;
            self.image.clone_from(&other.image);
            self.marks.clone_from(&other.marks);
            self.stamps.clone_from(&other.stamps);
        } else {
            let size = self.shape.geometry.segment_size as usize;
            let own = self.stamps.iter_mut().zip(&mut self.marks).zip(self.image.chunks_exact_mut(size));
            let theirs = other.stamps.iter().zip(&other.marks).zip(other.image.chunks_exact(size));
            for (((stamp, mark), bytes), ((&their_stamp, &their_mark), their_bytes)) in own.zip(theirs) {
                if *stamp != their_stamp || their_stamp == 0 {
                    *stamp = their_stamp;
                    *mark = their_mark;
                    bytes.copy_from_slice(their_bytes);
                }
            }
        }
        self.torn.clone_from(&other.torn);
        self.stuck.clone_from(&other.stuck);
        self.worn.clone_from(&other.worn);
        self.blind.clone_from(&other.blind);
    }

    fn start(&self, segment: u32, offset: u32) -> usize {
        (segment as usize)
            .wrapping_mul(self.shape.geometry.segment_size as usize)
            .wrapping_add(offset as usize)
    }

    /// Whether a place is within one segment.
    pub(super) fn holds(&self, segment: u32, offset: u32, len: usize) -> bool {
        let geometry = self.shape.geometry;
        segment < geometry.segment_count
            && offset <= geometry.segment_size
            && len <= geometry.segment_size.wrapping_sub(offset) as usize
    }

    pub(super) fn bytes(&self, segment: u32, offset: u32, len: usize) -> &[u8] {
        let start = self.start(segment, offset);
        self.image.get(start..start.wrapping_add(len)).unwrap_or(&[])
    }

    pub(super) fn bytes_mut(&mut self, segment: u32, offset: u32, len: usize) -> &mut [u8] {
        let start = self.start(segment, offset);
        self.image.get_mut(start..start.wrapping_add(len)).unwrap_or(&mut [])
    }

    pub(super) fn put(&mut self, segment: u32, offset: u32, bytes: &[u8]) {
        let place = self.bytes_mut(segment, offset, bytes.len());
        if place.len() == bytes.len() {
            place.copy_from_slice(bytes);
        }
    }

    pub(super) fn mark(&self, segment: u32) -> u32 {
        self.marks.get(segment as usize).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn set_mark(&mut self, segment: u32, to: u32) {
        if let Some(mark) = self.marks.get_mut(segment as usize) {
            *mark = to;
        }
    }

    /// What an erase wipes: up to two places of a segment, as offset and length.
    pub(super) fn wiped(&self) -> [(u32, u32); 2] {
        let size = self.shape.geometry.segment_size;
        let end = WIPED.max(self.shape.geometry.write_unit);
        match size.checked_sub(end) {
            Some(last) if self.shape.cached && last >= end => [(0, end), (last, end)],
            _ => [(0, size), (size, 0)],
        }
    }

    /// Does a write and remembers how to undo it. False if it does not read back.
    pub(super) fn act(&mut self, act: &Act<'_>, end: u64) -> bool {
        let segment = act.segment();
        let places = match *act {
            Act::Program { offset, bytes, .. } => [(offset, bytes.len() as u32), (0, 0)],
            Act::Erase { .. } => self.wiped(),
        };
        let mark = self.mark(segment);
        let mut journal = std::mem::take(&mut self.journal);
        let replaced = places.iter().map(|&(offset, len)| self.bytes(segment, offset, len as usize));
        journal.replace(act, mark, end, replaced);
        self.journal = journal;
        self.apply(act)
    }

    /// Does a write. False if it does not read back.
    pub(super) fn apply(&mut self, act: &Act<'_>) -> bool {
        self.touch(act.segment());
        match *act {
            Act::Program { segment, offset, bytes } => self.program(segment, offset, bytes),
            Act::Erase { segment } => self.erase(segment),
        }
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> bool {
        self.put(segment, offset, bytes);
        let mask = self.shape.geometry.write_unit.wrapping_sub(1);
        let len = bytes.len() as u32;
        self.set_mark(segment, offset.wrapping_add(len.wrapping_add(mask) & !mask));
        if len & mask != 0 && self.shape.ecc {
            // A write that failed within a unit leaves its check wrong.
            let begin = offset.wrapping_add(len & !mask);
            self.tear(segment, begin, mask.wrapping_add(1), 0, 0);
        }
        self.force(segment, offset, bytes.len())
    }

    fn erase(&mut self, segment: u32) -> bool {
        let erased = self.shape.erased;
        let mut right = true;
        self.heal(segment);
        for (offset, len) in self.wiped() {
            self.bytes_mut(segment, offset, len as usize).fill(erased);
            right &= self.force(segment, offset, len as usize);
        }
        self.set_mark(segment, if right { 0 } else { self.shape.geometry.segment_size });
        right
    }

    /// Nothing of a segment is torn any more.
    pub(super) fn heal(&mut self, segment: u32) {
        if !self.torn.is_empty() {
            self.journal.healed.extend(self.torn.iter().filter(|torn| torn.segment == segment));
            self.torn.retain(|torn| torn.segment != segment);
        }
    }

    /// Keeps a place in mind as torn, if that shows.
    pub(super) fn tear(&mut self, segment: u32, offset: u32, len: u32, reads_left: u32, seed: u64) {
        let unreadable = self.shape.ecc && reads_left == 0;
        if len > 0 && (unreadable || reads_left > 0) {
            self.torn.push(Torn { segment, offset, len, reads_left, seed, unreadable });
        }
    }

    /// Sets the stuck bits of a place. False if that changed any.
    pub(super) fn force(&mut self, segment: u32, offset: u32, len: usize) -> bool {
        if self.stuck.is_empty() {
            return true;
        }
        let start = self.start(segment, offset);
        let mut right = true;
        for &(bit, value) in &self.stuck {
            let at = (bit / 8) as usize;
            let Some(byte) = self.image.get_mut(at).filter(|_| at >= start && at - start < len) else {
                continue;
            };
            let mask = 1 << (bit % 8);
            let forced = if value { *byte | mask } else { *byte & !mask };
            right &= forced == *byte;
            *byte = forced;
        }
        right
    }

    /// What a place that decays was to turn into, it now is.
    pub(super) fn decay(&mut self, which: impl Fn(&Torn) -> bool) {
        let mut torn = std::mem::take(&mut self.torn);
        let ecc = self.shape.ecc;
        torn.retain_mut(|torn| {
            if torn.reads_left > 0 && which(torn) {
                Random(torn.seed).fill(self.bytes_mut(torn.segment, torn.offset, torn.len as usize));
                self.touch(torn.segment);
                torn.reads_left = 0;
                torn.unreadable = ecc;
                return ecc;
            }
            true
        });
        self.torn = torn;
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Flip(bit) => {
                let at = (bit / 8) as usize;
                if let Some(byte) = self.image.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                    self.touch((at / self.shape.geometry.segment_size.max(1) as usize) as u32);
                }
            }
            Fault::Stick(bit, value) => {
                self.stuck.retain(|stuck| stuck.0 != bit);
                self.stuck.push((bit, value));
            }
            Fault::WearOut(segment) => self.worn.push(segment),
            Fault::Blind(segment) => self.blind.push(segment),
            Fault::Decay(segment, offset) => {
                self.decay(|torn| torn.segment == segment && torn.offset == offset);
            }
        }
    }

    /// Takes an image as the content; all that is not erased counts as programmed.
    pub(super) fn load(&mut self, image: &[u8]) {
        let erased = self.shape.erased;
        self.image.fill(erased);
        for (to, &from) in self.image.iter_mut().zip(image) {
            *to = from;
        }
        self.torn.clear();
        self.journal.clear();
        self.stamp_all();
        let geometry = self.shape.geometry;
        let mask = geometry.write_unit.wrapping_sub(1);
        let segments = self.image.chunks_exact(geometry.segment_size as usize);
        for (mark, bytes) in self.marks.iter_mut().zip(segments) {
            let used = bytes.iter().rposition(|&byte| byte != erased).map_or(0, |last| last as u32 + 1);
            *mark = used.wrapping_add(mask) & !mask;
        }
    }
}
