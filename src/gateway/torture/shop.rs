//! The real broker with a script, and what it shows of what is in it.
//!
//! The toy of `toy` tests the log; here everything the broker writes is in play: queues that come and
//! go, bindings, a stream and its group, retained values, acknowledgements in runs. Tables are small and
//! lent again for each mount.
//!
//! ```text
//! orders   durable queue, by its name           lines    durable stream, the newest of it kept
//! audit    durable queue, bound to topic `#`    readers  group of lines
//! late     durable queue that comes and goes
//! ```
//! Every message begins with its number, so that one look tells which messages are where.

use super::ledger::NEVER;
use super::random::Random;
use crate::broker::{Broker, MountFailure, Mounted, Settings};
use crate::command::{
    Bind, Command, Delivery, Destination, Grade, Message, Offer, Outlet, Publish, QueueKind, QueueOptions,
    Refusal, Reply, Step, Subscription, Which,
};
use crate::flash::Flash;
use crate::gateway::memory::Tables;
use crate::limits::Limits;
use crate::model::key::Key;
use crate::units::{ConsumerId, Millis, Offset, Position, QueueId, Tag};
use std::cell::Cell;

/// Limits of a broker that fits segments of 2 KiB.
pub const LIMITS: Limits = Limits {
    queues: 12,
    entries: 512,
    in_flight: 32,
    consumers: 4,
    exchanges: 12,
    bindings: 24,
    nodes: 64,
    text_bytes: 4096,
    dedup: 16,
    held: 8,
    producers: 4,
    retained: 16,
    max_message_bytes: 160,
    tail_bytes: 2048,
    index_bytes: 640,
    windows: 2,
};

/// Names of the queues; the last comes and goes.
pub const QUEUES: [&str; 4] = ["orders", "audit", "lines", "late"];
const ORDERS: usize = 0;
const AUDIT: usize = 1;
const LINES: usize = 2;
const LATE: usize = 3;
/// Keys of the retained values.
pub const KEYS: [&str; 3] = ["plant/1", "plant/2", "plant/line.3"];
/// Messages the stream keeps.
const STREAM_COUNT: u32 = 10;
/// Bytes of a message's number.
const ID_BYTES: usize = 4;

/// Takes deliveries, and keeps who has to be acknowledged.
#[derive(Debug, Default)]
pub struct Outbox {
    taken: Vec<(QueueId, Tag, u32)>,
}

impl Outlet for Outbox {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        if let Some(tag) = delivery.tag {
            self.taken.push((delivery.queue, tag, id_of(delivery.message.body).unwrap_or(u32::MAX)));
        }
        Offer::Taken
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
}

/// The body of a message.
fn body(id: u32, into: &mut Vec<u8>) {
    let mut random = Random(u64::from(id));
    into.clear();
    into.extend_from_slice(&id.to_le_bytes());
    let len = random.below(60) as usize;
    into.extend((0..len).map(|_| random.draw() as u8));
}

fn id_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<ID_BYTES>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// A message in one queue, and since which steps of the device.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// The queue.
    pub queue: usize,
    /// Its number.
    pub id: u32,
    /// From here on it may be there.
    pub begun: u64,
    /// From here on it must be.
    pub durable: u64,
    /// From here on it may be gone.
    pub left: u64,
    /// The number of the message that was published in the same transaction, or its own.
    pub twin: u32,
}

/// What was done, in steps of the device. The stream is left out: it drops its oldest by itself.
#[derive(Clone, Debug, Default)]
pub struct Facts(pub Vec<Fact>);

impl Facts {
    fn publish(&mut self, queue: usize, id: u32, begun: u64) {
        self.0.push(Fact { queue, id, begun, durable: NEVER, left: NEVER, twin: id });
    }

    fn publish_both(&mut self, id: u32, begun: u64) {
        for (queue, id, twin) in [(ORDERS, id, id + 1), (AUDIT, id + 1, id)] {
            self.0.push(Fact { queue, id, begun, durable: NEVER, left: NEVER, twin });
        }
    }

    /// Whether only one of the two messages of a transaction is there.
    fn is_torn(&self, fact: &Fact, seen: &Sight, step: u64) -> bool {
        let other = self.0.iter().find(|other| other.id == fact.twin && other.id != fact.id);
        let Some(other) = other.filter(|other| other.left >= step && fact.left >= step) else { return false };
        seen.has(fact.queue, fact.id) != seen.has(other.queue, other.id)
    }

    fn leave(&mut self, which: impl Fn(&Fact) -> bool, step: u64) {
        let gone = self.0.iter_mut().filter(|fact| fact.left == NEVER && which(fact));
        gone.for_each(|fact| fact.left = step);
    }

