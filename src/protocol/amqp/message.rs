//! Properties of AMQP and the broker's header block, there and back.
//!
//! What is published by AMQP is stored so that it comes out by AMQP byte for byte and is understood by every
//! other protocol. The fields of the headers table become headers of the block, each by its name; all the
//! other properties stand in front of them in one header without a name:
//! ```text
//! block   [ "" = flags u16 · [count u8 · kinds] · list without the headers table ] · header*
//! kinds   the letter of each field's type, if there is a headers table
//! ```
//! An empty block stands for what most messages have: a delivery mode and nothing else, 2 if the message
//! is to be acknowledged. A field becomes a header like this, and back by its letter:
//!
//! | field | header |
//! |---|---|
//! | t · b B s U u I i l L · f d | bool · int · float |
//! | S · x · V · T | text (bytes if no UTF-8) · bytes · nil · time, in milliseconds |
//! | D A F | bytes: the value as it is encoded |
//!
//! A header that another protocol has made goes out as t, l, d, S, x, V or T.
//!
//! The broker adds what it knows: `x-death` and its kin to a dead letter, whose `expiration` is taken away;
//! `x-stream-offset` to what comes from a stream; `x-delivery-count` to what was delivered before.

use super::codec::cursor::Cursor;
use super::codec::properties::{find_short, Properties, DELIVERY_MODE, EXPIRATION, HEADERS};
use super::codec::table::{push_short, push_value, write_table, Field, Table, TableWriter};
use crate::command::{Delivery, Grade};
use crate::model::deaths::{self, deaths, Death};
use crate::model::headers::{Header, Headers, NoRoom, Value, Writer};

/// Name of the header that holds the other properties.
pub const PROPERTIES: &str = "";

/// The header whose keys nobody is told.
pub const BCC: &str = "BCC";

/// A header name is no text, or a value is larger than 65,535 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

impl From<NoRoom> for Unfit {
    fn from(_: NoRoom) -> Unfit {
        Unfit
    }
}

/// A buffer of a connection is kept up to this size.
const KEPT_BYTES: usize = 4096;

/// A buffer that blocks are built in.
#[derive(Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    value: Vec<u8>,
}

impl Scratch {
    /// The block of some properties. `list` and `flags` are those to be stored, which may differ from what
    /// was published in a property that the broker has to change.
    pub fn block(&mut self, properties: &Properties<'_>) -> Result<&[u8], Unfit> {
        if properties.flags == DELIVERY_MODE && properties.delivery_mode == Some(2) {
            return Ok(&[]);
        }
        // No field grows more than fourfold.
        let room = properties.list.len() * 4 + 512;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let table = properties.headers();
        let has_headers = properties.flags & HEADERS != 0;
        self.value.clear();
        self.value.extend_from_slice(&properties.flags.to_be_bytes());
        if has_headers {
            self.value.push(shown(table).count() as u8);
            self.value.extend(shown(table).map(|(_, field)| field.kind));
        }
        let (before, behind) = properties.around_headers();
        self.value.extend_from_slice(before);
        self.value.extend_from_slice(behind);
        let mut writer = Writer::new(&mut self.bytes);
        writer.push(PROPERTIES, Value::Bytes(&self.value))?;
        push_fields(&mut writer, table)?;
        Ok(writer.finish())
    }

    /// The block of the arguments of a headers binding.
    pub fn arguments(&mut self, table: Table<'_>) -> Result<&[u8], Unfit> {
        let room = table.0.len() * 4 + 512;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let mut writer = Writer::new(&mut self.bytes);
        push_fields(&mut writer, table)?;
        Ok(writer.finish())
    }

    /// Gives back what a message with large headers needed.
    pub fn shrink_large(&mut self) {
        if self.bytes.len() > KEPT_BYTES {
            *self = Scratch::default();
        }
    }
}

/// The fields that those who receive a message get to see.
fn shown(table: Table<'_>) -> impl Iterator<Item = (&[u8], Field<'_>)> {
    table.fields().filter(|(name, _)| *name != BCC.as_bytes())
}

