//! Serial lines on pseudo-terminals: a device at the other end, and the cable that comes and goes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::pty::{openpt, ptsname, unlockpt, OpenptFlags};

use super::*;
use crate::command::{Bind, Command, Destination, QueueOptions};
use crate::flash::fault::{FaultFlash, FaultOptions};
use crate::flash::Geometry;
use crate::gateway::config::SerialPort;
use crate::gateway::rooms::Room;
use crate::gateway::serial::SerialDoor;
use crate::leaf::{Answer, Event, Inbox, Incoming, Leaf, LeafMemory, LeafOptions, Message as LeafMessage};
use crate::wire::frame::Code;

/// The device's end of a cable that is plugged in where a link in the file system points.
struct Cable {
    master: File,
}

impl Cable {
    fn plug_in(path: &PathBuf) -> Cable {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let _ = std::fs::remove_file(path);
        std::os::unix::fs::symlink(name.to_str().unwrap(), path).unwrap();
        rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::NONBLOCK).unwrap();
        Cable { master: master.into() }
    }

    fn received(&mut self) -> Vec<u8> {
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(count) => bytes[..count].to_vec(),
            // EIO: nobody has the other end open.
            Err(_) => Vec::new(),
        }
    }
}

#[derive(Default)]
struct Told(Vec<Vec<u8>>, Vec<Event>);

impl Inbox for Told {
    fn deliver(&mut self, message: &Incoming<'_>) -> Answer {
        self.0.push(message.body.to_vec());
        Answer::Done
    }

    fn event(&mut self, event: Event) {
        self.1.push(event);
    }
}

fn leaf(device: &'static str) -> Leaf<'static, FaultFlash> {
    let geometry = Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 };
    let mut flash = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
    Leaf::format(&mut flash, 1, &mut [0; 64]).unwrap();
    let memory: &'static mut LeafMemory<16, 256, 600> = Box::leak(Box::default());
    let options =
        LeafOptions { device, seed: 7, subscriptions: &["to/#"], max_message: 512, ..LeafOptions::default() };
    Leaf::mount(flash, memory.storage(), options).unwrap()
}

/// A gateway, a line of it, and what the other end is plugged into.
struct Scene {
    bench: Bench,
    door: SerialDoor,
    path: PathBuf,
    owner: Option<u64>,
    told: Told,
}

impl Scene {
    fn new() -> Scene {
        let mut bench = Bench::with(8, "1M", Rooms::write_direct());
        let path = bench.config.store.path.with_file_name("tty");
        let options = QueueOptions { durable: true, ..QueueOptions::default() };
        bench.execute(Command::DeclareQueue { name: "all", options });
        let bind = Bind {
            exchange: "amq.topic",
            destination: Destination::Queue("all"),
            pattern: Key::slashes(b"up/#"),
            arguments: &[],
            grade: Default::default(),
        };
        bench.execute(Command::Bind(bind));
        let port = SerialPort { path: path.clone(), baud: 115_200, device: Some("pump-7".into()) };
        Scene { bench, door: SerialDoor::new(port), path, owner: None, told: Told::default() }
    }

    /// The door is looked at, as once a second.
    fn look(&mut self) -> bool {
        let Ok(serial) = self.door.accept() else { return false };
        let index = self.bench.gateway.connect(Stream::Serial(serial), Room::Wire).expect("there is room");
        self.owner = Some(self.bench.gateway.table.owner(index));
        true
    }

