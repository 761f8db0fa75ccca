//! What a leaf writes into its log.
//!
//! ```text
//! MESSAGE  0x20   digest   priority u8, sequence varint
//!                 payload  flags u8 (of `wire::frame`, without the lane), time varint,
//!                          [ttl varint, delay varint] if TIMED, topic length u8, topic, body
//! SETTLED  0x21   digest   epoch u32 LE, sequence varint: what is confirmed or dropped up to there
//! ```
//! The broker's kinds are others, so that neither takes the store of the other for its own. The
//! sequence comes last in a digest: the log's footer then keeps a run of messages in a few bytes.

use crate::fixed::{Reader, Writer};

/// A message.
pub const MESSAGE: u8 = 0x20;
/// Everything up to a sequence is confirmed or dropped.
pub const SETTLED: u8 = 0x21;

/// Of a message's flags: `ttl` and `delay` follow its time.
const TIMED: u8 = 0x80;

/// Bytes of the digest of any record here, at most.
pub const DIGEST_MAX: usize = 4 + 10;
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

/// The digest of a message.
pub fn message_digest(priority: u8, sequence: u64, into: &mut [u8; DIGEST_MAX]) -> &[u8] {
    let mut writer = Writer::new(into);
    writer.byte(priority);
    writer.varint(sequence);
    writer.finish().unwrap_or(&[])
}

/// Priority and sequence of a message.
pub fn read_message_digest(digest: &[u8]) -> Option<(u8, u64)> {
    let mut reader = Reader::new(digest);
    Some((reader.byte()?, reader.varint()?))
}

/// The digest of what is settled.
pub fn settled_digest(epoch: u32, upto: u64, into: &mut [u8; DIGEST_MAX]) -> &[u8] {
    let mut writer = Writer::new(into);
    writer.bytes(&epoch.to_le_bytes());
    writer.varint(upto);
    writer.finish().unwrap_or(&[])
}

/// Epoch and sequence of what is settled.
pub fn read_settled_digest(digest: &[u8]) -> Option<(u32, u64)> {
    let mut reader = Reader::new(digest);
    let epoch = u32::from_le_bytes(reader.bytes(4)?.try_into().ok()?);
    Some((epoch, reader.varint()?))
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
        assert_eq!(read_message_digest(message_digest(9, u64::MAX, &mut digest)), Some((9, u64::MAX)));
        assert_eq!(
            read_settled_digest(settled_digest(u32::MAX, u64::MAX, &mut digest)),
            Some((u32::MAX, u64::MAX))
        );
        assert_eq!(write_front(&Head::default(), &"t".repeat(256), &mut [0; FRONT_MAX]), None);
    }
}
