//! Strings, topic names and topic filters (1.5.4, 4.7, 4.8.2).
//!
//! A topic name is judged on every publish, so the common one (ASCII, no wildcard) is passed in
//! one scan of eight bytes at a time; only what that scan finds suspicious is read closely.
//!
//! ```text
//! filter   level *( "/" level )       level: "+", or text without "+" and "#"; "#" as the last
//! shared   "$share/" group "/" filter      group: text without "/", "+" and "#", not empty
//! ```
//! Limit: a string is at most 65,535 bytes; its prefix says so.

use super::error::{DecodeError, EncodeError};
use super::Version;

const LOWS: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const PLUSES: u64 = LOWS * b'+' as u64;
const WILDCARD_BITS: u64 = LOWS * (b'+' ^ b'#') as u64;
const SHARE: &[u8] = b"$share/";

/// The string these bytes are: well-formed UTF-8 without U+0000 [MQTT-1.5.4-1], [MQTT-1.5.4-2].
/// Surrogates are not well-formed; other control characters and U+FEFF pass as they are.
pub fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    let Ok(text) = core::str::from_utf8(bytes) else { return Err(DecodeError::NotUtf8) };
    if bytes.contains(&0) {
        return Err(DecodeError::NullCharacter);
    }
    Ok(text)
}

/// Judges a topic name: a string, not empty, without wildcards [MQTT-3.3.2-2], [MQTT-4.7.3-1].
#[inline]
pub fn topic_name(bytes: &[u8]) -> Result<(), DecodeError> {
    if plain(bytes) && !bytes.is_empty() {
        return Ok(());
    }
    close_look(bytes)
}

#[cold]
fn close_look(bytes: &[u8]) -> Result<(), DecodeError> {
    text(bytes)?;
    if bytes.is_empty() || bytes.iter().any(|&byte| byte == b'+' || byte == b'#') {
        return Err(DecodeError::TopicName);
    }
    Ok(())
}

/// Only ASCII, without NUL and wildcards.
#[inline]
fn plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().all(|&byte| !matches!(byte, 0 | b'+' | b'#' | 0x80..));
    };
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        if suspicious(*word) {
            return false;
        }
        rest = tail;
    }
    // What is left is shorter than a word: the last word has it, and some bytes twice.
    !suspicious(*last)
}

/// Some of these is beyond ASCII, NUL or a wildcard; the two wildcards differ in one bit.
#[inline]
const fn suspicious(bytes: [u8; 8]) -> bool {
    let word = u64::from_le_bytes(bytes);
    (word | zeros(word) | zeros((word | WILDCARD_BITS) ^ PLUSES)) & HIGHS != 0
}

/// Sets the high bit of the lowest byte that is 0; higher ones may be set by its borrow.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOWS) & !word
}

/// The filter these bytes are. In v5 `$share/` must go on as a shared subscription; in 3.1.1
/// that is a filter like any other.
pub fn topic_filter(bytes: &[u8], version: Version) -> Result<&str, DecodeError> {
    let filter = text(bytes)?;
    match bytes.strip_prefix(SHARE) {
        Some(_) if version == Version::V5 => {
            let (_, inner) = split_share(filter).ok_or(DecodeError::ShareName)?;
            levels(inner.as_bytes())?;
        }
        _ => levels(bytes)?,
    }
    Ok(filter)
}

/// Judges where the wildcards stand [MQTT-4.7.1-1], [MQTT-4.7.1-2].
fn levels(filter: &[u8]) -> Result<(), DecodeError> {
    if filter.is_empty() {
        return Err(DecodeError::TopicFilter);
    }
    let mut levels = filter.split(|&byte| byte == b'/').peekable();
    while let Some(level) = levels.next() {
        let fine = match level {
            b"+" => true,
            b"#" => levels.peek().is_none(),
            _ => !level.iter().any(|&byte| byte == b'+' || byte == b'#'),
        };
        if !fine {
            return Err(DecodeError::TopicFilter);
        }
    }
    Ok(())
}

/// Group and filter of a shared subscription; none if the text is no shared subscription
/// (4.8.2). The filter is not judged.
pub fn split_share(filter: &str) -> Option<(&str, &str)> {
    let (group, inner) = filter.strip_prefix("$share/")?.split_once('/')?;
    if group.is_empty() || inner.is_empty() || group.contains(['+', '#']) {
        return None;
    }
    Some((group, inner))
}

/// Whether a filter selects a topic (4.7). Both are taken as valid; a shared subscription is
/// matched by its inner filter. Wildcards do not select a first level that begins with `$`
/// [MQTT-4.7.2-1].
pub fn match_filter(filter: &[u8], topic: &[u8]) -> bool {
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let mut wanted = filter.split(|&byte| byte == b'/');
    let mut given = topic.split(|&byte| byte == b'/');
    loop {
        match (wanted.next(), given.next()) {
            (Some(b"#"), _) | (None, None) => return true,
            (Some(b"+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}

/// A string that is to be written: no U+0000, not too long.
pub(super) fn check_text(text: &str) -> Result<(), EncodeError> {
    check_binary(text.as_bytes())?;
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::Invalid(DecodeError::NullCharacter));
    }
    Ok(())
}

/// Bytes that are to be written behind a two-byte length.
pub(super) fn check_binary(bytes: &[u8]) -> Result<(), EncodeError> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(EncodeError::TooLong);
    }
    Ok(())
}

/// A topic name that is to be written.
pub(super) fn check_topic(topic: &[u8]) -> Result<(), EncodeError> {
    check_binary(topic)?;
    Ok(topic_name(topic)?)
}
