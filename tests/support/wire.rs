//! A device and a gateway with a bad line between them, in virtual time and from a seed.

#![allow(dead_code)]

use crate::support::{Bench, TestFlash};
use forebay::broker::Broker;
use forebay::command::*;
use forebay::flash::fault::{FaultFlash, FaultOptions, Tear};
use forebay::flash::{Flash, FlashError, Geometry, SyncState};
use forebay::leaf::{
    Answer, Event, Inbox, Incoming, Leaf, LeafError, LeafMemory, LeafOptions, Message as LeafMessage,
    WhenFull,
};
use forebay::model::key::Key;
use forebay::protocol::wire::{Access, Line, Settings, Shared, WireSession};
use forebay::protocol::{Close, Session};
use forebay::units::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Segments of a device's flash.
pub const SEGMENTS: usize = 16;
pub const GEOMETRY: Geometry = Geometry { segment_size: 4096, segment_count: SEGMENTS as u32, write_unit: 4 };

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    pub fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The device's flash outlives the device.
#[derive(Clone)]
pub struct Chip(pub Rc<RefCell<FaultFlash>>);

impl Flash for Chip {
    fn geometry(&self) -> Geometry {
        self.0.borrow().geometry()
    }
    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.0.borrow_mut().read(segment, offset, into)
    }
    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.borrow_mut().program(segment, offset, bytes)
    }
    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        self.0.borrow_mut().erase(segment)
    }
    fn start_sync(&mut self) -> Result<(), FlashError> {
        self.0.borrow_mut().start_sync()
    }
    fn poll_sync(&mut self) -> SyncState {
        self.0.borrow_mut().poll_sync()
    }
    fn ordered(&self) -> bool {
        self.0.borrow().ordered()
    }
    fn nonce(&self) -> u32 {
        self.0.borrow().nonce()
    }
}

/// One direction of the line: takes bytes, and gives most of them.
#[derive(Default)]
pub struct Pipe(VecDeque<u8>);

/// How bad a line is: one byte in so many is lost, flipped, and one chunk in so many lost, doubled. 0: never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    pub lose: u64,
    pub flip: u64,
    pub drop: u64,
    pub double: u64,
}

impl Pipe {
    fn put(&mut self, bytes: &[u8], noise: &Noise, random: &mut Random) {
        let hits = |random: &mut Random, rate: u64| rate > 0 && random.once_in(rate);
        for chunk in bytes.chunks(1 + random.below(60) as usize) {
            if hits(random, noise.drop) {
                continue;
            }
            for _ in 0..1 + u8::from(hits(random, noise.double)) {
                for &byte in chunk {
                    if !hits(random, noise.lose) {
                        let flipped = byte ^ 1 << random.below(8);
                        self.0.push_back(if hits(random, noise.flip) { flipped } else { byte });
                    }
                }
            }
        }
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.0.len());
        self.0.drain(..count).collect()
    }
}

/// What a device was told.
#[derive(Default)]
pub struct Told {
    pub bodies: Vec<(String, bool)>,
    pub events: Vec<Event>,
    /// Answers to give first.
    pub answers: VecDeque<Answer>,
}

impl Inbox for Told {
    fn deliver(&mut self, message: &Incoming<'_>) -> Answer {
        let answer = self.answers.pop_front().unwrap_or(Answer::Done);
        if answer == Answer::Done {
            self.bodies.push((String::from_utf8_lossy(message.body).into(), message.redelivered));
        }
        answer
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// The gateway's end of the line.
pub struct End {
    pub owner: u64,
    pub session: Option<WireSession>,
    out: Vec<u8>,
    rest: Vec<u8>,
}

impl Outlet for End {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        match &mut self.session {
            Some(session) if delivery.owner == self.owner => session.handle_delivery(delivery, &mut self.out),
            _ => Offer::Busy,
        }
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
}

pub struct Desk<'d> {
    pub broker: &'d mut Broker<'static, TestFlash>,
    pub now: Millis,
    pub end: &'d mut End,
}

impl Commands for Desk<'_> {
    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, self.end)
    }
    fn fetch(&mut self, consumer: ConsumerId, count: u32, outlet: &mut dyn Outlet) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, Command::Fetch { consumer, count }, outlet)
    }
    fn durable(&self) -> Position {
        self.broker.durable()
    }
    fn is_short(&self) -> bool {
        self.broker.is_short()
    }
    fn now(&self) -> Millis {
        self.now
    }
    fn disconnect(&mut self, _: u64) {}
}

