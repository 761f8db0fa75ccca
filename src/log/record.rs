//! One record, as bytes.
//!
//! ```text
//! | length varint | CRC-32C u32 | kind u8 | watermark varint | digest length u8 | digest | payload |
//!                               |<-------------------------- length ----------------------------->|
//! ```
//! - The checksum covers the length and everything behind the checksum. It is seeded with that of
//!   the segment's header (which covers salt, sequence and erase count) and the record's offset,
//!   so a stale or shifted record does not check.
//! - The top bit of the kind says that a watermark follows: how many bytes before this record the
//!   log was durable when it was appended. The first record after a flush carries one.
//! - A length is at least 2, so a first byte of 0 is no record: it is padding, which goes to the
//!   next multiple of the write unit. Its next four bytes are a checksum of where it is (see `tail`).
//! - 8 bytes around digest and payload if they are under 126 bytes together, 1 or more if there is
//!   a watermark.

use super::bytes::{take, u32_at, Varint};
use super::checksum::{crc, crc_u32};

/// Bit of the kind byte: a watermark follows.
pub(super) const WATERMARK: u8 = 0x80;

/// Farthest watermark that is written, so that it takes 5 bytes at most.
const DISTANCE_MAX: u64 = (1 << 35) - 1;

/// Kind of the log's own record that moves the head; its digest is the sequence, a varint.
pub(super) const KIND_HEAD: u8 = 0x7c;

/// Kind of the log's own record that is there for its watermark.
pub(super) const KIND_MARK: u8 = 0x7d;

/// Kind of the log's own record that begins a batch.
pub(super) const KIND_BEGIN: u8 = 0x7e;

/// Kind of the log's own record that ends a batch.
pub(super) const KIND_END: u8 = 0x7f;

/// Bytes of a whole record with so many bytes of watermark, and of digest and payload.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn framed(watermark_size: u32, size: u32) -> u32 {
    let length = size.saturating_add(watermark_size).saturating_add(2);
    Varint::size(length.into()).saturating_add(4).saturating_add(length)
}

/// A record's bytes up to its payload's, or its digest's if that is not put here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    length: Varint,
    crc: u32,
    kind: u8,
    watermark: Option<Varint>,
    digest_size: u8,
}

impl Front {
    /// The front of a record at `offset` of the segment with that seed.
    pub(super) fn new(
        seed: u32,
        offset: u32,
        kind: u8,
        distance: Option<u64>,
        digest: &[u8],
        payload: &[&[u8]],
    ) -> Front {
        let watermark = distance.filter(|&bytes| bytes <= DISTANCE_MAX).map(Varint::new);
        let size = payload.iter().fold(digest.len(), |sum, part| sum.saturating_add(part.len()));
        let mut front = Front {
            length: Varint::new(size.saturating_add(2) as u64),
            crc: 0,
            kind,
            watermark,
            digest_size: digest.len() as u8,
        };
        if front.watermark.is_some() {
            front.kind |= WATERMARK;
            front.length = Varint::new(size.saturating_add(2 + front.watermark_size() as usize) as u64);
        }
        let mut sum = crc(crc_u32(seed, offset), front.length.as_bytes());
        front.body(|bytes| sum = crc(sum, bytes));
        front.crc = payload.iter().fold(crc(sum, digest), |sum, part| crc(sum, part));
        front
    }

    /// Bytes of the watermark, 0 to 5.
    pub(super) fn watermark_size(&self) -> u32 {
        self.watermark.as_ref().map_or(0, |varint| varint.as_bytes().len() as u32)
    }

    /// Writes the front into `into` and tells its length.
    pub(super) fn encode(&self, into: &mut [u8; super::RECORD_OVERHEAD]) -> usize {
        let mut at = 0usize;
        let mut add = |bytes: &[u8]| {
            if super::bytes::put(into, at, bytes) {
                at = at.saturating_add(bytes.len());
            }
        };
        add(self.length.as_bytes());
        add(&self.crc.to_le_bytes());
        self.body(add);
        at
    }

    fn body(&self, mut add: impl FnMut(&[u8])) {
        add(&[self.kind]);
        if let Some(varint) = &self.watermark {
            add(varint.as_bytes());
        }
        add(&[self.digest_size]);
    }
}

