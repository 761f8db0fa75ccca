//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), the four of one shape.
//!
//! ```text
//!  +------+-----+-----------+--------+------------+
//!  | type | len | packet id | reason | properties |
//!  +------+-----+-----------+--------+------------+
//!          2                  in 5, if not success
//!          3                           in 5, if any
//! ```
//! Nearly all of them are the four bytes of [`puback`] and its sisters, in both versions.

use super::cursor::{Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::PacketType;
use super::properties::Properties;
use super::property::Scope;
use super::reason::Reason;
use super::{PacketId, Version};

const PUBACK: u8 = PacketType::PubAck.first_byte();

/// An acknowledgement; its packet type is in the `Packet` around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// What is acknowledged.
    pub packet_id: PacketId,
    /// How it went.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// Success, and nothing to add.
    pub const fn success(packet_id: PacketId) -> Ack<'a> {
        Ack::because(packet_id, Reason::Success)
    }

    /// A reason, and nothing to add.
    pub const fn because(packet_id: PacketId, reason: Reason) -> Ack<'a> {
        Ack { packet_id, reason, properties: Properties::NONE }
    }

    pub(super) fn decode(kind: PacketType, body: &'a [u8], version: Version) -> Result<Ack<'a>, DecodeError> {
        match *body {
            [high, low] => match PacketId::new(u16::from_be_bytes([high, low])) {
                Some(packet_id) => Ok(Ack::success(packet_id)),
                None => Err(DecodeError::PacketIdZero),
            },
            _ => Ack::decode_long(kind, body, version),
        }
    }

    /// With a reason, and perhaps properties: the length may be left out with them (3.4.2.2.1).
    fn decode_long(kind: PacketType, body: &'a [u8], version: Version) -> Result<Ack<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if version == Version::V311 {
            return Err(DecodeError::TrailingBytes);
        }
        let reason = reason(&mut reader, kind)?;
        let mut properties = Properties::NONE;
        if !reader.is_empty() {
            properties = Properties::read(&mut reader, Scope::Answer)?;
        }
        reader.end()?;
        Ok(Ack { packet_id, reason, properties })
    }

    pub(super) fn check(&self, kind: PacketType, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::Answer)?;
        check_reason(self.reason, kind)?;
        if version == Version::V311 && self.reason != Reason::Success {
            return Err(EncodeError::NotInVersion);
        }
        Ok(())
    }

    pub(super) fn write(&self, sink: &mut impl Sink) {
        sink.two(self.packet_id.get());
        write_reason(self.reason, &self.properties, sink);
    }
}

/// A PUBACK of four bytes, which half of all packets of a busy connection are: read without
/// looking at anything else. What it does not take is for the usual way.
#[inline]
pub(super) fn quick<'a>(input: &[u8], max_packet_size: u32) -> Option<Ack<'a>> {
    match *input {
        [PUBACK, 2, high, low, ..] if max_packet_size >= 4 => {
            PacketId::new(u16::from_be_bytes([high, low])).map(Ack::success)
        }
        _ => None,
    }
}

/// A reason code that this packet may carry.
pub(super) fn reason(reader: &mut Reader<'_>, kind: PacketType) -> Result<Reason, DecodeError> {
    let reason = Reason::from_code(reader.byte()?).ok_or(DecodeError::ReasonCode)?;
    if reason.allowed_in(kind) {
        Ok(reason)
    } else {
        Err(DecodeError::ReasonCode)
    }
}

/// Judges a reason that is to be written.
pub(super) fn check_reason(reason: Reason, kind: PacketType) -> Result<(), EncodeError> {
    if reason.allowed_in(kind) {
        Ok(())
    } else {
        Err(EncodeError::Invalid(DecodeError::ReasonCode))
    }
}

/// Writes reason and properties as far as they say anything.
pub(super) fn write_reason(reason: Reason, properties: &Properties<'_>, sink: &mut impl Sink) {
    if reason != Reason::Success || !properties.is_empty() {
        sink.byte(reason.code());
    }
    if !properties.is_empty() {
        properties.write(sink);
    }
}

const fn four(kind: PacketType, packet_id: PacketId) -> [u8; 4] {
    let [high, low] = packet_id.get().to_be_bytes();
    [kind.first_byte(), 2, high, low]
}

/// A PUBACK that says success.
#[inline]
pub const fn puback(packet_id: PacketId) -> [u8; 4] {
    four(PacketType::PubAck, packet_id)
}

/// A PUBREC that says success.
#[inline]
pub const fn pubrec(packet_id: PacketId) -> [u8; 4] {
    four(PacketType::PubRec, packet_id)
}

/// A PUBREL that says success.
#[inline]
pub const fn pubrel(packet_id: PacketId) -> [u8; 4] {
    four(PacketType::PubRel, packet_id)
}

/// A PUBCOMP that says success.
#[inline]
pub const fn pubcomp(packet_id: PacketId) -> [u8; 4] {
    four(PacketType::PubComp, packet_id)
}
