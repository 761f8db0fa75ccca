//! Declarations and the like, as they stand in META records.
//!
//! The encoding is postcard's, written out for the three shapes there are: a firmware that
//! restores its declarations needs no general deserializer, which would be a tenth of it. The
//! tests hold every byte, and what is refused, to the crate itself.
//! ```text
//! variant · fields in order        ids, offsets, counts and times are varints
//! u8, bool    one byte             text, bytes   length · bytes
//! option      0, or 1 · value
//! ```

use super::record::dedup_bits;
use crate::command::{DedupKey, ExchangeKind, ExchangeOptions, Overflow, QueueKind};
use crate::fixed::{Reader, Writer};
use crate::units::{ExchangeId, Millis, Offset, QueueId};

/// Declarations and the like, as they stand in META records.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Meta<'a> {
    /// An exchange is there.
    Exchange(#[cfg_attr(test, serde(borrow))] ExchangeMeta<'a>),
    /// An exchange is gone, with its bindings.
    ExchangeGone(ExchangeId),
    /// A queue is there.
    Queue(#[cfg_attr(test, serde(borrow))] QueueMeta<'a>),
    /// A queue is gone, with its bindings and messages.
    QueueGone(QueueId),
    /// A binding is there.
    Binding(#[cfg_attr(test, serde(borrow))] BindingMeta<'a>),
    /// A binding is gone.
    BindingGone(#[cfg_attr(test, serde(borrow))] BindingMeta<'a>),
    /// A key has no last value any more; its hash.
    RetainedGone(u64),
    /// A dedup key without its message, and when it expires.
    Key(u64, Millis),
    /// A dedup key was released.
    KeyGone(u64),
    /// Log time when this was written.
    Anchor(Millis),
    /// The last publish of a producer that counts: number, epoch, sequence.
    Producer(u64, u32, u64),
    /// A producer is forgotten.
    ProducerGone(u64),
}

/// An exchange in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct ExchangeMeta<'a> {
    /// Its id.
    pub id: ExchangeId,
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: ExchangeKind,
    /// Goes when the last binding from it goes.
    pub auto_delete: bool,
    /// Refuses what clients publish.
    pub internal: bool,
    /// Its alternate exchange.
    pub alternate: Option<&'a str>,
}

/// A queue in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct QueueMeta<'a> {
    /// Its id.
    pub id: QueueId,
    /// Its name.
    pub name: &'a str,
    /// Work queue, stream or group.
    pub kind: QueueKind,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Drops what arrives at most once while nobody consumes.
    pub session: bool,
    /// More that it is, see [`traits`].
    pub traits: u8,
    /// 0 or how long it is there without being used.
    pub expires_ms: u32,
    /// What to do beyond its limits.
    pub overflow: Overflow,
    /// 0 or the most deliveries.
    pub delivery_limit: u8,
    /// Highest priority.
    pub max_priority: u8,
    /// 0 or most messages.
    pub max_count: u32,
    /// 0 or most bytes.
    pub max_bytes: u64,
    /// How long messages live.
    pub ttl_ms: Option<u64>,
    /// 0 or how long a delivery may take.
    pub lease_ms: u64,
    /// Name of the dead-letter exchange.
    pub dead_letter_exchange: Option<&'a str>,
    /// Dead letters' routing key, and whether it is spelled with slashes.
    pub dead_letter_key: Option<(&'a [u8], bool)>,
    /// Offsets below belong to an earlier queue of this id.
    pub born: Offset,
    /// The next offset when this was written.
    pub next: Offset,
    /// Offsets below may have been delivered. Of a group: 1 if what is pending follows, with an EXPOSED
    /// record at its end.
    pub exposed: Offset,
    /// Stream: first offset kept. Group: all below are acknowledged.
    pub first: Offset,
}

/// What else a queue is, one bit each.
pub mod traits {
    use crate::model::tenancy::Tenancy;

    /// It serves one consumer at a time.
    pub const SINGLE_ACTIVE: u8 = 1;
    /// It takes a message of the same identity once.
    pub const DEDUP: u8 = 2;

    /// Those of a queue.
    pub fn of(tenancy: &Tenancy) -> u8 {
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        bit(tenancy.is_single(), SINGLE_ACTIVE) | bit(tenancy.asks_identity(), DEDUP)
    }
}

/// A binding in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct BindingMeta<'a> {
    /// The exchange that routes.
    pub exchange: ExchangeId,
    /// Its kind, so that a binding can be restored before its exchange.
    pub kind: ExchangeKind,
    /// To an exchange of this id, or else to a queue.
    pub to_exchange: bool,
    /// Id of the destination.
    pub destination: u16,
    /// The pattern.
    pub pattern: &'a [u8],
    /// The pattern is spelled with slashes.
    pub slashes: bool,
    /// Arguments of a headers binding.
    pub arguments: &'a [u8],
    /// The most its messages are handed over with.
    pub grade: u8,
}

impl<'a> Meta<'a> {
    /// Writes it; None if it does not fit.
    pub fn write<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut writer = Writer::new(buffer);
        let to = &mut writer;
        match *self {
            Meta::Exchange(ref exchange) => exchange.write(to),
            Meta::ExchangeGone(id) => put_id(to, 1, id.0),
            Meta::Queue(ref queue) => queue.write(to),
            Meta::QueueGone(id) => put_id(to, 3, id.0),
            Meta::Binding(ref binding) => binding.write(4, to),
            Meta::BindingGone(ref binding) => binding.write(5, to),
            Meta::RetainedGone(hash) => put_number(to, 6, hash),
            Meta::Key(key, expires) => {
                put_number(to, 7, key);
                to.varint(expires.0);
            }
            Meta::KeyGone(key) => put_number(to, 8, key),
            Meta::Anchor(time) => put_number(to, 9, time.0),
            Meta::Producer(producer, epoch, sequence) => {
                put_number(to, 10, producer);
                to.varint(epoch.into());
                to.varint(sequence);
            }
            Meta::ProducerGone(producer) => put_number(to, 11, producer),
        }
        writer.finish()
    }

    /// Reads it back; None if it is none.
    pub fn read(digest: &'a [u8]) -> Option<Meta<'a>> {
        let mut reader = Reader::new(digest);
        let from = &mut reader;
        Some(match from.byte()? {
            0 => Meta::Exchange(ExchangeMeta::read(from)?),
            1 => Meta::ExchangeGone(ExchangeId(id(from)?)),
            2 => Meta::Queue(QueueMeta::read(from)?),
            3 => Meta::QueueGone(QueueId(id(from)?)),
            4 => Meta::Binding(BindingMeta::read(from)?),
            5 => Meta::BindingGone(BindingMeta::read(from)?),
            6 => Meta::RetainedGone(from.varint()?),
            7 => Meta::Key(from.varint()?, Millis(from.varint()?)),
            8 => Meta::KeyGone(from.varint()?),
            9 => Meta::Anchor(Millis(from.varint()?)),
            10 => Meta::Producer(from.varint()?, u32::try_from(from.varint()?).ok()?, from.varint()?),
            11 => Meta::ProducerGone(from.varint()?),
            _ => return None,
        })
    }
}

impl Meta<'_> {
    /// That a dedup key is known until it expires.
    pub fn of_key(key: DedupKey, expires: Millis) -> Self {
        match key {
            DedupKey::Sequence { producer, epoch, sequence } => Meta::Producer(producer, epoch, sequence),
            _ => Meta::Key(dedup_bits(key), expires),
        }
    }

    /// That a dedup key is forgotten.
    pub fn of_key_gone(key: DedupKey) -> Self {
        match key {
            DedupKey::Sequence { producer, .. } => Meta::ProducerGone(producer),
            _ => Meta::KeyGone(dedup_bits(key)),
        }
    }
}

