//! The index in a segment's footer: kind, size and digest of every record, in few bytes.
//!
//! Writer and reader keep the same eight slots, each a prediction: kind, size and next digest,
//! which is the last one with its trailing varint one higher (message after message of one queue).
//! A record that a slot predicts costs three bits of a byte's count, others spell out what differs.
//!
//! ```text
//! 00 000000  kind u8, size varint, digest length u8, digest      fits no slot; taken into the next
//! 01 sss nnn                                                     n + 1 records as slot s predicts
//! 10 sss 000 size varint                                         as predicted but for the size
//! 11 0 tt www                                                    what begins a batch:
//!    tt 0: the next record, with w bytes of watermark; 1: every record from here on; 2: none
//! ```
//! Sizes are those of digest and payload; with the beginnings of batches they give the offsets: a
//! batch begins on a multiple of the write unit, records follow each other within one.

use super::bytes::{put, take, Varint};
use super::layout::Ring;
use super::record::framed;

const SLOTS: u8 = 8;
const PREDICTED_MAX: usize = 20;

const PREDICTED: u8 = 0b01 << 6;
const RESIZED: u8 = 0b10 << 6;
const BATCH: u8 = 0b11 << 6;
const BATCH_NEXT: u8 = 0;
const BATCH_EACH: u8 = 1;
const BATCH_NONE: u8 = 2;

/// Most bytes one record adds to the index, with a digest of that length.
pub(super) fn cost_max(digest_size: u32) -> u32 {
    digest_size.saturating_add(1 + 1 + 1 + 5 + 1)
}

/// One prediction.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    kind: u8,
    used: bool,
    digest_size: u8,
    size: u32,
    digest: [u8; PREDICTED_MAX],
}

impl Slot {
    fn digest(&self) -> &[u8] {
        self.digest.get(..usize::from(self.digest_size)).unwrap_or(&[])
    }

    fn set(&mut self, kind: u8, size: u32, digest: &[u8]) {
        if put(&mut self.digest, 0, digest) {
            (self.kind, self.used, self.size) = (kind, true, size);
            self.digest_size = digest.len() as u8;
            self.advance();
        }
    }

    /// One more on the varint the digest ends with, if its length stays; else the digest stays.
    fn advance(&mut self) {
        let len = usize::from(self.digest_size);
        let Some(digest) = self.digest.get_mut(..len) else { return };
        let Some((last, before)) = digest.split_last() else { return };
        if *last >= 0x80 {
            return;
        }
        let begin = before.iter().rposition(|&byte| byte < 0x80).map_or(0, |at| at.saturating_add(1));
        let Some(number) = digest.get_mut(begin..) else { return };
        let Some((value, _)) = Varint::decode(number) else { return };
        let next = Varint::new(value.wrapping_add(1));
        if next.as_bytes().len() == number.len() {
            let _ = put(number, 0, next.as_bytes());
        }
    }
}

/// The slots, as both sides keep them.
#[derive(Clone, Copy, Debug, Default)]
struct Slots {
    slots: [Slot; SLOTS as usize],
    next: u8,
}

impl Slots {
    fn take(&mut self, kind: u8, size: u32, digest: &[u8]) {
        if digest.len() > PREDICTED_MAX {
            return;
        }
        if let Some(slot) = self.slots.get_mut(usize::from(self.next)) {
            slot.set(kind, size, digest);
        }
        self.next = self.next.wrapping_add(1) % SLOTS;
    }

    fn find(&mut self, kind: u8, digest: &[u8]) -> Option<(u8, &mut Slot)> {
        let slots = self.slots.iter_mut().zip(0u8..);
        slots
            .filter(|(slot, _)| slot.used && slot.kind == kind)
            .find(|(slot, _)| slot.digest() == digest)
            .map(|(slot, number)| (number, slot))
    }
}

/// Builds an index in borrowed memory.
#[derive(Debug)]
pub(super) struct IndexWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
    slots: Slots,
    each: Option<u8>,
    batched: bool,
    last: Option<u8>,
}

