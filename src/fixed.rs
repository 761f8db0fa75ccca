//! Reading and writing small integers and byte strings in borrowed buffers.
//!
//! Varints are LEB128: seven bits a byte, lowest first, at most ten bytes. A writer that has
//! overflowed says so at the end instead of at every step, so that encoding reads straight.

/// Writes into a borrowed buffer.
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    used: usize,
    overflowed: bool,
}

impl<'a> Writer<'a> {
    /// Writes from the start of a buffer.
    pub fn new(buffer: &'a mut [u8]) -> Writer<'a> {
        Writer { buffer, used: 0, overflowed: false }
    }

    /// Appends one byte.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn byte(&mut self, byte: u8) {
        match self.buffer.get_mut(self.used) {
            Some(place) => {
                *place = byte;
                self.used += 1;
            }
            None => self.overflowed = true,
        }
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    /// Appends a varint.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Appends a signed number as a varint, small magnitudes short.
    pub fn zigzag(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    /// Bytes written, or None if they did not fit.
    pub fn finish(self) -> Option<&'a [u8]> {
        if self.overflowed {
            return None;
        }
        self.buffer.get(..self.used)
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Something did not fit.
    pub fn is_overflowed(&self) -> bool {
        self.overflowed
    }
}

/// Reads from a byte slice; every read is bounded and None at the end.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of a slice.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// So many bytes.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// A varint of at most 64 bits.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part.checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }

    /// A signed number written by `zigzag`.
    pub fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

/// A 64-bit number of eight little-endian bytes.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub fn u64_from(bytes: &[u8]) -> Option<u64> {
    let array: [u8; 8] = bytes.try_into().ok()?;
    Some(u64::from_le_bytes(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_written() {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        let values = [0, 1, 127, 128, 16_383, 16_384, u64::MAX];
        values.iter().for_each(|&value| writer.varint(value));
        [0, -1, 1, -64, i64::MIN, i64::MAX].iter().for_each(|&value| writer.zigzag(value));
        let mut reader = Reader::new(writer.finish().unwrap());
        assert!(values.iter().all(|&value| reader.varint() == Some(value)));
        assert!([0, -1, 1, -64, i64::MIN, i64::MAX].iter().all(|&value| reader.zigzag() == Some(value)));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_varint_beyond_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xFF; 10]).varint(), None);
        assert_eq!(Reader::new(&[0x80, 0x80]).varint(), None);
    }

    #[test]
    fn a_writer_that_overflowed_gives_nothing() {
        let mut buffer = [0; 2];
        let mut writer = Writer::new(&mut buffer);
        writer.bytes(&[1, 2, 3]);
        assert_eq!(writer.finish(), None);
    }
}