fn push_fields(writer: &mut Writer<'_>, table: Table<'_>) -> Result<(), Unfit> {
    for (name, field) in shown(table) {
        let name = std::str::from_utf8(name).map_err(|_| Unfit)?;
        writer.push(name, value_of(field).ok_or(Unfit)?)?;
    }
    Ok(())
}

fn value_of(field: Field<'_>) -> Option<Value<'_>> {
    Some(match field.kind {
        b't' => Value::Bool(field.bool()?),
        b'f' => Value::Float(f32::from_be_bytes(field.bytes.try_into().ok()?).into()),
        b'd' => Value::Float(f64::from_be_bytes(field.bytes.try_into().ok()?)),
        b'S' => match std::str::from_utf8(field.bytes) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Bytes(field.bytes),
        },
        b'V' => Value::Nil,
        b'T' => Value::Time(field.int()?.checked_mul(1000)?),
        _ => match field.int() {
            Some(number) => Value::Int(number),
            None => Value::Bytes(field.bytes),
        },
    })
}

/// A field that the broker adds to the headers of a delivery.
pub type Extra<'e> = (&'e str, i64);

/// Writes flags and list of the properties a delivery has; `extras` are added to its headers, and so is what
/// it died of.
pub fn write_properties(delivery: &Delivery<'_>, extras: &[Extra<'_>], out: &mut Vec<u8>) {
    let block = delivery.message.headers;
    if block.is_empty() && extras.is_empty() {
        let mode = mode_of(delivery.grade);
        let [high, low] = DELIVERY_MODE.to_be_bytes();
        return out.extend_from_slice(&[high, low, mode]);
    }
    let stored = Stored::read(block, delivery.grade);
    let has_headers = stored.flags & HEADERS != 0 || stored.has_died;
    if !has_headers && extras.is_empty() {
        out.extend_from_slice(&stored.flags.to_be_bytes());
        out.extend_from_slice(stored.before);
        return out.extend_from_slice(stored.behind);
    }
    // A dead letter does not expire again.
    let expiration = match stored.has_died {
        true => find_short(stored.flags & BEHIND_HEADERS, stored.behind, EXPIRATION),
        false => None,
    };
    let flags = if expiration.is_some() { stored.flags & !EXPIRATION } else { stored.flags };
    out.extend_from_slice(&(flags | HEADERS).to_be_bytes());
    out.extend_from_slice(stored.before);
    write_table(out, |table| {
        let mut kinds = stored.kinds.iter();
        for header in stored.headers.clone().map_while(Result::ok) {
            let kind = kinds.next().copied();
            if !(stored.has_died && tells_of_deaths(header.name)) {
                push_header(&header, kind, table.out());
            }
        }
        if stored.has_died {
            push_deaths(block, table);
        }
        extras.iter().for_each(|(name, number)| table.int(name, *number));
    });
    let (start, size) = expiration.unwrap_or((0, 0));
    out.extend_from_slice(stored.behind.get(..start).unwrap_or_default());
    out.extend_from_slice(stored.behind.get(start + size..).unwrap_or_default());
}

/// Flags of what stands behind the headers in a list.
const BEHIND_HEADERS: u16 = HEADERS - 1;

const fn mode_of(grade: Grade) -> u8 {
    match grade {
        Grade::AtMostOnce => 1,
        _ => 2,
    }
}

/// The broker writes these headers; what a client publishes under their names is older.
fn tells_of_deaths(name: &str) -> bool {
    name == "x-death" || name.starts_with("x-first-death-") || name.starts_with("x-last-death-")
}

/// What a message died of, as RabbitMQ tells it: `x-death`, the latest first, and the first and last of all.
fn push_deaths(block: &[u8], table: &mut TableWriter<'_>) {
    table.array("x-death", |out| deaths(block).for_each(|death| push_death(&death, out)));
    let first = deaths(block).min_by_key(|death| death.first);
    for (which, death) in [("first", first), ("last", deaths(block).next())] {
        let Some(death) = death else { continue };
        let values = [("exchange", death.exchange), ("queue", death.queue), ("reason", death.reason.text())];
        for (what, value) in values {
            table.text(&format!("x-{which}-death-{what}"), value);
        }
    }
}

