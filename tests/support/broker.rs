//! A broker on a flash in memory that a test can restart, with a sync it can hold back.

#![allow(dead_code)]

use forebay::broker::{Broker, MountFailure, Mounted, Route, Settings, Storage};
use forebay::command::*;
use forebay::flash::{Flash, FlashError, Geometry, SyncState};
use forebay::log::{Log, LogStorage, SegmentState};
use forebay::model::binding::{BindingSlot, Site};
use forebay::model::consumer::Consumer;
use forebay::model::dedup::{HeldSlot, ProducerSlot, WindowSlot};
use forebay::model::entry::Entry;
use forebay::model::exchange::ExchangeSlot;
use forebay::model::flight::Flight;
use forebay::model::key::Key;
use forebay::model::link::Link;
use forebay::model::pages::Page;
use forebay::model::queue::Queue;
use forebay::model::retained::RetainedSlot;
use forebay::model::text::Cell as TextCell;
use forebay::model::tree::Node;
use forebay::units::*;
use std::cell::RefCell;
use std::rc::Rc;

/// What survives a restart: the image as it was at the last sync, and as it was written.
pub struct Medium {
    pub written: Vec<u8>,
    pub synced: Vec<u8>,
    pub state: SyncState,
    pub hold_sync: bool,
    pub fail_sync: bool,
    /// What every program is answered with.
    pub refuse_program: Option<FlashError>,
    /// What every erase is answered with.
    pub refuse_erase: Option<FlashError>,
    programmed: Vec<bool>,
}

/// A NOR flash whose medium outlives the broker.
#[derive(Clone)]
pub struct TestFlash {
    pub medium: Rc<RefCell<Medium>>,
    geometry: Geometry,
}

impl TestFlash {
    pub fn new(geometry: Geometry) -> TestFlash {
        let size = (geometry.segment_size * geometry.segment_count) as usize;
        let medium = Medium {
            written: vec![0xFF; size],
            synced: vec![0xFF; size],
            state: SyncState::Idle,
            hold_sync: false,
            fail_sync: false,
            refuse_program: None,
            refuse_erase: None,
            programmed: vec![false; size / geometry.write_unit as usize],
        };
        TestFlash { medium: Rc::new(RefCell::new(medium)), geometry }
    }

    /// The same image on a medium of its own.
    pub fn fork(&self) -> TestFlash {
        let medium = self.medium.borrow();
        let fork = TestFlash::new(self.geometry);
        {
            let mut other = fork.medium.borrow_mut();
            other.written.clone_from(&medium.written);
            other.synced.clone_from(&medium.synced);
        }
        fork.lose_power();
        fork
    }

    /// Power goes: what was not synced is lost.
    pub fn lose_power(&self) {
        let mut medium = self.medium.borrow_mut();
        medium.written = medium.synced.clone();
        medium.state = SyncState::Idle;
        medium.hold_sync = false;
        // What is erased in the image may be programmed.
        let unit = self.geometry.write_unit as usize;
        let Medium { written, programmed, .. } = &mut *medium;
        for (flag, bytes) in programmed.iter_mut().zip(written.chunks(unit)) {
            *flag = bytes.iter().any(|&byte| byte != 0xFF);
        }
    }
}

impl Flash for TestFlash {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let start = (segment * self.geometry.segment_size + offset) as usize;
        into.copy_from_slice(&self.medium.borrow().written[start..start + into.len()]);
        Ok(())
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let start = (segment * self.geometry.segment_size + offset) as usize;
        let unit = self.geometry.write_unit as usize;
        let mut medium = self.medium.borrow_mut();
        medium.refuse_program.map_or(Ok(()), Err)?;
        for place in start / unit..(start + bytes.len()) / unit {
            assert!(!medium.programmed[place], "a unit was programmed twice");
            medium.programmed[place] = true;
        }
        medium.written[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        let (size, unit) = (self.geometry.segment_size as usize, self.geometry.write_unit as usize);
        let start = segment as usize * size;
        let mut medium = self.medium.borrow_mut();
        medium.refuse_erase.map_or(Ok(()), Err)?;
        medium.written[start..start + size].fill(0xFF);
        medium.programmed[start / unit..(start + size) / unit].fill(false);
        Ok(())
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        self.medium.borrow_mut().state = SyncState::Pending;
        Ok(())
    }

    fn poll_sync(&mut self) -> SyncState {
        let mut medium = self.medium.borrow_mut();
        if medium.state == SyncState::Pending && !medium.hold_sync {
            medium.state = SyncState::Idle;
            if medium.fail_sync {
                return SyncState::Failed;
            }
            medium.synced = medium.written.clone();
            return SyncState::Done;
        }
        medium.state
    }
}

