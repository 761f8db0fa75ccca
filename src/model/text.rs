//! Texts of any length in cells of one size.
//!
//! Names, words and arguments come in every length and go in any order. A text is a chain of
//! equal cells, so the pool never fragments: there is room for a text exactly when enough cells
//! are vacant. Storing takes all cells or none, and time by the length of the text only.
//! ```text
//! cell   next · used · bytes [u8; CELL_BYTES]        a text of 14 bytes: 11 used ──► 3 used
//! ```
//! Invariants: no cell of a text is empty; the empty text has no cell and needs no room.
//!
//! Limits: `texts`, the number of cells.

use super::key::{Form, Key};
use super::link::{chained, Limit, Link, Slot, Vacancies};

/// Bytes of text in one cell; chosen so that a cell has no padding.
pub const CELL_BYTES: usize = if cfg!(feature = "gateway") { 11 } else { 9 };

/// A piece of a text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    next: Link,
    used: u8,
    bytes: [u8; CELL_BYTES],
}
chained!(Cell, next);

impl Cell {
    /// A vacant cell; fills tables.
    pub const EMPTY: Cell = Cell { next: Link::NONE, used: 0, bytes: [0; CELL_BYTES] };

    fn text(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.used)).unwrap_or(&self.bytes)
    }
}

/// Names a stored text. The default names the empty text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextId(Link);

impl TextId {
    /// Names the empty text.
    pub const NONE: TextId = TextId(Link::NONE);

    /// It names the empty text.
    pub const fn is_empty(self) -> bool {
        self.0.is_none()
    }
}

/// Texts in borrowed cells.
#[derive(Debug)]
pub struct TextPool<'a> {
    cells: &'a mut [Cell],
    vacancies: Vacancies,
}

impl<'a> TextPool<'a> {
    /// A pool without texts over zeroed (default) cells.
    pub fn new(cells: &'a mut [Cell]) -> TextPool<'a> {
        TextPool { cells, vacancies: Vacancies::new() }
    }

    /// Stores a text in the AMQP spelling. Nothing is taken if there is no room for all of it.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn store(&mut self, text: Key<'_>) -> Result<TextId, Limit> {
        self.store_parts(&[text])
    }

    /// Stores several texts as one.
    pub(super) fn store_parts(&mut self, parts: &[Key<'_>]) -> Result<TextId, Limit> {
        let mut first = Link::NONE;
        let mut last = Link::NONE;
        for part in parts {
            for &byte in part.text {
                if !self.has_room(last) {
                    let taken = self.vacancies.take(self.cells);
                    let Some(cell) = self.cells.get_mut(taken.index()) else {
                        self.free(TextId(first));
                        return Err(Limit("texts"));
                    };
                    (cell.next, cell.used) = (Link::NONE, 0);
                    match self.cells.get_mut(last.index()) {
                        Some(before) => before.next = taken,
                        None => first = taken,
                    }
                    last = taken;
                }
                let Some(cell) = self.cells.get_mut(last.index()) else { continue };
                if let Some(place) = cell.bytes.get_mut(usize::from(cell.used)) {
                    *place = part.form.canonical(byte);
                    cell.used = cell.used.wrapping_add(1);
                }
            }
        }
        Ok(TextId(first))
    }

    fn has_room(&self, cell: Link) -> bool {
        self.cells.get(cell.index()).is_some_and(|cell| usize::from(cell.used) < CELL_BYTES)
    }

    /// Gives the cells of a text back. The id must not be used again.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn free(&mut self, id: TextId) {
        let mut link = id.0;
        while let Some(cell) = self.cells.get(link.index()) {
            let after = cell.next();
            self.vacancies.give(self.cells, link);
            link = after;
        }
    }

