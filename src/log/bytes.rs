//! Copying and numbers in byte slices, none of which can panic.

/// Copies `bytes` to `at`; false, and nothing written, if they do not fit.
#[must_use]
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn put(into: &mut [u8], at: usize, bytes: &[u8]) -> bool {
    match into.split_at_mut_checked(at).and_then(|(_, rest)| rest.split_at_mut_checked(bytes.len())) {
        Some((place, _)) => {
            place.copy_from_slice(bytes);
            true
        }
        None => false,
    }
}

/// `len` bytes at `at`, if they are there.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn take(from: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    from.split_at_checked(at)?.1.split_at_checked(len).map(|(bytes, _)| bytes)
}

/// `len` bytes at `at`, to be written to.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn take_mut(from: &mut [u8], at: usize, len: usize) -> Option<&mut [u8]> {
    from.split_at_mut_checked(at)?.1.split_at_mut_checked(len).map(|(bytes, _)| bytes)
}

/// The little-endian number at `at`; 0 if it is not there.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub(super) fn u32_at(from: &[u8], at: usize) -> u32 {
    match take(from, at, 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// The little-endian number at `at`; 0 if it is not there.
pub(super) fn u64_at(from: &[u8], at: usize) -> u64 {
    u64::from(u32_at(from, at)) | u64::from(u32_at(from, at.saturating_add(4))) << 32
}

/// A number in base 128, low digits first, the top bit set on all but the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Varint {
    bytes: [u8; 10],
    len: u8,
}

impl Varint {
    /// Encodes a number.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn new(mut number: u64) -> Varint {
        let mut varint = Varint::default();
        for byte in varint.bytes.iter_mut() {
            varint.len = varint.len.saturating_add(1);
            if number < 0x80 {
                *byte = number as u8;
                break;
            }
            *byte = number as u8 | 0x80;
            number >>= 7;
        }
        varint
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// How many bytes a number takes.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn size(number: u64) -> u32 {
        (64 - (number | 1).leading_zeros()).div_ceil(7)
    }

    /// Decodes the number at the front of `bytes`; also tells its length.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
        let mut number = 0u64;
        for (i, &byte) in bytes.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f).checked_shl(i as u32 * 7)?;
            if byte < 0x80 {
                return Some((number, i + 1));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for number in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let varint = Varint::new(number);
            assert_eq!(varint.as_bytes().len() as u32, Varint::size(number));
            assert_eq!(Varint::decode(varint.as_bytes()), Some((number, varint.as_bytes().len())));
        }
        assert_eq!(Varint::decode(&[0x80, 0x80]), None);
    }

    #[test]
    fn nothing_is_put_where_it_does_not_fit() {
        let mut place = [0u8; 4];
        assert!(!put(&mut place, 2, &[1, 2, 3]));
        assert!(!put(&mut place, usize::MAX, &[1]));
        assert_eq!(place, [0; 4]);
        assert!(put(&mut place, 1, &[1, 2, 3]));
        assert_eq!(place, [0, 1, 2, 3]);
    }
}
