//! Field tables: named values of many types (specification 4.2.5.5, with the types RabbitMQ
//! gives to the letters).
//!
//! ```text
//! table   size u32 · (name_size u8 · name · type u8 · value)*
//! type    t bool   b i8   B u8   s U i16   u u16   I i32   i u32   l L i64   f f32   d f64
//!         D decimal (5)   S x bytes with size u32   A array, F table, each with size u32
//!         T time, u64 seconds   V nothing
//! ```
//! A table is checked once, where it comes in: well-formed, at most [`DEPTH_MAX`] deep, at most
//! [`COUNT_MAX`] fields on its first level. Reading it later ends early, without harm, where it is damaged.

use super::cursor::Cursor;

/// Tables and arrays in tables and arrays.
pub const DEPTH_MAX: u32 = 16;
/// Most fields of one table, those of tables in it not counted.
pub const COUNT_MAX: usize = 250;

/// The value of a field: its type and its bytes, without the size in front of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The letter of its type.
    pub kind: u8,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Field<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Field<'a>> {
        let kind = cursor.u8()?;
        let bytes = match kind {
            b't' | b'b' | b'B' => cursor.bytes(1)?,
            b's' | b'U' | b'u' => cursor.bytes(2)?,
            b'I' | b'i' | b'f' => cursor.bytes(4)?,
            b'l' | b'L' | b'd' | b'T' => cursor.bytes(8)?,
            b'D' => cursor.bytes(5)?,
            b'S' | b'x' | b'A' | b'F' => cursor.long()?,
            b'V' => &[],
            _ => return None,
        };
        Some(Field { kind, bytes })
    }

    /// Its bytes are preceded by their size.
    pub const fn is_long(kind: u8) -> bool {
        matches!(kind, b'S' | b'x' | b'A' | b'F')
    }

    /// The number it is, of whatever width; a time is its seconds.
    pub fn int(self) -> Option<i64> {
        fn of<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.try_into().ok()
        }
        Some(match self.kind {
            b'b' => i8::from_be_bytes(of(self.bytes)?).into(),
            b'B' => u8::from_be_bytes(of(self.bytes)?).into(),
            b's' | b'U' => i16::from_be_bytes(of(self.bytes)?).into(),
            b'u' => u16::from_be_bytes(of(self.bytes)?).into(),
            b'I' => i32::from_be_bytes(of(self.bytes)?).into(),
            b'i' => u32::from_be_bytes(of(self.bytes)?).into(),
            b'l' | b'L' | b'T' => i64::from_be_bytes(of(self.bytes)?),
            _ => return None,
        })
    }

    /// The text it is.
    pub fn text(self) -> Option<&'a str> {
        match self.kind {
            b'S' => core::str::from_utf8(self.bytes).ok(),
            _ => None,
        }
    }

    /// The truth value it is.
    pub fn bool(self) -> Option<bool> {
        (self.kind == b't').then(|| self.bytes != [0])
    }

    /// The values of the array it is.
    pub const fn items(self) -> Option<Items<'a>> {
        match self.kind {
            b'A' => Some(Items { cursor: Cursor::new(self.bytes) }),
            _ => None,
        }
    }

    /// The table it is.
    pub const fn table(self) -> Option<Table<'a>> {
        match self.kind {
            b'F' => Some(Table(self.bytes)),
            _ => None,
        }
    }
}

/// The values of an array.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        Field::read(&mut self.cursor)
    }
}

/// A table, without its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table<'a>(pub &'a [u8]);

impl<'a> Table<'a> {
    /// Its fields in order, as far as it is well-formed.
    pub const fn fields(self) -> Fields<'a> {
        Fields { cursor: Cursor::new(self.0) }
    }

    /// The value of the first field of a name.
    pub fn get(self, name: &str) -> Option<Field<'a>> {
        self.fields().find(|(other, _)| *other == name.as_bytes()).map(|(_, field)| field)
    }

    /// It has no fields.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// It is well-formed and within the limits.
    pub fn is_sound(self) -> bool {
        let mut fields = self.fields();
        let mut count = 0;
        while !fields.cursor.is_empty() {
            let Some((_, field)) = fields.next() else { return false };
            count += 1;
            if count > COUNT_MAX || !is_sound(field, 1) {
                return false;
            }
        }
        true
    }
}

/// A value is well-formed, and not too deep.
fn is_sound(field: Field<'_>, depth: u32) -> bool {
    if !matches!(field.kind, b'A' | b'F') {
        return true;
    }
    if depth >= DEPTH_MAX {
        return false;
    }
    let mut cursor = Cursor::new(field.bytes);
    while !cursor.is_empty() {
        if field.kind == b'F' && cursor.short().is_none() {
            return false;
        }
        match Field::read(&mut cursor) {
            Some(inner) if is_sound(inner, depth + 1) => {}
            _ => return false,
        }
    }
    true
}

