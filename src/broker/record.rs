//! What the broker writes into the log: kinds, digests, payloads.
//!
//! The digest of a record is all a mount needs to know of it (the log keeps it again in the
//! footer of the segment); the payload is read when the message is handed over.
//! ```text
//! message   kind    0x40 | flags: TIMED RETAINED DEDUP PRIORITY REMOVES REPLAYED
//!           digest  [priority u8] [key hash u64] [dedup key u64, expiry u40]
//!                   or, if its top bits are 11, [dedup key u64, epoch, sequence]
//!                   [removed queue, offset] { route, offset, [deliveries, due] }*   numbers are varints
//!                   route = returned << 20 | queue << 4 | transient << 3 | exposed << 2 | grade
//!                   grade 3: exactly once, and received; if returned, what `RETURNED` says follows
//!           payload stamp: zigzag time - base time of the segment, [ttl + 1, delay]
//!                   key length << 2 | has tail << 1 | form, key, [tail, headers], body
//!                   tail = headers length << 1 | has exchange, [exchange]
//! ACKS      digest  queue, first offset, count          done: acknowledged, expired, dropped
//! RECEIVED  digest  queue, offset                       exactly once: release outstanding
//! EXPOSED   digest  queue, offset                       may have been delivered below it; of a group:
//!                                                       all that is pending stands behind its declaration
//! RETURNED  digest  queue, offset, deliveries, due      came back, with its count
//! META      digest  a noun, see `meta`                   declarations and the like
//! ```
//! The exchange is that of the last publish or dead letter. It is left out where it is the one that keys
//! of its form come from most: the default exchange for dots, `amq.topic` for slashes. Its id may have
//! become another exchange's since.
//!
//! Offsets are last in a plain route so that a run of plain messages differs in its last number
//! only, which the log's footer stores in a fraction of a byte.
//!
//! What reclaim copies tells in its route what marks told of it: they are older than the copy and go with
//! their segment, and a mark of its own behind the copy would be missing if power went between the two.

use crate::command::{DedupKey, Grade, Message};
use crate::fixed::{u64_from, Reader, Writer};
use crate::model::dedup::PRODUCER_BITS;
use crate::model::entry::grade_from_bits;
use crate::model::exchange::{DEFAULT, TOPIC};
use crate::model::key::{Form, Key};
use crate::units::{ExchangeId, Millis, Offset, QueueId};

/// Kinds of record that are not messages.
pub mod kind {
    /// A run of offsets of one queue is done.
    pub const ACKS: u8 = 1;
    /// An exactly-once delivery was received.
    pub const RECEIVED: u8 = 2;
    /// Everything below an offset may have been delivered.
    pub const EXPOSED: u8 = 3;
    /// A delivery came back.
    pub const RETURNED: u8 = 4;
    /// A declaration or its end.
    pub const META: u8 = 5;
    /// A message; the lower bits are flags.
    pub const MESSAGE: u8 = 0x40;
    /// It has a TTL or a delay of its own.
    pub const TIMED: u8 = 1;
    /// It is the last value of its key.
    pub const RETAINED: u8 = 2;
    /// It carries a dedup key.
    pub const DEDUP: u8 = 4;
    /// It has a priority above 0.
    pub const PRIORITY: u8 = 8;
    /// It takes the place of a message of another queue (a dead letter).
    pub const REMOVES: u8 = 16;
    /// It is a retained value handed to a new subscription.
    pub const REPLAYED: u8 = 32;
}

/// Bytes the log puts around a record, about.
const FRAME_SIZE: u32 = 9;

/// Bytes each of so many queues is charged for a record with so many bytes of digest and payload.
pub fn share_of(size: u32, routes: usize) -> u32 {
    size.saturating_add(FRAME_SIZE).checked_div(routes as u32).unwrap_or(0)
}

/// One queue a message is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The queue.
    pub queue: QueueId,
    /// Its offset there.
    pub offset: Offset,
    /// How it is handed over.
    pub grade: Grade,
    /// Not kept over a restart.
    pub transient: bool,
    /// Handed to a consumer as soon as it is durable.
    pub exposed: bool,
}