/// A delivery, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub consumer: ConsumerId,
    pub queue: QueueId,
    pub offset: Option<u64>,
    pub tag: Option<Tag>,
    pub grade: Grade,
    pub redelivered: bool,
    pub received: bool,
    pub retained: bool,
    pub count: u8,
    pub exchange: String,
    pub headers: Vec<u8>,
    pub key: String,
    pub body: String,
}

/// Takes deliveries; `room` says how many before it is busy.
pub struct Inbox {
    pub got: Vec<Got>,
    pub cancelled: Vec<ConsumerId>,
    pub room: usize,
}

impl Outlet for Inbox {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        if self.got.len() >= self.room {
            return Offer::Busy;
        }
        self.got.push(Got {
            consumer: delivery.consumer,
            queue: delivery.queue,
            offset: delivery.offset.map(|offset| offset.0),
            tag: delivery.tag,
            grade: delivery.grade,
            redelivered: delivery.redelivered,
            received: delivery.received,
            retained: delivery.retained,
            count: delivery.delivery_count,
            exchange: delivery.exchange.into(),
            headers: delivery.message.headers.into(),
            key: String::from_utf8_lossy(delivery.message.key.text).into(),
            body: String::from_utf8_lossy(delivery.message.body).into(),
        });
        Offer::Taken
    }

    fn cancelled(&mut self, _owner: u64, consumer: ConsumerId) {
        self.cancelled.push(consumer);
    }
}

/// An ordinary subscription with so much credit.
pub fn subscription(queue: QueueId, credit: u32) -> Command<'static> {
    Command::Subscribe(Subscription { queue, owner: 1, credit, ..Subscription::default() })
}

/// A broker, its medium, its time, and what it delivered.
pub struct Bench {
    pub broker: Broker<'static, TestFlash>,
    pub flash: TestFlash,
    pub inbox: Inbox,
    pub now: Millis,
    pub mounted: Mounted,
    pub pages: usize,
}

pub const SMALL: Geometry = Geometry { segment_size: 4096, segment_count: 64, write_unit: 4 };

fn leak<T: Clone>(value: T, count: usize) -> &'static mut [T] {
    Box::leak(vec![value; count].into_boxed_slice())
}

