//! The device as the log uses it: counted, and with its headers decoded.

use super::layout::{Header, NoHeader, Ring, HEADER_SIZE};
use crate::flash::{Flash, FlashError};

/// A device, its sizes, and what was done to it.
#[derive(Debug)]
pub(super) struct Medium<F> {
    pub(super) flash: F,
    pub(super) ring: Ring,
    pub(super) programmed: u64,
    pub(super) program_calls: u64,
    pub(super) erases: u64,
}

impl<F: Flash> Medium<F> {
    pub(super) fn new(flash: F, ring: Ring) -> Self {
        Medium { flash, ring, programmed: 0, program_calls: 0, erases: 0 }
    }

    pub(super) fn read(&mut self, index: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.flash.read(index, offset, into)
    }

    /// Reads as much as can be read from the front on; how much that is. Where a medium refuses to read
    /// a unit (its error correction failed), what is before it is still wanted.
    pub(super) fn read_front(&mut self, index: u32, offset: u32, into: &mut [u8]) -> usize {
        if self.read(index, offset, into).is_ok() {
            return into.len();
        }
        // Halving finds the last readable unit in as many steps as a length has bits.
        let (mut good, mut bad) = (0, into.len());
        while bad.saturating_sub(good) > 1 {
            let middle = good.midpoint(bad);
            let front = into.get_mut(..middle).unwrap_or(&mut []);
            match self.read(index, offset, front) {
                Ok(()) => good = middle,
                Err(_) => bad = middle,
            }
        }
        if self.read(index, offset, into.get_mut(..good).unwrap_or(&mut [])).is_ok() {
            good
        } else {
            0
        }
    }

    pub(super) fn program(&mut self, index: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.flash.program(index, offset, bytes)?;
        self.programmed = self.programmed.saturating_add(bytes.len() as u64);
        self.program_calls = self.program_calls.saturating_add(1);
        Ok(())
    }

    pub(super) fn erase(&mut self, index: u32) -> Result<(), FlashError> {
        self.erases = self.erases.saturating_add(1);
        self.flash.erase(index)
    }

    /// Whatever header the segment at this index has. A place that cannot be read has none.
    pub(super) fn header_at(&mut self, index: u32) -> Result<Header, NoHeader> {
        let mut bytes = [0; HEADER_SIZE];
        self.read(index, 0, &mut bytes).map_err(|_| NoHeader::Invalid)?;
        Header::decode(&bytes)
    }

    /// The header of the segment with this sequence, if it is there.
    pub(super) fn header(&mut self, sequence: u32, salt: u32) -> Option<Header> {
        let header = self.header_at(self.ring.index(sequence)).ok()?;
        (header.sequence == sequence && header.salt == salt).then_some(header)
    }
}