pub struct World {
    pub random: Random,
    pub noise: Noise,
    pub options: LeafOptions<'static>,
    pub settings: Rc<Settings>,
    pub chip: Chip,
    pub leaf: Option<Leaf<'static, Chip>>,
    /// The device's own clock, from its last start.
    pub uptime: Millis,
    pub told: Told,
    pub bench: Bench,
    pub end: End,
    shared: Rc<RefCell<Shared>>,
    up: Pipe,
    down: Pipe,
    boots: u32,
    pub bytes_up: u64,
    /// Power may go while the device starts, too.
    pub cuts_starts: bool,
}

impl World {
    pub fn new(seed: u64, options: LeafOptions<'static>, access: Access) -> World {
        let mut flash = FaultFlash::new(GEOMETRY, FaultOptions { seed, ..FaultOptions::default() }).unwrap();
        Leaf::format(&mut flash, seed as u32, &mut [0; 64]).unwrap();
        let mut bench = Bench::new();
        bench.durable_queue("all");
        bench.bind("amq.topic", "all", Key::slashes(b"up/#"), Grade::AtLeastOnce);
        bench.settle();
        let settings = Rc::new(Settings { max_frame: 1024, window: 8, max_queue: 0, access });
        let mut world = World {
            random: Random(seed | 1),
            noise: Noise::default(),
            options,
            settings,
            chip: Chip(Rc::new(RefCell::new(flash))),
            leaf: None,
            uptime: Millis(0),
            told: Told::default(),
            bench,
            end: End { owner: 0, session: None, out: Vec::new(), rest: Vec::new() },
            shared: Rc::new(RefCell::new(Shared::new(seed))),
            up: Pipe::default(),
            down: Pipe::default(),
            boots: 0,
            bytes_up: 0,
            cuts_starts: false,
        };
        world.start_device();
        world.open_line();
        world
    }

    /// The device starts on what is on its flash.
    pub fn start_device(&mut self) {
        self.boots += 1;
        let memory: &'static mut LeafMemory<SEGMENTS, 256, 400> = Box::leak(Box::default());
        let options = LeafOptions { seed: self.boots.wrapping_mul(0x9e37), ..self.options };
        self.uptime = Millis(0);
        match Leaf::mount(self.chip.clone(), memory.storage(), options) {
            Ok(mut leaf) => {
                leaf.connect(self.uptime);
                self.leaf = Some(leaf);
            }
            // Only if power went again.
            Err(error) => assert!(self.chip.0.borrow().is_cut(), "{error:?}"),
        }
    }

    /// The device loses power, perhaps in the middle of a write before, and comes back.
    pub fn restart_device(&mut self) {
        self.leaf = None;
        let tear = Tear::ALL[self.random.below(Tear::ALL.len() as u64) as usize];
        let seed = self.random.next();
        self.chip.0.borrow_mut().restart_with(tear, seed);
        if self.cuts_starts && self.random.once_in(3) {
            let steps = self.random.below(300);
            self.chip.0.borrow_mut().cut_after(steps);
        }
        self.start_device();
    }

    /// A new stream at the gateway.
    pub fn open_line(&mut self) {
        let owner = self.end.owner + 1;
        let line = Some(Line::default());
        let session =
            WireSession::new(self.settings.clone(), self.shared.clone(), owner, line, self.bench.now);
        self.end = End { owner, session: Some(session), out: Vec::new(), rest: Vec::new() };
    }

    /// The stream at the gateway ends, and begins again.
    pub fn reopen_line(&mut self) {
        let mut session = self.end.session.take().unwrap();
        let mut desk = Desk { broker: &mut self.bench.broker, now: self.bench.now, end: &mut self.end };
        session.handle_close(&Close::Lost, &mut desk);
        self.open_line();
    }

    /// The gateway loses power and comes back.
    pub fn restart_gateway(mut self) -> World {
        let seed = self.random.next();
        self.end.session = None;
        self.bench = self.bench.restart();
        self.shared = Rc::new(RefCell::new(Shared::new(seed)));
        self.open_line();
        self
    }

