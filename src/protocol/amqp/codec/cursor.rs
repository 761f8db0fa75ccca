//! Reading the simple types of AMQP from borrowed bytes (specification 4.2.5).
//!
//! Everything that runs past the end is `None`; the caller says what that means.

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads from the start of some bytes.
    pub const fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// What was not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    /// An octet.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// A short.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A long.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A long long.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string, as bytes.
    pub fn short(&mut self) -> Option<&'a [u8]> {
        let size = self.u8()?;
        self.bytes(usize::from(size))
    }

    /// A short string that is a name: text.
    pub fn name(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.short()?).ok()
    }

    /// A long string, or what is framed like one.
    pub fn long(&mut self) -> Option<&'a [u8]> {
        let size = self.u32()?;
        self.bytes(usize::try_from(size).ok()?)
    }
}
