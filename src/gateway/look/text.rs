//! Times and bytes as people read them, in one line whatever they hold.

use std::fmt::{Display, Write};

use crate::gateway::logger::Utc;
use crate::model::headers::{Headers, Value};
use crate::time::EPOCH_UNIX_MS;
use crate::units::Millis;

/// Most queues that are named to somebody who named none of them.
const NAMES_MAX: usize = 20;

/// Log time as milliseconds since 1970.
pub fn unix_ms(time: Millis) -> u64 {
    time.0.saturating_add(EPOCH_UNIX_MS)
}

/// Log time as ISO 8601 in UTC, to the millisecond.
pub fn iso(time: Millis) -> String {
    let unix_ms = unix_ms(time);
    let seconds = Utc(unix_ms / 1000).to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms % 1000)
}

/// Bytes as text: UTF-8 as it is, what is none as `\xNN`, and control characters spelled out, so
/// that they neither break the line nor command the terminal.
pub fn plain(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                control if control.is_control() => push_escaped(&mut out, control as u32),
                other => out.push(other),
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_escaped(&mut out, byte.into()));
    }
    out
}

/// That there is no queue of a name in a place, and which there are.
pub fn no_queue<'n>(name: &str, place: &dyn Display, names: impl Iterator<Item = &'n str>) -> String {
    let name = plain(name.as_bytes());
    let names: Vec<String> = names.take(NAMES_MAX).map(|name| plain(name.as_bytes())).collect();
    match names.is_empty() {
        true => format!("there is no queue {name} in {place}, nor any other"),
        false => format!("there is no queue {name} in {place}; there are {}", names.join(", ")),
    }
}

fn push_escaped(out: &mut String, code: u32) {
    // Writing to a string cannot fail.
    let _ = write!(out, "\\x{code:02x}");
}

/// A block of headers in braces; nothing if there are none.
pub fn headers(block: &[u8]) -> String {
    let shown: Vec<String> = Headers::new(block)
        .map(|header| match header {
            Ok(header) => format!("{}: {}", plain(header.name.as_bytes()), value(&header.value)),
            Err(_) => "damaged".to_string(),
        })
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    format!("{{{}}}", shown.join(", "))
}

fn value(value: &Value<'_>) -> String {
    match *value {
        Value::Nil => "nil".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => format!("\"{}\"", plain(text.as_bytes())),
        Value::Bytes(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Value::Time(time_ms) => match u64::try_from(time_ms) {
            Ok(time_ms) => Utc(time_ms / 1000).to_string(),
            Err(_) => format!("{time_ms} ms"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::headers::Writer;

    #[test]
    fn a_message_stays_in_its_line_and_keeps_its_letters() {
        assert_eq!(plain("grün 20 °C".as_bytes()), "grün 20 °C");
        assert_eq!(plain(b"a\nb\t\x1b[31m\xff\xc3"), "a\\nb\\t\\x1b[31m\\xff\\xc3");
        assert_eq!(plain("\u{85}".as_bytes()), "\\x85");
    }

    #[test]
    fn log_time_is_shown_in_utc() {
        assert_eq!(iso(Millis(0)), "2020-01-01T00:00:00.000Z");
        assert_eq!(iso(Millis(1_709_251_199_007 - EPOCH_UNIX_MS)), "2024-02-29T23:59:59.007Z");
    }

    #[test]
    fn headers_are_shown_with_their_values() {
        let mut buffer = [0; 128];
        let mut writer = Writer::new(&mut buffer);
        writer.push("unit", Value::Text("°C")).unwrap();
        writer.push("n", Value::Int(-3)).unwrap();
        writer.push("at", Value::Time(951_782_400_000)).unwrap();
        assert_eq!(headers(writer.finish()), "{unit: \"°C\", n: -3, at: 2000-02-29T00:00:00Z}");
        assert_eq!(headers(&[]), "");
        assert_eq!(headers(&[9]), "{damaged}");
    }
}
