//! DISCONNECT and AUTH (3.14, 3.15), which begin with a reason and may leave it out.
//!
//! ```text
//! DISCONNECT  [reason [properties]]     in 3.1.1: nothing at all
//! AUTH        [reason properties]       5 only; the method is among the properties
//! ```

use super::ack::{check_reason, reason, write_reason};
use super::cursor::{Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::PacketType;
use super::properties::Properties;
use super::property::Scope;
use super::reason::Reason;
use super::Version;

/// The last packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; [`Reason::Success`] is the normal end.
    pub reason: Reason,
    /// Its properties.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A reason, and nothing to add.
    pub const fn because(reason: Reason) -> Disconnect<'a> {
        Disconnect { reason, properties: Properties::NONE }
    }

    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Disconnect<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        if reader.is_empty() {
            return Ok(Disconnect::because(Reason::Success));
        }
        if version == Version::V311 {
            return Err(DecodeError::TrailingBytes);
        }
        let mut disconnect = Disconnect::because(reason(&mut reader, PacketType::Disconnect)?);
        if !reader.is_empty() {
            disconnect.properties = Properties::read(&mut reader, Scope::Disconnect)?;
        }
        reader.end()?;
        Ok(disconnect)
    }

    pub(super) fn check(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::Disconnect)?;
        check_reason(self.reason, PacketType::Disconnect)?;
        if version == Version::V311 && self.reason != Reason::Success {
            return Err(EncodeError::NotInVersion);
        }
        Ok(())
    }

    pub(super) fn write(&self, sink: &mut impl Sink) {
        write_reason(self.reason, &self.properties, sink);
    }
}

/// One step of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Done, go on, or once more.
    pub reason: Reason,
    /// Method and data; there is a method unless the packet says success and nothing else.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Auth<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        if reader.is_empty() {
            return Ok(Auth { reason: Reason::Success, properties: Properties::NONE });
        }
        let reason = reason(&mut reader, PacketType::Auth)?;
        let properties = Properties::read(&mut reader, Scope::Auth)?;
        reader.end()?;
        let auth = Auth { reason, properties };
        auth.check_method()?;
        Ok(auth)
    }

    /// Reason and properties may be left out together, and only in a success (3.15.2.1); the
    /// method is needed otherwise (3.15.2.2.2).
    fn check_method(&self) -> Result<(), DecodeError> {
        if self.properties.is_empty() && self.reason != Reason::Success {
            return Err(DecodeError::AuthMethodMissing);
        }
        Ok(())
    }

    pub(super) fn check(&self, version: Version) -> Result<(), EncodeError> {
        if version == Version::V311 {
            return Err(EncodeError::NotInVersion);
        }
        self.properties.check(version, Scope::Auth)?;
        check_reason(self.reason, PacketType::Auth)?;
        Ok(self.check_method()?)
    }

    pub(super) fn write(&self, sink: &mut impl Sink) {
        write_reason(self.reason, &self.properties, sink);
    }
}