    fn settle(&mut self, step: u64) {
        let open = self.0.iter_mut().filter(|fact| fact.durable == NEVER);
        open.for_each(|fact| fact.durable = step);
    }

    /// What is wrong with what is seen after power went at a step: confirmed messages must be there,
    /// nothing that was not yet published, and of the rest the first so many.
    pub fn wrong(&self, seen: &Sight, step: u64) -> Option<String> {
        let name = |fact: &Fact| format!("message {} of {}", fact.id, QUEUES[fact.queue]);
        let newest = seen.messages.iter().map(|&(_, _, id)| id).max().unwrap_or(0);
        for fact in &self.0 {
            let there = seen.has(fact.queue, fact.id);
            if self.is_torn(fact, seen, step) {
                return Some(format!("{} is not together with {}", name(fact), fact.twin));
            }
            if there && fact.begun >= step {
                return Some(format!("{} was not published yet", name(fact)));
            }
            if there || fact.left < step {
                continue;
            }
            if fact.durable <= step {
                return Some(format!("{} is lost: {fact:?}", name(fact)));
            }
            if fact.id < newest {
                return Some(format!("{} is not there, but message {newest} is: {fact:?}", name(fact)));
            }
        }
        (seen.wrong > 0).then(|| format!("{} messages are not what was published", seen.wrong))
    }
}

/// What a mounted broker shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Which queues are there.
    pub queues: [bool; QUEUES.len()],
    /// Queue, offset and number of every message that can be read.
    pub messages: Vec<(usize, Offset, u32)>,
    /// Queue and offset of every message that is known to be lost.
    pub unreadable: Vec<(usize, Offset)>,
    /// Key and number of every retained value.
    pub values: Vec<(usize, u32)>,
    /// Retained values that are known to be lost.
    pub values_unreadable: u32,
    /// Something that was never published, or not like this.
    pub wrong: u32,
}

impl Sight {
    fn clear(&mut self) {
        self.queues = [false; QUEUES.len()];
        self.messages.clear();
        self.unreadable.clear();
        self.values.clear();
        (self.values_unreadable, self.wrong) = (0, 0);
    }

    /// What of it another does not show, and the other way round.
    pub fn difference(&self, other: &Sight) -> String {
        let less: Vec<_> = self.messages.iter().filter(|message| !other.messages.contains(message)).collect();
        let more: Vec<_> = other.messages.iter().filter(|message| !self.messages.contains(message)).collect();
        let (values, others) = (&self.values, &other.values);
        let (queues, then) = ((self.queues, &self.unreadable), (other.queues, &other.unreadable));
        format!("less {less:?}, more {more:?}, values {values:?} {others:?}, queues {queues:?} {then:?}")
    }

    /// Whether a message can be read in a queue.
    pub fn has(&self, queue: usize, id: u32) -> bool {
        self.messages.iter().any(|&(q, _, i)| (q, i) == (queue, id))
    }
}

/// The tables a broker is mounted in, one store after the other.
pub struct Desk {
    tables: Tables,
    outbox: Outbox,
    scratch: Vec<u8>,
}

impl Desk {
    /// For devices of this geometry.
    pub fn new(geometry: crate::flash::Geometry) -> Desk {
        Desk { tables: Tables::new(&LIMITS, geometry), outbox: Outbox::default(), scratch: Vec::new() }
    }

    /// Mounts a store.
    pub fn mount<F: Flash>(&mut self, flash: F) -> Result<(Shop<'_, F>, Mounted), MountFailure> {
        let settings = Settings { seed: 5, ..Settings::default() };
        let (broker, mounted) = Broker::mount(flash, self.tables.storage(), settings)?;
        self.outbox.taken.clear();
        let now = mounted.last.after(1);
        let (outbox, scratch) = (&mut self.outbox, &mut self.scratch);
        Ok((Shop { broker, outbox, scratch, now }, mounted))
    }
}

/// A broker at work.
pub struct Shop<'d, F: Flash> {
    /// The broker.
    pub broker: Broker<'d, F>,
    outbox: &'d mut Outbox,
    scratch: &'d mut Vec<u8>,
    now: Millis,
}

