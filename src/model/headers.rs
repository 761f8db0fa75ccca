//! Message headers in Forebay's own encoding, and the arguments of a headers binding.
//!
//! Every protocol's properties become one block of named, typed values, which is stored with
//! the message as it is. A block is checked once, where it enters ([`check`]); reading it later
//! is bounded by its length and ends early, without harm, where it is damaged.
//! ```text
//! header   name_size u8 · name · type u8 · value_size u16 LE · value
//! type     0 nil   1 bool (1 byte)   2 int (i64 LE)   3 float (f64 LE)
//!          4 text (UTF-8)   5 bytes   6 time (i64 LE, milliseconds since 1970)
//! ```
//! The arguments of a headers binding are such a block too. Their `x-match` says what must match,
//! as RabbitMQ has it: `all` (also without it) or `any` of the arguments, leaving out those named
//! `x-...`; `all-with-x` or `any-with-x` of all but `x-match` itself. An argument of type nil
//! matches if a header of that name is there; any other if one has the same type and bytes
//! (so a float matches by its bits). No arguments: `all` of them match, none of `any` does.
//!
//! Limits: names to 255 bytes, values to 65,535, [`COUNT_MAX`] headers in a block.

mod arguments;
pub(crate) use arguments::anchors;
pub use arguments::{check_arguments, matches};

/// Most headers in one block.
pub const COUNT_MAX: usize = 256;

const NIL: u8 = 0;
const BOOL: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 3;
const TEXT: u8 = 4;
pub(crate) const BYTES: u8 = 5;
const TIME: u8 = 6;

/// The value of a header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// A number of any width.
    Float(f64),
    /// A text.
    Text(&'a str),
    /// Bytes without further meaning.
    Bytes(&'a [u8]),
    /// Milliseconds since 1970.
    Time(i64),
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: Value<'a>,
}

/// The block is malformed, holds too many headers, or an argument has no such meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The header does not fit into what is left of the buffer, or is larger than the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A header as it stands in a block, its value not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    name: &'a [u8],
    kind: u8,
    value: &'a [u8],
    span: &'a [u8],
}

impl<'a> Raw<'a> {
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(crate) fn split(block: &'a [u8]) -> Option<(Raw<'a>, &'a [u8])> {
        let (&name_size, rest) = block.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(name_size))?;
        let (&kind, rest) = rest.split_first()?;
        let (value_size, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*value_size)))?;
        let span = block.get(..block.len().wrapping_sub(rest.len()))?;
        Some((Raw { name, kind, value, span }, rest))
    }

    /// Its value, if it has this name and is of this type.
    #[cfg(feature = "gateway")]
    pub(crate) fn value_of(self, name: &str, kind: u8) -> Option<&'a [u8]> {
        (self.name == name.as_bytes() && self.kind == kind).then_some(self.value)
    }

    fn parse(self) -> Result<Header<'a>, Malformed> {
        let name = core::str::from_utf8(self.name).map_err(|_| Malformed)?;
        let number = || <[u8; 8]>::try_from(self.value).map_err(|_| Malformed);
        let value = match (self.kind, self.value) {
            (NIL, []) => Value::Nil,
            (BOOL, [0]) => Value::Bool(false),
            (BOOL, [1]) => Value::Bool(true),
            (INT, _) => Value::Int(i64::from_le_bytes(number()?)),
            (FLOAT, _) => Value::Float(f64::from_le_bytes(number()?)),
            (TEXT, text) => Value::Text(core::str::from_utf8(text).map_err(|_| Malformed)?),
            (BYTES, bytes) => Value::Bytes(bytes),
            (TIME, _) => Value::Time(i64::from_le_bytes(number()?)),
            _ => return Err(Malformed),
        };
        Ok(Header { name, value })
    }
}

/// The headers of a block, unparsed; ends at its end, at damage, or after [`COUNT_MAX`].
fn raws(block: &[u8]) -> Raws<'_> {
    Raws { rest: block, left: COUNT_MAX }
}

/// See [`raws`].
#[derive(Clone, Copy, Debug)]
struct Raws<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Raws<'a> {
    type Item = Raw<'a>;

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn next(&mut self) -> Option<Raw<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (raw, rest) = Raw::split(self.rest)?;
        self.rest = rest;
        Some(raw)
    }
}

/// Iterates over a block and validates it on the way; ends after the first error.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Headers<'a> {
    /// The headers of a block.
    pub const fn new(block: &'a [u8]) -> Headers<'a> {
        Headers { rest: block, left: COUNT_MAX }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let block = core::mem::take(&mut self.rest);
        let Some(left) = self.left.checked_sub(1) else { return Some(Err(Malformed)) };
        self.left = left;
        let Some((raw, rest)) = Raw::split(block) else { return Some(Err(Malformed)) };
        let parsed = raw.parse();
        if parsed.is_ok() {
            self.rest = rest;
        }
        Some(parsed)
    }
}

