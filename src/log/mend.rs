//! Mending a record in which one bit is wrong.
//!
//! Flash loses single bits with age, long before it loses more. The checksum, which tells that a record
//! is damaged, also tells which bit it was: CRC-32C keeps any two records of up to 5,243 bits at
//! least six bits apart (Koopman, 32-Bit Cyclic Redundancy Codes for Internet Applications, DSN
//! 2002), so with one bit mended, two to four wrong ones are still noticed. Longer records are not mended.
//!
//! Only what is known to have been durable is mended: bytes torn by a loss of power are no damage, and of
//! them one in some million would be mended into something nobody wrote.

use super::checksum::{crc, crc_u32};
use super::record::{framed_at, verify};

/// Longest record that is mended, in bytes: its length, kind, digest and payload have 5,243 bits at most.
pub(super) const MEND_MAX: usize = 655;

/// The polynomial of CRC-32C, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Bytes of a record's length at most.
const PREFIX_MAX: usize = 5;

/// Mends the record at the front of these bytes in place, if one bit of it is wrong; its length.
/// `seed` is that of the segment, `offset` where the record stands in it.
pub(super) fn mend(seed: u32, offset: u32, bytes: &mut [u8]) -> Option<u32> {
    if let Some(len) = whole(seed, offset, bytes) {
        return Some(len);
    }
    let bit = wrong_in_body(seed, offset, bytes);
    if let Some(len) = bit.and_then(|bit| flip_if_mended(seed, offset, bytes, bit)) {
        return Some(len);
    }
    (0..PREFIX_MAX.saturating_mul(8)).find_map(|bit| flip_if_mended(seed, offset, bytes, bit))
}

/// Length of the record at the front, if it is whole and short enough.
fn whole(seed: u32, offset: u32, bytes: &[u8]) -> Option<u32> {
    let len = framed_at(bytes)?;
    let (record, _) = bytes.split_at_checked(len as usize).filter(|_| len as usize <= MEND_MAX)?;
    verify(seed, offset, record).map(|_| len)
}

fn flip_if_mended(seed: u32, offset: u32, bytes: &mut [u8], bit: usize) -> Option<u32> {
    *bytes.get_mut(bit / 8)? ^= 1 << (bit % 8);
    let len = whole(seed, offset, bytes);
    if len.is_none() {
        *bytes.get_mut(bit / 8)? ^= 1 << (bit % 8);
    }
    len
}

/// The bit behind the length that is wrong, if it is one: what a wrong bit does to the checksum
/// depends on how many bits follow it, and on nothing else.
fn wrong_in_body(seed: u32, offset: u32, bytes: &[u8]) -> Option<usize> {
    let len = framed_at(bytes)? as usize;
    let (record, _) = bytes.split_at_checked(len).filter(|_| len <= MEND_MAX)?;
    let prefix = record.iter().position(|&byte| byte < 0x80)?.checked_add(1)?;
    let (length, rest) = record.split_at_checked(prefix)?;
    let (stored, body) = rest.split_first_chunk::<4>()?;
    let wrong = crc(crc(crc_u32(seed, offset), length), body) ^ u32::from_le_bytes(*stored);
    if wrong.is_power_of_two() {
        // A bit of the checksum itself.
        return prefix.checked_mul(8)?.checked_add(wrong.trailing_zeros() as usize);
    }
    len.checked_mul(8)?.checked_sub(wrong_bit(wrong, body.len())?)
}

/// By how many bits before the end of so many bytes the one stands that makes their checksum differ by
/// `wrong`; 1 is the last.
pub(super) fn wrong_bit(wrong: u32, size: usize) -> Option<usize> {
    let mut effect = POLYNOMIAL;
    for back in 1..=size.checked_mul(8)? {
        if effect == wrong {
            return Some(back);
        }
        effect = effect >> 1 ^ if effect & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::record::Front;
    use super::*;

    fn record(size: usize, distance: Option<u64>) -> Vec<u8> {
        let payload: Vec<u8> = (0..size).map(|n| (n * 31) as u8).collect();
        let front = Front::new(77, 640, 5, distance, b"digest", &[&payload]);
        let mut bytes = [0; super::super::RECORD_OVERHEAD];
        let len = front.encode(&mut bytes);
        [&bytes[..len], b"digest", &payload].concat()
    }

    #[test]
    fn any_one_flipped_bit_is_mended() {
        for (size, distance) in [(0, None), (64, Some(4000)), (118, None), (300, None), (620, Some(1))] {
            let good = record(size, distance);
            for bit in 0..good.len() * 8 {
                let mut bytes = good.clone();
                bytes.extend([0xa5; 40]);
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(mend(77, 640, &mut bytes), Some(good.len() as u32), "{size}, bit {bit}");
                assert_eq!(bytes[..good.len()], good, "{size}, bit {bit}");
            }
        }
    }

    #[test]
    fn two_flipped_bits_are_never_mended_into_something_else() {
        let good = record(64, None);
        let bits = good.len() * 8;
        for first in 8..bits {
            for second in (first + 1..bits).step_by(5) {
                let mut bytes = good.clone();
                bytes[first / 8] ^= 1 << (first % 8);
                bytes[second / 8] ^= 1 << (second % 8);
                assert_eq!(mend(77, 640, &mut bytes), None, "bits {first} and {second}");
            }
        }
    }

    #[test]
    fn nothing_longer_than_the_checksum_bears_is_mended() {
        let mut bytes = record(700, None);
        bytes[300] ^= 1;
        let before = bytes.clone();
        assert_eq!(mend(77, 640, &mut bytes), None);
        assert_eq!(bytes, before);
        let mut noise: Vec<u8> = (0..600u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(mend(77, 640, &mut noise), None);
        assert_eq!(mend(77, 640, &mut []), None);
    }
}
