//! The device as the log uses it: counted, and with its headers decoded.

use super::layout::{Header, NoHeader, Ring, HEADER_SIZE};
use super::scan::{Scanner, Step, SCAN_MIN};
use super::survey::trailer;
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

    /// Reads, and once more where that fails: what a mount takes for absent is lost for good.
    pub(super) fn read(&mut self, index: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.flash.read(index, offset, into).or_else(|_| self.flash.read(index, offset, into))
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
            match self.flash.read(index, offset, front) {
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
        let header = Header::decode(&bytes)?;
        if !Header::is_whole(&bytes) && !self.bears_out(index, &header) {
            return Err(NoHeader::Invalid);
        }
        Ok(header)
    }

    /// Whether a header that was mended is the one that the segment was written under: one torn header in some
    /// ten million is a bit away from one that checks.
    #[inline(never)]
    fn bears_out(&mut self, index: u32, header: &Header) -> bool {
        let ring = self.ring;
        if ring.index(header.sequence) != index {
            return false;
        }
        let trailer = trailer(self, header.salt, header.sequence);
        if trailer.is_some_and(|trailer| trailer.seed == header.seed) {
            return true;
        }
        self.begins_with_record(header.sequence, header.seed, ring.size())
    }

    /// Whether the first record of a segment is one that was written under the header with that checksum.
    pub(super) fn begins_with_record(&mut self, sequence: u32, seed: u32, limit: u32) -> bool {
        let mut scanner = Scanner::with_seed(self.ring, sequence, seed, self.ring.start(), limit);
        matches!(scanner.next(self, &mut [0; SCAN_MIN]), Step::Record(_))
    }

    /// The header of the segment with this sequence, if it is there.
    pub(super) fn header(&mut self, sequence: u32, salt: u32) -> Option<Header> {
        let header = self.header_at(self.ring.index(sequence)).ok()?;
        (header.sequence == sequence && header.salt == salt).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::ram::RamFlash;
    use crate::flash::Geometry;
    use crate::log::record::Front;
    use crate::log::RECORD_OVERHEAD;
    use crate::units::{Millis, Position};

    #[test]
    fn a_header_is_mended_only_where_something_was_written_under_it() {
        let geometry = Geometry { segment_size: 1024, segment_count: 8, write_unit: 1 };
        let ring = Ring::new(geometry).unwrap();
        let mut header = Header {
            flags: 0,
            geometry,
            salt: 77,
            sequence: 10,
            erases: 1,
            head: 9,
            resume: Position::new(9, 900),
            durable: Position::new(9, 900),
            base: Millis(5),
            nonce: 0,
            seed: 0,
        };
        let mut bytes = header.encode();
        bytes[50] ^= 4;
        let (mut memory, mut marks) = ([0xff; 8192], [0; 8]);
        let flash = RamFlash::new(&mut memory, &mut marks, geometry).unwrap();
        let mut medium = Medium::new(flash, ring);
        medium.program(2, 0, &bytes).unwrap();
        assert_eq!(medium.header(10, 77), None);
        let front = Front::new(header.seed, ring.start(), 1, None, b"digest", &[b"payload"]);
        let mut record = [0; RECORD_OVERHEAD];
        let size = front.encode(&mut record);
        let record = [&record[..size], b"digest", b"payload"].concat();
        medium.program(2, ring.start(), &record).unwrap();
        assert_eq!(medium.header(10, 77), Some(header));
        // At another place it is of no segment.
        medium.program(3, 0, &bytes).unwrap();
        medium.program(3, ring.start(), &record).unwrap();
        assert_eq!(medium.header_at(3), Err(NoHeader::Invalid));
    }
}