/// The block is well-formed.
pub fn check(block: &[u8]) -> Result<(), Malformed> {
    Headers::new(block).try_for_each(|header| header.map(|_| ()))
}

/// The value of the first header of a name.
pub fn find<'a>(block: &'a [u8], name: &str) -> Option<Value<'a>> {
    let raw = raws(block).find(|raw| raw.name == name.as_bytes())?;
    raw.parse().ok().map(|header| header.value)
}

/// Writes headers one after another into a buffer.
#[derive(Debug)]
pub struct Writer<'b> {
    into: &'b mut [u8],
    size: usize,
}

impl<'b> Writer<'b> {
    /// An empty block at the start of a buffer.
    pub const fn new(into: &'b mut [u8]) -> Writer<'b> {
        Writer { into, size: 0 }
    }

    /// Appends a header, or nothing of it.
    pub fn push(&mut self, name: &str, value: Value<'_>) -> Result<(), NoRoom> {
        match value {
            Value::Nil => self.push_raw(name, NIL, &[]),
            Value::Bool(truth) => self.push_raw(name, BOOL, &[u8::from(truth)]),
            Value::Int(number) => self.push_raw(name, INT, &number.to_le_bytes()),
            Value::Float(number) => self.push_raw(name, FLOAT, &number.to_le_bytes()),
            Value::Text(text) => self.push_raw(name, TEXT, text.as_bytes()),
            Value::Bytes(bytes) => self.push_raw(name, BYTES, bytes),
            Value::Time(time_ms) => self.push_raw(name, TIME, &time_ms.to_le_bytes()),
        }
    }

    fn push_raw(&mut self, name: &str, kind: u8, value: &[u8]) -> Result<(), NoRoom> {
        let name_size = u8::try_from(name.len()).map_err(|_| NoRoom)?;
        let value_size = u16::try_from(value.len()).map_err(|_| NoRoom)?;
        let [low, high] = value_size.to_le_bytes();
        let size = usize::from(name_size) + usize::from(value_size) + 4;
        let (place, _) =
            self.into.get_mut(self.size..).ok_or(NoRoom)?.split_at_mut_checked(size).ok_or(NoRoom)?;
        let header = core::iter::once(&name_size)
            .chain(name.as_bytes())
            .chain([&kind, &low, &high])
            .chain(value.iter());
        for (to, from) in place.iter_mut().zip(header) {
            *to = *from;
        }
        self.size = self.size.wrapping_add(size);
        Ok(())
    }

    /// Bytes written.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The block.
    pub fn finish(self) -> &'b [u8] {
        self.into.get(..self.size).unwrap_or_default()
    }
}

