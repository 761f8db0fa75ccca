//! What a leaf writes into its log.
//!
//! ```text
//! MESSAGE  0x20   digest   priority u8 | FRESH 0x40 | MOVED 0x80, [moved from varint] if MOVED, sequence varint
//!                 payload  flags u8 (of `wire::frame`, without the lane), time varint,
//!                          [ttl varint, delay varint] if TIMED, topic length u8, topic, body
//! SETTLED  0x21   digest   epoch u32 LE, sequence varint of each lane: what is confirmed or dropped up to there
//! ```
//! One that makes room by being stored again behind the others says which sequence it had: with it
//! everything of its lane up to there is settled, so that no loss of power leaves both.
//!
//! The broker's kinds are others, so that neither takes the store of the other for its own. The
//! sequence comes last in a digest: the log's footer then keeps a run of messages in a few bytes.

use crate::fixed::{Reader, Writer};

/// A message.
pub const MESSAGE: u8 = 0x20;
/// Everything up to a sequence is confirmed or dropped.
pub const SETTLED: u8 = 0x21;

/// Of a message's flags: `ttl` and `delay` follow its time.
const TIMED: u8 = 0x80;

/// Of the first byte of a message's digest: it is of the lane of what is fresh.
const FRESH: u8 = 0x40;
/// Of the same: the sequence it had before follows.
const MOVED: u8 = 0x80;

/// Lanes of a leaf.
pub const LANES: usize = 2;

/// Bytes of the digest of any record here, at most.
pub const DIGEST_MAX: usize = 4 + 10 * LANES;
/// Bytes in front of a message's topic, at most.
pub const FRONT_MAX: usize = 1 + 10 + 5 + 5 + 1;

/// What is known of a message besides topic and body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Flags, as in `wire::frame`.
    pub flags: u8,
    /// When it was published, in milliseconds: since 1970 if `DATED`, else of the device's clock.
    pub time_ms: u64,
    /// 0: none.
    pub ttl_ms: u32,
    /// 0: none.
    pub delay_ms: u32,
}

/// Writes what stands before the topic; none if the topic is longer than 255 bytes.
pub fn write_front<'b>(head: &Head, topic: &str, into: &'b mut [u8; FRONT_MAX]) -> Option<&'b [u8]> {
    let is_timed = head.ttl_ms > 0 || head.delay_ms > 0;
    let mut writer = Writer::new(into);
    writer.byte(if is_timed { head.flags | TIMED } else { head.flags });
    writer.varint(head.time_ms);
    if is_timed {
        writer.varint(head.ttl_ms.into());
        writer.varint(head.delay_ms.into());
    }
    writer.byte(u8::try_from(topic.len()).ok()?);
    writer.finish()
}

/// Takes the payload of a message apart: head, topic, body.
pub fn read_payload(payload: &[u8]) -> Option<(Head, &str, &[u8])> {
    let mut reader = Reader::new(payload);
    let flags = reader.byte()?;
    let mut head = Head { flags: flags & !TIMED, time_ms: reader.varint()?, ..Head::default() };
    if flags & TIMED != 0 {
        head.ttl_ms = u32::try_from(reader.varint()?).ok()?;
        head.delay_ms = u32::try_from(reader.varint()?).ok()?;
    }
    let size = reader.byte()?;
    let topic = core::str::from_utf8(reader.bytes(size.into())?).ok()?;
    Some((head, topic, reader.rest()))
}

/// What the digest of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// 0 to 9.
    pub priority: u8,
    /// Its lane, below [`LANES`].
    pub lane: usize,
    /// The sequence it had before it made room; 0 if it never had to.
    pub moved_from: u64,
    /// Its sequence.
    pub sequence: u64,
}

impl Mark {
    /// The digest.
    pub fn write<'b>(&self, into: &'b mut [u8; DIGEST_MAX]) -> &'b [u8] {
        let mut writer = Writer::new(into);
        let lane = if self.lane > 0 { FRESH } else { 0 };
        let moved = if self.moved_from > 0 { MOVED } else { 0 };
        writer.byte(self.priority | lane | moved);
        if self.moved_from > 0 {
            writer.varint(self.moved_from);
        }
        writer.varint(self.sequence);
        writer.finish().unwrap_or(&[])
    }

    /// Reads a digest.
    pub fn read(digest: &[u8]) -> Option<Mark> {
        let mut reader = Reader::new(digest);
        let first = reader.byte()?;
        let moved_from = if first & MOVED != 0 { reader.varint()? } else { 0 };
        let lane = usize::from(first & FRESH != 0);
        Some(Mark { priority: first & !(MOVED | FRESH), lane, moved_from, sequence: reader.varint()? })
    }
}

/// The digest of what is settled.
pub fn settled_digest(epoch: u32, upto: [u64; LANES], into: &mut [u8; DIGEST_MAX]) -> &[u8] {
    let mut writer = Writer::new(into);
    writer.bytes(&epoch.to_le_bytes());
    upto.iter().for_each(|&upto| writer.varint(upto));
    writer.finish().unwrap_or(&[])
}

/// Epoch and sequences of what is settled.
pub fn read_settled_digest(digest: &[u8]) -> Option<(u32, [u64; LANES])> {
    let mut reader = Reader::new(digest);
    let epoch = u32::from_le_bytes(reader.bytes(4)?.try_into().ok()?);
    let first = reader.varint()?;
    // A store of before there were lanes has one.
    let second = if reader.is_empty() { 0 } else { reader.varint()? };
    Some((epoch, [first, second]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_written() {
        for head in [
            Head { flags: 12, time_ms: 1 << 41, ttl_ms: 5, delay_ms: u32::MAX },
            Head { flags: 0, time_ms: 0, ttl_ms: 0, delay_ms: 0 },
        ] {
            let mut front = [0; FRONT_MAX];
            let front = write_front(&head, "a/b", &mut front).unwrap();
            let payload = [front, b"a/b", b"body"].concat();
            assert_eq!(read_payload(&payload), Some((head, "a/b", &b"body"[..])));
        }
        let mut digest = [0; DIGEST_MAX];
        for (lane, moved_from) in [(0, 0), (1, 0), (0, u64::MAX), (1, 7)] {
            let mark = Mark { priority: 9, lane, moved_from, sequence: u64::MAX };
            assert_eq!(Mark::read(mark.write(&mut digest)), Some(mark));
        }
        let settled = [u64::MAX, 3];
        assert_eq!(
            read_settled_digest(settled_digest(u32::MAX, settled, &mut digest)),
            Some((u32::MAX, settled))
        );
        assert_eq!(read_settled_digest(&[1, 0, 0, 0, 5]), Some((1, [5, 0])));
        assert_eq!(write_front(&Head::default(), &"t".repeat(256), &mut [0; FRONT_MAX]), None);
    }
}
