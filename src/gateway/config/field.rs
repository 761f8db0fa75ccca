//! Values of the configuration: how each type is read from TOML and written back.
//!
//! A type that stands in the configuration implements [`Field`]; reading what was written gives
//! an equal value. Sizes are bytes with an optional `K`, `M` or `G` (powers of 1024), spans are
//! numbers with `ms`, `s`, `m`, `h` or `d`. Nothing here knows which keys there are.

use std::path::PathBuf;

use toml::de::DeValue;

use crate::protocol::amqp::User;

/// A value that can stand behind a key.
pub trait Field: Sized {
    /// What a value looks like, for messages: "needs {KIND}".
    const KIND: &'static str;

    /// The value, or none if this is not one.
    fn read(value: &DeValue<'_>) -> Option<Self>;

    /// The value as TOML that `read` takes.
    fn show(&self) -> String;
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(char, u32); 3] = [('G', 30), ('M', 20), ('K', 10)];

impl Size {
    /// Reads `4096`, `64K`, `256M`, `1G`; also `64KiB`, `64kb`.
    pub fn parse(text: &str) -> Option<Size> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.trim_end_matches("IB").trim_end_matches('B');
        let unit = UNITS.iter().find(|(letter, _)| bare.ends_with(*letter));
        let (digits, shift) = match unit {
            Some((letter, shift)) => (bare.trim_end_matches(*letter), *shift),
            None => (bare, 0),
        };
        let number: u64 = digits.trim().replace('_', "").parse().ok()?;
        number.checked_mul(1 << shift).map(Size)
    }

    /// The shortest exact spelling: `64K`, `100`.
    pub fn exact(self) -> String {
        match UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0 % (1 << shift) == 0) {
            Some((letter, shift)) => format!("{}{letter}", self.0 >> shift),
            None => self.0.to_string(),
        }
    }

    /// A spelling for people, rounded: `5.9 MiB`.
    pub fn rounded(self) -> String {
        match UNITS.iter().find(|(_, shift)| self.0 >= 1 << shift) {
            Some((letter, shift)) => format!("{:.1} {letter}iB", self.0 as f64 / (1u64 << shift) as f64),
            None => format!("{} B", self.0),
        }
    }
}

impl From<u32> for Size {
    fn from(bytes: u32) -> Size {
        Size(u64::from(bytes))
    }
}

impl TryFrom<Size> for u32 {
    type Error = std::num::TryFromIntError;

    fn try_from(size: Size) -> Result<u32, Self::Error> {
        u32::try_from(size.0)
    }
}

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

const SPANS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

impl Span {
    /// Reads `500ms`, `10s`, `5m`, `6h`, `1d`; a bare number is seconds.
    pub fn parse(text: &str) -> Option<Span> {
        let text = text.trim();
        let (digits, unit_ms) = SPANS
            .iter()
            .find_map(|(name, unit_ms)| text.strip_suffix(name).map(|digits| (digits, *unit_ms)))
            .unwrap_or((text, 1000));
        let number: u64 = digits.trim().parse().ok()?;
        number.checked_mul(unit_ms).map(Span)
    }
}

