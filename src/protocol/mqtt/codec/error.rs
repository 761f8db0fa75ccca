//! What can be wrong with a packet, coming in or going out.
//!
//! Every defect of an incoming packet has its own variant, a short text that does not change
//! (it goes to the log) and the v5 reason code a server answers with before it closes
//! ([MQTT-4.13.1-1], [MQTT-4.13.2-1]). In 3.1.1 there is no answer: the connection ends.
//!
//! Malformed (0x81) is what cannot be read; a protocol error (0x82) is what can be read and
//! means nothing (1.2, "Malformed Packet" and "Protocol Error").

use core::fmt;

use super::reason::Reason;
use super::Version;

/// Why bytes are not a packet. The connection they came by cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Packet type 0, or 15 in 3.1.1 (2.1.2).
    ReservedType,
    /// The low four bits of the first byte are not what the type demands [MQTT-2.1.3-1].
    ReservedFlags,
    /// The remaining length has more than four bytes, or more than it needs [MQTT-1.5.5-1].
    RemainingLength,
    /// The announced size is over the limit (3.1.2.11.4).
    TooLarge,
    /// A field reaches over the end of the packet.
    Truncated,
    /// Bytes are left behind the last field.
    TrailingBytes,
    /// A variable byte integer has more than four bytes, or more than it needs [MQTT-1.5.5-1].
    VarInt,
    /// A string is not well-formed UTF-8 [MQTT-1.5.4-1].
    NotUtf8,
    /// A string contains U+0000 [MQTT-1.5.4-2].
    NullCharacter,
    /// Both quality bits are set [MQTT-3.3.1-4].
    QosThree,
    /// DUP is set on a QoS 0 publish [MQTT-3.3.1-2].
    DupWithQosZero,
    /// A packet identifier is 0 or missing [MQTT-2.2.1-3].
    PacketIdZero,
    /// A topic name is empty or has a wildcard [MQTT-3.3.2-2], [MQTT-4.7.3-1].
    TopicName,
    /// A topic filter is empty or its wildcards stand wrong [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    TopicFilter,
    /// A filter under `$share/` has no group, or none behind it [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    ShareName,
    /// An empty topic without an alias (3.3.2.1).
    TopicMissing,
    /// The protocol name is none of MQTT's [MQTT-3.1.2-1].
    ProtocolName,
    /// MQTT at a level other than 4 and 5; see [`DecodeError::refusal`] [MQTT-3.1.2-2].
    ProtocolLevel(u8),
    /// The reserved bit of the connect flags is set [MQTT-3.1.2-3].
    ConnectFlags,
    /// Will QoS or will retain without a will, or will QoS 3 [MQTT-3.1.2-11], [MQTT-3.1.2-12].
    WillFlags,
    /// A password without a user name, in 3.1.1 (its [MQTT-3.1.2-22]).
    PasswordWithoutUser,
    /// Reserved acknowledge flags, or a session present with a refusal [MQTT-3.2.2-6].
    ConnAckFlags,
    /// A reason code that this packet cannot carry (2.4).
    ReasonCode,
    /// Reserved subscription options, or retain handling 3 [MQTT-3.8.3-5].
    SubscribeOptions,
    /// No-local on a shared subscription [MQTT-3.8.3-4].
    NoLocalShared,
    /// A subscribe, unsubscribe or its answer without any entry [MQTT-3.8.3-2], [MQTT-3.10.3-2].
    NoEntries,
    /// A property identifier that does not exist (2.2.2.2).
    PropertyUnknown,
    /// A property that this packet cannot carry (2.2.2.2).
    PropertyMisplaced,
    /// A property more often than once (2.2.2.2).
    PropertyTwice,
    /// A property's value is out of its range.
    PropertyValue,
    /// Topic alias 0 [MQTT-3.3.2-8].
    TopicAlias,
    /// Authentication data, or AUTH itself, without a method (3.1.2.11.10, 3.15.2.2.2).
    AuthMethodMissing,
}