impl<'a> ExchangeMeta<'a> {
    /// What it was declared with.
    pub fn options(&self) -> ExchangeOptions<'a> {
        ExchangeOptions {
            kind: self.kind,
            durable: true,
            auto_delete: self.auto_delete,
            internal: self.internal,
            alternate: self.alternate,
        }
    }

    fn write(&self, to: &mut Writer<'_>) {
        put_id(to, 0, self.id.0);
        put_bytes(to, self.name.as_bytes());
        to.byte(self.kind as u8);
        to.byte(u8::from(self.auto_delete));
        to.byte(u8::from(self.internal));
        put_option(to, self.alternate.map(str::as_bytes));
    }

    fn read(from: &mut Reader<'a>) -> Option<ExchangeMeta<'a>> {
        Some(ExchangeMeta {
            id: ExchangeId(id(from)?),
            name: text(from)?,
            kind: exchange_kind(from)?,
            auto_delete: flag(from)?,
            internal: flag(from)?,
            alternate: if flag(from)? { Some(text(from)?) } else { None },
        })
    }
}

impl<'a> QueueMeta<'a> {
    fn write(&self, to: &mut Writer<'_>) {
        put_id(to, 2, self.id.0);
        put_bytes(to, self.name.as_bytes());
        match self.kind {
            QueueKind::Work => to.byte(0),
            QueueKind::Stream => to.byte(1),
            QueueKind::Group { stream } => put_id(to, 2, stream.0),
        }
        to.byte(u8::from(self.auto_delete));
        to.byte(u8::from(self.session));
        to.byte(self.traits);
        to.varint(u64::from(self.expires_ms));
        to.byte(self.overflow as u8);
        to.byte(self.delivery_limit);
        to.byte(self.max_priority);
        to.varint(u64::from(self.max_count));
        to.varint(self.max_bytes);
        to.byte(u8::from(self.ttl_ms.is_some()));
        self.ttl_ms.into_iter().chain([self.lease_ms]).for_each(|number| to.varint(number));
        put_option(to, self.dead_letter_exchange.map(str::as_bytes));
        put_option(to, self.dead_letter_key.map(|(text, _)| text));
        if let Some((_, slashes)) = self.dead_letter_key {
            to.byte(u8::from(slashes));
        }
        [self.born, self.next, self.exposed, self.first].iter().for_each(|offset| to.varint(offset.0));
    }

