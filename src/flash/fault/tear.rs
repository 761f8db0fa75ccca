//! What is left when power goes: one function for the device that is cut and for a tape's cuts.
//!
//! A write is granted as many steps as there was power for. The unit of a program that the next byte
//! would have gone to is the torn one; power that goes between two calls tears nothing, but for
//! [`Tear::Decays`], under which the last unit of the last call was not programmed for good.
//!
//! ```text
//! program   | written | written | torn | untouched |     Zeroed: | written | wri000 | 000000 |
//! erase     a part at the front, some units, some bits, or all of it but unstable
//! ```
//! [`Tear::Reordered`] takes the writes since the last finished sync back, all of them, and does again
//! what made it. A device that is ordered keeps the first of them, whatever the segment.

use super::journal::{Act, Journal, Under};
use super::medium::Medium;
use super::random::Random;
use super::{Tear, ERASE_STEPS};

/// Reads that a unit which decays stands at most.
const DECAY_READS_MAX: u64 = 8;

/// What a loss of power let through of a segment's writes.
#[derive(Clone, Copy, Debug)]
struct Fate {
    segment: u32,
    /// Steps of all its writes; then how many are still let through.
    steps: u64,
    /// Each unit made it or not.
    holes: bool,
}

impl Medium {
    /// Becomes what is found when power returns that went at `step`. The journal is the one of this
    /// medium, or of the one it was copied from.
    pub(super) fn crash(
        &mut self,
        journal: &Journal,
        partial: Option<Under<'_>>,
        step: u64,
        tear: Tear,
        random: &mut Random,
    ) {
        self.decay(|_| true);
        if journal.lied {
            self.undo(journal);
            return;
        }
        if tear == Tear::Reordered {
            self.reorder(journal, partial, random);
        } else if let Some(under) = partial.or_else(|| journal.over_at(step)) {
            self.cut_short(under, tear, random);
        }
    }

    fn undo(&mut self, journal: &Journal) {
        for done in (0..journal.len()).rev().filter_map(|index| journal.done(index)) {
            let segment = done.act.segment();
            match done.act {
                Act::Program { offset, bytes, .. } => {
                    self.put(segment, offset, done.replaced);
                    let len = bytes.len() as u64;
                    self.torn.retain(|torn| !torn.overlaps(segment, offset, len));
                }
                Act::Erase { .. } => {
                    let [(first, len), (last, _)] = self.wiped();
                    if let Some((head, tail)) = done.replaced.split_at_checked(len as usize) {
                        self.put(segment, first, head);
                        self.put(segment, last, tail);
                    }
                    self.torn.extend(journal.healed.iter().filter(|torn| torn.segment == segment));
                }
            }
            self.set_mark(segment, done.mark_before);
            self.touch(segment);
        }
    }

    /// A write was granted a part of its steps, or all of them at the last moment.
    fn cut_short(&mut self, under: Under<'_>, tear: Tear, random: &mut Random) {
        self.touch(under.act.segment());
        match under.act {
            Act::Program { segment, offset, bytes } => {
                self.cut_program(segment, offset, bytes, under.granted, tear, random);
            }
            Act::Erase { segment } => self.cut_erase(segment, under.granted, tear, random),
        }
    }

    fn cut_program(
        &mut self,
        segment: u32,
        offset: u32,
        bytes: &[u8],
        granted: u64,
        tear: Tear,
        random: &mut Random,
    ) {
        let unit = self.shape.geometry.write_unit as usize;
        let (len, granted) = (bytes.len(), (granted as usize).min(bytes.len()));
        if granted == len {
            if tear == Tear::Decays {
                // It is over, and its last unit was not programmed for good.
                let last = len.saturating_sub(1) & !unit.wrapping_sub(1);
                let reads_left = 1 + random.below(DECAY_READS_MAX) as u32;
                let at = offset.wrapping_add(last as u32);
                self.tear(segment, at, len.wrapping_sub(last) as u32, reads_left, random.next());
            }
            return;
        }
        let whole = granted & !unit.wrapping_sub(1);
        let (done, rest) = bytes.split_at_checked(whole).unwrap_or((bytes, &[]));
        let torn = rest.get(..unit).unwrap_or(rest);
        let part = torn.get(..granted.saturating_sub(whole)).unwrap_or(torn);
        let at = offset.wrapping_add(whole as u32);
        self.put(segment, offset, done);
        let mut touched = torn.len();
        let mut reads_left = 0;
        match tear {
            Tear::Prefix | Tear::Reordered => {
                self.put(segment, at, part);
                touched = if part.is_empty() { 0 } else { touched };
            }
            Tear::Zeroed => {
                self.put(segment, at, part);
                let from = offset.wrapping_add(granted as u32);
                self.bytes_mut(segment, from, len.wrapping_sub(granted)).fill(0);
                touched = rest.len();
            }
            Tear::Bits => mix(self.bytes_mut(segment, at, torn.len()), torn, random),
            Tear::Garbage => {
                let erased = self.shape.erased;
                soil(self.bytes_mut(segment, at, torn.len()), erased, random);
            }
            Tear::Decays => {
                self.put(segment, at, torn);
                reads_left = 1 + random.below(DECAY_READS_MAX) as u32;
            }
        }
        let end = at.wrapping_add(touched as u32);
        self.set_mark(segment, end.wrapping_add(unit as u32 - 1) & !(unit as u32 - 1));
        self.force(segment, offset, len);
        let spoiled = if tear == Tear::Zeroed && part.is_empty() { 0 } else { touched.min(torn.len()) };
        self.tear(segment, at, spoiled as u32, reads_left, random.next());
    }

