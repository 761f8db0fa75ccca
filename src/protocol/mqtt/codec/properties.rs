//! The properties of a packet (2.2.2).
//!
//! ```text
//!  +-----------------+----------+----------+--
//!  | length (varint) | property | property | ...
//!  +-----------------+----------+----------+--
//! ```
//! What came in is judged once, when its packet is decoded, and stays the bytes it was:
//! iterating reads them again, without a copy. What goes out is such bytes (passed on from
//! another packet), a list, or both, bytes first: a fan-out writes the publisher's properties
//! as they are and adds each subscriber's own.
//!
//! Invariant: the bytes are whole properties; only the list is unjudged until it is encoded.

use super::cursor::{Count, Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::header::varint_len;
use super::property::{Property, Scope, SubscriptionId};
use super::{Qos, Version};

/// The properties of a packet or a will.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a> {
    raw: &'a [u8],
    list: &'a [Property<'a>],
}

/// Declares getters of the properties that stand at most once.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $value:ty;)*) => {
        impl<'a> Properties<'a> {
            $($(#[$doc])*
            pub fn $name(&self) -> Option<$value> {
                self.iter().find_map(|property| match property {
                    Property::$variant(value) => Some(value),
                    _ => None,
                })
            })*
        }
    };
}

getters! {
    /// The payload is UTF-8.
    payload_is_text: PayloadIsText -> bool;
    /// Seconds the message lives.
    message_expiry: MessageExpiry -> u32;
    /// What the payload is.
    content_type: ContentType -> &'a str;
    /// Where an answer goes.
    response_topic: ResponseTopic -> &'a str;
    /// What the answer belongs to.
    correlation_data: CorrelationData -> &'a [u8];
    /// The first subscription identifier.
    subscription_id: SubscriptionIdentifier -> SubscriptionId;
    /// Seconds the session outlives the connection.
    session_expiry: SessionExpiry -> u32;
    /// The client identifier the server chose.
    assigned_client_id: AssignedClientId -> &'a str;
    /// Seconds of keep alive the server imposes.
    server_keep_alive: ServerKeepAlive -> u16;
    /// Authentication method.
    auth_method: AuthMethod -> &'a str;
    /// Authentication data.
    auth_data: AuthData -> &'a [u8];
    /// Reason strings and user properties may come with any packet.
    request_problem_info: RequestProblemInfo -> bool;
    /// Seconds until the will is published.
    will_delay: WillDelay -> u32;
    /// The client wants response information.
    request_response_info: RequestResponseInfo -> bool;
    /// The reason in words.
    reason_string: ReasonString -> &'a str;
    /// Most unacknowledged publishes.
    receive_maximum: ReceiveMaximum -> u16;
    /// Largest topic alias.
    topic_alias_maximum: TopicAliasMaximum -> u16;
    /// Stands for the topic.
    topic_alias: TopicAlias -> u16;
    /// Largest QoS the server takes.
    maximum_qos: MaximumQos -> Qos;
    /// The server keeps retained messages.
    retain_available: RetainAvailable -> bool;
    /// Largest packet its sender takes, in bytes.
    maximum_packet_size: MaximumPacketSize -> u32;
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const NONE: Properties<'static> = Properties { raw: &[], list: &[] };

    /// Properties to be written; judged by the encoder.
    pub const fn list(list: &'a [Property<'a>]) -> Properties<'a> {
        Properties { raw: &[], list }
    }

    /// These as they came, and a list behind them (in place of the one before).
    pub const fn with(self, list: &'a [Property<'a>]) -> Properties<'a> {
        Properties { raw: self.raw, list }
    }

    /// Bytes of properties without their length, judged as if they came in this packet.
    pub fn parse(raw: &'a [u8], scope: Scope) -> Result<Properties<'a>, DecodeError> {
        let mut reader = Reader::new(raw);
        let mut seen = Seen::default();
        while !reader.is_empty() {
            let property = Property::read(&mut reader)?;
            seen.admit(&property, scope)?;
            property.check_range()?;
        }
        seen.complete(scope)?;
        Ok(Properties { raw, list: &[] })
    }

    /// Length and properties at the reader.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, scope: Scope) -> Result<Properties<'a>, DecodeError> {
        if reader.skip_zero() {
            return Ok(Properties::NONE);
        }
        Properties::read_some(reader, scope)
    }

    #[inline(never)]
    fn read_some(reader: &mut Reader<'a>, scope: Scope) -> Result<Properties<'a>, DecodeError> {
        let length = reader.varint()?;
        Properties::parse(reader.take(length as usize)?, scope)
    }

    /// Those at the reader if the version has any.
    #[inline]
    pub(super) fn read_if(
        reader: &mut Reader<'a>,
        version: Version,
        scope: Scope,
    ) -> Result<Properties<'a>, DecodeError> {
        match version {
            Version::V5 => Properties::read(reader, scope),
            Version::V311 => Ok(Properties::NONE),
        }
    }

    /// There are none.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.list.is_empty()
    }

    /// The bytes as they came, without their length; empty for those made from a list.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// All, in order.
    pub fn iter(&self) -> PropertyIter<'a> {
        PropertyIter { raw: Reader::new(self.raw), list: self.list.iter() }
    }

    /// The user properties, in order [MQTT-3.3.2-18].
    pub fn user(&self) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.iter().filter_map(|property| match property {
            Property::User(pair) => Some(pair),
            _ => None,
        })
    }

    /// Judges what is to be written.
    pub(super) fn check(&self, version: Version, scope: Scope) -> Result<(), EncodeError> {
        if self.is_empty() {
            return Ok(());
        }
        if version == Version::V311 {
            return Err(EncodeError::NotInVersion);
        }
        let mut seen = Seen::default();
        for property in self.iter() {
            seen.admit(&property, scope)?;
            property.check()?;
        }
        Ok(seen.complete(scope)?)
    }

    /// Bytes without the length before them.
    #[inline]
    pub(super) fn body_len(&self) -> usize {
        let mut count = Count(self.raw.len());
        self.list.iter().for_each(|property| property.write(&mut count));
        count.0
    }

    /// Bytes with the length before them.
    #[inline]
    pub(super) fn encoded_len(&self) -> usize {
        let body = self.body_len();
        body.saturating_add(varint_len(u32::try_from(body).unwrap_or(u32::MAX)))
    }

    /// Writes length and properties; the packet's own length has been checked before.
    #[inline]
    pub(super) fn write(&self, sink: &mut impl Sink) {
        if self.is_empty() {
            return sink.byte(0);
        }
        sink.varint(self.body_len() as u32);
        sink.put(self.raw);
        self.list.iter().for_each(|property| property.write(sink));
    }

    /// Writes them if the version has any.
    #[inline]
    pub(super) fn write_if(&self, version: Version, sink: &mut impl Sink) {
        if version == Version::V5 {
            self.write(sink);
        }
    }
}