fn push_death(death: &Death<'_>, out: &mut Vec<u8>) {
    out.push(b'F');
    write_table(out, |table| {
        table.int("count", death.count.into());
        table.text("exchange", death.exchange);
        if let Some(ttl_ms) = death.ttl_ms {
            table.text("original-expiration", &ttl_ms.to_string());
        }
        table.text("queue", death.queue);
        table.text("reason", death.reason.text());
        let key: Vec<u8> = death.key.canonical().collect();
        table.array("routing-keys", |out| push_value(out, b'S', &key));
        table.field(b"time", b'T', &(death.first.0 / 1000).to_be_bytes());
    });
}

/// A block, taken apart.
struct Stored<'a> {
    flags: u16,
    kinds: &'a [u8],
    /// The list in front of the headers table, and behind it.
    before: &'a [u8],
    behind: &'a [u8],
    headers: Headers<'a>,
    /// Its deaths stand in front of all else.
    has_died: bool,
}

impl<'a> Stored<'a> {
    fn read(block: &'a [u8], grade: Grade) -> Stored<'a> {
        let mut headers = Headers::new(block);
        let mut rest = headers.clone();
        let mut first = headers.next();
        let has_died = matches!(first, Some(Ok(Header { name: deaths::NAME, value: Value::Bytes(_) })));
        if has_died {
            rest = headers.clone();
            first = headers.next();
        }
        if let Some(Ok(Header { name: PROPERTIES, value: Value::Bytes(value) })) = first {
            if let Some(stored) = Stored::split(value, headers) {
                return Stored { has_died, ..stored };
            }
        }
        // Not from AMQP, or with a delivery mode only: there is that, and headers if there are any.
        let list: &[u8] = if mode_of(grade) == 2 { &[2] } else { &[1] };
        let flags = if first.is_none() { DELIVERY_MODE } else { DELIVERY_MODE | HEADERS };
        Stored { flags, kinds: &[], before: &[], behind: list, headers: rest, has_died }
    }

    fn split(value: &'a [u8], headers: Headers<'a>) -> Option<Stored<'a>> {
        let mut cursor = Cursor::new(value);
        let flags = cursor.u16()?;
        let mut kinds: &[u8] = &[];
        if flags & HEADERS != 0 {
            let count = cursor.u8()?;
            kinds = cursor.bytes(usize::from(count))?;
        }
        let list = cursor.rest();
        // Content type and content encoding, the first two flags, come before the table.
        for _ in 0..(flags >> 14).count_ones() {
            cursor.short()?;
        }
        let behind = cursor.rest();
        let before = list.get(..list.len() - behind.len())?;
        Some(Stored { flags, kinds, before, behind, headers, has_died: false })
    }
}

fn push_header(header: &Header<'_>, kind: Option<u8>, out: &mut Vec<u8>) {
    push_short(out, header.name.as_bytes());
    match header.value {
        Value::Nil => push_value(out, b'V', &[]),
        Value::Bool(truth) => push_value(out, b't', &[u8::from(truth)]),
        Value::Int(number) => push_int(out, kind, number),
        Value::Float(number) => match kind {
            Some(b'f') => push_value(out, b'f', &(number as f32).to_be_bytes()),
            _ => push_value(out, b'd', &number.to_be_bytes()),
        },
        Value::Text(text) => push_value(out, b'S', text.as_bytes()),
        Value::Bytes(bytes) => match kind {
            Some(kind @ (b'S' | b'D' | b'A' | b'F')) => push_value(out, kind, bytes),
            _ => push_value(out, b'x', bytes),
        },
        Value::Time(time_ms) => push_value(out, b'T', &time_ms.div_euclid(1000).to_be_bytes()),
    }
}

fn push_int(out: &mut Vec<u8>, kind: Option<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    let size = match kind {
        Some(b'b' | b'B') => 1,
        Some(b's' | b'U' | b'u') => 2,
        Some(b'I' | b'i') => 4,
        _ => 8,
    };
    let kind = if size == 8 && kind != Some(b'L') { b'l' } else { kind.unwrap_or(b'l') };
    push_value(out, kind, bytes.get(8 - size..).unwrap_or_default());
}