impl Route {
    /// No route; fills tables.
    pub const EMPTY: Route = Route {
        queue: QueueId(0),
        offset: Offset(0),
        grade: Grade::AtMostOnce,
        transient: false,
        exposed: false,
    };

    /// Writes it, and what marks told of it.
    fn write(&self, marks: &Marks, writer: &mut Writer<'_>) {
        let grade = if marks.received { RECEIVED_GRADE } else { self.grade as u64 };
        let bits = u64::from(self.transient) << 3 | u64::from(self.exposed) << 2 | grade;
        let returned = if marks.returned.is_some() { RETURNED_ROUTE } else { 0 };
        writer.varint(returned | u64::from(self.queue.0) << 4 | bits);
        writer.varint(self.offset.0);
        if let Some((deliveries, due)) = marks.returned {
            writer.byte(deliveries);
            writer.varint(due.0);
        }
    }

    /// Reads one route, and what marks told of it.
    fn read(reader: &mut Reader<'_>) -> Option<(Route, Marks)> {
        let code = reader.varint()?;
        let route = Route {
            queue: QueueId(u16::try_from((code & !RETURNED_ROUTE) >> 4).ok()?),
            offset: Offset(reader.varint()?),
            grade: grade_from_bits(code as u8),
            transient: code & 8 != 0,
            exposed: code & 4 != 0,
        };
        let returned = match code & RETURNED_ROUTE {
            0 => None,
            _ => Some((reader.byte()?, Millis(reader.varint()?))),
        };
        Some((route, Marks { received: code & 3 == RECEIVED_GRADE, returned }))
    }
}

/// The grade of a route whose message was received; it was exactly once.
const RECEIVED_GRADE: u64 = 3;
/// Set in a route that is followed by deliveries and due time; above every queue's id.
const RETURNED_ROUTE: u64 = 1 << 20;

/// What marks told of a message in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// See `RECEIVED`.
    pub received: bool,
    /// Deliveries and due time, see `RETURNED`.
    pub returned: Option<(u8, Millis)>,
}

/// A message's digest before its routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// It has a TTL or a delay.
    pub timed: bool,
    /// It is a retained value handed to a new subscription.
    pub replayed: bool,
    /// 0 to 9.
    pub priority: u8,
    /// Hash of its key, if it is the last value of it.
    pub retained: Option<u64>,
    /// Its dedup key and when that expires.
    pub dedup: Option<(DedupKey, Millis)>,
    /// The queue and offset whose place it takes.
    pub removes: Option<(QueueId, Offset)>,
}

impl Head {
    /// The kind of its record.
    pub fn kind(&self) -> u8 {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        kind::MESSAGE
            | flag(self.timed, kind::TIMED)
            | flag(self.retained.is_some(), kind::RETAINED)
            | flag(self.dedup.is_some(), kind::DEDUP)
            | flag(self.priority > 0, kind::PRIORITY)
            | flag(self.removes.is_some(), kind::REMOVES)
            | flag(self.replayed, kind::REPLAYED)
    }

    /// Writes everything before the routes.
    pub fn write(&self, writer: &mut Writer<'_>) {
        if self.priority > 0 {
            writer.byte(self.priority);
        }
        if let Some(hash) = self.retained {
            writer.bytes(&hash.to_le_bytes());
        }
        if let Some((key, expires)) = self.dedup {
            write_key(key, expires, writer);
        }
        if let Some((queue, offset)) = self.removes {
            writer.varint(u64::from(queue.0));
            writer.varint(offset.0);
        }
    }

