//! Frames as bytes on the line: postcard, a checksum, COBS.
//!
//! ```text
//! on the line   | COBS of: frame (postcard) | CRC-32C u32 LE | | 0 |
//!                          |<- checksummed ->|
//! seed of the checksum   0                       Hello, Who, and an Error before Welcome
//!                        crc(0, device nonce)    Welcome
//!                        crc(that, gateway nonce) everything in the session
//! ```
//! Since both sides' nonces seed the checksum, what an earlier session left in a buffer is noise, and
//! a reset of either side is noticed at the first frame.
//!
//! Limits: a frame is at most [`FRAME_MAX`] bytes before it is coded, and what a side said it takes.

use super::cobs::{decode, Coder};
use super::frame::Frame;
use super::layout;
use crate::fixed::Writer;
use crate::log::checksum::{crc, crc_u32};

/// Largest frame, checksum included, before it is coded.
pub const FRAME_MAX: usize = 65_535;

/// Bytes of the checksum.
const SUM_SIZE: usize = 4;

/// What checksums of frames are seeded with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// Before there is a session.
    pub const GREETING: Seed = Seed(0);

    /// For the answer to a Hello.
    pub fn answer(device_nonce: u32) -> Seed {
        Seed(crc_u32(0, device_nonce))
    }

    /// For everything in a session.
    pub fn session(device_nonce: u32, gateway_nonce: u32) -> Seed {
        Seed(crc_u32(crc_u32(0, device_nonce), gateway_nonce))
    }
}

/// Writes fields through checksum and COBS.
pub(super) struct Sealer<'b> {
    coder: Coder<'b>,
    sum: u32,
}

impl Sealer<'_> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.sum = crc(self.sum, bytes);
        for &byte in bytes {
            self.coder.push(byte);
        }
    }

    /// A number, seven bits a byte.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn number(&mut self, number: u64) {
        let mut bytes = [0; 10];
        let mut writer = Writer::new(&mut bytes);
        writer.varint(number);
        self.bytes(writer.finish().unwrap_or(&[]));
    }

    /// A byte, then a number.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn numbered(&mut self, byte: u8, number: u64) {
        self.bytes(&[byte]);
        self.number(number);
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    /// A length, then bytes.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes(bytes);
    }
}

/// Writes a frame; its length, or none if it does not fit.
pub fn seal(frame: &Frame<'_>, seed: Seed, out: &mut [u8]) -> Option<usize> {
    let mut sealer = Sealer { coder: Coder::new(out), sum: seed.0 };
    frame.write(&mut sealer);
    let sum = sealer.sum.to_le_bytes();
    sealer.bytes(&sum);
    sealer.coder.finish()
}

/// The bytes between two zeros, decoded but not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'f> {
    body: &'f [u8],
    sum: u32,
}

/// Undoes COBS in place; none if it was none, or has no room for a checksum.
pub fn unwrap(bytes: &mut [u8]) -> Option<Sealed<'_>> {
    let len = decode(bytes)?;
    let whole = bytes.get(..len)?;
    let (body, sum) = whole.split_at_checked(len.checked_sub(SUM_SIZE)?)?;
    Some(Sealed { body, sum: u32::from_le_bytes(sum.try_into().ok()?) })
}

impl<'f> Sealed<'f> {
    /// It was sealed with this seed, and arrived whole.
    pub fn checks(&self, seed: Seed) -> bool {
        crc(seed.0, self.body) == self.sum
    }

    /// The frame; none if it is one this version does not know.
    pub fn frame(&self) -> Option<Frame<'f>> {
        layout::read(self.body)
    }
}

/// Collects what comes byte by byte until a zero ends it.
#[derive(Debug)]
pub struct Assembler<'b> {
    buffer: &'b mut [u8],
    len: usize,
    /// Too much came: everything up to the next zero is dropped.
    is_over: bool,
}

impl<'b> Assembler<'b> {
    /// Collects in a buffer, which limits the frame.
    pub fn new(buffer: &'b mut [u8]) -> Assembler<'b> {
        Assembler { buffer, len: 0, is_over: false }
    }

    /// Forgets what came.
    pub fn clear(&mut self) {
        (self.len, self.is_over) = (0, false);
    }

    /// Takes a byte; true if it ended something, which `take` then gives.
    pub fn push(&mut self, byte: u8) -> bool {
        if byte == 0 {
            let ended = self.len > 0 && !self.is_over;
            if !ended {
                self.clear();
            }
            return ended;
        }
        match self.buffer.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len = self.len.saturating_add(1);
            }
            None => self.is_over = true,
        }
        false
    }

    /// What was ended; none if it is no frame.
    pub fn take(&mut self) -> Option<Sealed<'_>> {
        let len = core::mem::take(&mut self.len);
        unwrap(self.buffer.get_mut(..len)?)
    }
}
