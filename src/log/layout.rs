//! Where things are in a segment, and what its first and last bytes say.
//!
//! ```text
//! segment   | header | pad | records ... | not programmed | pad | index | trailer |
//!             0..60    to the write unit                        to the very end
//!
//! header    0  magic "FBSG"      16 sequence u32       36 durable: sequence u32, offset u32
//!  (60)     4  version u8        20 erases u32         44 base time u64, ms of log time
//!           5  flags u8          24 head sequence u32  52 nonce u32
//!           6  log2 segment size 28 resume: sequence   56 CRC-32C of the 56 bytes before
//!           7  log2 write unit      u32, offset u32
//!           8  segment count u32
//!           12 salt u32
//!
//! trailer   0  index length u32  8  resume, as in the header   20 not durable u32
//!  (32)     4  records end u32   16 CRC-32C of the index       24 the header's checksum
//!                                                              28 CRC-32C of the 28 bytes before,
//!                                                                 seeded with salt and sequence
//! ```
//! Numbers are little-endian. Magic, version and the place of the checksum stay where they are in
//! every version to come, so that a newer store is recognised as one.
//!
//! - The segment with sequence `s` is at index `s mod count`, always: the order of the ring is
//!   known without reading it, and a segment that cannot be used costs its sequence number.
//! - `resume` is where the content before this segment ends. It is the end of the segment before,
//!   but after an unclean stop: then what lies beyond it was dropped or copied into this segment,
//!   and must never come back.
//! - `not durable` is how many bytes before the records' end the log was not known to be durable when
//!   the segment was closed.
//! - A sequence may be used again after an unclean stop. Records are seeded with the header's checksum
//!   and the trailer names it; the nonce is the device's, so that no two headers are equal even where
//!   a device that does not really erase has lost one of them.
//! - With the flag `PROVISIONAL`, the segment counts only once a record says that something in it is durable.
//!   It begins with such copies, or is the last that was free: power that goes before leaves the
//!   originals in charge and the sequence to be used again.
//! - The flag `WOUNDED` stands in every header since a segment refused to be erased or written: such a
//!   segment may show an earlier lap for good. `UNTIDY` stands in one that was begun while what was dropped was not
//!   erased: should that refuse later, no header of this one's time tells.
//! - A header with one flipped bit is mended, since the checksum tells which bit it was, if the segment's trailer or
//!   its first record is of that header.

use super::bytes::{put, take, u32_at, u64_at};
use super::checksum::{crc, crc_u32};
use super::mend::wrong_bit;
use super::types::SEGMENTS_MIN;
use crate::flash::Geometry;
use crate::units::{At, Millis, Position};

/// Version of the format that is written.
pub(super) const VERSION: u8 = 1;
/// Bytes of a header.
pub(super) const HEADER_SIZE: usize = 60;
/// Bytes of a trailer.
pub(super) const TRAILER_SIZE: u32 = 32;
/// Flag of a header: the segment counts only once something in it is known to be durable.
pub(super) const PROVISIONAL: u8 = 1;
/// Flag of a header: a segment refused to be erased or written before, and keeps the header it had.
pub(super) const WOUNDED: u8 = 2;
/// Flag of a header: there were dropped segments then that were still to be erased.
pub(super) const UNTIDY: u8 = 4;

const MAGIC: u32 = u32::from_le_bytes(*b"FBSG");

/// Smallest segment, in bytes.
const SEGMENT_SIZE_MIN: u32 = 1024;
/// Fewest write units in a segment.
const UNITS_MIN: u32 = 8;

/// The sizes of the region, and the arithmetic of places in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ring {
    pub(super) geometry: Geometry,
    shift: u32,
}

impl Ring {
    /// None if the sizes cannot hold a log.
    pub(super) fn new(geometry: Geometry) -> Option<Ring> {
        let Geometry { segment_size: size, segment_count: count, write_unit: unit } = geometry;
        let usable = size.is_power_of_two()
            && unit.is_power_of_two()
            && size >= SEGMENT_SIZE_MIN
            && unit <= size / UNITS_MIN
            && count >= SEGMENTS_MIN;
        usable.then_some(Ring { geometry, shift: size.trailing_zeros() })
    }

    /// Bytes of a segment.
    pub(super) fn size(&self) -> u32 {
        self.geometry.segment_size
    }

    /// Number of segments.
    pub(super) fn count(&self) -> u32 {
        self.geometry.segment_count
    }