    /// Both ends work until something is so.
    fn run(
        &mut self,
        cable: &mut Cable,
        leaf: &mut Leaf<'static, FaultFlash>,
        is_over: impl Fn(&Leaf<'static, FaultFlash>, &Told) -> bool,
    ) {
        let mut out = [0; 2000];
        let mut now = Millis(1);
        for _ in 0..100_000 {
            if is_over(leaf, &self.told) {
                return;
            }
            now = now.after(1);
            let count = leaf.poll_output(&mut out, now, &mut self.told);
            cable.master.write_all(&out[..count]).unwrap();
            self.turn();
            leaf.handle_input(&cable.received(), now, &mut self.told);
            std::thread::yield_now();
        }
        panic!("{:?} {:?}", leaf.stats(), self.told.1);
    }

    fn turn(&mut self) {
        let gateway = &mut self.bench.gateway;
        gateway.table.now = gateway.table.now.after(1);
        if let Some(owner) = self.owner {
            gateway.handle_event(owner, READABLE);
            gateway.handle_event(owner, WRITABLE);
        }
        gateway.handle_sync();
        gateway.serve_ready();
        gateway.handle_time();
        gateway.end_turn();
    }

    fn count(&self) -> usize {
        let mut ready = 0;
        self.bench.gateway.engine.for_each_queue(&mut |queue| {
            if queue.name == "all" {
                ready = queue.ready as usize;
            }
        });
        ready
    }
}

impl Bench {
    fn execute(&mut self, command: Command<'_>) {
        let Gateway { engine, table, .. } = &mut self.gateway;
        engine.execute(table.now, command, table).unwrap();
    }
}

fn message<'m>(topic: &'m str, body: &'m [u8]) -> LeafMessage<'m> {
    LeafMessage { topic, body, ..LeafMessage::default() }
}

#[test]
fn a_device_on_a_serial_line_is_served_and_found_again_when_the_cable_is() {
    let mut scene = Scene::new();
    assert!(!scene.look(), "there is no cable");
    let mut cable = Cable::plug_in(&scene.path);
    assert!(scene.look());
    assert!(!scene.look(), "it is open");
    let mut leaf = leaf("pump-7");
    leaf.connect(Millis(1));
    // Every byte there is: a terminal would make something else of some.
    let every: Vec<u8> = (0..=255).collect();
    for _ in 0..20 {
        leaf.publish(&message("up/t", &every), Millis(1)).unwrap();
    }
    scene.run(&mut cable, &mut leaf, |leaf, _| leaf.stats().waiting == 0);
    assert_eq!(scene.count(), 20);

    drop(cable);
    for _ in 0..3 {
        scene.turn();
    }
    assert_eq!(scene.bench.gateway.table.count(), 0, "the line is given up");
    leaf.disconnect(&mut scene.told);
    leaf.publish(&message("up/t", b"meanwhile"), Millis(2)).unwrap();
    let mut cable = Cable::plug_in(&scene.path);
    assert!(scene.look(), "the cable is back");
    leaf.connect(Millis(1));
    scene.run(&mut cable, &mut leaf, |leaf, _| leaf.stats().waiting == 0);
    assert_eq!(scene.count(), 21);

    let publish = crate::command::Publish {
        exchange: "amq.topic",
        message: Message { key: Key::slashes(b"to/pump-7"), headers: &[], body: &every },
        durable: true,
        grade: crate::command::Grade::AtLeastOnce,
        ..Default::default()
    };
    scene.run(&mut cable, &mut leaf, |leaf, _| leaf.stats().is_up);
    for _ in 0..200 {
        scene.turn();
    }
    scene.bench.execute(Command::Publish(publish));
    scene.run(&mut cable, &mut leaf, |_, told| !told.0.is_empty());
    assert_eq!(scene.told.0, [every]);
}

#[test]
fn another_device_on_the_line_of_one_is_refused_and_the_line_stays() {
    let mut scene = Scene::new();
    let mut cable = Cable::plug_in(&scene.path);
    assert!(scene.look());
    let mut stranger = leaf("fan-1");
    stranger.connect(Millis(1));
    scene.run(&mut cable, &mut stranger, |_, told| told.1.contains(&Event::Refused(Code::Unauthorized)));
    let mut leaf = leaf("pump-7");
    leaf.connect(Millis(1));
    leaf.publish(&message("up/t", b"mine"), Millis(1)).unwrap();
    scene.run(&mut cable, &mut leaf, |leaf, _| leaf.stats().waiting == 0);
    assert_eq!((scene.count(), scene.bench.gateway.table.count()), (1, 1));
}
