//! One property: identifier, value, and the packets it may stand in (2.2.2.2).
//!
//! ```text
//!  +----+----------------------------------------------------+
//!  | id | byte · two · four bytes · varint · string · binary |
//!  +----+----------------------------------------------------+   user: string, string
//! ```
//! One table holds all 27; reading, writing and the rules of place follow from it.

use super::cursor::{Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::MAX_REMAINING;
use super::text::{check_binary, check_text, topic_name};
use super::Qos;

/// Where properties stand. The acknowledgements, SUBACK and UNSUBACK know the same two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Scope {
    /// CONNECT.
    Connect = 1,
    /// The will in a CONNECT.
    Will = 2,
    /// CONNACK.
    ConnAck = 4,
    /// PUBLISH.
    Publish = 8,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK.
    Answer = 16,
    /// SUBSCRIBE.
    Subscribe = 32,
    /// UNSUBSCRIBE.
    Unsubscribe = 64,
    /// DISCONNECT.
    Disconnect = 128,
    /// AUTH.
    Auth = 256,
}

const CONNECT: u16 = Scope::Connect as u16;
const WILL: u16 = Scope::Will as u16;
const CONNACK: u16 = Scope::ConnAck as u16;
const PUBLISH: u16 = Scope::Publish as u16;
const ANSWER: u16 = Scope::Answer as u16;
const SUBSCRIBE: u16 = Scope::Subscribe as u16;
const DISCONNECT: u16 = Scope::Disconnect as u16;
const AUTH: u16 = Scope::Auth as u16;
const ANYWHERE: u16 = u16::MAX;

/// A subscription identifier: 1 to 268,435,455 (3.8.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionId(pub u32);

/// Declares the properties.
macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident($value:ty) = $id:literal in $scopes:expr;)*) => {
        /// A property and its value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $($(#[$doc])* $name($value),)*
        }

        impl<'a> Property<'a> {
            /// The identifier on the wire.
            pub const fn id(&self) -> u8 {
                match self {
                    $(Property::$name(_) => $id,)*
                }
            }

            /// Bits of the scopes it may stand in.
            const fn scopes(&self) -> u16 {
                match self {
                    $(Property::$name(_) => $scopes,)*
                }
            }

            /// Reads identifier and value; place and range are not judged.
            pub(super) fn read(reader: &mut Reader<'a>) -> Result<Property<'a>, DecodeError> {
                match reader.byte()? {
                    $($id => <$value>::read(reader).map(Property::$name),)*
                    _ => Err(DecodeError::PropertyUnknown),
                }
            }

            /// Writes identifier and value.
            pub(super) fn write(&self, sink: &mut impl Sink) {
                sink.byte(self.id());
                match self {
                    $(Property::$name(value) => value.write(sink),)*
                }
            }

            /// The lengths and characters a writer has to look at.
            fn check_form(&self) -> Result<(), EncodeError> {
                match self {
                    $(Property::$name(value) => value.check(),)*
                }
            }
        }
    };
}

