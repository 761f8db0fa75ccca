//! The MQTT codec: bytes to packets and back, 3.1.1 and 5.0, for servers and clients.
//!
//! A packet borrows from the bytes it was read from; nothing is copied or allocated, nothing
//! but `core` is needed. Decoding is strict: what the specification calls malformed is refused
//! with the [`DecodeError`] that names it, and refused from the fixed header where that tells.
//! Encoding judges by the same rules, so a packet that was written is one that can be read.
//! What depends on who sends, or on what was sent before, is the session's to judge: which side
//! may send a packet or property, receive maximum, topic aliases in use, packet ids in use.
//!
//! ```text
//!             header            connect publish ack subscribe suback disconnect
//!  bytes -> frame: type, size -> one struct a packet, borrowing -> Packet -> encode -> bytes
//!                                text · properties: judged once, iterated lazily
//! ```
//! Invariants: `decode` reads nothing behind the packet; a prefix of a packet gives none or the
//! error of the whole; decode, encode, decode gives the same packet.
//!
//! Specifications: MQTT 3.1.1 (OASIS, 2014), MQTT 5.0 (OASIS, 2019). Section and statement
//! numbers are those of 5.0 unless it says otherwise; most statements are in both.

use core::num::NonZeroU16;

mod ack;
mod connect;
mod cursor;
mod disconnect;
mod encode;
mod error;
mod header;
mod properties;
mod property;
mod publish;
mod reason;
mod suback;
mod subscribe;
mod text;

pub use ack::{puback, pubcomp, pubrec, pubrel, Ack};
pub use connect::{ConnAck, Connect, Will};
pub use disconnect::{Auth, Disconnect};
pub use encode::{DISCONNECT, PINGREQ, PINGRESP};
pub use error::{DecodeError, EncodeError};
pub use header::{packet_size, PacketType, MAX_REMAINING};
pub use properties::{Properties, PropertyIter};
pub use property::{Property, Scope, SubscriptionId};
pub use publish::Publish;
pub use reason::{ConnectReturn, Reason};
pub use suback::{Answer, Reasons};
pub use subscribe::{
    Filters, RetainHandling, Subscribe, SubscribeOptions, Subscription, Subscriptions, Unsubscribe,
};
pub use text::{match_filter, split_share, topic_filter, topic_name};

/// The protocol level a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 3.1.1, level 4.
    V311,
    /// 5.0, level 5.
    V5,
}

impl Version {
    /// The level byte in a CONNECT.
    pub const fn level(self) -> u8 {
        match self {
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }
}

/// How surely a message is handed over (4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// Once or not at all.
    #[default]
    AtMostOnce = 0,
    /// Until acknowledged.
    AtLeastOnce = 1,
    /// Until received and released.
    ExactlyOnce = 2,
}

impl Qos {
    /// The quality these two bits mean; 3 is none.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Qos> {
        match bits {
            0 => Some(Qos::AtMostOnce),
            1 => Some(Qos::AtLeastOnce),
            2 => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet identifier; never 0 [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The identifier with this number, unless it is 0.
    #[inline]
    pub const fn new(number: u16) -> Option<PacketId> {
        match NonZeroU16::new(number) {
            Some(number) => Some(PacketId(number)),
            None => None,
        }
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// A packet of either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client asks to be let in.
    Connect(Connect<'a>),
    /// The server lets it in, or not.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// QoS 1: received.
    PubAck(Ack<'a>),
    /// QoS 2, step 2: received.
    PubRec(Ack<'a>),
    /// QoS 2, step 3: released.
    PubRel(Ack<'a>),
    /// QoS 2, step 4: complete.
    PubComp(Ack<'a>),
    /// Filters to add.
    Subscribe(Subscribe<'a>),
    /// What became of them.
    SubAck(Answer<'a>),
    /// Filters to remove.
    Unsubscribe(Unsubscribe<'a>),
    /// What became of them.
    UnsubAck(Answer<'a>),
    /// Are you there?
    PingReq,
    /// I am.
    PingResp,
    /// Goodbye.
    Disconnect(Disconnect<'a>),
    /// A step of authentication; only in 5.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Its type.
    pub const fn kind(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }
}

/// Reads the packet `input` begins with and tells its size; none if it is not whole yet.
///
/// Before the CONNECT a server passes either version: a CONNECT tells its own, in
/// [`Connect::version`]. `max_packet_size` counts the whole packet, as the property of that name
/// does (3.1.2.11.4); pass `u32::MAX` for no limit of one's own.
#[inline]
pub fn decode(
    input: &[u8],
    version: Version,
    max_packet_size: u32,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    if let Some(packet) = ack::quick(input, max_packet_size) {
        return Ok(Some((Packet::PubAck(packet), 4)));
    }
    let Some(frame) = header::frame(input, version, max_packet_size)? else { return Ok(None) };
    let Some(body) = input.get(frame.head..frame.size) else { return Ok(None) };
    // Each arm builds its own result, in place: a packet is large and not worth a copy.
    match frame.kind {
        PacketType::Publish => match Publish::decode(frame.flags, body, version) {
            Ok(publish) => Ok(Some((Packet::Publish(publish), frame.size))),
            Err(error) => Err(error),
        },
        _ => Ok(Some((decode_rare(frame, body, version)?, frame.size))),
    }
}

/// All packets but the one there are most of.
fn decode_rare<'a>(
    frame: header::Frame,
    body: &'a [u8],
    version: Version,
) -> Result<Packet<'a>, DecodeError> {
    let kind = frame.kind;
    Ok(match kind {
        PacketType::Connect => {
            let connect = Connect::decode(body)?;
            if !frame.minimal && connect.version == Version::V5 {
                return Err(DecodeError::RemainingLength);
            }
            Packet::Connect(connect)
        }
        PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(body, version)?),
        PacketType::Publish => Packet::Publish(Publish::decode(frame.flags, body, version)?),
        PacketType::PubAck => Packet::PubAck(Ack::decode(kind, body, version)?),
        PacketType::PubRec => Packet::PubRec(Ack::decode(kind, body, version)?),
        PacketType::PubRel => Packet::PubRel(Ack::decode(kind, body, version)?),
        PacketType::PubComp => Packet::PubComp(Ack::decode(kind, body, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(Answer::decode(kind, body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(Answer::decode(kind, body, version)?),
        PacketType::PingReq => empty(body).map(|()| Packet::PingReq)?,
        PacketType::PingResp => empty(body).map(|()| Packet::PingResp)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body)?),
    })
}

const fn empty(body: &[u8]) -> Result<(), DecodeError> {
    cursor::Reader::new(body).end()
}