/// The span of every header of a message.
pub(crate) fn spans(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    raws(block).map(|raw| raw.span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_TYPE: [(&str, Value<'static>); 8] = [
        ("nil", Value::Nil),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("int", Value::Int(-7)),
        ("float", Value::Float(2.5)),
        ("text", Value::Text("grün")),
        ("bytes", Value::Bytes(&[0, 255])),
        ("time", Value::Time(1_700_000_000_000)),
    ];

    fn block<'b>(into: &'b mut [u8], headers: &[(&str, Value<'_>)]) -> &'b [u8] {
        let mut writer = Writer::new(into);
        for &(name, value) in headers {
            writer.push(name, value).unwrap();
        }
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = [0; 256];
        let block = block(&mut buffer, &EVERY_TYPE);
        assert_eq!(check(block), Ok(()));
        let mut expected = EVERY_TYPE.iter();
        for header in Headers::new(block) {
            let &(name, value) = expected.next().unwrap();
            assert_eq!(header, Ok(Header { name, value }));
        }
        assert_eq!(expected.next(), None);
        assert_eq!(find(block, "int"), Some(Value::Int(-7)));
        assert_eq!(find(block, "none"), None);
    }

    #[test]
    fn a_cut_block_is_malformed_unless_cut_between_headers() {
        let mut buffer = [0; 256];
        let block = block(&mut buffer, &EVERY_TYPE);
        let whole = (0..=block.len()).filter(|&end| check(&block[..end]).is_ok()).count();
        assert_eq!(whole, EVERY_TYPE.len() + 1);
    }

    #[test]
    fn bad_types_sizes_and_texts_are_malformed_and_end_the_iteration() {
        for bad in [
            &[1, b'a', 9, 0, 0][..],
            &[1, b'a', BOOL, 1, 0, 2],
            &[1, b'a', NIL, 1, 0, 0],
            &[1, b'a', INT, 4, 0, 0, 0, 0, 0],
            &[1, b'a', TEXT, 1, 0, 0xff],
            &[1, 0xff, NIL, 0, 0],
        ] {
            let mut headers = Headers::new(bad);
            assert_eq!(headers.next(), Some(Err(Malformed)));
            assert_eq!(headers.next(), None);
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut state = 5u64;
        for _ in 0..20_000 {
            let mut noise = [0u8; 24];
            for byte in &mut noise {
                state = crate::model::hash::fold(state ^ 0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15);
                *byte = if state & 64 == 0 { (state % 5) as u8 } else { (state >> 16) as u8 };
            }
            assert!(Headers::new(&noise).count() <= noise.len());
            matches(noise.iter().copied(), &noise);
            assert!(anchors(&noise).count() <= noise.len());
        }
    }

    #[test]
    fn too_many_headers_are_malformed() {
        let mut buffer = [0; 5 * (COUNT_MAX + 1)];
        let mut writer = Writer::new(&mut buffer);
        for _ in 0..COUNT_MAX {
            writer.push("n", Value::Nil).unwrap();
        }
        assert_eq!(check(writer.into.get(..writer.size).unwrap()), Ok(()));
        writer.push("n", Value::Nil).unwrap();
        assert_eq!(check(writer.finish()), Err(Malformed));
    }

    #[test]
    fn a_header_without_room_writes_nothing() {
        let mut buffer = [0xee; 12];
        let mut writer = Writer::new(&mut buffer);
        writer.push("ab", Value::Text("c")).unwrap();
        assert_eq!(writer.push("ab", Value::Nil), Err(NoRoom));
        assert_eq!(writer.size(), 7);
        writer.push("a", Value::Nil).unwrap();
        assert_eq!(check(writer.finish()), Ok(()));
        let mut large = [0; 600];
        let name = core::str::from_utf8(&[b'n'; 256]).unwrap();
        assert_eq!(Writer::new(&mut large).push(name, Value::Nil), Err(NoRoom));
    }

    type Pairs<'a> = &'a [(&'a str, Value<'a>)];

    fn does_match(binding: Pairs<'_>, message: Pairs<'_>) -> bool {
        let (mut first, mut second) = ([0; 256], [0; 256]);
        let (binding, message) = (block(&mut first, binding), block(&mut second, message));
        assert_eq!(check_arguments(binding), Ok(()));
        let found = matches(binding.iter().copied(), message);
        let mut anchored = anchors(binding).peekable();
        if found && anchored.peek().is_some() {
            assert!(anchored.any(|anchor| spans(message).any(|span| span == anchor)));
        }
        found
    }

    #[test]
    fn arguments_match_as_x_match_says() {
        use Value::{Int, Nil, Text};
        let mode = |name| ("x-match", Text(name));
        let (a1, a2, b1) = (("a", Int(1)), ("a", Int(2)), ("b", Int(1)));
        let (x1, x2) = (("x-a", Int(1)), ("x-a", Int(2)));
        let table: &[(Pairs<'_>, Pairs<'_>, bool)] = &[
            (&[], &[], true),
            (&[], &[a1], true),
            (&[a1], &[a1, b1], true),
            (&[a1, b1], &[b1, a1], true),
            (&[a1, b1], &[a1], false),
            (&[a1], &[a2], false),
            (&[a1], &[a2, a1], true),
            (&[a1], &[("a", Text("1"))], false),
            (&[("a", Nil)], &[a2], true),
            (&[("a", Nil)], &[b1], false),
            (&[("a", Nil), b1], &[a2, b1], true),
            (&[mode("all"), a1], &[a1], true),
            (&[a1, mode("all"), b1], &[a1], false),
            (&[mode("any")], &[], false),
            (&[mode("any")], &[a1], false),
            (&[mode("any"), a1, b1], &[b1], true),
            (&[mode("any"), a1, b1], &[a2], false),
            (&[mode("any"), ("a", Nil), b1], &[a2], true),
            (&[mode("all"), x1], &[], true),
            (&[mode("all"), x1, a1], &[x2, a1], true),
            (&[mode("any"), x1], &[x1], false),
            (&[mode("all-with-x"), x1, a1], &[x2, a1], false),
            (&[mode("all-with-x"), x1, a1], &[x1, a1], true),
            (&[mode("any-with-x"), x1, a1], &[x1], true),
            (&[mode("any-with-x"), x1, a1], &[x2], false),
            (&[mode("any-with-x"), x1], &[mode("any-with-x")], false),
        ];
        for (row, &(binding, message, expected)) in table.iter().enumerate() {
            assert_eq!(does_match(binding, message), expected, "row {row}");
        }
    }

    #[test]
    fn an_unknown_x_match_is_refused() {
        let mut buffer = [0; 64];
        assert_eq!(check_arguments(block(&mut buffer, &[("x-match", Value::Text("most"))])), Err(Malformed));
        assert_eq!(check_arguments(block(&mut buffer, &[("x-match", Value::Int(1))])), Err(Malformed));
    }
}