    fn read(from: &mut Reader<'a>) -> Option<QueueMeta<'a>> {
        Some(QueueMeta {
            id: QueueId(id(from)?),
            name: text(from)?,
            kind: match from.byte()? {
                0 => QueueKind::Work,
                1 => QueueKind::Stream,
                2 => QueueKind::Group { stream: QueueId(id(from)?) },
                _ => return None,
            },
            auto_delete: flag(from)?,
            session: flag(from)?,
            traits: from.byte()?,
            expires_ms: u32::try_from(from.varint()?).ok()?,
            overflow: match from.byte()? {
                0 => Overflow::DropOldest,
                1 => Overflow::Reject,
                2 => Overflow::DeadLetterNew,
                _ => return None,
            },
            delivery_limit: from.byte()?,
            max_priority: from.byte()?,
            max_count: u32::try_from(from.varint()?).ok()?,
            max_bytes: from.varint()?,
            ttl_ms: if flag(from)? { Some(from.varint()?) } else { None },
            lease_ms: from.varint()?,
            dead_letter_exchange: if flag(from)? { Some(text(from)?) } else { None },
            dead_letter_key: if flag(from)? { Some((bytes(from)?, flag(from)?)) } else { None },
            born: Offset(from.varint()?),
            next: Offset(from.varint()?),
            exposed: Offset(from.varint()?),
            first: Offset(from.varint()?),
        })
    }
}

impl<'a> BindingMeta<'a> {
    fn write(&self, variant: u8, to: &mut Writer<'_>) {
        put_id(to, variant, self.exchange.0);
        to.byte(self.kind as u8);
        put_id(to, u8::from(self.to_exchange), self.destination);
        put_bytes(to, self.pattern);
        to.byte(u8::from(self.slashes));
        put_bytes(to, self.arguments);
        to.byte(self.grade);
    }

    fn read(from: &mut Reader<'a>) -> Option<BindingMeta<'a>> {
        Some(BindingMeta {
            exchange: ExchangeId(id(from)?),
            kind: exchange_kind(from)?,
            to_exchange: flag(from)?,
            destination: id(from)?,
            pattern: bytes(from)?,
            slashes: flag(from)?,
            arguments: bytes(from)?,
            grade: from.byte()?,
        })
    }
}

fn put_id(to: &mut Writer<'_>, first: u8, id: u16) {
    put_number(to, first, u64::from(id));
}

#[inline(never)]
fn put_number(to: &mut Writer<'_>, first: u8, number: u64) {
    to.byte(first);
    to.varint(number);
}

#[inline(never)]
fn put_bytes(to: &mut Writer<'_>, bytes: &[u8]) {
    to.varint(bytes.len() as u64);
    to.bytes(bytes);
}

fn put_option(to: &mut Writer<'_>, bytes: Option<&[u8]>) {
    to.byte(u8::from(bytes.is_some()));
    bytes.into_iter().for_each(|bytes| put_bytes(to, bytes));
}

#[inline(never)]
fn id(from: &mut Reader<'_>) -> Option<u16> {
    u16::try_from(from.varint()?).ok()
}

#[inline(never)]
fn flag(from: &mut Reader<'_>) -> Option<bool> {
    match from.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[inline(never)]
fn bytes<'a>(from: &mut Reader<'a>) -> Option<&'a [u8]> {
    let size = usize::try_from(from.varint()?).ok()?;
    from.bytes(size)
}

#[inline(never)]
fn text<'a>(from: &mut Reader<'a>) -> Option<&'a str> {
    core::str::from_utf8(bytes(from)?).ok()
}

