//! What a message died of, queue by queue, on its way through dead-letter exchanges.
//!
//! The deaths of a message are one header of its block, the first, of type bytes; every dead letter
//! has it written anew. There is one entry for each queue and reason, the latest death first; when the
//! same happens again, its count goes up and all else stays as it was the first time.
//! ```text
//! header   NAME · bytes · entries
//! entry    size u16 LE · reason u8 · count · first death, log time · TTL + 1 or 0
//!          queue size u8 · queue · exchange size u8 · exchange · key size << 1 | slashes · key
//! ```
//! Numbers without a width are varints; the size of an entry is that of what follows it. A client can
//! publish such a header too, so reading one believes nothing: it ends early where it makes no sense.
//!
//! Limits: [`COUNT_MAX`] entries. The first death of all is kept and others make way for the next.

use super::headers::{self, Raw, BYTES};
use super::key::{Form, Key};
use crate::command::Reason;
use crate::fixed::{Reader, Writer};
use crate::units::Millis;
use core::ops::Range;

/// Name of the header. What a client publishes under it must not be taken for a record of deaths.
pub const NAME: &str = "x-deaths";
/// Most entries.
pub const COUNT_MAX: usize = 8;
/// Longest key that is kept, in bytes.
const KEY_MAX: usize = 255;
/// Bytes of a new entry, and of the header in front of it, at most.
pub const ENTRY_MAX: usize = 12 + 2 + 1 + 5 + 10 + 10 + 256 + 256 + 2 + KEY_MAX;
/// Bytes of the header before its entries.
const FRONT_SIZE: usize = NAME.len() + 4;

fn reason(byte: u8) -> Option<Reason> {
    [Reason::Rejected, Reason::Expired, Reason::MaxLength, Reason::DeliveryLimit]
        .into_iter()
        .find(|reason| *reason as u8 == byte)
}

/// What happened to a message in one queue for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death<'a> {
    /// Why.
    pub reason: Reason,
    /// How often.
    pub count: u32,
    /// The first time, in log time.
    pub first: Millis,
    /// The TTL it had of its own.
    pub ttl_ms: Option<u64>,
    /// The queue.
    pub queue: &'a str,
    /// The exchange it had been published to.
    pub exchange: &'a str,
    /// The routing key it had; empty if that was longer than 255 bytes.
    pub key: Key<'a>,
}

/// The deaths of a message, the latest first.
pub fn deaths(headers: &[u8]) -> impl Iterator<Item = Death<'_>> {
    Entries::of(headers).map(|entry| entry.death)
}

/// An entry and where it stands in the block of headers.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub death: Death<'a>,
    pub span: Range<usize>,
    /// Where it goes on after its count.
    after_count: usize,
}

/// The entries of a block.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    /// Where they end, and with them their header.
    end: usize,
    left: usize,
}

impl<'a> Entries<'a> {
    /// Those of a block of headers.
    pub fn of(headers: &'a [u8]) -> Entries<'a> {
        let value = Raw::split(headers).and_then(|(raw, _)| raw.value_of(NAME, BYTES));
        let end = value.map_or(0, |value| FRONT_SIZE.saturating_add(value.len()));
        Entries { rest: value.unwrap_or_default(), end, left: COUNT_MAX }
    }

    /// Bytes of their header.
    pub fn header_size(&self) -> usize {
        self.end
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.left = self.left.checked_sub(1)?;
        let start = self.end.checked_sub(self.rest.len())?;
        let mut reader = Reader::new(self.rest);
        let &[low, high] = reader.bytes(2)? else { return None };
        let size = usize::from(u16::from_le_bytes([low, high]));
        let mut entry = Reader::new(reader.bytes(size)?);
        let (reason, count) = (reason(entry.byte()?)?, u32::try_from(entry.varint()?).ok()?);
        let after_count = start.checked_add(size.checked_add(2)?.checked_sub(entry.rest().len())?)?;
        let (first, ttl_ms) = (Millis(entry.varint()?), entry.varint()?.checked_sub(1));
        let (queue, exchange) = (short_text(&mut entry)?, short_text(&mut entry)?);
        let key_size = entry.varint()?;
        let form = if key_size & 1 != 0 { Form::Slashes } else { Form::Dots };
        let key = Key { text: entry.bytes(usize::try_from(key_size >> 1).ok()?)?, form };
        let death = Death { reason, count, first, ttl_ms, queue, exchange, key };
        self.rest = reader.rest();
        Some(Entry { death, span: start..start.checked_add(size)?.checked_add(2)?, after_count })
    }
}

fn short_text<'a>(from: &mut Reader<'a>) -> Option<&'a str> {
    let size = usize::from(from.byte()?);
    core::str::from_utf8(from.bytes(size)?).ok()
}