/// Equal if they say the same in the same order, whether as bytes or as a list.
impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Properties<'_> {}

/// Iterates over the properties of a packet.
#[derive(Clone)]
pub struct PropertyIter<'a> {
    raw: Reader<'a>,
    list: core::slice::Iter<'a, Property<'a>>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        if self.raw.is_empty() {
            return self.list.next().copied();
        }
        // The bytes were judged before; were they not, they would end here.
        Property::read(&mut self.raw).ok()
    }
}

/// The identifiers met so far, one bit each: all are below 64.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    const fn has(&self, id: u8) -> bool {
        self.0 & bit(id) != 0
    }

    /// Judges a property's place and number.
    fn admit(&mut self, property: &Property<'_>, scope: Scope) -> Result<(), DecodeError> {
        if !property.allowed_in(scope) {
            return Err(DecodeError::PropertyMisplaced);
        }
        if self.has(property.id()) && !property.repeats_in(scope) {
            return Err(DecodeError::PropertyTwice);
        }
        self.0 |= bit(property.id());
        Ok(())
    }

    /// Judges them all together: data is nothing without its method (3.1.2.11.10), and AUTH
    /// cannot do without one (3.15.2.2.2).
    fn complete(&self, scope: Scope) -> Result<(), DecodeError> {
        let method = Property::AuthMethod("").id();
        let data = Property::AuthData(&[]).id();
        let needed = scope == Scope::Auth || (scope == Scope::Connect && self.has(data));
        if needed && !self.has(method) {
            return Err(DecodeError::AuthMethodMissing);
        }
        Ok(())
    }
}

const fn bit(id: u8) -> u64 {
    1 << (id & 63)
}