fn exchange_kind(from: &mut Reader<'_>) -> Option<ExchangeKind> {
    Some(match from.byte()? {
        0 => ExchangeKind::Direct,
        1 => ExchangeKind::Fanout,
        2 => ExchangeKind::Topic,
        3 => ExchangeKind::Headers,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(kind: ExchangeKind, alternate: Option<&'static str>) -> Meta<'static> {
        let (auto_delete, internal) = (alternate.is_some(), alternate.is_none());
        Meta::Exchange(ExchangeMeta { id: ExchangeId(7), name: "x", kind, auto_delete, internal, alternate })
    }

    fn samples() -> Vec<Meta<'static>> {
        let queue = QueueMeta {
            id: QueueId(300),
            name: "grün",
            kind: QueueKind::Group { stream: QueueId(u16::MAX) },
            auto_delete: true,
            session: false,
            traits: traits::SINGLE_ACTIVE | traits::DEDUP,
            expires_ms: 1_800_000,
            overflow: Overflow::DeadLetterNew,
            delivery_limit: 200,
            max_priority: 9,
            max_count: u32::MAX,
            max_bytes: u64::MAX,
            ttl_ms: Some(128),
            lease_ms: 0,
            dead_letter_exchange: Some("dead"),
            dead_letter_key: Some((&[0, 255], true)),
            born: Offset(127),
            next: Offset(1 << 40),
            exposed: Offset(16_384),
            first: Offset(1),
        };
        let plain = QueueMeta {
            kind: QueueKind::Stream,
            overflow: Overflow::Reject,
            ttl_ms: None,
            dead_letter_exchange: None,
            dead_letter_key: None,
            ..queue
        };
        let work = QueueMeta { kind: QueueKind::Work, name: "", overflow: Overflow::DropOldest, ..plain };
        let binding = BindingMeta {
            exchange: ExchangeId(6),
            kind: ExchangeKind::Headers,
            to_exchange: true,
            destination: 999,
            pattern: b"a/+/#",
            slashes: true,
            arguments: &[1, b'a', 0, 0, 0],
            grade: 2,
        };
        vec![
            exchange(ExchangeKind::Direct, None),
            exchange(ExchangeKind::Fanout, Some("y")),
            exchange(ExchangeKind::Topic, Some("")),
            Meta::ExchangeGone(ExchangeId(128)),
            Meta::Queue(queue),
            Meta::Queue(plain),
            Meta::Queue(work),
            Meta::QueueGone(QueueId(0)),
            Meta::Binding(binding),
            Meta::BindingGone(BindingMeta { slashes: false, arguments: &[], ..binding }),
            Meta::RetainedGone(u64::MAX),
            Meta::Key(1 << 63, Millis(1 << 39)),
            Meta::KeyGone(5),
            Meta::Anchor(Millis(200)),
        ]
    }

    fn producers() -> [Meta<'static>; 2] {
        [Meta::Producer(1 << 61, u32::MAX, 1 << 40), Meta::ProducerGone(300)]
    }

    #[test]
    fn every_noun_is_written_and_read_as_postcard_does() {
        for meta in samples().into_iter().chain(producers()) {
            let (mut own, mut theirs) = ([0; 128], [0; 128]);
            let written = meta.write(&mut own).unwrap();
            assert_eq!(written, postcard::to_slice(&meta, &mut theirs).unwrap(), "{meta:?}");
            assert_eq!(Meta::read(written), Some(meta));
            let mut small = [0; 128];
            assert_eq!(meta.write(&mut small[..written.len() - 1]), None);
        }
    }

    #[test]
    fn damaged_nouns_are_read_or_refused_as_postcard_does() {
        for meta in samples() {
            let mut buffer = [0; 128];
            let written = meta.write(&mut buffer).unwrap().to_vec();
            for end in 0..written.len() {
                assert_eq!(Meta::read(&written[..end]), None, "{meta:?} cut at {end}");
            }
            for place in 0..written.len() {
                for bits in 1..=255 {
                    let mut damaged = written.clone();
                    damaged[place] ^= bits;
                    let theirs = postcard::from_bytes::<Meta<'_>>(&damaged).ok();
                    assert_eq!(Meta::read(&damaged), theirs, "{meta:?} byte {place}");
                }
            }
        }
    }
}
