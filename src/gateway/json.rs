//! JSON as it is written here: objects, member after member.
//!
//! Nothing is read, so a writer is all there is. Bytes are text where they are UTF-8, and otherwise
//! base64 under the same name with `_base64` behind it, so that a reader need not guess.

use std::fmt::Display;

/// An object that grows by its members.
#[derive(Clone, Debug)]
pub struct Object(String);

impl Object {
    /// Without members.
    pub fn new() -> Object {
        Object(String::from("{"))
    }

    /// Adds a member whose value is JSON already: a number, a truth value, an object, a list.
    pub fn member(mut self, name: &str, json: impl Display) -> Object {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&format!("{}:{json}", string(name)));
        self
    }

    /// Adds a text.
    pub fn text(self, name: &str, text: &str) -> Object {
        self.member(name, string(text))
    }

    /// Adds a text, or null.
    pub fn text_or_null(self, name: &str, text: Option<&str>) -> Object {
        match text {
            Some(text) => self.text(name, text),
            None => self.member(name, "null"),
        }
    }

    /// Adds bytes, as text if they are one.
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Object {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(name, text),
            Err(_) => self.text(&format!("{name}_base64"), &base64(bytes)),
        }
    }

    /// The object.
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A list of values that are JSON already.
pub fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

/// A text as JSON.
pub fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The standard alphabet of RFC 4648, with padding.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place) & 0x3f) as usize;
            let letter = ALPHABET.get(sextet).filter(|_| place <= group.len());
            out.push(letter.map_or('=', |&letter| char::from(letter)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be_and_base64_elsewhere() {
        let object = Object::new().bytes("a", b"gr\xc3\xbcn \"\n").bytes("b", &[0xff, 0, 1]).member("c", 7);
        assert_eq!(object.finish(), "{\"a\":\"grün \\\"\\u000a\",\"b_base64\":\"/wAB\",\"c\":7}");
        assert_eq!(Object::new().finish(), "{}");
    }

    #[test]
    fn base64_pads_as_the_standard_has_it() {
        for (text, code) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(text.as_bytes()), code);
        }
    }
}