    /// Reads it back; the reader is left at the routes.
    pub fn read<'a>(record_kind: u8, digest: &'a [u8]) -> Option<(Head, Routes<'a>)> {
        let mut reader = Reader::new(digest);
        let has = |flag: u8| record_kind & flag != 0;
        let mut head = Head { timed: has(kind::TIMED), replayed: has(kind::REPLAYED), ..Head::default() };
        if has(kind::PRIORITY) {
            head.priority = reader.byte()?;
        }
        if has(kind::RETAINED) {
            head.retained = Some(u64_from(reader.bytes(8)?)?);
        }
        if has(kind::DEDUP) {
            head.dedup = Some(read_key(&mut reader)?);
        }
        if has(kind::REMOVES) {
            head.removes = Some((QueueId(u16::try_from(reader.varint()?).ok()?), Offset(reader.varint()?)));
        }
        Some((head, Routes { reader, marks: Marks::default() }))
    }
}

/// Set in a dedup key that is held for an inbound exactly-once publish.
pub const HELD: u64 = 1 << 63;
/// Set besides in that of a producer that counts.
const COUNTED: u64 = 1 << PRODUCER_BITS;

/// A dedup key as it stands in a record, without what follows it.
pub fn dedup_bits(key: DedupKey) -> u64 {
    match key {
        DedupKey::Window(key) => key & !HELD,
        DedupKey::Held { queue, packet } => HELD | u64::from(queue.0) << 16 | u64::from(packet),
        DedupKey::Sequence { producer, .. } => HELD | COUNTED | producer,
    }
}

/// The dedup key of these bits, if it is none of a producer that counts.
#[cfg_attr(not(feature = "gateway"), inline(never))]
pub fn dedup_key(bits: u64) -> DedupKey {
    if bits & HELD == 0 {
        return DedupKey::Window(bits);
    }
    DedupKey::Held { queue: QueueId((bits >> 16) as u16), packet: bits as u16 }
}

fn write_key(key: DedupKey, expires: Millis, writer: &mut Writer<'_>) {
    writer.bytes(&dedup_bits(key).to_le_bytes());
    if let DedupKey::Sequence { epoch, sequence, .. } = key {
        writer.varint(epoch.into());
        writer.varint(sequence);
        return;
    }
    let expires = expires.0.min((1 << 40) - 1).to_le_bytes();
    expires.iter().take(5).for_each(|&byte| writer.byte(byte));
}

fn read_key(reader: &mut Reader<'_>) -> Option<(DedupKey, Millis)> {
    let bits = u64_from(reader.bytes(8)?)?;
    if bits & HELD != 0 && bits & COUNTED != 0 {
        let (producer, epoch) = (bits & (COUNTED - 1), u32::try_from(reader.varint()?).ok()?);
        let key = DedupKey::Sequence { producer, epoch, sequence: reader.varint()? };
        return Some((key, Millis::NEVER));
    }
    let expires = reader.bytes(5)?.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    Some((dedup_key(bits), Millis(expires)))
}

/// The routes of a digest.
#[derive(Clone, Copy)]
pub struct Routes<'a> {
    reader: Reader<'a>,
    /// Of the route that came last.
    pub marks: Marks,
}

impl Iterator for Routes<'_> {
    type Item = Route;

    fn next(&mut self) -> Option<Route> {
        let (route, marks) = Route::read(&mut self.reader)?;
        self.marks = marks;
        Some(route)
    }
}

/// Writes a message's digest; None if it does not fit.
pub fn write_digest<'a>(
    buffer: &'a mut [u8],
    head: &Head,
    routes: impl Iterator<Item = (Route, Marks)>,
) -> Option<&'a [u8]> {
    let mut writer = Writer::new(buffer);
    head.write(&mut writer);
    for (route, marks) in routes {
        route.write(&marks, &mut writer);
    }
    writer.finish()
}

/// When a message was published and what that means for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Log time.
    pub published: Millis,
    /// Its own TTL.
    pub ttl_ms: Option<u64>,
    /// Its delay.
    pub delay_ms: u64,
}

impl Stamp {
    /// Whether it needs the TIMED flag.
    pub fn is_timed(&self) -> bool {
        self.ttl_ms.is_some() || self.delay_ms > 0
    }

    /// When it may be handed over.
    pub fn ready_at(&self) -> Millis {
        self.published.after(self.delay_ms)
    }