impl<'a> IndexWriter<'a> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        IndexWriter { buffer, len: 0, slots: Slots::default(), each: None, batched: false, last: None }
    }

    /// Begins the index of another segment.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.slots = Slots::default();
        (self.each, self.batched, self.last) = (None, false, None);
    }

    /// What was built.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or(&[])
    }

    /// Bytes there can be.
    pub(super) fn capacity(&self) -> u32 {
        self.buffer.len() as u32
    }

    /// The whole memory, for when no segment is open.
    pub(super) fn memory(&mut self) -> &mut [u8] {
        self.len = 0;
        self.buffer
    }

    /// Adds a record, for which [`cost_max`] bytes are left. `begins` is the size of its
    /// watermark, if it begins a batch.
    pub(super) fn add(&mut self, kind: u8, size: u32, digest: &[u8], begins: Option<u8>) {
        self.batch(begins);
        match self.slots.find(kind, digest) {
            Some((number, slot)) if slot.size == size => {
                slot.advance();
                self.predicted(PREDICTED | number << 3);
            }
            Some((number, slot)) => {
                slot.size = size;
                slot.advance();
                self.push(&[RESIZED | number << 3]);
                self.push(Varint::new(size.into()).as_bytes());
            }
            None => {
                self.push(&[0, kind]);
                self.push(Varint::new(size.into()).as_bytes());
                self.push(&[digest.len() as u8]);
                self.push(digest);
                self.slots.take(kind, size, digest);
            }
        }
    }

    fn batch(&mut self, begins: Option<u8>) {
        match begins {
            Some(mark) if self.each == Some(mark) => {}
            Some(mark) if self.batched => {
                self.each = Some(mark);
                self.push(&[BATCH | BATCH_EACH << 3 | mark & 7]);
            }
            Some(mark) => self.push(&[BATCH | BATCH_NEXT << 3 | mark & 7]),
            None if self.each.take().is_some() => self.push(&[BATCH | BATCH_NONE << 3]),
            None => {}
        }
        self.batched = begins.is_some();
    }

    /// Counts one more in the last byte, or begins another.
    fn predicted(&mut self, code: u8) {
        let counted = self.last.filter(|&last| last & !7 == code && last & 7 < 7);
        if let (Some(last), Some(byte)) = (counted, self.buffer.get_mut(self.len.wrapping_sub(1))) {
            *byte = last.wrapping_add(1);
            self.last = Some(*byte);
        } else {
            self.push(&[code]);
            self.last = Some(code);
        }
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn push(&mut self, bytes: &[u8]) {
        self.last = None;
        if put(self.buffer, self.len, bytes) {
            self.len = self.len.saturating_add(bytes.len());
        }
    }
}

/// A record, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'i> {
    pub(super) offset: u32,
    pub(super) framed: u32,
    pub(super) kind: u8,
    pub(super) size: u32,
    pub(super) digest: &'i [u8],
}

/// Reads an index.
#[derive(Debug)]
pub(super) struct IndexReader<'i> {
    ring: Ring,
    rest: &'i [u8],
    slots: Slots,
    each: Option<u8>,
    once: Option<u8>,
    repeat: Option<(u8, u8)>,
    offset: u32,
    digest: [u8; PREDICTED_MAX],
}