/// See [`Table::fields`].
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.cursor.short()?;
        Some((name, Field::read(&mut self.cursor)?))
    }
}

/// Writes a table behind what is in `out`.
pub struct TableWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> TableWriter<'o> {
    /// An empty table; `finish` sets its size.
    pub fn begin(out: &'o mut Vec<u8>) -> TableWriter<'o> {
        out.extend_from_slice(&[0; 4]);
        let start = out.len();
        TableWriter { out, start }
    }

    /// Appends a field. A name is at most 255 bytes; the rest of it is dropped.
    pub fn field(&mut self, name: &[u8], kind: u8, bytes: &[u8]) {
        self.name(name);
        push_value(self.out, kind, bytes);
    }

    /// Where the next field is to be written, name and value.
    pub fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Appends a text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.field(name.as_bytes(), b'S', text.as_bytes());
    }

    /// Appends a number.
    pub fn int(&mut self, name: &str, number: i64) {
        self.field(name.as_bytes(), b'l', &number.to_be_bytes());
    }

    /// Appends a truth value.
    pub fn bool(&mut self, name: &str, truth: bool) {
        self.field(name.as_bytes(), b't', &[u8::from(truth)]);
    }

    /// Appends a table, filled by `fill`.
    pub fn table(&mut self, name: &str, fill: impl FnOnce(&mut TableWriter<'_>)) {
        self.name(name.as_bytes());
        self.out.push(b'F');
        write_table(self.out, fill);
    }

    /// Appends an array, filled by `fill` with types and values.
    pub fn array(&mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        self.name(name.as_bytes());
        self.out.push(b'A');
        sized(self.out, fill);
    }

    fn name(&mut self, name: &[u8]) {
        push_short(self.out, name);
    }

    /// The table is complete.
    pub fn finish(self) {
        set_size(self.out, self.start);
    }
}

/// Writes a table filled by `fill`.
pub fn write_table(out: &mut Vec<u8>, fill: impl FnOnce(&mut TableWriter<'_>)) {
    let mut writer = TableWriter::begin(out);
    fill(&mut writer);
    writer.finish();
}

/// Writes bytes with their size in front.
pub fn sized(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    fill(out);
    set_size(out, start);
}

fn set_size(out: &mut [u8], start: usize) {
    let size = (out.len() - start) as u32;
    if let Some(place) = out.get_mut(start - 4..start) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

/// Writes a type and a value.
pub fn push_value(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    if Field::is_long(kind) {
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

/// Writes a short string; what is beyond its 255 bytes is dropped.
pub fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..255).unwrap_or(bytes);
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write_table(&mut out, fill);
        assert_eq!(out[..4], ((out.len() - 4) as u32).to_be_bytes());
        out.split_off(4)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = written(|table| {
            table.text("a", "x");
            table.int("b", -2);
            table.table("c", |inner| inner.bool("d", true));
            table.field(b"e", b'V', &[]);
        });
        let table = Table(&bytes);
        assert!(table.is_sound());
        assert_eq!(table.get("a").and_then(Field::text), Some("x"));
        assert_eq!(table.get("b").and_then(Field::int), Some(-2));
        let inner = table.get("c").and_then(Field::table).unwrap();
        assert_eq!(inner.get("d").and_then(Field::bool), Some(true));
        assert_eq!(table.fields().count(), 4);
        assert_eq!(table.get("z"), None);
    }

    #[test]
    fn a_table_that_is_cut_or_has_unknown_types_is_not_sound() {
        let bytes = written(|table| table.text("name", "value"));
        for end in 1..bytes.len() {
            assert!(!Table(&bytes[..end]).is_sound());
        }
        assert!(!Table(&[1, b'a', b'?']).is_sound());
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = Vec::new();
        for depth in 0..2000 {
            let inner = std::mem::take(&mut bytes);
            push_short(&mut bytes, b"n");
            push_value(&mut bytes, b'F', &inner);
            assert_eq!(Table(&bytes).is_sound(), depth + 1 < DEPTH_MAX, "{depth}");
        }
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let mut bytes = Vec::new();
        for count in 1..=COUNT_MAX + 1 {
            bytes.extend_from_slice(&[0, b'V']);
            assert_eq!(Table(&bytes).is_sound(), count <= COUNT_MAX);
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut state = 3u64;
        for _ in 0..20_000 {
            let mut noise = [0u8; 32];
            for byte in &mut noise {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = b"AFStIVlx\0\0\0\0\x01\x02\x04\xff"[(state >> 20) as usize % 16];
            }
            Table(&noise).is_sound();
            assert!(Table(&noise).fields().count() <= noise.len());
        }
    }
}