impl DecodeError {
    /// What was wrong, for the log. The texts are stable.
    pub const fn text(self) -> &'static str {
        match self {
            DecodeError::ReservedType => "reserved packet type",
            DecodeError::ReservedFlags => "reserved flags in the fixed header",
            DecodeError::RemainingLength => "malformed remaining length",
            DecodeError::TooLarge => "packet over the size limit",
            DecodeError::Truncated => "a field reaches over the end of the packet",
            DecodeError::TrailingBytes => "bytes behind the last field",
            DecodeError::VarInt => "malformed variable byte integer",
            DecodeError::NotUtf8 => "string is not UTF-8",
            DecodeError::NullCharacter => "string contains U+0000",
            DecodeError::QosThree => "QoS 3",
            DecodeError::DupWithQosZero => "DUP on a QoS 0 publish",
            DecodeError::PacketIdZero => "packet identifier 0",
            DecodeError::TopicName => "topic name is empty or has a wildcard",
            DecodeError::TopicFilter => "topic filter is empty or its wildcards stand wrong",
            DecodeError::ShareName => "shared subscription without group or filter",
            DecodeError::TopicMissing => "publish without topic and alias",
            DecodeError::ProtocolName => "protocol name is not MQTT",
            DecodeError::ProtocolLevel(_) => "unsupported protocol level",
            DecodeError::ConnectFlags => "reserved connect flag",
            DecodeError::WillFlags => "will flags contradict each other",
            DecodeError::PasswordWithoutUser => "password without user name",
            DecodeError::ConnAckFlags => "connect acknowledge flags contradict the packet",
            DecodeError::ReasonCode => "reason code not for this packet",
            DecodeError::SubscribeOptions => "reserved subscription options",
            DecodeError::NoLocalShared => "no-local on a shared subscription",
            DecodeError::NoEntries => "packet without entries",
            DecodeError::PropertyUnknown => "unknown property",
            DecodeError::PropertyMisplaced => "property not for this packet",
            DecodeError::PropertyTwice => "property given twice",
            DecodeError::PropertyValue => "property value out of range",
            DecodeError::TopicAlias => "topic alias 0",
            DecodeError::AuthMethodMissing => "authentication without a method",
        }
    }

    /// The reason code a v5 server tells the peer in CONNACK or DISCONNECT.
    pub const fn reason_code(self) -> Reason {
        match self {
            DecodeError::TooLarge => Reason::PacketTooLarge,
            DecodeError::TopicName => Reason::TopicNameInvalid,
            DecodeError::TopicFilter => Reason::TopicFilterInvalid,
            DecodeError::TopicAlias => Reason::TopicAliasInvalid,
            DecodeError::ProtocolName | DecodeError::ProtocolLevel(_) => Reason::UnsupportedProtocolVersion,
            DecodeError::ShareName
            | DecodeError::TopicMissing
            | DecodeError::NoLocalShared
            | DecodeError::NoEntries
            | DecodeError::PropertyTwice
            | DecodeError::PropertyValue
            | DecodeError::PacketIdZero
            | DecodeError::AuthMethodMissing => Reason::ProtocolError,
            _ => Reason::MalformedPacket,
        }
    }

    /// For a CONNECT of another protocol level: the version whose CONNACK the peer understands
    /// best. Levels before 4, and the private ones of bridges (bit 7), are answered in 3.1.1
    /// with return code 1, later ones in 5 with 0x84.
    pub const fn refusal(self) -> Option<Version> {
        match self {
            DecodeError::ProtocolLevel(5..=0x7F) => Some(Version::V5),
            DecodeError::ProtocolLevel(_) => Some(Version::V311),
            _ => None,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for DecodeError {}

/// Why a packet was not written. Nothing of `out` is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// `out` is shorter than the packet.
    NoRoom {
        /// Bytes the packet takes.
        needed: usize,
    },
    /// A string or binary is longer than 65,535 bytes, or the packet than 268,435,455.
    TooLong,
    /// The version has no words for it: properties, reasons or options in 3.1.1.
    NotInVersion,
    /// The receiver would have to refuse it, for this reason.
    Invalid(DecodeError),
}

impl From<DecodeError> for EncodeError {
    fn from(error: DecodeError) -> EncodeError {
        EncodeError::Invalid(error)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EncodeError::NoRoom { .. } => "no room for the packet",
            EncodeError::TooLong => "field or packet over the length its prefix can tell",
            EncodeError::NotInVersion => "packet says what its version has no words for",
            EncodeError::Invalid(error) => error.text(),
        })
    }
}

impl core::error::Error for EncodeError {}