impl<F: Flash> Shop<'_, F> {
    /// Executes a command.
    pub fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, self.outbox)
    }

    /// Declares everything that is there from the start.
    pub fn furnish(&mut self) -> Result<(), Refusal> {
        let durable = QueueOptions { durable: true, ..QueueOptions::default() };
        let stream = QueueOptions { kind: QueueKind::Stream, max_count: STREAM_COUNT, ..durable };
        let mut ids = [QueueId(0); LATE];
        for (queue, options) in [(ORDERS, durable), (AUDIT, durable), (LINES, stream)] {
            let made = self.execute(Command::DeclareQueue { name: QUEUES[queue], options })?;
            if let Reply::Queue { id, .. } = made {
                ids[queue] = id;
            }
        }
        let group = QueueOptions { kind: QueueKind::Group { stream: ids[LINES] }, ..durable };
        self.execute(Command::DeclareQueue { name: "readers", options: group })?;
        for (queue, pattern) in [(AUDIT, &b"#"[..]), (LINES, b"plant/#")] {
            let pattern = Key::slashes(pattern);
            let destination = Destination::Queue(QUEUES[queue]);
            let grade = Grade::AtLeastOnce;
            let bind = Bind { exchange: "amq.topic", destination, pattern, arguments: &[], grade };
            self.execute(Command::Bind(bind))?;
        }
        self.settle();
        Ok(())
    }

    /// Attaches a consumer to what is drained by the script.
    pub fn consume(&mut self) -> Result<(), Refusal> {
        for queue in [ORDERS, AUDIT] {
            let Some(queue) = self.find(queue) else { continue };
            let asked = Subscription { queue, owner: 1, credit: 12, ..Subscription::default() };
            self.execute(Command::Subscribe(asked))?;
        }
        Ok(())
    }

    fn find(&mut self, queue: usize) -> Option<QueueId> {
        match self.execute(Command::FindQueue { name: QUEUES[queue] }) {
            Ok(Reply::Queue { id, .. }) => Some(id),
            _ => None,
        }
    }

    /// Publishes a message with this number to a queue, or to a topic and keeps it there.
    fn publish(&mut self, id: u32, to: Result<usize, usize>, retain: bool) -> Result<Position, Refusal> {
        let mut bytes = std::mem::take(self.scratch);
        body(id, &mut bytes);
        let (exchange, key) = match to {
            Ok(queue) => ("", Key::dots(QUEUES[queue].as_bytes())),
            Err(key) => ("amq.topic", Key::slashes(KEYS[key].as_bytes())),
        };
        let message = Message { key, headers: &[], body: &bytes };
        let grade = Grade::AtLeastOnce;
        let publish = Publish { exchange, message, durable: true, grade, retain, ..Publish::default() };
        let reply = self.execute(Command::Publish(publish));
        *self.scratch = bytes;
        match reply? {
            Reply::Published { confirm_at, .. } => Ok(confirm_at),
            _ => Err(Refusal::NotAllowed),
        }
    }

    /// Runs until nothing changes any more, or the store takes nothing.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            self.now = self.now.after(20);
            let more = self.broker.pump(self.now, self.outbox);
            self.broker.commit(self.now);
            let moved = self.broker.poll_durable().is_some();
            let quiet = self.broker.poll_timeout() == Millis::NEVER;
            if !more && !moved && quiet && self.broker.is_closed() {
                return;
            }
        }
    }

    /// Looks at everything.
    pub fn look(&mut self, sight: &mut Sight) {
        sight.clear();
        for queue in 0..QUEUES.len() {
            let Some(id) = self.find(queue) else { continue };
            sight.queues[queue] = true;
            let mut from = Offset(0);
            while let Some((next, standee)) = self.broker.browse(id, from, Which::Any) {
                from = next;
                let Some(standee) = standee else { continue };
                match standee.content.map(|content| content.message.body) {
                    Err(_) => sight.unreadable.push((queue, standee.offset)),
                    Ok(found) => match id_of(found) {
                        Some(id) if right(id, found, self.scratch) => {
                            sight.messages.push((queue, standee.offset, id));
                        }
                        _ => sight.wrong += 1,
                    },
                }
            }
        }
        self.look_at_values(sight);
    }

    fn look_at_values(&mut self, sight: &mut Sight) {
        let mut cursor = 0;
        while let Some((next, content)) = self.broker.browse_retained(cursor) {
            cursor = next;
            match content {
                None => {}
                Some(Err(_)) => sight.values_unreadable += 1,
                Some(Ok(content)) => {
                    let found = content.message.body;
                    let key = KEYS.iter().position(|key| key.as_bytes() == content.message.key.text);
                    match (key, id_of(found)) {
                        (Some(key), Some(id)) if right(id, found, self.scratch) => {
                            sight.values.push((key, id));
                        }
                        _ => sight.wrong += 1,
                    }
                }
            }
        }
        // They come in the order of tables, which their history decides.
        sight.values.sort_unstable();
        sight.messages.sort_unstable();
        sight.unreadable.sort_unstable();
    }

    /// Works for so many acts: publishes, deliveries, acknowledgements, a queue that comes and goes. The
    /// next number is returned. `step` tells the step of the device.
    pub fn work(
        &mut self,
        from: u32,
        acts: u32,
        random: &mut Random,
        facts: &mut Facts,
        step: fn(&F) -> u64,
    ) -> Result<u32, Refusal> {
        let mut next = from;
        for _ in 0..acts {
            self.now = self.now.after(random.below(30));
            let begun = step(self.broker.device());
            let to = match random.below(13) {
                12 => {
                    next += self.publish_both(next, random, facts, begun);
                    None
                }
                0..=3 => Some((Ok(ORDERS), ORDERS)),
                4..=6 => Some((Err(random.below(KEYS.len() as u64) as usize), AUDIT)),
                7 => {
                    let options = QueueOptions { durable: true, ..QueueOptions::default() };
                    self.execute(Command::DeclareQueue { name: QUEUES[LATE], options })?;
                    Some((Ok(LATE), LATE))
                }
                8 if random.once_in(4) => {
                    let name = QUEUES[LATE];
                    let _ = self.execute(Command::DeleteQueue { name, if_unused: false, if_empty: false });
                    facts.leave(|fact| fact.queue == LATE, begun);
                    None
                }
                _ => {
                    self.acknowledge(random, facts, begun);
                    None
                }
            };
            if let Some((to, queue)) = to {
                if self.publish(next, to, to.is_err() && random.once_in(2)).is_ok() {
                    facts.publish(queue, next, begun);
                    next += 1;
                }
            }
            if random.once_in(3) {
                self.settle();
                facts.settle(step(self.broker.device()) + 1);
            }
        }
        self.settle();
        facts.settle(step(self.broker.device()) + 1);
        Ok(next)
    }

    /// Publishes two messages and acknowledges one as one step; how many were published.
    fn publish_both(&mut self, id: u32, random: &mut Random, facts: &mut Facts, begun: u64) -> u32 {
        let count = self.outbox.taken.len() as u64;
        let done = (count > 8).then(|| self.outbox.taken.swap_remove(random.below(count) as usize));
        let (mut first, mut second) = (Vec::new(), Vec::new());
        body(id, &mut first);
        body(id + 1, &mut second);
        let cells = [const { Cell::new(0) }; 2];
        let publish = |queue: usize, body| {
            let message = Message { key: Key::dots(QUEUES[queue].as_bytes()), headers: &[], body };
            Publish { message, durable: true, grade: Grade::AtLeastOnce, ..Publish::default() }
        };
        let steps = [
            Step::Publish(publish(ORDERS, &first), &cells[0]),
            Step::Publish(publish(AUDIT, &second), &cells[1]),
        ];
        let ack = done.map(|(_, tag, _)| Step::Ack(tag));
        let steps: Vec<_> = steps.into_iter().chain(ack).collect();
        if self.execute(Command::Tx(&steps)).is_err() {
            self.outbox.taken.extend(done);
            return 0;
        }
        done.into_iter().for_each(|(_, _, done)| facts.leave(|fact| fact.id == done, begun));
        facts.publish_both(id, begun);
        2
    }

    /// Acknowledges some of what was delivered, so that a dozen messages stay.
    fn acknowledge(&mut self, random: &mut Random, facts: &mut Facts, step: u64) {
        for _ in 0..=random.below(4) {
            let count = self.outbox.taken.len() as u64;
            if count < 8 {
                return;
            }
            let (_, tag, id) = self.outbox.taken.swap_remove(random.below(count) as usize);
            facts.leave(|fact| fact.id == id, step);
            let _ = self.execute(Command::Ack(tag));
        }
    }

    /// Closes the store.
    pub fn close(&mut self) {
        self.settle();
        for _ in 0..3 {
            self.broker.close(self.now);
            let _ = self.broker.poll_durable();
        }
    }

    /// Publishes a few messages that are durable when this returns, unless what came back leaves no room.
    pub fn go_on(&mut self, from: u32, count: u32) -> Result<(), Refusal> {
        for id in from..from + count {
            let mut published = self.publish(id, Ok(ORDERS), false);
            for _ in 0..8 {
                if published == Err(Refusal::StoreFull) {
                    self.settle();
                    published = self.publish(id, Ok(ORDERS), false);
                }
            }
            let info = self.broker.info();
            if published == Err(Refusal::StoreFull) && info.live_bytes * 2 > info.room {
                break;
            }
            published?;
        }
        self.settle();
        Ok(())
    }
}

fn right(id: u32, found: &[u8], scratch: &mut Vec<u8>) -> bool {
    body(id, scratch);
    scratch == found
}