    /// Writes it for a segment with this base time.
    pub fn write(&self, base: Millis, writer: &mut Writer<'_>) {
        writer.zigzag(self.published.0 as i64 - base.0 as i64);
        if self.is_timed() {
            writer.varint(self.ttl_ms.map_or(0, |ttl_ms| ttl_ms.saturating_add(1)));
            writer.varint(self.delay_ms);
        }
    }
}

/// Bytes in front of a message's body at most, besides key and headers.
pub const STAMP_MAX: usize = 32;
/// Bytes between key and headers at most.
pub const TAIL_MAX: usize = 13;

/// The exchange of a message that names none.
fn usual_exchange(form: Form) -> ExchangeId {
    match form {
        Form::Dots => DEFAULT,
        Form::Slashes => TOPIC,
    }
}

/// Writes what stands before the key of a message's payload.
pub fn write_key_length(
    writer: &mut Writer<'_>,
    key_size: usize,
    form: Form,
    exchange: ExchangeId,
    headers_size: usize,
) {
    let has_tail = headers_size > 0 || exchange != usual_exchange(form);
    let bits = u64::from(has_tail) << 1 | u64::from(form == Form::Slashes);
    writer.varint((key_size as u64) << 2 | bits);
}

/// Writes what stands between key and headers.
pub fn write_tail(writer: &mut Writer<'_>, form: Form, exchange: ExchangeId, headers_size: usize) {
    let has_exchange = exchange != usual_exchange(form);
    if headers_size > 0 || has_exchange {
        writer.varint((headers_size as u64) << 1 | u64::from(has_exchange));
    }
    if has_exchange {
        writer.varint(u64::from(exchange.0));
    }
}

/// A message's payload, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    /// Its stamp.
    pub stamp: Stamp,
    /// Bytes of the stamp, to be skipped when it is copied with another.
    pub stamp_size: usize,
    /// Where its key begins.
    pub key_start: usize,
    /// Bytes up to the headers, to be skipped when the key or the exchange changes too.
    pub before_headers: usize,
    /// The exchange it was last published to.
    pub exchange: ExchangeId,
    /// The message.
    pub message: Message<'a>,
}