/// A block of headers with one more death: new bytes, then ranges of the old block in this order.
#[derive(Clone, Debug)]
pub(crate) struct Obituary {
    /// The header up to the ranges.
    pub front: heapless::Vec<u8, ENTRY_MAX>,
    /// What is kept of the entry that happened again, of the others, and of the other headers.
    pub kept: [Range<usize>; 4],
    /// Bytes of the new block.
    pub size: usize,
}

/// Adds a death to a block of headers. None if it has no place there.
pub(crate) fn obituary(headers: &[u8], death: &Death<'_>) -> Option<Obituary> {
    let entries = Entries::of(headers);
    let old_size = entries.header_size();
    if old_size == 0 && headers::spans(headers).count() >= headers::COUNT_MAX {
        return None;
    }
    let start = FRONT_SIZE.min(old_size);
    let is_same = |old: &Death<'_>| old.reason == death.reason && old.queue == death.queue;
    let again = entries.clone().find(|entry| is_same(&entry.death));
    // What makes no sense behind the last entry that does is left out.
    let end = entries.clone().last().map_or(start, |entry| entry.span.end);
    let mut body = [0; ENTRY_MAX];
    let mut to = Writer::new(&mut body);
    let (hole, rest) = match &again {
        Some(entry) => {
            to.byte(death.reason as u8);
            to.varint(entry.death.count.saturating_add(1).into());
            (entry.span.clone(), entry.after_count..entry.span.end)
        }
        None => {
            death.write(&mut to)?;
            (victim(&entries).unwrap_or(end..end), 0..0)
        }
    };
    let body = to.finish()?;
    let entry_size = body.len().checked_add(rest.len())?;
    let kept = [rest, start..hole.start, hole.end..end, old_size..headers.len()];
    let others = kept.iter().skip(1).take(2).fold(0, |sum: usize, range| sum.saturating_add(range.len()));
    let value_size = u16::try_from(entry_size.checked_add(2)?.checked_add(others)?).ok()?;
    let mut front = heapless::Vec::new();
    front.push(NAME.len() as u8).ok()?;
    front.extend_from_slice(NAME.as_bytes()).ok()?;
    front.push(BYTES).ok()?;
    front.extend_from_slice(&value_size.to_le_bytes()).ok()?;
    front.extend_from_slice(&u16::try_from(entry_size).ok()?.to_le_bytes()).ok()?;
    front.extend_from_slice(body).ok()?;
    let size = kept.iter().fold(front.len(), |sum, range| sum.saturating_add(range.len()));
    Some(Obituary { front, kept, size })
}

/// The entry that makes way for a new one, if one has to: the last, but not the first death of all.
fn victim(entries: &Entries<'_>) -> Option<Range<usize>> {
    if entries.clone().count() < COUNT_MAX {
        return None;
    }
    let oldest = entries.clone().map(|entry| entry.death.first).min()?;
    let kept = entries.clone().filter(|entry| entry.death.first == oldest).last()?.span.start;
    entries.clone().filter(|entry| entry.span.start != kept).last().map(|entry| entry.span)
}

/// Whether a message that leaves a queue by itself has come round to another without anybody having
/// rejected it on the way: it would go round for ever. `is_there` tells that other queue.
pub(crate) fn is_circle(headers: &[u8], from: &Death<'_>, is_there: impl Fn(&str) -> bool) -> bool {
    let is_same = |old: &Death<'_>| old.reason == from.reason && old.queue == from.queue;
    let earlier = deaths(headers).filter(|old| !is_same(old));
    let mut way = core::iter::once(*from).chain(earlier).take_while(|death| death.reason != Reason::Rejected);
    way.any(|death| is_there(death.queue))
}