    pub fn publish(&mut self, topic: &str, body: &str) -> Result<u64, LeafError> {
        let Some(leaf) = &mut self.leaf else { return Err(LeafError::ReadOnly) };
        leaf.publish(&LeafMessage { topic, body: body.as_bytes(), ..LeafMessage::default() }, self.uptime)
    }

    /// Time passes; both sides take what came and say what they have.
    pub fn step(&mut self, span_ms: u64) {
        self.uptime = self.uptime.after(span_ms);
        self.bench.now = self.bench.now.after(span_ms);
        self.step_device();
        self.step_gateway();
    }

    fn step_device(&mut self) {
        let Some(leaf) = &mut self.leaf else { return };
        let most = 1 + self.random.below(300) as usize;
        let bytes = self.down.take(most);
        leaf.handle_input(&bytes, self.uptime, &mut self.told);
        let mut out = [0; 2000];
        let count = leaf.poll_output(&mut out, self.uptime, &mut self.told);
        self.bytes_up += count as u64;
        self.up.put(&out[..count], &self.noise, &mut self.random);
    }

    fn step_gateway(&mut self) {
        let most = 1 + self.random.below(400) as usize;
        let bytes = self.up.take(most);
        self.end.rest.extend(bytes);
        let Some(mut session) = self.end.session.take() else { return };
        let now = self.bench.now;
        let (mut input, mut out) = (std::mem::take(&mut self.end.rest), Vec::new());
        let mut desk = Desk { broker: &mut self.bench.broker, now, end: &mut self.end };
        let used = session.handle_input(&input, &mut desk, &mut out).expect("a line stays");
        input.drain(..used);
        if session.poll_timeout() <= now {
            session.handle_timeout(now, &mut desk, &mut out).expect("a line stays");
        }
        self.end.rest = input;
        self.end.session = Some(session);
        self.end.out.extend(out);
        self.pump();
        let out = std::mem::take(&mut self.end.out);
        self.down.put(&out, &self.noise, &mut self.random);
    }

    /// The broker hands out and commits.
    fn pump(&mut self) {
        let now = self.bench.now;
        let broker = &mut self.bench.broker;
        if broker.poll_timeout() <= now {
            broker.handle_timeout(now, &mut self.end);
        }
        broker.pump(now, &mut self.end);
        broker.commit(now);
        if let Some(durable) = broker.poll_durable() {
            let Some(mut session) = self.end.session.take() else { return };
            let mut out = Vec::new();
            let mut desk = Desk { broker: &mut self.bench.broker, now, end: &mut self.end };
            session.handle_durable(durable, &mut desk, &mut out);
            self.end.out.extend(out);
            self.end.session = Some(session);
        }
    }

    /// The line is good from now on; until the device has nothing left to say.
    pub fn run_dry(&mut self) {
        self.noise = Noise::default();
        self.chip.0.borrow_mut().cut_after(u64::MAX);
        for _ in 0..20_000 {
            self.step(10);
            if self.leaf.as_ref().is_some_and(|leaf| leaf.stats().waiting == 0) {
                return;
            }
        }
        panic!("the backlog does not get shorter: {:?}", self.leaf.as_ref().map(Leaf::stats));
    }

    /// The device starts until it is up: a start may be cut short as well.
    pub fn start_until_up(&mut self) {
        while self.leaf.is_none() {
            self.restart_device();
        }
    }

    /// Power stays from a last start on, and the backlog goes; what has arrived.
    pub fn come_to_rest(&mut self) -> Vec<String> {
        self.cuts_starts = false;
        self.restart_device();
        self.run_dry();
        self.arrived()
    }

    /// Bodies of everything that arrived at the gateway, in order.
    pub fn arrived(&mut self) -> Vec<String> {
        self.end.session = None;
        let Ok(Reply::Queue { id, .. }) = self.bench.execute(Command::FindQueue { name: "all" }) else {
            panic!("the queue is gone")
        };
        self.bench.consume(id, 16);
        self.bench.drain()
    }
}

pub fn refusing() -> LeafOptions<'static> {
    LeafOptions { device: "pump-7", when_full: WhenFull::Refuse, keep_alive_s: 10, ..LeafOptions::default() }
}
