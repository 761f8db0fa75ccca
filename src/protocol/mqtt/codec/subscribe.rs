//! SUBSCRIBE and UNSUBSCRIBE (3.8, 3.10).
//!
//! ```text
//! SUBSCRIBE    packet-id [properties] 1*( filter options )
//! UNSUBSCRIBE  packet-id [properties] 1*( filter )
//! options      7-6 reserved · 5-4 retain handling · 3 retain as published · 2 no local · 1-0 QoS
//! ```
//! Entries that came in were judged when their packet was decoded and stay bytes; iterating
//! reads them again. Entries that go out are such bytes or a list, judged by the encoder.

use super::cursor::{Reader, Sink};
use super::error::{DecodeError, EncodeError};
use super::properties::Properties;
use super::property::Scope;
use super::text::{check_binary, split_share, topic_filter};
use super::{PacketId, Qos, Version};

/// Filters to add, or new options for those there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// What the answer names.
    pub packet_id: PacketId,
    /// Its properties.
    pub properties: Properties<'a>,
    /// Filters and their options; at least one.
    pub filters: Subscriptions<'a>,
}

/// Filters to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// What the answer names.
    pub packet_id: PacketId,
    /// Its properties.
    pub properties: Properties<'a>,
    /// Filters; at least one.
    pub filters: Filters<'a>,
}

/// A filter and how its messages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The filter, with `$share/group/` if it is shared.
    pub filter: &'a str,
    /// How its messages are wanted.
    pub options: SubscribeOptions,
}

/// How a subscription's messages are wanted (3.8.3.1). 3.1.1 knows only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The most they are sent with.
    pub qos: Qos,
    /// Not those the same client published.
    pub no_local: bool,
    /// Leave the retain flag as it was published.
    pub retain_as_published: bool,
    /// Whether the kept values are sent now.
    pub retain_handling: RetainHandling,
}

/// Whether a subscribe sends the kept values (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// Yes.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// No.
    DoNotSend = 2,
}

impl SubscribeOptions {
    const fn from_byte(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
        let reserved = match version {
            Version::V311 => 0b1111_1100,
            Version::V5 => 0b1100_0000,
        };
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::SubscribeOptions),
        };
        if byte & reserved != 0 {
            return Err(DecodeError::SubscribeOptions);
        }
        let Some(qos) = Qos::from_bits(byte & 0b11) else { return Err(DecodeError::QosThree) };
        let (no_local, retain_as_published) = (byte & 0b0100 != 0, byte & 0b1000 != 0);
        Ok(SubscribeOptions { qos, no_local, retain_as_published, retain_handling })
    }

    const fn to_byte(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// Entries: bytes that were judged in this version, or a list; one of them is empty.
#[derive(Clone, Copy, Debug)]
struct Entries<'a, T> {
    raw: &'a [u8],
    version: Version,
    list: &'a [T],
}

type Read<'a, T> = fn(&mut Reader<'a>, Version) -> Result<T, DecodeError>;

impl<'a, T: Copy> Entries<'a, T> {
    const fn of(list: &'a [T]) -> Entries<'a, T> {
        Entries { raw: &[], version: Version::V5, list }
    }

    /// Judges all that is left of a packet.
    fn parse(reader: Reader<'a>, version: Version, read: Read<'a, T>) -> Result<Entries<'a, T>, DecodeError> {
        let mut ahead = reader;
        if ahead.is_empty() {
            return Err(DecodeError::NoEntries);
        }
        while !ahead.is_empty() {
            read(&mut ahead, version)?;
        }
        Ok(Entries { raw: reader.rest(), version, list: &[] })
    }