    /// Index of the segment with this sequence.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn index(&self, sequence: u32) -> u32 {
        sequence.checked_rem(self.count()).unwrap_or(0)
    }

    /// The oldest sequence that can be there together with a newest.
    pub(super) fn oldest(&self, newest: u32) -> u32 {
        newest.saturating_add(1).saturating_sub(self.count())
    }

    /// The next multiple of the write unit.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn align(&self, offset: u32) -> u32 {
        let mask = self.geometry.write_unit.wrapping_sub(1);
        offset.saturating_add(mask) & !mask
    }

    /// Where records begin.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn start(&self) -> u32 {
        self.align(HEADER_SIZE as u32)
    }

    /// Where index and trailer begin, with an index of that many bytes.
    pub(super) fn footer(&self, index_size: u32) -> u32 {
        self.size().saturating_sub(self.align(index_size.saturating_add(TRAILER_SIZE)))
    }

    /// The place of a position.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn at(&self, position: Position) -> At {
        let segment = u64::from(self.index(position.sequence()));
        At((segment << self.shift).saturating_add(u64::from(position.offset())))
    }

    /// Segment index and offset of a place.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn split(&self, at: At) -> (u32, u32) {
        ((at.0 >> self.shift) as u32, at.0 as u32 & self.size().wrapping_sub(1))
    }

    /// Bytes of the region between two positions.
    pub(super) fn distance(&self, from: Position, to: Position) -> u64 {
        let linear = |p: Position| (u64::from(p.sequence()) << self.shift) + u64::from(p.offset());
        linear(to).saturating_sub(linear(from))
    }

    /// The position so many bytes before another. A segment's end is the start of the next.
    pub(super) fn back(&self, from: Position, distance: u64) -> Position {
        let linear = (u64::from(from.sequence()) << self.shift) + u64::from(from.offset());
        let target = linear.saturating_sub(distance);
        Position::new((target >> self.shift) as u32, target as u32 & self.size().wrapping_sub(1))
    }
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) geometry: Geometry,
    pub(super) salt: u32,
    pub(super) sequence: u32,
    pub(super) erases: u32,
    pub(super) head: u32,
    pub(super) resume: Position,
    pub(super) durable: Position,
    pub(super) base: Millis,
    pub(super) nonce: u32,
    /// The checksum, with which the checksums of the segment's records are seeded.
    pub(super) seed: u32,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// They are none, or a damaged one.
    Invalid,
    /// They are one of a newer version.
    Newer(u8),
}

impl Header {
    /// The bytes; fills in `seed`.
    pub(super) fn encode(&mut self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let sizes = [
            VERSION,
            self.flags,
            self.geometry.segment_size.trailing_zeros() as u8,
            self.geometry.write_unit.trailing_zeros() as u8,
        ];
        let words = [
            MAGIC,
            u32::from_le_bytes(sizes),
            self.geometry.segment_count,
            self.salt,
            self.sequence,
            self.erases,
            self.head,
            self.resume.sequence(),
            self.resume.offset(),
            self.durable.sequence(),
            self.durable.offset(),
            self.base.0 as u32,
            (self.base.0 >> 32) as u32,
            self.nonce,
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            let _ = put(place, 0, &word.to_le_bytes());
        }
        self.seed = crc(0, take(&bytes, 0, HEADER_SIZE - 4).unwrap_or(&[]));
        let _ = put(&mut bytes, HEADER_SIZE - 4, &self.seed.to_le_bytes());
        bytes
    }

    /// Whether nothing has to be mended.
    pub(super) fn is_whole(bytes: &[u8; HEADER_SIZE]) -> bool {
        wrong(bytes) == 0
    }

    /// The header in these bytes; one flipped bit is mended.
    pub(super) fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Header, NoHeader> {
        if (u32_at(bytes, 0) ^ MAGIC).count_ones() > 1 {
            return Err(NoHeader::Invalid);
        }
        let mut bytes = *bytes;
        if !mend(&mut bytes) {
            return Err(NoHeader::Invalid);
        }
        let [_, _, _, _, version, flags, size, unit, ..] = bytes;
        if version != VERSION {
            return Err(if version > VERSION { NoHeader::Newer(version) } else { NoHeader::Invalid });
        }
        let geometry = Geometry {
            segment_size: 1u32.checked_shl(size.into()).unwrap_or(0),
            segment_count: u32_at(&bytes, 8),
            write_unit: 1u32.checked_shl(unit.into()).unwrap_or(0),
        };
        Ok(Header {
            flags,
            geometry,
            salt: u32_at(&bytes, 12),
            sequence: u32_at(&bytes, 16),
            erases: u32_at(&bytes, 20),
            head: u32_at(&bytes, 24),
            resume: Position::new(u32_at(&bytes, 28), u32_at(&bytes, 32)),
            durable: Position::new(u32_at(&bytes, 36), u32_at(&bytes, 40)),
            base: Millis(u64_at(&bytes, 44)),
            nonce: u32_at(&bytes, 52),
            seed: u32_at(&bytes, HEADER_SIZE - 4),
        })
    }
}

/// By which bits the checksum is wrong.
fn wrong(bytes: &[u8; HEADER_SIZE]) -> u32 {
    crc(0, take(bytes, 0, HEADER_SIZE - 4).unwrap_or(&[])) ^ u32_at(bytes, HEADER_SIZE - 4)
}