/// Length of the whole record whose first bytes these are; None if they are no record's.
pub(super) fn framed_at(bytes: &[u8]) -> Option<u32> {
    let (length, prefix) = Varint::decode(take(bytes, 0, 5).unwrap_or(bytes))?;
    if length < 2 {
        return None;
    }
    u32::try_from(length).ok()?.checked_add(prefix as u32)?.checked_add(4)
}

/// A record whose bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed<'r> {
    pub(super) kind: u8,
    pub(super) distance: Option<u64>,
    pub(super) digest: &'r [u8],
    pub(super) payload: &'r [u8],
    /// Bytes of digest and payload, also if `payload` was cut short.
    pub(super) size: u32,
}

/// Takes a record apart without checking it. The payload is cut short if `bytes` is.
pub(super) fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (length, prefix) = Varint::decode(bytes)?;
    let (_, body) = bytes.split_at_checked(prefix.checked_add(4)?)?;
    let body = take(body, 0, length as usize).unwrap_or(body);
    let (&marked, mut rest) = body.split_first()?;
    let mut overhead = 2u64;
    let mut distance = None;
    if marked & WATERMARK != 0 {
        let (number, size) = Varint::decode(rest)?;
        distance = Some(number);
        overhead += size as u64;
        rest = rest.split_at_checked(size)?.1;
    }
    let (&digest_size, rest) = rest.split_first()?;
    let (digest, payload) = rest.split_at_checked(digest_size.into())?;
    let size = u32::try_from(length.checked_sub(overhead)?).ok()?;
    Some(Parsed { kind: marked & !WATERMARK, distance, digest, payload, size })
}

/// A running check of one record, whose bytes may come in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    sum: u32,
    want: u32,
}

impl Check {
    /// Begins with the record's first bytes, which hold the front at least.
    pub(super) fn new(seed: u32, offset: u32, first: &[u8]) -> Option<Check> {
        let (_, prefix) = Varint::decode(first)?;
        let (front, rest) = first.split_at_checked(prefix)?;
        let (stored, body) = rest.split_at_checked(4)?;
        let sum = crc(crc(crc_u32(seed, offset), front), body);
        Some(Check { sum, want: u32_at(stored, 0) })
    }

    /// Goes on with more bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.sum = crc(self.sum, bytes);
    }

    /// Whether the record is whole.
    pub(super) fn holds(&self) -> bool {
        self.sum == self.want
    }
}

/// The record in exactly these bytes, if its checksum is right.
pub(super) fn verify(seed: u32, offset: u32, bytes: &[u8]) -> Option<Parsed<'_>> {
    Check::new(seed, offset, bytes).filter(Check::holds).and_then(|_| parse(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(seed: u32, offset: u32, distance: Option<u64>) -> Vec<u8> {
        let front = Front::new(seed, offset, 3, distance, b"dig", &[b"pay", b"load"]);
        let mut bytes = [0; super::super::RECORD_OVERHEAD];
        let len = front.encode(&mut bytes);
        let mut record = bytes[..len].to_vec();
        record.extend_from_slice(b"digpayload");
        assert_eq!(record.len() as u32, framed(front.watermark_size(), 10));
        record
    }

    #[test]
    fn a_record_comes_back_only_where_it_was_written() {
        for distance in [None, Some(0), Some(300), Some(DISTANCE_MAX)] {
            let record = build(1, 64, distance);
            assert_eq!(framed_at(&record), Some(record.len() as u32));
            let parsed = verify(1, 64, &record).unwrap();
            assert_eq!((parsed.kind, parsed.distance, parsed.size), (3, distance, 10));
            assert_eq!((parsed.digest, parsed.payload), (&b"dig"[..], &b"payload"[..]));
            assert_eq!(verify(2, 64, &record), None);
            assert_eq!(verify(1, 65, &record), None);
        }
        assert_eq!(build(1, 64, Some(DISTANCE_MAX + 1)), build(1, 64, None));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let record = build(9, 0, Some(5));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(9, 0, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn the_overhead_of_a_small_record_is_twelve_bytes_with_digest_and_watermark() {
        assert_eq!(framed(1, 4 + 64) - 64, 12);
    }
}
