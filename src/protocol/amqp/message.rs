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

use super::codec::cursor::Cursor;
use super::codec::properties::{Properties, DELIVERY_MODE, HEADERS};
use super::codec::table::{push_short, push_value, sized, Field, Table};
use crate::command::{Delivery, Grade};
use crate::model::headers::{Header, Headers, NoRoom, Value, Writer};

/// Name of the header that holds the other properties.
pub const PROPERTIES: &str = "";

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
            self.value.push(table.fields().count() as u8);
            self.value.extend(table.fields().map(|(_, field)| field.kind));
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

fn push_fields(writer: &mut Writer<'_>, table: Table<'_>) -> Result<(), Unfit> {
    for (name, field) in table.fields() {
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

/// Writes flags and list of the properties a delivery has; `extras` are added to its headers.
pub fn write_properties(delivery: &Delivery<'_>, extras: &[Extra<'_>], out: &mut Vec<u8>) {
    let block = delivery.message.headers;
    if block.is_empty() && extras.is_empty() {
        let mode = mode_of(delivery.grade);
        let [high, low] = DELIVERY_MODE.to_be_bytes();
        return out.extend_from_slice(&[high, low, mode]);
    }
    let stored = Stored::read(block, delivery.grade);
    let has_headers = stored.flags & HEADERS != 0;
    if !has_headers && extras.is_empty() {
        out.extend_from_slice(&stored.flags.to_be_bytes());
        out.extend_from_slice(stored.before);
        return out.extend_from_slice(stored.behind);
    }
    out.extend_from_slice(&(stored.flags | HEADERS).to_be_bytes());
    out.extend_from_slice(stored.before);
    sized(out, |out| {
        let mut kinds = stored.kinds.iter();
        for header in stored.headers.clone().map_while(Result::ok) {
            push_header(&header, kinds.next().copied(), out);
        }
        for (name, number) in extras {
            push_short(out, name.as_bytes());
            push_value(out, b'l', &number.to_be_bytes());
        }
    });
    out.extend_from_slice(stored.behind);
}

const fn mode_of(grade: Grade) -> u8 {
    match grade {
        Grade::AtMostOnce => 1,
        _ => 2,
    }
}

/// A block, taken apart.
struct Stored<'a> {
    flags: u16,
    kinds: &'a [u8],
    /// The list in front of the headers table, and behind it.
    before: &'a [u8],
    behind: &'a [u8],
    headers: Headers<'a>,
}

impl<'a> Stored<'a> {
    fn read(block: &'a [u8], grade: Grade) -> Stored<'a> {
        let mut headers = Headers::new(block);
        if let Some(Ok(Header { name: PROPERTIES, value: Value::Bytes(value) })) = headers.next() {
            if let Some(stored) = Stored::split(value, headers) {
                return stored;
            }
        }
        // Not from AMQP: there is the delivery mode, and headers if there are any.
        let list: &[u8] = if mode_of(grade) == 2 { &[2] } else { &[1] };
        let flags = if block.is_empty() { DELIVERY_MODE } else { DELIVERY_MODE | HEADERS };
        Stored { flags, kinds: &[], before: &[], behind: list, headers: Headers::new(block) }
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
        Some(Stored { flags, kinds, before, behind, headers })
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
