//! The program with devices on a socket and on a serial line, killed while they talk: an MQTT client
//! reads everything once.

#[path = "support/program.rs"]
mod program;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::flash::fault::{FaultFlash, FaultOptions};
use forebay::flash::Geometry;
use forebay::leaf::{Answer, Inbox, Incoming, Leaf, LeafMemory, LeafOptions, Message};
use forebay::units::Millis;
use program::{Broker, Directory};
use rustix::pty::{openpt, ptsname, unlockpt, OpenptFlags};

const MESSAGES: u32 = 300;

/// The gateway; it is killed when it goes, as by a loss of power.
fn start(directory: &Directory) -> Broker {
    let words = ["--config", "gateway.toml", "--store-size", "4M", "--set", "amqp.listen=[]"];
    Broker::start(directory, &words).unheard()
}

struct Nothing;

impl Inbox for Nothing {
    fn deliver(&mut self, _: &Incoming<'_>) -> Answer {
        Answer::Done
    }
}

/// A device with a stream, which is opened again whenever it fails.
struct Device {
    leaf: Leaf<'static, FaultFlash>,
    stream: Option<Box<dyn ReadWrite>>,
    open: Box<dyn Fn() -> Option<Box<dyn ReadWrite>>>,
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

impl Device {
    fn new(
        name: &'static str,
        secret: &'static [u8],
        open: impl Fn() -> Option<Box<dyn ReadWrite>> + 'static,
    ) -> Device {
        let geometry = Geometry { segment_size: 4096, segment_count: 32, write_unit: 4 };
        let mut flash = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
        Leaf::format(&mut flash, 1, &mut [0; 64]).unwrap();
        let memory: &'static mut LeafMemory<32, 256, 300> = Box::leak(Box::default());
        let seed = std::process::id();
        let options = LeafOptions { device: name, secret, seed, keep_alive_s: 2, ..LeafOptions::default() };
        let leaf = Leaf::mount(flash, memory.storage(), options).unwrap();
        Device { leaf, stream: None, open: Box::new(open) }
    }

    fn turn(&mut self, now: Millis) {
        if self.stream.is_none() {
            self.stream = (self.open)();
            if self.stream.is_some() {
                self.leaf.connect(now);
            }
        }
        let Some(stream) = &mut self.stream else { return };
        let mut bytes = [0; 512];
        let failed = match stream.read(&mut bytes) {
            Ok(0) => true,
            Ok(count) => {
                self.leaf.handle_input(&bytes[..count], now, &mut Nothing);
                false
            }
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock && error.raw_os_error() != Some(5),
        };
        let count = self.leaf.poll_output(&mut bytes, now, &mut Nothing);
        if failed || stream.write_all(&bytes[..count]).is_err() {
            self.stream = None;
            self.leaf.disconnect(&mut Nothing);
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8], text.as_bytes()].concat()
}

/// An MQTT session that lasts: connects, and subscribes or takes what waited.
fn mqtt(directory: &Directory, subscribe: bool) -> UnixStream {
    let mut stream = UnixStream::connect(directory.0.join("mqtt")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let connect = [&text("MQTT")[..], &[4, 0, 0, 0], &text("reader")].concat();
    stream.write_all(&[&[0x10, connect.len() as u8], &connect[..]].concat()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], answer[3]), (0x20, 0));
    if subscribe {
        let subscribe = [&[0, 1][..], &text("up/#"), &[1]].concat();
        stream.write_all(&[&[0x82, subscribe.len() as u8], &subscribe[..]].concat()).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x90, 3, 0, 1, 1]);
        stream.write_all(&[0xe0, 0]).unwrap();
    }
    stream
}

/// Topic and payload of so many messages.
fn receive(stream: &mut UnixStream, count: usize) -> Vec<(String, String)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        assert!(head[0] & 0xf0 == 0x30 && head[1] < 128, "{head:?}");
        let mut packet = vec![0; usize::from(head[1])];
        stream.read_exact(&mut packet).unwrap();
        let end = 2 + usize::from(packet[1]);
        stream.write_all(&[0x40, 2, packet[end], packet[end + 1]]).unwrap();
        let part = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        messages.push((part(&packet[2..end]), part(&packet[end + 2..])));
    }
    messages
}

fn on_a_socket(path: PathBuf) -> impl Fn() -> Option<Box<dyn ReadWrite>> {
    move || {
        let stream = UnixStream::connect(&path).ok()?;
        stream.set_nonblocking(true).unwrap();
        Some(Box::new(stream))
    }
}

#[test]
fn what_devices_stored_is_read_once_although_the_gateway_is_killed() {
    let directory = Directory::new();
    let path = directory.0.clone();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&master).unwrap();
    let tty = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::NONBLOCK).unwrap();
    let master = std::fs::File::from(master);
    let config = format!(
        "[wire]\nlisten = [\"unix:wire\", \"serial://{tty}?baud=115200&device=pump-7\"]\n\
         [[wire.devices]]\nname = \"pump-*\"\nsecret = \"s3cret\"\npublish = [\"up/%d/#\"]\n"
    );
    std::fs::write(path.join("gateway.toml"), config).unwrap();

    let mut gateway = Some(start(&directory));
    drop(mqtt(&directory, true));
    let on_a_line = move || Some(Box::new(master.try_clone().unwrap()) as Box<dyn ReadWrite>);
    let mut devices = [
        Device::new("pump-7", b"s3cret", on_a_line),
        Device::new("pump-8", b"s3cret", on_a_socket(path.join("wire"))),
        Device::new("pump-9", b"wrong", on_a_socket(path.join("wire"))),
    ];
    let topics = ["up/pump-7/t", "up/pump-8/t", "up/pump-9/t"];
    let began = Instant::now();
    let (mut number, mut kills) = (0u32, 0u32);
    let waits = |devices: &[Device]| devices.iter().take(2).any(|device| device.leaf.stats().waiting > 0);
    while number < MESSAGES || waits(&devices) {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", devices[0].leaf.stats());
        let now = Millis(began.elapsed().as_millis() as u64);
        if number < MESSAGES {
            for (device, topic) in devices.iter_mut().zip(topics) {
                let body = format!("{number:04}");
                device
                    .leaf
                    .publish(&Message { topic, body: body.as_bytes(), ..Message::default() }, now)
                    .unwrap();
            }
            number += 1;
        }
        devices.iter_mut().for_each(|device| device.turn(now));
        let settled = devices[0].leaf.stats().settled;
        if kills < 3 && settled > u64::from(kills + 1) * 60 {
            kills += 1;
            gateway = None;
            assert!(gateway.is_none());
            gateway = Some(start(&directory));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(kills, 3, "it was killed while they talked");
    let mut reader = mqtt(&directory, false);
    let messages = receive(&mut reader, 2 * MESSAGES as usize);
    for topic in &topics[..2] {
        let bodies: Vec<&String> =
            messages.iter().filter(|(found, _)| found == topic).map(|(_, body)| body).collect();
        let wanted: Vec<String> = (0..MESSAGES).map(|number| format!("{number:04}")).collect();
        assert!(bodies.iter().copied().eq(wanted.iter()), "{topic}: {bodies:?}");
    }
    assert_eq!(devices[2].leaf.stats().settled, 0, "it may not come");
    drop(gateway);
}
