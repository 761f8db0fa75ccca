//! SUBACK and UNSUBACK (3.9, 3.11): one reason for each filter that was asked for.
//!
//! ```text
//! SUBACK    packet-id [properties] 1*( reason )        in 3.1.1: 0, 1, 2 or 0x80
//! UNSUBACK  packet-id [properties] 1*( reason )        in 3.1.1: packet-id alone
//! ```

use super::cursor::{Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::PacketType;
use super::properties::Properties;
use super::property::Scope;
use super::reason::Reason;
use super::{PacketId, Version};

/// The answer to a subscribe or an unsubscribe; its packet type is in the `Packet` around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What is answered.
    pub packet_id: PacketId,
    /// Its properties.
    pub properties: Properties<'a>,
    /// A reason for each filter, in the order they were asked for.
    pub reasons: Reasons<'a>,
}

/// Reason codes, as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons<'a>(&'a [u8]);

impl<'a> Reasons<'a> {
    /// Codes to be written ([`Reason::code`]); judged by the encoder.
    pub const fn codes(codes: &'a [u8]) -> Reasons<'a> {
        Reasons(codes)
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// None, as in an UNSUBACK of 3.1.1.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Reason> + 'a {
        self.0.iter().filter_map(|&code| Reason::from_code(code))
    }

    /// Judges the codes, and that there are any where there must be.
    fn check(&self, kind: PacketType, version: Version) -> Result<(), DecodeError> {
        if kind == PacketType::UnsubAck && version == Version::V311 {
            return if self.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) };
        }
        if self.is_empty() {
            return Err(DecodeError::NoEntries);
        }
        let fits = |code: &u8| match version {
            Version::V311 => matches!(code, 0..=2 | 0x80),
            Version::V5 => Reason::from_code(*code).is_some_and(|reason| reason.allowed_in(kind)),
        };
        if self.0.iter().all(fits) {
            Ok(())
        } else {
            Err(DecodeError::ReasonCode)
        }
    }
}

impl<'a> Answer<'a> {
    pub(super) fn decode(
        kind: PacketType,
        body: &'a [u8],
        version: Version,
    ) -> Result<Answer<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_if(&mut reader, version, Scope::Answer)?;
        let reasons = Reasons(reader.rest());
        reasons.check(kind, version)?;
        Ok(Answer { packet_id, properties, reasons })
    }

    pub(super) fn check(&self, kind: PacketType, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::Answer)?;
        Ok(self.reasons.check(kind, version)?)
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) {
        sink.two(self.packet_id.get());
        self.properties.write_if(version, sink);
        sink.put(self.reasons.0);
    }
}
