//! The wire protocol in the configuration: where it is spoken, serial lines included, and by whom.
//!
//! ```toml
//! [wire]
//! listen = ["0.0.0.0:4224", "serial:///dev/ttyACM0?baud=115200&device=pump-7"]
//! [[wire.devices]]
//! name = "pump-*"                     # the first entry that matches counts
//! secret = "s3cret"                   # left out: nothing is asked for
//! publish = ["plant/%d/#"]            # left out: everything; %d is the device's name
//! subscribe = ["plant/%d/set"]
//! ```

use std::fmt;
use std::path::PathBuf;

use toml::de::DeValue;

use super::field::{quoted, Address, Field};
use crate::protocol::wire::Device;

/// Bits a second, where nothing else is said.
const BAUD: u32 = 115_200;

/// A serial line: `serial:///dev/ttyACM0?baud=115200&device=NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// The device file.
    pub path: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// The only device that may be at the other end.
    pub device: Option<String>,
}

/// Where the wire protocol is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Where connections come in.
    Socket(Address),
    /// A line that is there.
    Serial(SerialPort),
}

impl Endpoint {
    /// Reads what `Address` does, and serial lines.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let Some(rest) = text.strip_prefix("serial:") else {
            return Address::parse(text).map(Endpoint::Socket);
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix("//").unwrap_or(path);
        let mut port = SerialPort { path: path.into(), baud: BAUD, device: None };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=')? {
                ("baud", baud) => port.baud = baud.parse().ok().filter(|&baud| baud > 0)?,
                ("device", name) => port.device = Some(name.to_string()),
                _ => return None,
            }
        }
        path.starts_with('/').then_some(Endpoint::Serial(port))
    }
}

impl fmt::Display for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial://{}?baud={}", self.path.display(), self.baud)?;
        match &self.device {
            Some(device) => write!(f, "&device={device}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Socket(address) => address.fmt(f),
            Endpoint::Serial(port) => port.fmt(f),
        }
    }
}

impl Field for Vec<Endpoint> {
    const KIND: &'static str =
        "addresses such as [\"0.0.0.0:4224\", \"unix:/run/forebay/wire\", \"serial:///dev/ttyACM0?baud=115200\"]";

    fn read(value: &DeValue<'_>) -> Option<Vec<Endpoint>> {
        if let Some(text) = value.as_str() {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return parts.map(Endpoint::parse).collect();
        }
        value.as_array()?.iter().map(|one| Endpoint::parse(one.get_ref().as_str()?)).collect()
    }

    fn show(&self) -> String {
        let all: Vec<String> = self.iter().map(|endpoint| quoted(&endpoint.to_string())).collect();
        format!("[{}]", all.join(", "))
    }
}

impl Field for Vec<Device> {
    const KIND: &'static str =
        "tables such as [{ name = \"pump-*\", secret = \"s\", publish = [\"plant/%d/#\"], subscribe = [] }]";

    fn read(value: &DeValue<'_>) -> Option<Vec<Device>> {
        value.as_array()?.iter().map(|one| read_device(one.get_ref())).collect()
    }

    fn show(&self) -> String {
        let all: Vec<String> = self.iter().map(show_device).collect();
        format!("[{}]", all.join(", "))
    }
}

fn read_device(value: &DeValue<'_>) -> Option<Device> {
    let everything = || vec!["#".to_string()];
    let mut device =
        Device { name: String::new(), secret: None, publish: everything(), subscribe: everything() };
    for (key, value) in value.as_table()? {
        let value = value.get_ref();
        match key.get_ref().as_ref() {
            "name" => device.name = value.as_str()?.to_string(),
            "secret" => device.secret = Some(value.as_str()?.to_string()),
            "publish" => device.publish = texts(value)?,
            "subscribe" => device.subscribe = texts(value)?,
            _ => return None,
        }
    }
    (!device.name.is_empty()).then_some(device)
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.get_ref().as_str().map(str::to_string)).collect()
}

fn show_device(device: &Device) -> String {
    let list = |texts: &[String]| {
        let all: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        format!("[{}]", all.join(", "))
    };
    let secret =
        device.secret.as_ref().map_or(String::new(), |secret| format!(", secret = {}", quoted(secret)));
    let (publish, subscribe) = (list(&device.publish), list(&device.subscribe));
    format!("{{ name = {}{secret}, publish = {publish}, subscribe = {subscribe} }}", quoted(&device.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_line_reads_back_as_it_is_shown() {
        let port = Endpoint::parse("serial:///dev/ttyACM0?baud=9600&device=pump-7").unwrap();
        assert_eq!(port.to_string(), "serial:///dev/ttyACM0?baud=9600&device=pump-7");
        let plain = Endpoint::parse("serial:/dev/ttyS1").unwrap();
        assert_eq!(plain.to_string(), "serial:///dev/ttyS1?baud=115200");
        for bad in [
            "serial:",
            "serial://tty",
            "serial:///dev/x?baud=fast",
            "serial:///dev/x?bud=1",
            "serial:///dev/x?baud=0",
        ] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
        assert!(matches!(Endpoint::parse("127.0.0.1:1"), Some(Endpoint::Socket(_))));
    }
}
