//! The bytes of the open segment that are in memory, on their way to the device.
//!
//! ```text
//! buffer    |<- retained, if it is as large as a segment ->|<- to be programmed ->|   room   |
//!           base                                    programmed                   end
//! ```
//! Everything is programmed in ascending order and whole write units. A buffer smaller than a
//! segment keeps only what is not programmed yet, and is programmed in between when it is full, padded behind
//! the record that filled it.

use super::bytes::{put, take, take_mut};
use super::checksum::crc_u32;
use super::medium::Medium;
use crate::flash::{Flash, FlashError};

/// First bytes of the padding at an offset; zeros follow. The checksum tells it from what stands there if
/// the rest of the unit was not written: a unit torn between two records must not look whole.
pub(super) fn padding(seed: u32, offset: u32) -> [u8; PADDING_MIN as usize] {
    let [a, b, c, d] = crc_u32(seed, offset).to_le_bytes();
    [0, a, b, c, d]
}

/// The least padding that is told apart; a record is longer.
pub(super) const PADDING_MIN: u32 = 5;

/// The buffer, and where in the segment it stands.
#[derive(Debug)]
pub(super) struct Tail<'a> {
    buffer: &'a mut [u8],
    retains: bool,
    index: u32,
    seed: u32,
    base: u32,
    programmed: u32,
    end: u32,
}

impl<'a> Tail<'a> {
    /// Uses as much of the memory as whole write units take; None if that is not one.
    pub(super) fn new(memory: &'a mut [u8], segment_size: u32, write_unit: u32) -> Option<Self> {
        let unit = write_unit as usize;
        let whole = (memory.len() & !unit.wrapping_sub(1)).min(segment_size as usize);
        let buffer = memory.get_mut(..whole).filter(|buffer| buffer.len() >= unit)?;
        let retains = whole == segment_size as usize;
        Some(Tail { buffer, retains, index: 0, seed: 0, base: 0, programmed: 0, end: 0 })
    }

    /// Starts over at the beginning of a segment, whose header has this checksum.
    pub(super) fn begin(&mut self, index: u32, seed: u32) {
        self.seed = seed;
        (self.index, self.base, self.programmed, self.end) = (index, 0, 0, 0);
    }

    /// It holds all of a segment, so nothing is programmed before a flush.
    #[cfg(feature = "gateway")]
    pub(super) fn retains(&self) -> bool {
        self.retains
    }

    /// Most of so many bytes that is padding where records follow each other: each time the buffer is full,
    /// up to a unit.
    pub(super) fn padding_max(&self, size: u32, write_unit: u32) -> u32 {
        let units = (self.buffer.len() as u32).checked_div(write_unit).unwrap_or(0);
        if self.retains {
            0
        } else {
            size.div_ceil(units.saturating_add(1))
        }
    }

    /// Where the next byte goes.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// From where on bytes are in memory.
    pub(super) fn base(&self) -> u32 {
        self.base
    }

    /// Up to where the segment is programmed.
    pub(super) fn programmed(&self) -> u32 {
        self.programmed
    }

    /// The bytes from this offset on, if they are in memory.
    pub(super) fn from(&self, offset: u32) -> Option<&[u8]> {
        let len = self.end.checked_sub(offset)?;
        take(self.buffer, offset.checked_sub(self.base)? as usize, len as usize)
    }

    /// Leaves out what is between the end and a later offset; everything is programmed before.
    pub(super) fn jump<F: Flash>(&mut self, medium: &mut Medium<F>, to: u32) -> Result<(), FlashError> {
        self.flush(medium)?;
        (self.programmed, self.end) = (to, to);
        self.base = if self.retains { self.base } else { to };
        Ok(())
    }

    /// Adds bytes, and programs what has to make room for them.
    pub(super) fn push<F: Flash>(&mut self, medium: &mut Medium<F>, bytes: &[u8]) -> Result<(), FlashError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.end.wrapping_sub(self.base) as usize;
            let room = self.buffer.len().saturating_sub(used);
            if room == 0 {
                self.spill(medium)?;
                continue;
            }
            let Some((now, later)) = rest.split_at_checked(room.min(rest.len())) else { break };
            if !put(self.buffer, used, now) {
                return Err(FlashError::OutOfBounds);
            }
            self.end = self.end.saturating_add(now.len() as u32);
            rest = later;
        }
        Ok(())
    }

    /// Fills up to the next write unit.
    pub(super) fn pad<F: Flash>(&mut self, medium: &mut Medium<F>) -> Result<(), FlashError> {
        let to = medium.ring.align(self.end);
        let mut padding = padding(self.seed, self.end).into_iter();
        while self.end < to {
            self.push(medium, &[padding.next().unwrap_or(0)])?;
        }
        Ok(())
    }

    /// Pads, and programs what is not programmed.
    pub(super) fn flush<F: Flash>(&mut self, medium: &mut Medium<F>) -> Result<(), FlashError> {
        if self.end != self.programmed {
            self.pad(medium)?;
            self.program(medium, self.end)?;
        }
        Ok(())
    }

    /// Programs the whole units and keeps the rest.
    fn spill<F: Flash>(&mut self, medium: &mut Medium<F>) -> Result<(), FlashError> {
        let mask = medium.ring.geometry.write_unit.wrapping_sub(1);
        let whole = self.end & !mask;
        if self.retains || whole <= self.programmed {
            return Err(FlashError::OutOfBounds);
        }
        let kept = whole.wrapping_sub(self.base) as usize;
        self.program(medium, whole)?;
        let left = self.end.wrapping_sub(whole) as usize;
        for i in 0..left {
            let byte = self.buffer.get(kept.wrapping_add(i)).copied().unwrap_or(0);
            if let Some(place) = self.buffer.get_mut(i) {
                *place = byte;
            }
        }
        Ok(())
    }

    fn program<F: Flash>(&mut self, medium: &mut Medium<F>, to: u32) -> Result<(), FlashError> {
        let len = to.saturating_sub(self.programmed) as usize;
        if len == 0 {
            return Ok(());
        }
        let from = self.programmed.wrapping_sub(self.base) as usize;
        let bytes = take_mut(self.buffer, from, len).ok_or(FlashError::OutOfBounds)?;
        medium.program(self.index, self.programmed, bytes)?;
        self.programmed = to;
        self.base = if self.retains { self.base } else { to };
        Ok(())
    }
}
