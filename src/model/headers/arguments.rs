//! The arguments of a headers binding: what they ask of a message, and where to find who asks.
//!
//! The arguments are a block of headers like any other (see the parent); `x-match` among them
//! says how they are meant. Those of a bound binding are read from the cells they are kept in,
//! those of a bind and the headers of a message from their block.

use super::{check, raws, Malformed, Raw, Raws, COUNT_MAX, NIL, TEXT};
use core::iter::Take;

const X_MATCH: &[u8] = b"x-match";

/// What `x-match` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    every: bool,
    with_x: bool,
}

impl Mode {
    const ALL: Mode = Mode { every: true, with_x: false };

    fn named(name: &[u8]) -> Option<Mode> {
        Some(match name {
            b"all" => Mode::ALL,
            b"any" => Mode { every: false, with_x: false },
            b"all-with-x" => Mode { every: true, with_x: true },
            b"any-with-x" => Mode { every: false, with_x: true },
            _ => return None,
        })
    }

    fn is_relevant(self, name: &[u8]) -> bool {
        name != X_MATCH && (self.with_x || !name.starts_with(b"x-"))
    }
}

/// One argument of a binding, read from any sequence of bytes.
struct Argument<I> {
    name: Take<I>,
    kind: u8,
    value_size: u16,
    value: Take<I>,
}

impl<I: Iterator<Item = u8> + Clone> Argument<I> {
    /// Reads the argument at the front of `block` and moves `block` behind it.
    fn split(block: &mut I) -> Option<Argument<I>> {
        let name_size = usize::from(block.next()?);
        let name = block.clone().take(name_size);
        skip(block, name_size);
        let kind = block.next()?;
        let value_size = u16::from_le_bytes([block.next()?, block.next()?]);
        let value = block.clone().take(usize::from(value_size));
        skip(block, usize::from(value_size));
        Some(Argument { name, kind, value_size, value })
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.name.clone().eq(name.iter().copied())
    }

    fn is_ignored(&self, mode: Mode) -> bool {
        self.is_named(X_MATCH) || (!mode.with_x && self.name.clone().take(2).eq(*b"x-"))
    }

    /// What it asks for as the value of `x-match`.
    fn mode(&self) -> Option<Mode> {
        let mut text = [0; 16];
        let place = text.get_mut(..usize::from(self.value_size))?;
        place.iter_mut().zip(self.value.clone()).for_each(|(to, from)| *to = from);
        Mode::named(place).filter(|_| self.kind == TEXT)
    }

    fn accepts(&self, header: &Raw<'_>) -> bool {
        self.is_named(header.name)
            && (self.kind == NIL
                || (self.kind == header.kind
                    && usize::from(self.value_size) == header.value.len()
                    && self.value.clone().eq(header.value.iter().copied())))
    }
}

fn skip(bytes: &mut impl Iterator<Item = u8>, count: usize) {
    if let Some(last) = count.checked_sub(1) {
        bytes.nth(last);
    }
}

fn arguments<I: Iterator<Item = u8> + Clone>(mut block: I) -> impl Iterator<Item = Argument<I>> {
    core::iter::from_fn(move || Argument::split(&mut block))
}

fn mode(block: &[u8]) -> Option<Mode> {
    match raws(block).find(|raw| raw.name == X_MATCH) {
        None => Some(Mode::ALL),
        Some(raw) if raw.kind == TEXT => Mode::named(raw.value),
        Some(_) => None,
    }
}

/// The block is well-formed and its `x-match`, if any, is one of the four.
pub fn check_arguments(block: &[u8]) -> Result<(), Malformed> {
    check(block)?;
    mode(block).map(|_| ()).ok_or(Malformed)
}

/// The arguments of a binding match the headers of a message; both were checked before.
pub fn matches<I: Iterator<Item = u8> + Clone>(binding: I, headers: &[u8]) -> bool {
    let named = arguments(binding.clone()).find(|argument| argument.is_named(X_MATCH));
    let mode = named.and_then(|argument| argument.mode()).unwrap_or(Mode::ALL);
    let mut relevant = arguments(binding).filter(|argument| !argument.is_ignored(mode));
    let mut is_met = |argument: Argument<I>| raws(headers).any(|header| argument.accepts(&header));
    match mode.every {
        true => relevant.all(is_met),
        false => relevant.any(&mut is_met),
    }
}

/// The header spans a binding is to be found by: if its arguments match, one of these spans
/// stands in the message as it is. No spans: it can only be found by trying.
pub(crate) fn anchors(block: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mode = mode(block).unwrap_or(Mode::ALL);
    let by_presence = raws(block).any(|raw| mode.is_relevant(raw.name) && raw.kind == NIL);
    let left = match (mode.every, by_presence) {
        (true, _) => 1,
        (false, true) => 0,
        (false, false) => COUNT_MAX,
    };
    Anchors { raws: raws(block), mode, left }
}

/// See [`anchors`].
#[derive(Clone, Copy, Debug)]
struct Anchors<'a> {
    raws: Raws<'a>,
    mode: Mode,
    left: usize,
}

impl<'a> Iterator for Anchors<'a> {
    type Item = &'a [u8];

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let mode = self.mode;
        let raw = self.raws.find(|raw| mode.is_relevant(raw.name) && raw.kind != NIL)?;
        Some(raw.span)
    }
}