pub fn storage(geometry: Geometry, pages: usize) -> Storage<'static> {
    let (queues, max_record) = (32, 1024);
    Storage {
        log: LogStorage {
            segments: leak(SegmentState::default(), geometry.segment_count as usize),
            tail: leak(0, geometry.segment_size as usize),
            index: leak(0, (geometry.segment_size as usize / 8).max(1024)),
            windows: leak(0, 2 * (max_record + 64)),
        },
        max_record: max_record as u32,
        pages: leak(Page::EMPTY, pages),
        entries: leak(Entry::default(), 32 * pages),
        page_heads: leak(0, pages.next_power_of_two()),
        timers: leak(0, pages),
        queues: leak(Queue::EMPTY, queues),
        queue_heads: leak(0, 32),
        consumers: leak(Consumer::EMPTY, 32),
        flights: leak(Flight::EMPTY, 64),
        names: leak(TextCell::default(), 256),
        exchanges: leak(ExchangeSlot::default(), 16),
        exchange_names: leak(TextCell::default(), 256),
        bindings: leak(BindingSlot::default(), 128),
        nodes: leak(Node::default(), 256),
        words: leak(TextCell::default(), 512),
        sites: leak(Site::default(), 16),
        bound: leak(Link::default(), queues),
        window_keys: leak(WindowSlot::default(), 64),
        held_keys: leak(HeldSlot::default(), 16),
        producers: leak(ProducerSlot::default(), 4),
        holders: leak(Link::default(), queues),
        retained: leak(RetainedSlot::default(), 64),
        routes: leak(Route::EMPTY, queues),
        scratch: leak(0, 1024),
    }
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(SMALL, 128)
    }

    pub fn with(geometry: Geometry, pages: usize) -> Bench {
        let mut flash = TestFlash::new(geometry);
        Log::format(&mut flash, 7, Millis(0), &mut [0; 4096]).unwrap();
        let state = flash.medium.clone();
        let image = state.borrow().written.clone();
        state.borrow_mut().synced = image;
        Bench::mount(flash, pages, Millis(1_000_000))
    }

    fn mount(flash: TestFlash, pages: usize, now: Millis) -> Bench {
        Bench::try_mount(flash, pages, now).unwrap()
    }

    /// Mounts whatever is on the flash.
    pub fn try_mount(flash: TestFlash, pages: usize, now: Millis) -> Result<Bench, MountFailure> {
        Bench::try_mount_with(flash, pages, now, false)
    }

    /// Looks at whatever is on the flash without writing to it.
    pub fn look(flash: TestFlash, pages: usize, now: Millis) -> Bench {
        Bench::try_mount_with(flash, pages, now, true).unwrap()
    }

    fn try_mount_with(
        flash: TestFlash,
        pages: usize,
        now: Millis,
        read_only: bool,
    ) -> Result<Bench, MountFailure> {
        let settings = Settings { seed: 5, read_only, ..Settings::default() };
        let (broker, mounted) = Broker::mount(flash.clone(), storage(flash.geometry(), pages), settings)?;
        let inbox = Inbox { got: Vec::new(), cancelled: Vec::new(), room: usize::MAX };
        Ok(Bench { broker, flash, inbox, now: now.max(mounted.last), mounted, pages })
    }

    /// Power goes and comes back.
    pub fn restart(self) -> Bench {
        self.flash.lose_power();
        Bench::mount(self.flash, self.pages, self.now)
    }

    pub fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, &mut self.inbox)
    }

    /// Runs until nothing changes: commits, syncs, hands out.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.broker.poll_timeout() <= self.now {
                self.broker.handle_timeout(self.now, &mut self.inbox);
            }
            let more = self.broker.pump(self.now, &mut self.inbox);
            self.broker.commit(self.now);
            let moved = self.broker.poll_durable().is_some();
            if !more && !moved {
                return;
            }
        }
        panic!("the broker does not come to rest");
    }

    pub fn wait(&mut self, span_ms: u64) {
        self.now = self.now.after(span_ms);
        self.settle();
    }

    pub fn queue(&mut self, name: &str, options: QueueOptions<'_>) -> QueueId {
        match self.execute(Command::DeclareQueue { name, options }).unwrap() {
            Reply::Queue { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    pub fn durable_queue(&mut self, name: &str) -> QueueId {
        self.queue(name, QueueOptions { durable: true, ..QueueOptions::default() })
    }

    pub fn exchange(&mut self, name: &str, options: ExchangeOptions<'_>) -> Result<Reply, Refusal> {
        self.execute(Command::DeclareExchange { name, options })
    }

    pub fn bind(&mut self, exchange: &str, queue: &str, pattern: Key<'_>, grade: Grade) {
        let destination = Destination::Queue(queue);
        self.execute(Command::Bind(Bind { exchange, destination, pattern, arguments: &[], grade })).unwrap();
    }

    pub fn consume(&mut self, queue: QueueId, credit: u32) -> ConsumerId {
        match self.execute(subscription(queue, credit)).unwrap() {
            Reply::Consumer(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes a durable message to a queue by name, and returns the reply.
    pub fn publish(&mut self, queue: &str, body: &str) -> Result<Reply, Refusal> {
        self.publish_with(queue, body, |_| {})
    }

    pub fn publish_with(
        &mut self,
        queue: &str,
        body: &str,
        change: impl FnOnce(&mut Publish<'_>),
    ) -> Result<Reply, Refusal> {
        let message = Message { key: Key::dots(queue.as_bytes()), headers: &[], body: body.as_bytes() };
        let mut publish = Publish { message, durable: true, grade: Grade::AtLeastOnce, ..Publish::default() };
        change(&mut publish);
        self.execute(Command::Publish(publish))
    }

    /// Publishes in the MQTT way.
    pub fn topic(&mut self, topic: &str, body: &str, grade: Grade, retain: bool) -> Reply {
        let message = Message { key: Key::slashes(topic.as_bytes()), headers: &[], body: body.as_bytes() };
        let durable = grade != Grade::AtMostOnce;
        let publish =
            Publish { exchange: "amq.topic", message, durable, grade, retain, ..Publish::default() };
        self.execute(Command::Publish(publish)).unwrap()
    }

    /// What was delivered since the last call.
    pub fn take(&mut self) -> Vec<Got> {
        std::mem::take(&mut self.inbox.got)
    }

    /// The bodies of what was delivered since the last call.
    pub fn bodies(&mut self) -> Vec<String> {
        self.take().into_iter().map(|got| got.body).collect()
    }

    pub fn ack(&mut self, got: &Got) {
        self.execute(Command::Ack(got.tag.expect("it waits for an ack"))).unwrap();
    }

    /// Settles, then takes and acknowledges until nothing more comes; the bodies.
    pub fn drain(&mut self) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            self.settle();
            let got = self.take();
            if got.is_empty() {
                return bodies;
            }
            for got in got {
                if got.tag.is_some() {
                    self.ack(&got);
                }
                bodies.push(got.body);
            }
        }
    }

    /// Publishes once to the queue called busy, whose consumer acknowledges at once: work for reclaim.
    pub fn work(&mut self) {
        let body = "x".repeat(700);
        self.publish("busy", &body).unwrap();
        assert_eq!(self.drain(), [body.as_str()]);
    }

    /// Ready, in flight, delayed.
    pub fn counts(&self, id: QueueId) -> (u32, u32, u32) {
        let mut counts = None;
        self.broker.for_each_queue(&mut |queue| {
            if queue.id == id {
                counts = Some((queue.ready, queue.in_flight, queue.delayed));
            }
        });
        counts.expect("the queue exists")
    }
}