    fn iter(&self, read: Read<'a, T>) -> impl Iterator<Item = T> + 'a
    where
        T: 'a,
    {
        let (mut reader, version) = (Reader::new(self.raw), self.version);
        let judged = core::iter::from_fn(move || match reader.is_empty() {
            true => None,
            false => read(&mut reader, version).ok(),
        });
        judged.chain(self.list.iter().copied())
    }
}

/// Filters with their options.
#[derive(Clone, Copy, Debug)]
pub struct Subscriptions<'a>(Entries<'a, Subscription<'a>>);

impl<'a> Subscriptions<'a> {
    /// Filters to be written; judged by the encoder.
    pub const fn list(list: &'a [Subscription<'a>]) -> Subscriptions<'a> {
        Subscriptions(Entries::of(list))
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + 'a {
        self.0.iter(Subscription::read)
    }
}

impl PartialEq for Subscriptions<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Subscriptions<'_> {}

/// Filters alone.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a>(Entries<'a, &'a str>);

impl<'a> Filters<'a> {
    /// Filters to be written; judged by the encoder.
    pub const fn list(list: &'a [&'a str]) -> Filters<'a> {
        Filters(Entries::of(list))
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter(filter)
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Filters<'_> {}

fn filter<'a>(reader: &mut Reader<'a>, version: Version) -> Result<&'a str, DecodeError> {
    topic_filter(reader.binary()?, version)
}

fn check_filter(filter: &str, version: Version) -> Result<(), EncodeError> {
    check_binary(filter.as_bytes())?;
    topic_filter(filter.as_bytes(), version)?;
    Ok(())
}

impl<'a> Subscription<'a> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Subscription<'a>, DecodeError> {
        let filter = filter(reader, version)?;
        let options = SubscribeOptions::from_byte(reader.byte()?, version)?;
        let subscription = Subscription { filter, options };
        subscription.check_share()?;
        Ok(subscription)
    }

    /// No-local means nothing to a group [MQTT-3.8.3-4].
    fn check_share(&self) -> Result<(), DecodeError> {
        if self.options.no_local && split_share(self.filter).is_some() {
            return Err(DecodeError::NoLocalShared);
        }
        Ok(())
    }

    fn check(&self, version: Version) -> Result<(), EncodeError> {
        check_filter(self.filter, version)?;
        let plain = SubscribeOptions { qos: self.options.qos, ..SubscribeOptions::default() };
        if version == Version::V311 && self.options != plain {
            return Err(EncodeError::NotInVersion);
        }
        Ok(self.check_share()?)
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Subscribe<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_if(&mut reader, version, Scope::Subscribe)?;
        let filters = Subscriptions(Entries::parse(reader, version, Subscription::read)?);
        Ok(Subscribe { packet_id, properties, filters })
    }

    pub(super) fn check(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::Subscribe)?;
        check_some(self.filters.iter())?;
        self.filters.iter().try_for_each(|subscription| subscription.check(version))
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) {
        sink.two(self.packet_id.get());
        self.properties.write_if(version, sink);
        for subscription in self.filters.iter() {
            sink.binary(subscription.filter.as_bytes());
            sink.byte(subscription.options.to_byte());
        }
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Unsubscribe<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = Properties::read_if(&mut reader, version, Scope::Unsubscribe)?;
        let filters = Filters(Entries::parse(reader, version, filter)?);
        Ok(Unsubscribe { packet_id, properties, filters })
    }

    pub(super) fn check(&self, version: Version) -> Result<(), EncodeError> {
        self.properties.check(version, Scope::Unsubscribe)?;
        check_some(self.filters.iter())?;
        self.filters.iter().try_for_each(|filter| check_filter(filter, version))
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) {
        sink.two(self.packet_id.get());
        self.properties.write_if(version, sink);
        self.filters.iter().for_each(|filter| sink.binary(filter.as_bytes()));
    }
}

/// No entries, no packet [MQTT-3.8.3-2], [MQTT-3.10.3-2].
fn check_some<T>(mut entries: impl Iterator<Item = T>) -> Result<(), EncodeError> {
    match entries.next() {
        Some(_) => Ok(()),
        None => Err(EncodeError::Invalid(DecodeError::NoEntries)),
    }
}