    fn cut_erase(&mut self, segment: u32, granted: u64, tear: Tear, random: &mut Random) {
        let over = granted >= ERASE_STEPS;
        if over && tear != Tear::Decays {
            return;
        }
        let way = if tear == Tear::Decays { 3 } else { random.below(4) };
        let unit = self.shape.geometry.write_unit as usize;
        let erased = self.shape.erased;
        // What was torn before and is not erased now is torn still.
        if way > 1 {
            self.heal(segment);
        }
        for (offset, len) in self.wiped().into_iter().filter(|place| place.1 > 0) {
            let place = self.bytes_mut(segment, offset, len as usize);
            match way {
                0 => {
                    let end = random.below(u64::from(len));
                    place.get_mut(..end as usize).unwrap_or(&mut []).fill(erased);
                    let at = end as u32 & !(unit as u32).wrapping_sub(1);
                    self.tear(segment, offset.wrapping_add(at), unit as u32, 0, 0);
                }
                1 => {
                    for bytes in place.chunks_mut(unit).filter(|_| random.next() & 1 == 0) {
                        bytes.fill(erased);
                    }
                }
                2 => {
                    for bytes in place.chunks_mut(8) {
                        mix(bytes, &[erased; 8], random);
                    }
                    self.tear(segment, offset, len, 0, 0);
                }
                _ => {
                    place.fill(erased);
                    let reads_left = 1 + random.below(DECAY_READS_MAX) as u32;
                    self.tear(segment, offset, len, reads_left, random.next());
                }
            }
            self.force(segment, offset, len as usize);
        }
        self.set_mark(segment, self.shape.geometry.segment_size);
    }

    fn reorder(&mut self, journal: &Journal, partial: Option<Under<'_>>, random: &mut Random) {
        let ordered = !self.shape.cached;
        let all = || {
            let done = (0..journal.len()).filter_map(|index| journal.done(index));
            done.map(|done| Under { act: done.act, granted: done.act.steps() }).chain(partial)
        };
        let key = |act: &Act<'_>| if ordered { 0 } else { act.segment() };
        let mut fates: Vec<Fate> = Vec::new();
        for under in all() {
            let segment = key(&under.act);
            match fates.iter_mut().find(|fate| fate.segment == segment) {
                Some(fate) => fate.steps = fate.steps.saturating_add(under.granted),
                None => fates.push(Fate { segment, steps: under.granted, holes: false }),
            }
        }
        for fate in &mut fates {
            match random.below(4) {
                0 => fate.steps = u64::MAX,
                1 => fate.steps = 0,
                2 if !ordered => fate.holes = true,
                _ => fate.steps = random.below(fate.steps.saturating_add(1)),
            }
        }
        self.undo(journal);
        for under in all() {
            let segment = key(&under.act);
            let Some(fate) = fates.iter_mut().find(|fate| fate.segment == segment) else { continue };
            if fate.holes {
                self.redo_some(under, random);
                continue;
            }
            let granted = under.granted.min(fate.steps);
            fate.steps = fate.steps.saturating_sub(under.granted);
            self.redo(under.act, granted, random);
        }
    }

    fn redo(&mut self, act: Act<'_>, granted: u64, random: &mut Random) {
        if granted >= act.steps() {
            self.apply(&act);
        } else if granted > 0 {
            let tear = match random.below(3) {
                0 => Tear::Bits,
                1 => Tear::Garbage,
                _ => Tear::Prefix,
            };
            self.cut_short(Under { act, granted }, tear, random);
        }
    }

    /// Each unit of a write makes it or not.
    fn redo_some(&mut self, under: Under<'_>, random: &mut Random) {
        let Act::Program { segment, offset, bytes } = under.act else {
            let granted = if random.next() & 1 == 0 { 0 } else { under.granted };
            self.redo(under.act, granted, random);
            return;
        };
        let mut at = offset;
        let mut left = under.granted;
        for unit in bytes.chunks(self.shape.geometry.write_unit as usize) {
            let granted = left.min(unit.len() as u64);
            if random.next() & 3 > 0 {
                self.redo(Act::Program { segment, offset: at, bytes: unit }, granted, random);
            }
            left = left.wrapping_sub(granted);
            at = at.wrapping_add(unit.len() as u32);
        }
    }
}

/// Changes some of the bits that are to change, few or many.
fn mix(place: &mut [u8], wanted: &[u8], random: &mut Random) {
    let density = random.below(3);
    let mut bits = 0;
    for (i, (byte, wanted)) in place.iter_mut().zip(wanted).enumerate() {
        if i % 8 == 0 {
            bits = random.next();
            match density {
                0 => bits &= random.next(),
                1 => bits |= random.next(),
                _ => {}
            }
        }
        *byte ^= (*byte ^ wanted) & bits as u8;
        bits >>= 8;
    }
}

/// Makes a place read as erased in part, and as anything in between.
fn soil(place: &mut [u8], erased: u8, random: &mut Random) {
    // In two halves, or byte by byte.
    let split = random.below(2 * place.len() as u64) as usize;
    let halves = split < place.len();
    for (i, byte) in place.iter_mut().enumerate() {
        let bits = random.next();
        let clean = if halves { i >= split } else { bits & 0x100 == 0 };
        *byte = if clean { erased } else { bits as u8 };
    }
}