/// Where to listen, or whom to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`; the host is an address or a name.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl Address {
    /// Reads `HOST:PORT` or `unix:PATH`.
    pub fn parse(text: &str) -> Option<Address> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Address::Unix(path.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        (!host.is_empty() && (bracketed || !host.contains(':'))).then(|| Address::Tcp(text.to_string()))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(text) => f.write_str(text),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Quotes text as a TOML string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A whole number that is not negative, in any spelling of TOML's.
fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

impl Field for u32 {
    const KIND: &'static str = "a whole number such as 1024";

    fn read(value: &DeValue<'_>) -> Option<u32> {
        whole(value).and_then(|number| u32::try_from(number).ok())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for u16 {
    const KIND: &'static str = "a whole number up to 65535";

    fn read(value: &DeValue<'_>) -> Option<u16> {
        whole(value).and_then(|number| u16::try_from(number).ok())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for Size {
    const KIND: &'static str = "a size such as \"64K\", \"256M\" or \"1G\"";

    fn read(value: &DeValue<'_>) -> Option<Size> {
        value.as_str().map_or_else(|| whole(value).map(Size), Size::parse)
    }

    fn show(&self) -> String {
        quoted(&self.exact())
    }
}

impl Field for Span {
    const KIND: &'static str = "a time such as \"500ms\", \"10s\" or \"6h\"";

    fn read(value: &DeValue<'_>) -> Option<Span> {
        value.as_str().map_or_else(|| whole(value).and_then(|s| s.checked_mul(1000)).map(Span), Span::parse)
    }

    fn show(&self) -> String {
        let whole = SPANS.iter().skip(1).find(|(_, unit_ms)| self.0 != 0 && self.0 % unit_ms == 0);
        let (name, unit_ms) = whole.copied().unwrap_or(("ms", 1));
        quoted(&format!("{}{name}", self.0 / unit_ms))
    }
}

impl Field for bool {
    const KIND: &'static str = "true or false";

    fn read(value: &DeValue<'_>) -> Option<bool> {
        value.as_bool()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for PathBuf {
    const KIND: &'static str = "a path in quotes";

    fn read(value: &DeValue<'_>) -> Option<PathBuf> {
        value.as_str().filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Field for Vec<Address> {
    const KIND: &'static str = "addresses such as [\"127.0.0.1:1883\", \"unix:/run/forebay/mqtt\"]";

    fn read(value: &DeValue<'_>) -> Option<Vec<Address>> {
        if let Some(text) = value.as_str() {
            return text.split(',').map(|one| Address::parse(one.trim())).collect();
        }
        value.as_array()?.iter().map(|one| Address::parse(one.get_ref().as_str()?)).collect()
    }

    fn show(&self) -> String {
        let all: Vec<String> = self.iter().map(|address| quoted(&address.to_string())).collect();
        format!("[{}]", all.join(", "))
    }
}

/// Somebody who may log in: `NAME:PASSWORD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name, without a colon.
    pub name: String,
    /// The password.
    pub password: String,
}

impl Login {
    fn parse(text: &str) -> Option<Login> {
        let (name, password) = text.split_once(':')?;
        let is_whole = !name.is_empty() && !password.is_empty();
        is_whole.then(|| Login { name: name.to_string(), password: password.to_string() })
    }

    /// As the AMQP room takes it.
    pub fn user(&self) -> User {
        User { name: self.name.clone(), password: self.password.clone() }
    }
}

/// The texts of a list, or of one text with commas between.
fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    if let Some(text) = value.as_str() {
        return Some(text.split(',').map(|one| one.trim().to_string()).collect());
    }
    value.as_array()?.iter().map(|one| one.get_ref().as_str().map(str::to_string)).collect()
}

fn show_texts<'t>(texts: impl Iterator<Item = String> + 't) -> String {
    let all: Vec<String> = texts.map(|text| quoted(&text)).collect();
    format!("[{}]", all.join(", "))
}

impl Field for Vec<Login> {
    const KIND: &'static str = "users such as [\"line7:secret\"]";

    fn read(value: &DeValue<'_>) -> Option<Vec<Login>> {
        texts(value)?.iter().map(|text| Login::parse(text)).collect()
    }

    fn show(&self) -> String {
        show_texts(self.iter().map(|login| format!("{}:{}", login.name, login.password)))
    }
}

impl Field for Vec<String> {
    const KIND: &'static str = "names such as [\"/\", \"plant\"]";

    fn read(value: &DeValue<'_>) -> Option<Vec<String>> {
        texts(value).filter(|names| names.iter().all(|name| !name.is_empty()))
    }

    fn show(&self) -> String {
        show_texts(self.iter().cloned())
    }
}

impl Field for log::LevelFilter {
    const KIND: &'static str = "one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"";

    fn read(value: &DeValue<'_>) -> Option<log::LevelFilter> {
        value.as_str()?.parse().ok()
    }

    fn show(&self) -> String {
        quoted(&self.as_str().to_ascii_lowercase())
    }
}