properties! {
    /// The payload is UTF-8.
    PayloadIsText(bool) = 0x01 in PUBLISH | WILL;
    /// Seconds the message lives.
    MessageExpiry(u32) = 0x02 in PUBLISH | WILL;
    /// What the payload is, in words of the application.
    ContentType(&'a str) = 0x03 in PUBLISH | WILL;
    /// Where an answer goes.
    ResponseTopic(&'a str) = 0x08 in PUBLISH | WILL;
    /// What the answer belongs to.
    CorrelationData(&'a [u8]) = 0x09 in PUBLISH | WILL;
    /// The subscription; in a PUBLISH one for each that matched.
    SubscriptionIdentifier(SubscriptionId) = 0x0B in PUBLISH | SUBSCRIBE;
    /// Seconds the session outlives the connection.
    SessionExpiry(u32) = 0x11 in CONNECT | CONNACK | DISCONNECT;
    /// The client identifier the server chose.
    AssignedClientId(&'a str) = 0x12 in CONNACK;
    /// Seconds of keep alive the server imposes.
    ServerKeepAlive(u16) = 0x13 in CONNACK;
    /// Authentication method.
    AuthMethod(&'a str) = 0x15 in CONNECT | CONNACK | AUTH;
    /// Authentication data.
    AuthData(&'a [u8]) = 0x16 in CONNECT | CONNACK | AUTH;
    /// Reason strings and user properties may come with any packet.
    RequestProblemInfo(bool) = 0x17 in CONNECT;
    /// Seconds until the will is published.
    WillDelay(u32) = 0x18 in WILL;
    /// The client wants response information.
    RequestResponseInfo(bool) = 0x19 in CONNECT;
    /// What response topics are made from.
    ResponseInfo(&'a str) = 0x1A in CONNACK;
    /// Another server.
    ServerReference(&'a str) = 0x1C in CONNACK | DISCONNECT;
    /// The reason in words.
    ReasonString(&'a str) = 0x1F in CONNACK | ANSWER | DISCONNECT | AUTH;
    /// Most unacknowledged publishes; never 0.
    ReceiveMaximum(u16) = 0x21 in CONNECT | CONNACK;
    /// Largest topic alias; 0 for none.
    TopicAliasMaximum(u16) = 0x22 in CONNECT | CONNACK;
    /// Stands for the topic; never 0.
    TopicAlias(u16) = 0x23 in PUBLISH;
    /// Largest QoS the server takes: 0 or 1.
    MaximumQos(Qos) = 0x24 in CONNACK;
    /// The server keeps retained messages.
    RetainAvailable(bool) = 0x25 in CONNACK;
    /// Key and value of the application.
    User((&'a str, &'a str)) = 0x26 in ANYWHERE;
    /// Largest packet its sender takes, in bytes; never 0.
    MaximumPacketSize(u32) = 0x27 in CONNECT | CONNACK;
    /// The server has wildcard subscriptions.
    WildcardAvailable(bool) = 0x28 in CONNACK;
    /// The server has subscription identifiers.
    SubscriptionIdAvailable(bool) = 0x29 in CONNACK;
    /// The server has shared subscriptions.
    SharedAvailable(bool) = 0x2A in CONNACK;
}

impl Property<'_> {
    /// It may stand there.
    pub(super) const fn allowed_in(&self, scope: Scope) -> bool {
        self.scopes() & scope as u16 != 0
    }

    /// It may stand there more than once.
    pub(super) const fn repeats_in(&self, scope: Scope) -> bool {
        match self {
            Property::User(_) => true,
            Property::SubscriptionIdentifier(_) => matches!(scope, Scope::Publish),
            _ => false,
        }
    }

    /// Judges the value's range.
    pub(super) fn check_range(&self) -> Result<(), DecodeError> {
        match *self {
            Property::ReceiveMaximum(0) | Property::MaximumPacketSize(0) => Err(DecodeError::PropertyValue),
            Property::SubscriptionIdentifier(SubscriptionId(id)) if id == 0 || id > MAX_REMAINING => {
                Err(DecodeError::PropertyValue)
            }
            Property::MaximumQos(Qos::ExactlyOnce) => Err(DecodeError::PropertyValue),
            Property::TopicAlias(0) => Err(DecodeError::TopicAlias),
            Property::ResponseTopic(topic) => topic_name(topic.as_bytes()),
            _ => Ok(()),
        }
    }

    /// Judges one that is to be written, but for its place.
    pub(super) fn check(&self) -> Result<(), EncodeError> {
        self.check_form()?;
        Ok(self.check_range()?)
    }
}

/// How a value stands on the wire.
trait Value<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn write(&self, sink: &mut impl Sink);
    fn check(&self) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<'a> Value<'a> for bool {
    fn read(reader: &mut Reader<'a>) -> Result<bool, DecodeError> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyValue),
        }
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.byte(u8::from(*self));
    }
}

impl<'a> Value<'a> for Qos {
    fn read(reader: &mut Reader<'a>) -> Result<Qos, DecodeError> {
        Qos::from_bits(reader.byte()?).ok_or(DecodeError::PropertyValue)
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.byte(*self as u8);
    }
}

impl<'a> Value<'a> for u16 {
    fn read(reader: &mut Reader<'a>) -> Result<u16, DecodeError> {
        reader.two()
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.two(*self);
    }
}

impl<'a> Value<'a> for u32 {
    fn read(reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
        reader.four()
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.four(*self);
    }
}

impl<'a> Value<'a> for SubscriptionId {
    fn read(reader: &mut Reader<'a>) -> Result<SubscriptionId, DecodeError> {
        reader.varint().map(SubscriptionId)
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.varint(self.0);
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        reader.text()
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.binary(self.as_bytes());
    }
    fn check(&self) -> Result<(), EncodeError> {
        check_text(self)
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.binary()
    }
    fn write(&self, sink: &mut impl Sink) {
        sink.binary(self);
    }
    fn check(&self) -> Result<(), EncodeError> {
        check_binary(self)
    }
}

impl<'a> Value<'a> for (&'a str, &'a str) {
    fn read(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((reader.text()?, reader.text()?))
    }
    fn write(&self, sink: &mut impl Sink) {
        self.0.write(sink);
        self.1.write(sink);
    }
    fn check(&self) -> Result<(), EncodeError> {
        self.0.check()?;
        self.1.check()
    }
}