/// Mends the one bit that is wrong, if it is one: two headers differ in six bits or more.
fn mend(bytes: &mut [u8; HEADER_SIZE]) -> bool {
    const SUMMED: usize = HEADER_SIZE - 4;
    let bit = match wrong(bytes) {
        0 => return true,
        sum if sum.is_power_of_two() => Some(SUMMED * 8 + sum.trailing_zeros() as usize),
        sum => wrong_bit(sum, SUMMED).and_then(|back| (SUMMED * 8).checked_sub(back)),
    };
    let Some((bit, byte)) = bit.and_then(|bit| Some((bit, bytes.get_mut(bit / 8)?))) else { return false };
    *byte ^= 1 << (bit % 8);
    true
}

/// The last bytes of a closed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) index_size: u32,
    pub(super) end: u32,
    pub(super) resume: Position,
    pub(super) index_crc: u32,
    pub(super) not_durable: u32,
    /// The checksum of the header it belongs to.
    pub(super) seed: u32,
}

impl Trailer {
    /// The bytes, for the segment with that sequence of the store with that salt.
    pub(super) fn encode(&self, salt: u32, sequence: u32) -> [u8; TRAILER_SIZE as usize] {
        let mut bytes = [0; TRAILER_SIZE as usize];
        let (from, offset) = (self.resume.sequence(), self.resume.offset());
        let words = [self.index_size, self.end, from, offset, self.index_crc, self.not_durable, self.seed];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            let _ = put(place, 0, &word.to_le_bytes());
        }
        let crc = trailer_crc(&bytes, salt, sequence);
        let _ = put(&mut bytes, TRAILER_SIZE as usize - 4, &crc.to_le_bytes());
        bytes
    }

    /// The trailer in the last of these bytes, if it is that of this segment and makes sense.
    pub(super) fn decode(ring: &Ring, bytes: &[u8], salt: u32, sequence: u32) -> Option<Trailer> {
        let bytes = take(bytes, bytes.len().checked_sub(TRAILER_SIZE as usize)?, TRAILER_SIZE as usize)?;
        if trailer_crc(bytes, salt, sequence) != u32_at(bytes, 28) {
            return None;
        }
        let trailer = Trailer {
            index_size: u32_at(bytes, 0),
            end: u32_at(bytes, 4),
            resume: Position::new(u32_at(bytes, 8), u32_at(bytes, 12)),
            index_crc: u32_at(bytes, 16),
            not_durable: u32_at(bytes, 20),
            seed: u32_at(bytes, 24),
        };
        let room = ring.size().checked_sub(trailer.end)?;
        (trailer.index_size <= room && trailer.end >= ring.start()).then_some(trailer)
    }
}

fn trailer_crc(bytes: &[u8], salt: u32, sequence: u32) -> u32 {
    let seed = crc_u32(crc_u32(0, salt), sequence);
    crc(seed, take(bytes, 0, TRAILER_SIZE as usize - 4).unwrap_or(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        Ring::new(Geometry { segment_size: 4096, segment_count: 10, write_unit: 4 }).unwrap()
    }

    fn header() -> Header {
        Header {
            flags: PROVISIONAL,
            geometry: ring().geometry,
            salt: 77,
            sequence: 13,
            erases: 2,
            head: 9,
            resume: Position::new(12, 4000),
            durable: Position::new(11, 60),
            base: Millis(1 << 40),
            nonce: 3,
            seed: 0,
        }
    }

    #[test]
    fn a_header_comes_back_with_any_one_bit_flipped() {
        let mut header = header();
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_SIZE * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Ok(header), "bit {bit}");
        }
        assert_eq!(Header::decode(&[0xff; HEADER_SIZE]), Err(NoHeader::Invalid));
    }

    #[test]
    fn a_header_of_a_newer_version_is_told_from_damage() {
        let mut bytes = header().encode();
        bytes[4] = VERSION + 1;
        let crc = crc(0, &bytes[..HEADER_SIZE - 4]).to_le_bytes();
        bytes[HEADER_SIZE - 4..].copy_from_slice(&crc);
        assert_eq!(Header::decode(&bytes), Err(NoHeader::Newer(VERSION + 1)));
    }

    #[test]
    fn a_trailer_belongs_to_one_segment_of_one_store() {
        let trailer = Trailer {
            index_size: 9,
            end: 4000,
            resume: Position::new(12, 1),
            index_crc: 5,
            not_durable: 8,
            seed: 6,
        };
        let bytes = trailer.encode(77, 13);
        assert_eq!(Trailer::decode(&ring(), &bytes, 77, 13), Some(trailer));
        assert_eq!(Trailer::decode(&ring(), &bytes, 77, 3), None);
        assert_eq!(Trailer::decode(&ring(), &bytes, 78, 13), None);
    }

    #[test]
    fn going_back_by_the_distance_leads_to_the_start_or_an_equal_place() {
        let ring = ring();
        let here = Position::new(13, 500);
        for there in [Position::new(13, 56), Position::new(12, 4000), Position::new(9, 0), here] {
            assert_eq!(ring.back(here, ring.distance(there, here)), there);
        }
        // The end of a segment and the start of the next name the same place.
        let end = ring.back(here, ring.distance(Position::new(12, 4096), here));
        assert_eq!(end, Position::new(13, 0));
    }
}
