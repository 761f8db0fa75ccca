//! The properties of a message (specification, class basic; 4.2.6 content headers).
//!
//! ```text
//! class u16 = 60 · weight u16 = 0 · body_size u64 · flags u16 · list
//! flags, from the highest bit: content-type content-encoding headers delivery-mode priority
//!        correlation-id reply-to expiration message-id timestamp type user-id app-id cluster-id
//! list   for each flag that is set its value, in that order: short strings, but
//!        headers a table · delivery-mode, priority u8 · timestamp u64
//! ```
//! Reading them is one walk over the list that borrows what the broker acts on; what it does not
//! act on stays opaque and goes out again byte for byte.

use super::cursor::Cursor;
use super::table::Table;

/// There is a table of headers.
pub const HEADERS: u16 = 1 << 13;
/// There is a delivery mode.
pub const DELIVERY_MODE: u16 = 1 << 12;
/// There is a priority.
pub const PRIORITY: u16 = 1 << 11;
/// There is a name of a queue to reply to.
pub const REPLY_TO: u16 = 1 << 9;
/// There is a time to live.
pub const EXPIRATION: u16 = 1 << 8;
/// There is a message id.
pub const MESSAGE_ID: u16 = 1 << 7;
/// There is a timestamp.
pub const TIMESTAMP: u16 = 1 << 6;
/// There is a user id.
pub const USER_ID: u16 = 1 << 4;

/// Bits that stand for no property; the lowest announces more flags, which 0-9-1 has none of.
const UNDEFINED: u16 = 0b11;
/// The last property's flag.
const LAST: u32 = 2;

/// The header of a content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// Bytes of the body, over all its frames.
    pub body_size: u64,
    /// The properties.
    pub properties: Properties<'a>,
}

/// Properties: the raw list, and what the broker acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// Which are there.
    pub flags: u16,
    /// All of them, as they came.
    pub list: &'a [u8],
    /// Where in the list the value of the headers is, with its size; empty if there are none.
    pub headers_at: (usize, usize),
    /// 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// The priority.
    pub priority: Option<u8>,
    /// Where to reply to.
    pub reply_to: Option<&'a [u8]>,
    /// The time to live, as text in milliseconds.
    pub expiration: Option<&'a [u8]>,
    /// The message's id.
    pub message_id: Option<&'a [u8]>,
    /// Who published it.
    pub user_id: Option<&'a [u8]>,
}

impl<'a> Properties<'a> {
    /// Reads a list of properties that fills the bytes.
    pub fn read(flags: u16, list: &'a [u8]) -> Option<Properties<'a>> {
        let mut properties = Properties { flags, list, ..Properties::default() };
        if flags & UNDEFINED != 0 {
            return None;
        }
        if flags == DELIVERY_MODE {
            // What nearly every message has.
            let &[mode] = list else { return None };
            properties.delivery_mode = Some(mode);
            return Some(properties);
        }
        let mut cursor = Cursor::new(list);
        for bit in (LAST..16).rev() {
            let flag = 1u16 << bit;
            if flags & flag == 0 {
                continue;
            }
            match flag {
                HEADERS => {
                    let start = list.len() - cursor.rest().len();
                    let table = Table(cursor.long()?);
                    properties.headers_at = (start, table.0.len() + 4);
                    if !table.is_sound() {
                        return None;
                    }
                }
                DELIVERY_MODE => properties.delivery_mode = Some(cursor.u8()?),
                PRIORITY => properties.priority = Some(cursor.u8()?),
                TIMESTAMP => {
                    cursor.u64()?;
                }
                _ => properties.set_short(flag, cursor.short()?),
            }
        }
        cursor.is_empty().then_some(properties)
    }

    fn set_short(&mut self, flag: u16, text: &'a [u8]) {
        match flag {
            REPLY_TO => self.reply_to = Some(text),
            EXPIRATION => self.expiration = Some(text),
            MESSAGE_ID => self.message_id = Some(text),
            USER_ID => self.user_id = Some(text),
            _ => {}
        }
    }

    /// The headers.
    pub fn headers(&self) -> Table<'a> {
        let (start, size) = self.headers_at;
        Table(self.list.get(start..start + size).and_then(|table| table.get(4..)).unwrap_or_default())
    }

    /// What stands in the list before and behind the headers.
    pub fn around_headers(&self) -> (&'a [u8], &'a [u8]) {
        let (start, size) = self.headers_at;
        match self.flags & HEADERS {
            0 => (self.list, &[]),
            _ => (
                self.list.get(..start).unwrap_or_default(),
                self.list.get(start + size..).unwrap_or_default(),
            ),
        }
    }
}

impl<'a> ContentHeader<'a> {
    /// Parses the payload of a header frame.
    pub fn parse(payload: &'a [u8]) -> Option<ContentHeader<'a>> {
        let mut cursor = Cursor::new(payload);
        let (class, _weight) = (cursor.u16()?, cursor.u16()?);
        if class != 60 {
            return None;
        }
        let (body_size, flags) = (cursor.u64()?, cursor.u16()?);
        Some(ContentHeader { body_size, properties: Properties::read(flags, cursor.rest())? })
    }
}

/// Where in a list the short string of a flag starts (at its size) and how long it is with its size.
pub fn find_short(flags: u16, list: &[u8], wanted: u16) -> Option<(usize, usize)> {
    let mut cursor = Cursor::new(list);
    for bit in (LAST..16).rev() {
        let flag = 1u16 << bit;
        if flags & flag == 0 {
            continue;
        }
        let start = list.len() - cursor.rest().len();
        match flag {
            HEADERS => drop(cursor.long()?),
            DELIVERY_MODE | PRIORITY => drop(cursor.u8()?),
            TIMESTAMP => drop(cursor.u64()?),
            _ => drop(cursor.short()?),
        }
        if flag == wanted {
            return Some((start, list.len() - cursor.rest().len() - start));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fourteen.
    const EVERY: &[u8] = b"\x02ct\x02ce\0\0\0\x04\x01aV\0\x02\x05\x02co\x02rt\x0260\x02id\
        \0\0\0\0\0\0\0\x09\x02ty\x02us\x02ap\x02cl";

    #[test]
    fn every_property_is_found() {
        let list = b"\x02ct\x02ce\0\0\0\x03\x01aV\x02\x05\x02co\x02rt\x0260\x02id\0\0\0\0\0\0\0\x09\x02ty\x02us\x02ap\x02cl";
        let read = Properties::read(0xfffc, list).unwrap();
        assert_eq!((read.delivery_mode, read.priority), (Some(2), Some(5)));
        assert_eq!((read.reply_to, read.expiration), (Some(&b"rt"[..]), Some(&b"60"[..])));
        assert_eq!((read.message_id, read.user_id), (Some(&b"id"[..]), Some(&b"us"[..])));
        assert_eq!(read.headers().fields().count(), 1);
        let (before, behind) = read.around_headers();
        assert_eq!((before, behind.first()), (&b"\x02ct\x02ce"[..], Some(&2)));
        let (start, size) = find_short(0xfffc, list, EXPIRATION).unwrap();
        assert_eq!(&list[start..start + size], b"\x0260");
    }

    #[test]
    fn a_list_that_is_cut_too_long_or_has_undefined_flags_is_refused() {
        assert_eq!(Properties::read(0xfffc, EVERY), None);
        assert_eq!(Properties::read(DELIVERY_MODE, b""), None);
        assert_eq!(Properties::read(DELIVERY_MODE, b"\x02\x02"), None);
        assert_eq!(Properties::read(1, b""), None);
        assert_eq!(Properties::read(0, b""), Some(Properties::default()));
    }
}
