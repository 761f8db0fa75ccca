//! The fixed header, and the variable byte integer it ends in (2.1).
//!
//! ```text
//!   byte 0            bytes 1..=4
//!  +--------+-------+------------------------+
//!  | type 4 | flags | remaining length       |   7 bits a byte, low ones first,
//!  +--------+-------+------------------------+   bit 7: more follow
//! ```
//! Everything that can be refused here is refused as soon as its byte is here, so that a peer
//! never gets a buffer filled for a packet that was wrong from the start: types, flags, QoS 3,
//! a length that does not end, a packet over the limit.
//!
//! Limit: a remaining length is at most [`MAX_REMAINING`].

use super::error::DecodeError;
use super::Version;

/// Largest remaining length: four bytes of seven bits.
pub const MAX_REMAINING: u32 = 0x0FFF_FFFF;

/// The fifteen packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Client to server: let me in.
    Connect = 1,
    /// Server to client: come in, or not.
    ConnAck = 2,
    /// A message.
    Publish = 3,
    /// QoS 1: received.
    PubAck = 4,
    /// QoS 2, step 2: received.
    PubRec = 5,
    /// QoS 2, step 3: released.
    PubRel = 6,
    /// QoS 2, step 4: complete.
    PubComp = 7,
    /// Filters to add.
    Subscribe = 8,
    /// Answer to a subscribe.
    SubAck = 9,
    /// Filters to remove.
    Unsubscribe = 10,
    /// Answer to an unsubscribe.
    UnsubAck = 11,
    /// Are you there?
    PingReq = 12,
    /// I am.
    PingResp = 13,
    /// Goodbye.
    Disconnect = 14,
    /// A step of authentication; not in 3.1.1.
    Auth = 15,
}

impl PacketType {
    /// One bit a type, for tables.
    pub(super) const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// The first byte of a packet of this type, with the flags the type demands; a publish has
    /// its own.
    pub(super) const fn first_byte(self) -> u8 {
        let flags = match self {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }

    /// The type a first byte announces, if its flags are right [MQTT-2.1.3-1].
    #[inline]
    fn of_first_byte(first: u8, version: Version) -> Result<PacketType, DecodeError> {
        let kind = match first >> 4 {
            3 => return publish_flags(first),
            1 => PacketType::Connect,
            2 => PacketType::ConnAck,
            4 => PacketType::PubAck,
            5 => PacketType::PubRec,
            6 => PacketType::PubRel,
            7 => PacketType::PubComp,
            8 => PacketType::Subscribe,
            9 => PacketType::SubAck,
            10 => PacketType::Unsubscribe,
            11 => PacketType::UnsubAck,
            12 => PacketType::PingReq,
            13 => PacketType::PingResp,
            14 => PacketType::Disconnect,
            15 if version == Version::V5 => PacketType::Auth,
            _ => return Err(DecodeError::ReservedType),
        };
        if first != kind.first_byte() {
            return Err(DecodeError::ReservedFlags);
        }
        Ok(kind)
    }
}

/// Flags of a publish: DUP, QoS, QoS, RETAIN (3.3.1).
#[inline]
const fn publish_flags(first: u8) -> Result<PacketType, DecodeError> {
    match first & 0b1110 {
        0b0110 | 0b1110 => Err(DecodeError::QosThree),
        0b1000 => Err(DecodeError::DupWithQosZero),
        _ => Ok(PacketType::Publish),
    }
}

/// A fixed header: what comes, and how much of it.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// What comes.
    pub(super) kind: PacketType,
    /// The low four bits of the first byte.
    pub(super) flags: u8,
    /// Bytes of the fixed header.
    pub(super) head: usize,
    /// Bytes of the whole packet.
    pub(super) size: usize,
    /// The remaining length is as short as can be.
    pub(super) minimal: bool,
}

/// Reads a fixed header; none if it is not whole yet.
#[inline]
pub(super) fn frame(
    input: &[u8],
    version: Version,
    max_packet_size: u32,
) -> Result<Option<Frame>, DecodeError> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    let kind = PacketType::of_first_byte(first, version)?;
    let (remaining, width) = match varint(rest) {
        VarInt::Whole(value, width) => (value, width),
        VarInt::Partial => return Ok(None),
        VarInt::Endless => return Err(DecodeError::RemainingLength),
    };
    let minimal = width == varint_len(remaining);
    // A CONNECT tells its version only in its body, so it is judged there. 3.1.1 has no such rule.
    if !minimal && version == Version::V5 && kind != PacketType::Connect {
        return Err(DecodeError::RemainingLength);
    }
    let size = remaining.saturating_add(1).saturating_add(width as u32);
    if size > max_packet_size {
        return Err(DecodeError::TooLarge);
    }
    Ok(Some(Frame { kind, flags: first & 0x0F, head: 1 + width, size: size as usize, minimal }))
}

/// Size of the packet `input` begins with, once its fixed header is whole: how much to read.
pub fn packet_size(
    input: &[u8],
    version: Version,
    max_packet_size: u32,
) -> Result<Option<usize>, DecodeError> {
    Ok(frame(input, version, max_packet_size)?.map(|frame| frame.size))
}

/// What bytes say when read as a variable byte integer (1.5.5).
pub(super) enum VarInt {
    /// Value and width.
    Whole(u32, usize),
    /// They end before it does.
    Partial,
    /// It does not end within four bytes.
    Endless,
}

/// Reads a variable byte integer; longer forms than needed are read too.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> VarInt {
    match *bytes {
        [low, ..] if low < 0x80 => VarInt::Whole(u32::from(low), 1),
        [low, high, ..] if high < 0x80 => VarInt::Whole(u32::from(low & 0x7F) | u32::from(high) << 7, 2),
        _ => long_varint(bytes),
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8]) -> VarInt {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return VarInt::Whole(value, index + 1);
        }
    }
    if bytes.len() < 4 {
        VarInt::Partial
    } else {
        VarInt::Endless
    }
}

/// Bytes a value takes as a variable byte integer.
#[inline]
pub(super) const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// A value as a variable byte integer: four bytes, and how many of them count.
#[inline]
pub(super) const fn varint_bytes(value: u32) -> ([u8; 4], usize) {
    let width = varint_len(value);
    (
        [
            (value & 0x7F) as u8 | if width > 1 { 0x80 } else { 0 },
            (value >> 7 & 0x7F) as u8 | if width > 2 { 0x80 } else { 0 },
            (value >> 14 & 0x7F) as u8 | if width > 3 { 0x80 } else { 0 },
            (value >> 21 & 0x7F) as u8,
        ],
        width,
    )
}