impl Death<'_> {
    /// Writes it as an entry without its size.
    fn write(&self, to: &mut Writer<'_>) -> Option<()> {
        to.byte(self.reason as u8);
        to.varint(self.count.into());
        to.varint(self.first.0);
        to.varint(self.ttl_ms.map_or(0, |ttl_ms| ttl_ms.saturating_add(1)));
        for text in [self.queue, self.exchange] {
            to.byte(u8::try_from(text.len()).ok()?);
            to.bytes(text.as_bytes());
        }
        let key = if self.key.text.len() > KEY_MAX { &[] } else { self.key.text };
        to.varint((key.len() as u64) << 1 | u64::from(self.key.form == Form::Slashes));
        to.bytes(key);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::headers::{check, find, Value};

    fn death(queue: &'static str, reason: Reason, first: u64) -> Death<'static> {
        let key = Key::slashes(b"a/b");
        Death { reason, count: 1, first: Millis(first), ttl_ms: Some(0), queue, exchange: "x", key }
    }

    fn bury(headers: &[u8], death: &Death<'_>) -> Vec<u8> {
        let Obituary { front, kept, size } = obituary(headers, death).unwrap();
        let mut block = front.to_vec();
        kept.into_iter().for_each(|range| block.extend_from_slice(&headers[range]));
        assert_eq!(block.len(), size);
        assert_eq!(check(&block), Ok(()));
        block
    }

    const OTHER: &[u8] = &[1, b'h', 1, 1, 0, 1];

    #[test]
    fn deaths_are_read_the_latest_first_and_other_headers_stay() {
        let (one, two) = (death("one", Reason::Expired, 5), death("two", Reason::Rejected, 9));
        let block = bury(&bury(OTHER, &one), &two);
        assert!(deaths(&block).eq([two, one]));
        assert_eq!(find(&block, "h"), Some(Value::Bool(true)));
        // The first goes up and keeps everything it had.
        let block = bury(&block, &Death { first: Millis(70), exchange: "other", ..one });
        assert!(deaths(&block).eq([Death { count: 2, ..one }, two]));
        let block = bury(&block, &death("one", Reason::MaxLength, 80));
        assert_eq!(deaths(&block).map(|death| death.count).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(find(&block, "h"), Some(Value::Bool(true)));
    }

    #[test]
    fn beyond_the_limit_the_first_death_of_all_stays_and_the_one_before_it_goes() {
        let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let mut block = OTHER.to_vec();
        for (time, name) in names.into_iter().enumerate() {
            block = bury(&block, &death(name, Reason::Expired, time as u64));
        }
        let queues: Vec<_> = deaths(&block).map(|death| death.queue).collect();
        assert_eq!(queues, ["9", "8", "7", "6", "5", "4", "3", "0"]);
        assert_eq!(find(&block, "h"), Some(Value::Bool(true)));
    }

    #[test]
    fn a_way_without_a_rejection_that_comes_round_is_a_circle() {
        let (a, b) = (death("a", Reason::Expired, 1), death("b", Reason::MaxLength, 2));
        let way = bury(&bury(&[], &a), &b);
        let now = death("c", Reason::Expired, 3);
        let leads = |headers: &[u8], to: &str| is_circle(headers, &now, |queue| queue == to);
        assert!(leads(&way, "c") && leads(&way, "b") && leads(&way, "a") && !leads(&way, "d"));
        let way = bury(&way, &death("b", Reason::Rejected, 3));
        assert!(leads(&way, "c") && !leads(&way, "b") && !leads(&way, "a"));
    }

    #[test]
    fn a_key_that_is_too_long_is_left_out_and_the_longest_names_have_room() {
        let long = "n".repeat(255);
        let key = Key::dots(long.as_bytes());
        let times = (Millis(u64::MAX), Some(u64::MAX - 1));
        let longest = Death {
            reason: Reason::DeliveryLimit,
            count: u32::MAX,
            first: times.0,
            ttl_ms: times.1,
            queue: &long,
            exchange: &long,
            key,
        };
        assert!(deaths(&bury(&[], &longest)).eq([longest]));
        let text = [b'k'; 256];
        let block = bury(&[], &Death { key: Key::dots(&text), ..longest });
        assert!(deaths(&block).eq([Death { key: Key::dots(&[]), ..longest }]));
    }

    #[test]
    fn what_makes_no_sense_is_read_without_harm_and_left_out_of_the_next() {
        let block = bury(&bury(OTHER, &death("a", Reason::Expired, 1)), &death("b", Reason::Expired, 2));
        for place in 0..block.len() {
            for bits in [1, 0x80, 0xFF] {
                let mut damaged = block.clone();
                damaged[place] ^= bits;
                assert!(deaths(&damaged).count() <= COUNT_MAX);
                if check(&damaged).is_ok() {
                    bury(&damaged, &death("c", Reason::Rejected, 3));
                }
            }
        }
        let mut forged = vec![NAME.len() as u8];
        forged.extend_from_slice(NAME.as_bytes());
        forged.extend_from_slice(&[BYTES, 3, 0, 9, 9, 9]);
        forged.extend_from_slice(OTHER);
        assert_eq!(deaths(&forged).count(), 0);
        let block = bury(&forged, &death("c", Reason::Rejected, 3));
        assert_eq!(deaths(&block).count(), 1);
        assert_eq!(find(&block, "h"), Some(Value::Bool(true)));
    }
}
