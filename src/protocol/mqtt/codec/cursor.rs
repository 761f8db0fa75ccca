//! The two ends of the wire: a reader over a packet's body and a sink for what is written.
//!
//! A [`Reader`] gives fields from the front and never reads beyond the body. A [`Sink`] takes
//! bytes; counting is a sink too, so the length of a packet and the packet come from one piece
//! of code and cannot disagree.

use super::error::DecodeError;
use super::header::{varint, varint_bytes, varint_len, VarInt};
use super::text;
use super::PacketId;

/// Takes a packet's fields from the front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    #[inline]
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub(super) const fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    /// Takes the next byte if it is 0.
    #[inline]
    pub(super) fn skip_zero(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(super) fn two(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn four(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, width) = match varint(self.rest) {
            VarInt::Whole(value, width) if width == varint_len(value) => (value, width),
            VarInt::Partial => return Err(DecodeError::Truncated),
            _ => return Err(DecodeError::VarInt),
        };
        self.take(width)?;
        Ok(value)
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind a two-byte length (1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// A string (1.5.4).
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        text::text(self.binary()?)
    }

    /// A packet identifier (2.2.1).
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.two()?).ok_or(DecodeError::PacketIdZero)
    }
}

/// Takes bytes in order.
pub(super) trait Sink {
    /// Takes these.
    fn put(&mut self, bytes: &[u8]);

    /// A byte.
    fn byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// A two-byte integer.
    fn two(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// A four-byte integer.
    fn four(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// A variable byte integer.
    fn varint(&mut self, value: u32) {
        let (bytes, width) = varint_bytes(value);
        let [first, second, ..] = bytes;
        // Nearly all have one or two bytes; a constant length saves the call to copy them.
        match width {
            1 => self.byte(first),
            2 => self.put(&[first, second]),
            _ => self.put(bytes.get(..width).unwrap_or(&bytes)),
        }
    }

    /// Bytes behind a two-byte length; checked before not to be longer than that can tell.
    fn binary(&mut self, bytes: &[u8]) {
        self.two(bytes.len() as u16);
        self.put(bytes);
    }
}

/// Counts.
#[derive(Default)]
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// Fills a slice; what does not fit is dropped and shows in `missing`.
pub(super) struct Fill<'b> {
    rest: &'b mut [u8],
    missing: bool,
}

impl<'b> Fill<'b> {
    pub(super) fn new(out: &'b mut [u8]) -> Fill<'b> {
        Fill { rest: out, missing: false }
    }

    /// Everything put was taken.
    pub(super) const fn fitted(&self) -> bool {
        !self.missing
    }
}

impl Sink for Fill<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        match core::mem::take(&mut self.rest).split_at_mut_checked(bytes.len()) {
            Some((into, rest)) => {
                into.copy_from_slice(bytes);
                self.rest = rest;
            }
            None => self.missing = true,
        }
    }
}

#[cfg(feature = "gateway")]
impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
