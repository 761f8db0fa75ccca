//! PUBLISH (3.3): the packet that counts.
//!
//! ```text
//!  +-----------------+------------------+---------+-------------+--------------+---------+
//!  | 0011 D QQ R     | remaining length | topic   | packet id   | properties   | payload |
//!  +-----------------+------------------+---------+-------------+--------------+---------+
//!                                                   if QQ > 0     in 5
//! ```
//! Decoding looks at every byte of the topic once and at no byte of the payload. Encoding for
//! a fan-out writes the head alone: what differs between receivers is in it, and the payload
//! follows from where it lies. The head writers take the topic as valid, since it was judged
//! when it came in; `Packet::encode` judges it again.

use super::cursor::{Fill, Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::{varint_len, MAX_REMAINING};
use super::properties::Properties;
use super::property::Scope;
use super::text::{check_topic, topic_name};
use super::{PacketId, Qos, Version};

const FIRST: u8 = 0x30;
const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before, perhaps received before.
    pub dup: bool,
    /// How surely.
    pub qos: Qos,
    /// Keep it as the last value; to a receiver: it was kept.
    pub retain: bool,
    /// Topic name; empty only in 5, with a topic alias.
    pub topic: &'a [u8],
    /// There if and only if QoS is 1 or 2 [MQTT-2.2.1-2], [MQTT-2.2.1-3].
    pub packet_id: Option<PacketId>,
    /// Its properties.
    pub properties: Properties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(flags: u8, body: &'a [u8], version: Version) -> Result<Publish<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let qos = Qos::from_bits(flags >> 1 & 0b11).ok_or(DecodeError::QosThree)?;
        let topic = reader.binary()?;
        let packet_id = if qos == Qos::AtMostOnce { None } else { Some(reader.packet_id()?) };
        let (dup, retain) = (flags & DUP != 0, flags & RETAIN != 0);
        let (properties, payload) = if version == Version::V311 || reader.skip_zero() {
            topic_name(topic).map_err(|error| missing(error, topic, version))?;
            (Properties::NONE, reader.rest())
        } else {
            with_properties(reader, topic)?
        };
        Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload })
    }

    /// Bytes of the whole packet; an error if no remaining length can tell them.
    #[inline]
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        Ok(whole_len(self.remaining(version)?))
    }

    /// Bytes before the payload.
    #[inline]
    pub fn head_len(&self, version: Version) -> Result<usize, EncodeError> {
        Ok(self.encoded_len(version)?.saturating_sub(self.payload.len()))
    }

    /// Writes everything before the payload; returns the bytes used. Send `self.payload` behind.
    #[inline]
    pub fn encode_head(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        let remaining = self.remaining(version)?;
        let needed = whole_len(remaining).saturating_sub(self.payload.len());
        let mut fill = Fill::new(out);
        self.write_head(version, remaining, &mut fill);
        if !fill.fitted() {
            return Err(EncodeError::NoRoom { needed });
        }
        Ok(needed)
    }

    /// Appends everything before the payload.
    #[cfg(feature = "gateway")]
    #[inline]
    pub fn append_head(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining(version)?;
        out.reserve(whole_len(remaining).saturating_sub(self.payload.len()));
        self.write_head(version, remaining, out);
        Ok(())
    }

    /// Appends the packet.
    #[cfg(feature = "gateway")]
    #[inline]
    pub fn append(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining(version)?;
        out.reserve(whole_len(remaining));
        self.write_head(version, remaining, out);
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// The remaining length, after what could make the packet unreadable was refused.
    #[inline]
    fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let properties = match version {
            Version::V5 if self.properties.is_empty() => 1,
            Version::V5 => self.properties.encoded_len(),
            Version::V311 if self.properties.is_empty() => 0,
            Version::V311 => return Err(EncodeError::NotInVersion),
        };
        if (self.qos == Qos::AtMostOnce) == self.packet_id.is_some() {
            return Err(EncodeError::Invalid(DecodeError::PacketIdZero));
        }
        if self.dup && self.qos == Qos::AtMostOnce {
            return Err(EncodeError::Invalid(DecodeError::DupWithQosZero));
        }
        if self.topic.len() > usize::from(u16::MAX) {
            return Err(EncodeError::TooLong);
        }
        let before = 2 + self.topic.len() + if self.packet_id.is_some() { 2 } else { 0 };
        let remaining = before.saturating_add(properties).saturating_add(self.payload.len());
        match u32::try_from(remaining) {
            Ok(remaining @ 0..=MAX_REMAINING) => Ok(remaining),
            _ => Err(EncodeError::TooLong),
        }
    }

    #[inline]
    fn write_head(&self, version: Version, remaining: u32, sink: &mut impl Sink) {
        let dup = if self.dup { DUP } else { 0 };
        sink.byte(FIRST | dup | (self.qos as u8) << 1 | u8::from(self.retain));
        sink.varint(remaining);
        sink.binary(self.topic);
        if let Some(packet_id) = self.packet_id {
            sink.two(packet_id.get());
        }
        self.properties.write_if(version, sink);
    }

    /// The whole packet, into a sink.
    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        self.write_head(version, self.remaining(version)?, sink);
        sink.put(self.payload);
        Ok(())
    }

    /// Judges what the head writers take as valid.
    pub(super) fn check(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::Publish)?;
        if self.topic.is_empty() && version == Version::V5 {
            return match self.properties.topic_alias() {
                Some(_) => Ok(()),
                None => Err(EncodeError::Invalid(DecodeError::TopicMissing)),
            };
        }
        check_topic(self.topic)
    }
}

/// Properties and payload where there are properties, and the topic, which may be an alias: apart,
/// so that the way without them is short.
#[inline(never)]
fn with_properties<'a>(
    mut reader: Reader<'a>,
    topic: &[u8],
) -> Result<(Properties<'a>, &'a [u8]), DecodeError> {
    let properties = Properties::read(&mut reader, Scope::Publish)?;
    if !topic.is_empty() {
        topic_name(topic)?;
    } else if properties.topic_alias().is_none() {
        return Err(DecodeError::TopicMissing);
    }
    Ok((properties, reader.rest()))
}

/// An empty topic is wrong in either version, but in 5 an alias could have stood for it.
#[cold]
fn missing(error: DecodeError, topic: &[u8], version: Version) -> DecodeError {
    if topic.is_empty() && version == Version::V5 {
        DecodeError::TopicMissing
    } else {
        error
    }
}

/// Bytes of a packet with this remaining length.
#[inline]
const fn whole_len(remaining: u32) -> usize {
    1 + varint_len(remaining) + remaining as usize
}