impl<'i> IndexReader<'i> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn new(ring: Ring, index: &'i [u8]) -> Self {
        IndexReader {
            ring,
            rest: index,
            slots: Slots::default(),
            each: None,
            once: None,
            repeat: None,
            offset: ring.start(),
            digest: [0; PREDICTED_MAX],
        }
    }

    /// The next record; none at the end, and if the index makes no sense.
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
        if let Some((number, left)) = self.repeat.take() {
            self.repeat = left.checked_sub(1).map(|left| (number, left));
            return self.predicted(number, None);
        }
        loop {
            let (&code, rest) = self.rest.split_first()?;
            self.rest = rest;
            let number = code >> 3 & 7;
            match code & BATCH {
                PREDICTED => {
                    self.repeat = (code & 7).checked_sub(1).map(|left| (number, left));
                    return self.predicted(number, None);
                }
                RESIZED => {
                    let size = self.varint()?;
                    return self.predicted(number, Some(size));
                }
                BATCH => self.batch(number, code & 7),
                _ => return self.spelled(),
            }
        }
    }

    fn batch(&mut self, what: u8, mark: u8) {
        (self.once, self.each) = match what {
            BATCH_NEXT => (Some(mark), None),
            BATCH_EACH => (None, Some(mark)),
            _ => (None, None),
        };
    }

    fn varint(&mut self) -> Option<u32> {
        let (number, len) = Varint::decode(self.rest)?;
        self.rest = self.rest.split_at_checked(len)?.1;
        u32::try_from(number).ok()
    }

    fn spelled(&mut self) -> Option<Entry<'_>> {
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        let size = self.varint()?;
        let (&digest_size, rest) = self.rest.split_first()?;
        let (digest, rest) = rest.split_at_checked(digest_size.into())?;
        self.rest = rest;
        self.slots.take(kind, size, digest);
        let (offset, framed) = self.place(size)?;
        Some(Entry { offset, framed, kind, size, digest })
    }

    fn predicted(&mut self, number: u8, size: Option<u32>) -> Option<Entry<'_>> {
        let slot = self.slots.slots.get_mut(usize::from(number)).filter(|slot| slot.used)?;
        slot.size = size.unwrap_or(slot.size);
        let (kind, size, len) = (slot.kind, slot.size, usize::from(slot.digest_size));
        self.digest = slot.digest;
        slot.advance();
        let (offset, framed) = self.place(size)?;
        Some(Entry { offset, framed, kind, size, digest: take(&self.digest, 0, len)? })
    }

    fn place(&mut self, size: u32) -> Option<(u32, u32)> {
        let mark = self.once.take().or(self.each);
        let offset = if mark.is_some() { self.ring.align(self.offset) } else { self.offset };
        let length = framed(mark.unwrap_or(0).into(), size);
        self.offset = offset.checked_add(length).filter(|&end| end <= self.ring.size())?;
        Some((offset, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::Geometry;

    fn ring() -> Ring {
        Ring::new(Geometry { segment_size: 1 << 16, segment_count: 8, write_unit: 8 }).unwrap()
    }

    type Item = (u8, u32, Vec<u8>, Option<u8>);

    fn index(items: &[Item], memory: &mut [u8]) -> usize {
        let mut writer = IndexWriter::new(memory);
        for (kind, size, digest, begins) in items {
            assert!(
                writer.capacity() as usize - writer.as_bytes().len()
                    >= cost_max(digest.len() as u32) as usize
            );
            writer.add(*kind, *size, digest, *begins);
        }
        writer.as_bytes().len()
    }

    fn check(items: &[Item]) -> usize {
        let mut memory = [0; 20_000];
        let len = index(items, &mut memory);
        let mut reader = IndexReader::new(ring(), &memory[..len]);
        let mut offset = ring().start();
        for (i, (kind, size, digest, begins)) in items.iter().enumerate() {
            if begins.is_some() {
                offset = ring().align(offset);
            }
            let entry = reader.next().unwrap();
            assert_eq!((entry.kind, entry.size, entry.offset), (*kind, *size, offset), "{i}");
            assert_eq!(entry.digest, digest, "{i}");
            offset += framed(begins.unwrap_or(0).into(), *size);
            assert_eq!(entry.offset + entry.framed, offset);
        }
        assert_eq!(reader.next(), None);
        len
    }

    fn digest(queue: u8, offset: u64) -> Vec<u8> {
        [&[queue], Varint::new(offset).as_bytes()].concat()
    }

    #[test]
    fn messages_of_one_queue_cost_a_byte_for_eight() {
        let items: Vec<Item> = (0..400).map(|n| (1, 90, digest(3, 200 + n), None)).collect();
        assert!(check(&items) < 70);
        let items: Vec<Item> = (0..400).map(|n| (1, 90, digest(3, 200 + n), Some(1))).collect();
        assert!(check(&items) < 75);
    }

    #[test]
    fn interleaved_queues_and_acknowledgements_cost_a_byte_each() {
        let mut items = Vec::new();
        for n in 0..200 {
            items.push((1, 90, digest(n as u8 % 3, 500 + n / 3), Some(2)));
            items.push((2, 3, digest(n as u8 % 3, 500 + n / 3), None));
        }
        assert!(check(&items) < 400 + 400 + 60);
    }

    #[test]
    fn anything_at_all_comes_back() {
        let mut state = 0x1234_5678_9abc_def1u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..200 {
            let mut items = Vec::new();
            for _ in 0..random(100) {
                let mut d: Vec<u8> = (0..random(5)).map(|_| (random(3) * 127) as u8).collect();
                if random(9) == 0 {
                    d = vec![random(256) as u8; random(60) as usize];
                }
                let begins = (random(3) == 0).then(|| random(6) as u8);
                items.push((random(3) as u8, d.len() as u32 + random(2) as u32 * 100, d, begins));
            }
            check(&items);
        }
    }

    #[test]
    fn nonsense_ends_instead_of_panicking() {
        let mut bytes = [0u8; 64];
        for seed in 0..5000u32 {
            let mut state = seed | 1;
            for byte in &mut bytes {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            let mut reader = IndexReader::new(ring(), &bytes);
            while reader.next().is_some() {}
        }
    }
}
