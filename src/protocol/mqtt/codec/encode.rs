//! Packets to bytes.
//!
//! A packet is judged by the rules of the decoder, then measured, then written: what the
//! receiver would refuse is not written at all. Measuring and writing are the same code over
//! two sinks, so `encoded_len` is exact.
//!
//! For the packets a broker writes by the thousand there are shorter ways: `Publish::append`
//! and its sisters, [`puback`](super::puback) and [`PINGRESP`].

use super::cursor::{Count, Fill, Sink};
use super::error::EncodeError;
use super::header::{varint_len, PacketType, MAX_REMAINING};
use super::{Packet, Version};

/// A PINGREQ.
pub const PINGREQ: [u8; 2] = [PacketType::PingReq.first_byte(), 0];
/// A PINGRESP.
pub const PINGRESP: [u8; 2] = [PacketType::PingResp.first_byte(), 0];
/// A DISCONNECT that says goodbye.
pub const DISCONNECT: [u8; 2] = [PacketType::Disconnect.first_byte(), 0];

impl Packet<'_> {
    /// Bytes the packet takes. A CONNECT is in its own version, whatever `version` says.
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        self.check(version)?;
        if let Packet::Publish(publish) = self {
            return publish.encoded_len(version);
        }
        let remaining = self.remaining(version)?;
        Ok(1 + varint_len(remaining) + remaining as usize)
    }

    /// Writes the packet; returns the bytes used.
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.encoded_len(version)?;
        let Some(room) = out.get_mut(..needed) else { return Err(EncodeError::NoRoom { needed }) };
        self.write(version, &mut Fill::new(room))?;
        Ok(needed)
    }

    /// Appends the packet.
    #[cfg(feature = "gateway")]
    pub fn append(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.reserve(self.encoded_len(version)?);
        self.write(version, out)
    }

    /// The remaining length of any packet but a publish.
    fn remaining(&self, version: Version) -> Result<u32, EncodeError> {
        let mut count = Count::default();
        self.write_body(version, &mut count);
        match u32::try_from(count.0) {
            Ok(remaining @ 0..=MAX_REMAINING) => Ok(remaining),
            _ => Err(EncodeError::TooLong),
        }
    }

    fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        if let Packet::Publish(publish) = self {
            return publish.write(version, sink);
        }
        let remaining = self.remaining(version)?;
        sink.byte(self.kind().first_byte());
        sink.varint(remaining);
        self.write_body(version, sink);
        Ok(())
    }

    /// What the receiver would have to say against it.
    fn check(&self, version: Version) -> Result<(), EncodeError> {
        match self {
            Packet::Connect(connect) => connect.check(),
            Packet::ConnAck(ack) => ack.check(version),
            Packet::Publish(publish) => publish.check(version),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                ack.check(self.kind(), version)
            }
            Packet::Subscribe(subscribe) => subscribe.check(version),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.check(version),
            Packet::SubAck(answer) | Packet::UnsubAck(answer) => answer.check(self.kind(), version),
            Packet::PingReq | Packet::PingResp => Ok(()),
            Packet::Disconnect(disconnect) => disconnect.check(version),
            Packet::Auth(auth) => auth.check(version),
        }
    }

    /// Everything behind the fixed header; a publish writes itself.
    fn write_body(&self, version: Version, sink: &mut impl Sink) {
        match self {
            Packet::Connect(connect) => connect.write(sink),
            Packet::ConnAck(ack) => ack.write(version, sink),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                ack.write(sink);
            }
            Packet::Subscribe(subscribe) => subscribe.write(version, sink),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.write(version, sink),
            Packet::SubAck(answer) | Packet::UnsubAck(answer) => answer.write(version, sink),
            Packet::Disconnect(disconnect) => disconnect.write(sink),
            Packet::Auth(auth) => auth.write(sink),
            Packet::Publish(_) | Packet::PingReq | Packet::PingResp => {}
        }
    }
}