    /// The bytes of a text.
    pub fn bytes(&self, id: TextId) -> Bytes<'_> {
        Bytes { cells: self.cells, link: id.0, used: 0 }
    }

    /// Number of bytes of a text.
    pub fn size(&self, id: TextId) -> usize {
        let mut size = 0usize;
        let mut link = id.0;
        while let Some(cell) = self.cells.get(link.index()) {
            size = size.saturating_add(usize::from(cell.used));
            link = cell.next;
        }
        size
    }

    /// A text equals a word, compared in the AMQP spelling.
    pub fn equals(&self, id: TextId, word: &[u8], form: Form) -> bool {
        let mut rest = word;
        let mut link = id.0;
        while let Some(cell) = self.cells.get(link.index()) {
            let text = cell.text();
            let Some((part, after)) = rest.split_at_checked(text.len()) else { return false };
            let same = match form {
                Form::Dots => text == part,
                Form::Slashes => text.iter().zip(part).all(|(&a, &b)| a == form.canonical(b)),
            };
            if !same {
                return false;
            }
            rest = after;
            link = cell.next;
        }
        rest.is_empty()
    }

    /// A text equals several others as one, in the AMQP spelling.
    pub(super) fn equals_parts(&self, id: TextId, parts: &[Key<'_>]) -> bool {
        let mut bytes = self.bytes(id);
        let mut is_next = |byte| bytes.next() == Some(byte);
        parts.iter().all(|part| part.text.iter().all(|&byte| is_next(part.form.canonical(byte))))
            && bytes.next().is_none()
    }

    /// A copy of a text. None if it is longer than `N` bytes.
    pub fn to_vec<const N: usize>(&self, id: TextId) -> Option<heapless::Vec<u8, N>> {
        let mut copy = heapless::Vec::new();
        for byte in self.bytes(id) {
            copy.push(byte).ok()?;
        }
        Some(copy)
    }

    /// A copy of a text that is UTF-8. None if it is not, or longer than `N` bytes.
    pub fn to_string<const N: usize>(&self, id: TextId) -> Option<heapless::String<N>> {
        heapless::String::from_utf8(self.to_vec(id)?).ok()
    }

    /// Copies a text out. None if it is larger than the buffer.
    pub fn copy_out<'b>(&self, id: TextId, into: &'b mut [u8]) -> Option<&'b [u8]> {
        let (place, _) = into.split_at_mut_checked(self.size(id))?;
        for (to, from) in place.iter_mut().zip(self.bytes(id)) {
            *to = from;
        }
        Some(place)
    }

    /// Copies a text to the front of a buffer, which is what is left of it then. None if it is larger.
    pub fn take_out<'b>(&self, id: TextId, from: &mut &'b mut [u8]) -> Option<&'b [u8]> {
        let (place, rest) = core::mem::take(from).split_at_mut_checked(self.size(id))?;
        *from = rest;
        self.copy_out(id, place)
    }

    /// Copies a text out that is UTF-8. None if it is not, or larger than the buffer.
    pub fn copy_str<'b>(&self, id: TextId, into: &'b mut [u8]) -> Option<&'b str> {
        core::str::from_utf8(self.copy_out(id, into)?).ok()
    }

    /// Number of cells that hold texts.
    pub fn used(&self) -> usize {
        self.vacancies.used()
    }
}

/// The bytes of one text in order.
#[derive(Clone, Debug)]
pub struct Bytes<'p> {
    cells: &'p [Cell],
    link: Link,
    used: u8,
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn next(&mut self) -> Option<u8> {
        let cell = self.cells.get(self.link.index())?;
        let byte = cell.bytes.get(usize::from(self.used)).copied();
        self.used = self.used.wrapping_add(1);
        if self.used >= cell.used {
            self.link = cell.next;
            self.used = 0;
        }
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_room_takes_nothing() {
        let mut cells = [Cell::default(); 3];
        let mut pool = TextPool::new(&mut cells);
        let first = pool.store(Key::dots(&[7; CELL_BYTES])).unwrap();
        let too_long = [1u8; 2 * CELL_BYTES + 1];
        assert_eq!(pool.store(Key::dots(&too_long)), Err(Limit("texts")));
        assert_eq!(pool.used(), 1);
        assert!(pool.store(Key::dots(&[2; 2 * CELL_BYTES])).is_ok());
        pool.free(first);
        assert_eq!(pool.used(), 2);
    }

    #[test]
    fn the_empty_text_needs_no_cell() {
        let mut pool = TextPool::new(&mut []);
        let id = pool.store(Key::dots(b"")).unwrap();
        assert!(id.is_empty());
        assert!(pool.equals(id, b"", Form::Dots) && !pool.equals(id, b"a", Form::Dots));
        assert_eq!(pool.bytes(id).next(), None);
        assert_eq!(pool.copy_out(id, &mut []), Some(&[][..]));
    }

    #[test]
    fn a_text_equals_itself_and_no_prefix_or_extension() {
        let mut cells = [Cell::default(); 8];
        let mut pool = TextPool::new(&mut cells);
        let text = *b"a text over some cells, with / and .";
        let id = pool.store(Key::dots(&text)).unwrap();
        assert!(pool.equals(id, &text, Form::Dots));
        assert!(pool.equals(id, b"a text over some cells, with . and /", Form::Slashes));
        assert!(!pool.equals(id, &text, Form::Slashes));
        assert!(!pool.equals(id, &text[..text.len() - 1], Form::Dots));
        assert!(!pool.equals(id, &text[..CELL_BYTES], Form::Dots));
        assert!(!pool.equals(id, b"a text over some cells, with / and ..", Form::Dots));
        let mut small = [0; 4];
        assert_eq!(pool.copy_out(id, &mut small), None);
        let mut large = [0; 64];
        assert_eq!(pool.copy_out(id, &mut large), Some(&text[..]));
    }
}