/// Takes a message's payload apart; None if it is not one.
pub fn read_payload(record_kind: u8, base: Millis, payload: &[u8]) -> Option<Payload<'_>> {
    let mut reader = Reader::new(payload);
    let published = Millis((base.0 as i64).wrapping_add(reader.zigzag()?) as u64);
    let mut stamp = Stamp { published, ttl_ms: None, delay_ms: 0 };
    if record_kind & kind::TIMED != 0 {
        stamp.ttl_ms = reader.varint()?.checked_sub(1);
        stamp.delay_ms = reader.varint()?;
    }
    let stamp_size = payload.len() - reader.rest().len();
    let length = reader.varint()?;
    let form = if length & 1 != 0 { Form::Slashes } else { Form::Dots };
    let key_start = payload.len() - reader.rest().len();
    let text = reader.bytes(usize::try_from(length >> 2).ok()?)?;
    let mut exchange = usual_exchange(form);
    let mut headers_size = 0;
    if length & 2 != 0 {
        let tail = reader.varint()?;
        headers_size = usize::try_from(tail >> 1).ok()?;
        if tail & 1 != 0 {
            exchange = ExchangeId(u16::try_from(reader.varint()?).ok()?);
        }
    }
    let before_headers = payload.len() - reader.rest().len();
    let headers = reader.bytes(headers_size)?;
    let message = Message { key: Key { text, form }, headers, body: reader.rest() };
    Some(Payload { stamp, stamp_size, key_start, before_headers, exchange, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_comes_back_as_it_was_written() {
        let head = Head {
            timed: true,
            replayed: false,
            priority: 7,
            retained: Some(42),
            dedup: Some((DedupKey::Window(u64::MAX >> 1), Millis(123_456_789_012))),
            removes: Some((QueueId(3), Offset(99))),
        };
        let routes = [
            Route { queue: QueueId(5), offset: Offset(70_000), grade: Grade::ExactlyOnce, ..Route::EMPTY },
            Route { queue: QueueId(u16::MAX), transient: true, exposed: true, ..Route::EMPTY },
        ];
        let received = Marks { received: true, returned: None };
        let returned = Marks { received: false, returned: Some((255, Millis((1 << 40) - 1))) };
        for marks in [Marks::default(), received, returned] {
            let mut buffer = [0; 80];
            let told = routes.iter().copied().zip([marks, Marks::default()]);
            let digest = write_digest(&mut buffer, &head, told).unwrap();
            let (read, mut list) = Head::read(head.kind(), digest).unwrap();
            assert_eq!(read, head);
            assert_eq!((list.next(), list.marks), (Some(routes[0]), marks));
            assert_eq!((list.next(), list.marks), (Some(routes[1]), Marks::default()));
            assert_eq!(list.next(), None);
        }
        let routes = routes.map(|route| (route, Marks::default()));
        let held = DedupKey::Held { queue: QueueId(u16::MAX), packet: u16::MAX };
        let counted = DedupKey::Sequence { producer: COUNTED - 1, epoch: u32::MAX, sequence: u64::MAX };
        for (key, expires) in [(held, Millis((1 << 40) - 1)), (counted, Millis::NEVER)] {
            let head = Head { dedup: Some((key, expires)), ..head };
            let mut buffer = [0; 80];
            let digest = write_digest(&mut buffer, &head, routes.iter().copied()).unwrap();
            assert_eq!(Head::read(head.kind(), digest).unwrap().0, head);
        }
    }

    #[test]
    fn a_payload_names_its_exchange_only_where_it_is_not_the_usual_one() {
        let written = |key: Key<'_>, exchange, headers: &[u8]| {
            let mut buffer = [0; 64];
            let mut writer = Writer::new(&mut buffer);
            Stamp::default().write(Millis(0), &mut writer);
            write_key_length(&mut writer, key.text.len(), key.form, exchange, headers.len());
            writer.bytes(key.text);
            write_tail(&mut writer, key.form, exchange, headers.len());
            writer.bytes(headers);
            writer.bytes(b"body");
            let payload = writer.finish().unwrap();
            let read = read_payload(kind::MESSAGE, Millis(0), payload).unwrap();
            assert_eq!((read.exchange, read.message.key), (exchange, key));
            assert_eq!((read.message.headers, read.message.body), (headers, &b"body"[..]));
            assert_eq!(read.before_headers, payload.len() - 4 - headers.len());
            payload.len() - key.text.len() - headers.len() - 4
        };
        let other = ExchangeId(300);
        assert_eq!(written(Key::slashes(b"a/b"), TOPIC, b""), 2);
        assert_eq!(written(Key::dots(b"q"), DEFAULT, b""), 2);
        assert_eq!(written(Key::dots(b"q"), DEFAULT, &[7; 20]), 3);
        assert_eq!(written(Key::dots(b"a.b"), TOPIC, b""), 4);
        assert_eq!(written(Key::slashes(b"a/b"), other, &[7; 20]), 5);
    }

    #[test]
    fn a_payload_keeps_its_time_over_a_change_of_segment() {
        let stamp = Stamp { published: Millis(1000), ttl_ms: Some(0), delay_ms: 9 };
        for base in [Millis(900), Millis(5000)] {
            let message = Message { key: Key::slashes(b"a/b"), headers: b"", body: b"xyz" };
            let mut buffer = [0; 64];
            let mut writer = Writer::new(&mut buffer);
            stamp.write(base, &mut writer);
            let stamp_size = writer.len();
            write_key_length(&mut writer, 3, Form::Slashes, TOPIC, 0);
            writer.bytes(b"a/bxyz");
            let read = read_payload(kind::MESSAGE | kind::TIMED, base, writer.finish().unwrap()).unwrap();
            assert_eq!((read.stamp, read.stamp_size, read.exchange), (stamp, stamp_size, TOPIC));
            assert_eq!((read.message.key, read.message.body), (message.key, &b"xyz"[..]));
        }
    }
}
