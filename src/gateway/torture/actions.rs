//! What clients do, at random: one number makes one action, so an action can be left out of a run
//! and the others stay what they were.

use super::body;
use super::life::{grade, Consumer, Life};
use super::live::{Arrival, Leave};
use super::model::{Check, Item, Way};
use super::nouns::{self, ALL, DEAD, EXCHANGES, NOUNS, TOPICS, WIRES, WIRING};
use super::random::Random;
use super::simulator::{DEDUP_WINDOW_MS, HELD_KEYS, WINDOW_KEYS};
use crate::command::{
    Bind, Command, DedupKey, Destination, Grade, Message, Publish, QueueKind, Refusal, Rejection, Reply,
};
use crate::model::key::Key;
use crate::units::{Millis, QueueId, Tag};

/// A publish as it is about to be made.
struct Plan {
    exchange: &'static str,
    key: &'static str,
    topic: usize,
    publish: Publish<'static>,
    /// Which dedup key, if any.
    dedup: Option<usize>,
    size: usize,
}

impl Life<'_> {
    /// Does one thing.
    pub fn act(&mut self, number: u64) -> Check {
        let mut random = Random(number);
        self.model.step += 1;
        self.stats.actions += 1;
        self.inbox.room = if random.once_in(12) { random.below(3) as u32 } else { u32::MAX };
        match random.below(100) {
            0..=33 => self.publish(&mut random),
            34..=51 => self.acknowledge(&mut random),
            52..=57 => self.reject(&mut random),
            58..=63 => self.subscribe(&mut random),
            64..=65 => self.unsubscribe(&mut random),
            66..=67 => self.resume(),
            68..=69 => self.declare(&mut random),
            70 => self.delete_or_purge(&mut random),
            71..=72 => self.wire(&mut random),
            73..=74 => self.retain(&mut random),
            75 => self.forget(&mut random),
            76..=79 => self.pass_time(&mut random),
            80..=86 => self.turn(),
            87..=89 => self.commit(),
            90..=92 => self.poll().map(|_| ()),
            93..=94 => self.pump().map(|_| ()),
            95 => self.compare(&[], &self.meanwhile()),
            _ => self.settle(),
        }
    }

    /// However often the power went, an empty store takes messages again.
    pub fn revive(&mut self) -> Check {
        self.model.step += 1;
        for name in ALL.iter().filter(|noun| noun.stream.is_none()).map(|noun| noun.name) {
            self.tell(|| format!("delete {name}"));
            let _ = self.execute(Command::DeleteQueue { name })?;
        }
        let mut refusal = None;
        for _ in 0..20 {
            self.tick(1_000);
            self.turn_blindly();
            let options = nouns::options(DEAD, None);
            let name = ALL[DEAD].name;
            let _ = self.execute(Command::DeclareQueue { name, options })?;
            let message = Message { key: Key::dots(name.as_bytes()), headers: &[], body: b"alive" };
            let publish = Publish { message, durable: true, ..Publish::default() };
            match self.execute(Command::Publish(publish))? {
                Some(Ok(Reply::Published { routed: 1, .. })) => return Ok(()),
                other => refusal = other,
            }
        }
        Err(format!("an empty store is dead: {refusal:?}, {:?}", self.broker.info().log))
    }

    fn turn_blindly(&mut self) {
        for _ in 0..50 {
            self.broker.handle_timeout(self.now, &mut self.inbox);
            let _ = self.broker.pump(self.now, &mut self.inbox);
            self.broker.commit(self.now);
            self.broker.poll_durable();
        }
        self.forgive();
    }

    /// One turn of a gateway's loop.
    fn turn(&mut self) -> Check {
        self.tell(|| "turn".into());
        if self.broker.poll_timeout() <= self.now {
            self.time_out()?;
        }
        self.pump()?;
        if !self.is_cut() {
            self.commit()?;
        }
        if !self.is_cut() {
            self.poll()?;
        }
        Ok(())
    }

    fn pass_time(&mut self, random: &mut Random) -> Check {
        const TEN_YEARS_MS: u64 = 10 * 365 * 86_400_000;
        match random.below(8) {
            // Log time lasts until 2054.
            0 if self.now.0 < 2 * TEN_YEARS_MS => self.clocks.unix_ms += TEN_YEARS_MS,
            1 => self.clocks.unix_ms = self.clocks.unix_ms.saturating_sub(TEN_YEARS_MS),
            2 => self.clocks.unix_ms = 0,
            _ => {}
        }
        let passed_ms = [0, 1, 10, 100, 800, 3_000, 20_000, 90_000][random.below(8) as usize];
        self.tick(passed_ms);
        self.tell(|| format!("{passed_ms} ms pass"));
        Ok(())
    }

    fn plan(&mut self, random: &mut Random) -> Plan {
        let topic = random.below(TOPICS.len() as u64) as usize;
        let by_name = random.below(10) < 7;
        let noun = random.below(NOUNS as u64) as usize;
        let exchange = if by_name { "" } else { EXCHANGES[random.below(2) as usize] };
        let key = if by_name { ALL[noun].name } else { TOPICS[topic] };
        let grade = grade(random.draw());
        let durable = grade != Grade::AtMostOnce && !random.once_in(8);
        let some = |random: &mut Random, times, of: [u64; 4]| {
            random.once_in(times).then(|| of[random.below(4) as usize])
        };
        let publish = Publish {
            durable,
            grade,
            retain: durable && exchange == EXCHANGES[0] && random.once_in(4),
            ttl_ms: some(random, 10, [0, 50, 2_000, 40_000]),
            delay_ms: some(random, 10, [0, 1, 500, 10_000]),
            priority: if random.once_in(4) { random.below(10) as u8 } else { 0 },
            ..Publish::default()
        };
        let session = self.model.shelves[nouns::SESSION].id.now();
        let key_number = random.below(WINDOW_KEYS + HELD_KEYS) as usize;
        let is_held = key_number as u64 >= WINDOW_KEYS;
        let dedup = (durable && random.once_in(6) && (!is_held || session.is_some())).then_some(key_number);
        // A last value does not expire, so that it can be told what there has to be.
        let ttl_ms = publish.ttl_ms.filter(|_| !publish.retain);
        let most = if random.once_in(6) { 200 } else { 40 };
        let size = 8 + random.below(most) as usize;
        let publish = Publish { ttl_ms, ..publish };
        Plan { exchange, key, topic, publish, dedup, size }
    }

    fn dedup_key(&self, number: usize) -> Option<DedupKey> {
        if (number as u64) < WINDOW_KEYS {
            return Some(DedupKey::Window(number as u64 + 1));
        }
        let queue = QueueId(self.model.shelves[nouns::SESSION].id.now()?);
        Some(DedupKey::Held { queue, packet: number as u16 })
    }

    fn publish(&mut self, random: &mut Random) -> Check {
        let plan = self.plan(random);
        let number = self.model.messages;
        self.model.messages += 1;
        self.model.published.push(self.now);
        let mut body = Vec::new();
        body::write(number, plan.size, &mut body);
        let message = Message { key: Key::dots(plan.key.as_bytes()), headers: &[], body: &body };
        let dedup = plan.dedup.and_then(|number| self.dedup_key(number));
        let publish = Publish { exchange: plan.exchange, message, dedup, ..plan.publish };
        self.tell(|| {
            let Publish { durable, grade, ttl_ms, delay_ms, priority, retain, .. } = publish;
            let times = format!("ttl {ttl_ms:?} delay {delay_ms:?}");
            let flags = format!("durable {durable} {grade:?} {times} priority {priority} retain {retain}");
            format!("publish {number} to {:?} {} {flags} {dedup:?}", plan.exchange, plan.key)
        });
        let reply = self.execute(Command::Publish(publish))?;
        let (routes, mut perhaps) = self.routes(&plan);
        let accepted = match reply {
            Some(Ok(Reply::Published { confirm_at, routed, duplicate })) => {
                if duplicate {
                    return self.was_published(&plan);
                }
                let most = routes.len() + perhaps.len();
                if usize::from(routed) < routes.len() || usize::from(routed) > most {
                    return Err(format!("it was routed {routed} times, not to {routes:?} and {perhaps:?}"));
                }
                plan.publish.durable.then_some(confirm_at)
            }
            Some(Ok(reply)) => return Err(format!("a publish is answered {reply:?}")),
            Some(Err(refusal)) => return self.was_refused(refusal),
            // The power went: it may be there.
            None => {
                self.stats.doubtful += 1;
                None
            }
        };
        let step = self.model.step;
        if let Some(key) = plan.dedup {
            self.is_new(key, reply.is_some())?;
            let expires =
                if dedup.is_some_and(is_held) { Millis::NEVER } else { self.now.after(DEDUP_WINDOW_MS) };
            self.model.keys[key].set(step, accepted, expires);
        }
        if plan.publish.retain {
            self.model.retained[plan.topic].set(step, accepted, Some(number));
        }
        let certain = routes.len();
        let arrivals: Vec<Arrival> = routes
            .into_iter()
            .chain(perhaps.drain(..))
            .enumerate()
            .map(|(place, queue)| self.arrival(&plan, number, queue, accepted, place >= certain))
            .collect();
        let leave = Leave { published: true, ..self.meanwhile() };
        self.after(&arrivals, &leave)
    }

    fn routes(&self, plan: &Plan) -> (Vec<usize>, Vec<usize>) {
        if !plan.exchange.is_empty() {
            return self.model.routes(plan.exchange, plan.topic);
        }
        let queue = nouns::find(plan.key).filter(|&queue| ALL[queue].stream.is_none());
        let queue = queue.filter(|&queue| self.model.shelves[queue].id.now().is_some());
        (queue.into_iter().collect(), Vec::new())
    }

    /// What a message becomes in a queue.
    fn arrival(
        &self,
        plan: &Plan,
        message: u32,
        queue: usize,
        safe_at: Option<crate::units::Position>,
        is_doubtful: bool,
    ) -> Arrival {
        let noun = &ALL[queue];
        let publish = &plan.publish;
        let grade = publish.grade.min(self.most(plan, queue));
        let fleeting = noun.options.session && grade == Grade::AtMostOnce;
        let is_stream = noun.options.kind == QueueKind::Stream;
        let delay_ms = publish.delay_ms.filter(|_| !is_stream).unwrap_or(0);
        let perhaps = is_doubtful || !publish.durable || fleeting;
        let item = Item {
            message,
            arrived: self.model.step,
            safe_at,
            kept: publish.durable && noun.options.durable && !fleeting,
            lease_end: Millis::NEVER,
            priority: publish.priority.min(noun.options.max_priority),
            ready_at: if delay_ms > 0 { self.now.after(delay_ms) } else { Millis(0) },
            expires: noun.expiry(self.model.published[message as usize], publish.ttl_ms),
            ..Item::default()
        };
        Arrival { queue, perhaps, item }
    }

    /// The most a queue is handed a message with.
    fn most(&self, plan: &Plan, queue: usize) -> Grade {
        // Bindings of the session ask for the most; see `wire`.
        let _ = (plan, queue);
        Grade::ExactlyOnce
    }

    /// It was refused: nothing has changed.
    fn was_refused(&mut self, refusal: Refusal) -> Check {
        self.stats.refusals += 1;
        match refusal {
            Refusal::Limit(_) | Refusal::QueueFull | Refusal::StoreFull => {}
            other => return Err(format!("refused: {other:?}")),
        }
        self.take_in_nothing()?;
        self.after(&[], &self.meanwhile())?;
        self.compare(&[], &self.meanwhile())
    }

    fn take_in_nothing(&mut self) -> Check {
        match self.inbox.taken.first() {
            Some(taken) => Err(format!("refused and handed out: {taken:?}")),
            None => Ok(()),
        }
    }

    /// The broker says that a publish was made before.
    fn was_published(&mut self, plan: &Plan) -> Check {
        let Some(key) = plan.dedup else { return Err("a publish without a key was made before".into()) };
        let (now, step, mounted) = (self.now, self.model.step, self.model.mounted);
        let history = &mut self.model.keys[key];
        let latest = history.states(mounted).filter(|&expires| expires > now).max();
        let Some(expires) = latest else {
            return Err(format!("key {key} is said to be known: {history:?}"));
        };
        history.set(step, None, expires);
        self.after(&[], &self.meanwhile())
    }

    /// The broker took a key for a new one.
    fn is_new(&self, key: usize, is_sure: bool) -> Check {
        let history = &self.model.keys[key];
        let is_known = history.states(self.model.mounted).all(|expires| expires > self.now);
        match is_known && is_sure {
            true => Err(format!("key {key} is forgotten: {history:?}")),
            false => Ok(()),
        }
    }

    /// A delivery that is not acknowledged: queue, offset, tag.
    fn any_flight(&self, random: &mut Random) -> Option<(usize, u64, Tag)> {
        let mut flights = Vec::new();
        for (queue, shelf) in self.model.shelves.iter().enumerate() {
            let items = shelf.items.iter().filter(|item| item.present);
            flights.extend(items.filter_map(|item| Some((queue, item.offset, Tag(item.flight?)))));
        }
        let most = if random.once_in(3) { flights.len() as u64 } else { 1 };
        let place = random.below(most);
        flights.get(place as usize).copied()
    }

    fn acknowledge(&mut self, random: &mut Random) -> Check {
        for _ in 0..=random.below(4) {
            let Some((queue, offset, tag)) = self.any_flight(random) else { return Ok(()) };
            let step = self.model.step;
            let release_later = random.once_in(8);
            self.tell(|| format!("ack {} {offset}", ALL[queue].name));
            let command = if release_later { Command::Received(tag) } else { Command::Ack(tag) };
            let reply = self.execute(command)?;
            let now = self.now;
            let Some(item) = self.model.shelves[queue].item(offset) else { return Ok(()) };
            match reply {
                Some(Ok(_)) | None if release_later => item.received = item.received.or(Some((step, false))),
                Some(Ok(_)) | None => item.leave(step, Way::Done),
                Some(Err(Refusal::UnknownTag)) if item.lease_end <= now => item.land(),
                Some(Err(refusal)) => return Err(format!("an acknowledgement is refused: {refusal:?}")),
            }
            self.after(&[], &self.meanwhile())?;
            if self.is_cut() {
                break;
            }
        }
        Ok(())
    }

    fn reject(&mut self, random: &mut Random) -> Check {
        let Some((queue, offset, tag)) = self.any_flight(random) else { return Ok(()) };
        let delay_ms = [1, 300, 5_000][random.below(3) as usize];
        let rejection = match random.below(4) {
            0 => Rejection::DeadLetter,
            1 => Rejection::Delay(delay_ms),
            _ => Rejection::Requeue,
        };
        let extends = random.once_in(6);
        self.tell(|| format!("reject {} {offset} {rejection:?}, extend: {extends}", ALL[queue].name));
        let command = if extends { Command::Extend(tag) } else { Command::Reject(tag, rejection) };
        let reply = self.execute(command)?;
        let (now, step) = (self.now, self.model.step);
        let mut leave = self.meanwhile();
        let lease_ms = ALL[queue].options.lease_ms;
        let Some(item) = self.model.shelves[queue].item(offset) else { return Ok(()) };
        match reply {
            Some(Err(Refusal::UnknownTag)) if item.lease_end <= now => item.land(),
            Some(Err(refusal)) => return Err(format!("a rejection is refused: {refusal:?}")),
            _ if extends && lease_ms > 0 => item.lease_end = now.after(lease_ms),
            _ if extends => {}
            _ => {
                item.land();
                match rejection {
                    Rejection::DeadLetter => {
                        leave.rejected = Some((queue, offset));
                        // It stays where it is while there is no room elsewhere.
                        item.put_off = Some((step, false, now));
                    }
                    Rejection::Delay(delay_ms) => item.put_off = Some((step, false, now.after(delay_ms))),
                    Rejection::Requeue => {}
                }
            }
        }
        self.after(&[], &leave)
    }

    fn subscribe(&mut self, random: &mut Random) -> Check {
        let queue = random.below(NOUNS as u64) as usize;
        let is_stream = ALL[queue].options.kind == QueueKind::Stream;
        let Some(id) = self.model.shelves[queue].id.now() else { return Ok(()) };
        let owner = self.consumers.len();
        if self.consumers.iter().flatten().count() >= 20 {
            return self.unsubscribe(random);
        }
        let no_ack = random.once_in(8);
        let credit = 1 + random.below(8) as u32;
        self.tell(|| format!("subscribe {} as {owner}, credit {credit}, no_ack {no_ack}", ALL[queue].name));
        let command = Command::Subscribe { queue: QueueId(id), owner: owner as u64, credit, no_ack };
        match self.execute(command)? {
            Some(Ok(Reply::Consumer(id))) if !is_stream => {
                self.consumers.push(Some(Consumer { id, queue, credit, no_ack, paused: false }));
            }
            Some(Err(Refusal::NotAllowed)) if is_stream => return Ok(()),
            Some(Err(Refusal::Limit("consumers"))) => return Ok(()),
            Some(other) => return Err(format!("a subscription is answered {other:?}")),
            None => {}
        }
        self.after(&[], &self.meanwhile())
    }

    fn any_consumer(&self, random: &mut Random) -> Option<(usize, Consumer)> {
        let there = self.consumers.iter().enumerate();
        let there: Vec<_> = there.filter_map(|(owner, consumer)| Some((owner, (*consumer)?))).collect();
        there.get(random.below(there.len() as u64) as usize).copied()
    }

    fn unsubscribe(&mut self, random: &mut Random) -> Check {
        let Some((owner, consumer)) = self.any_consumer(random) else { return Ok(()) };
        self.tell(|| format!("unsubscribe {owner}"));
        let reply = self.execute(Command::Unsubscribe(consumer.id))?;
        if let Some(Err(refusal)) = reply {
            return Err(format!("an unsubscription is refused: {refusal:?}"));
        }
        self.consumers[owner] = None;
        // Which deliveries were its own is the broker's to know.
        let seen = self.look()?;
        let shelf = &mut self.model.shelves[consumer.queue];
        let found = seen.queues[consumer.queue].as_ref();
        for item in shelf.items.iter_mut().filter(|item| item.flight.is_some()) {
            let entry = found.and_then(|queue| queue.items.iter().find(|seen| seen.offset == item.offset));
            if entry.is_none_or(|entry| !entry.in_flight) {
                item.land();
            }
        }
        self.after(&[], &self.meanwhile())
    }

    fn resume(&mut self) -> Check {
        for owner in 0..self.consumers.len() {
            let Some(consumer) = self.consumers[owner].filter(|consumer| consumer.paused) else { continue };
            self.tell(|| format!("resume {owner}"));
            let reply = self.execute(Command::Pause(consumer.id, false))?;
            if let Some(Err(refusal)) = reply {
                return Err(format!("a consumer cannot go on: {refusal:?}"));
            }
            if let Some(consumer) = &mut self.consumers[owner] {
                consumer.paused = false;
            }
        }
        Ok(())
    }

    fn declare(&mut self, random: &mut Random) -> Check {
        let start = random.below(NOUNS as u64) as usize;
        for place in 0..NOUNS {
            self.declare_one((start + place) % NOUNS)?;
            if self.is_cut() {
                break;
            }
        }
        Ok(())
    }

    /// Declares a queue if it can be; again if it is there.
    pub fn declare_one(&mut self, index: usize) -> Check {
        let noun = &ALL[index];
        let stream = noun.stream.map(|stream| self.model.shelves[stream].id.now());
        if stream == Some(None) {
            return Ok(());
        }
        let stream_next = noun.stream.map(|stream| self.model.shelves[stream].next);
        let options = nouns::options(index, stream.flatten());
        self.tell(|| format!("declare {}", noun.name));
        let reply = self.execute(Command::DeclareQueue { name: noun.name, options })?;
        let step = self.model.step;
        let shelf = &mut self.model.shelves[index];
        let known = shelf.id.now();
        match reply {
            Some(Ok(Reply::Queue { id, existed, durable_at, .. })) => {
                if existed != known.is_some() || existed && known != Some(id.0) {
                    return Err(format!("{} existed: {existed}, as {id}", noun.name));
                }
                if !existed {
                    let safe_at = noun.options.durable.then_some(durable_at);
                    shelf.id.set(step, safe_at, Some(id.0));
                    self.born(index, id, stream_next)?;
                }
            }
            Some(Err(Refusal::StoreFull | Refusal::Limit(_))) => self.stats.refusals += 1,
            Some(other) => return Err(format!("{} is answered {other:?}", noun.name)),
            None if known.is_none() => {
                // It may be there, under an id that nobody was told.
                self.model.shelves[index].id.set(step, None, Some(u16::MAX));
            }
            None => {}
        }
        self.after(&[], &self.meanwhile())
    }

    /// A queue is new: with which offset it begins is the broker's choice.
    fn born(&mut self, index: usize, id: QueueId, stream_next: Option<u64>) -> Check {
        let mut next = None;
        self.broker.for_each_queue(&mut |queue| {
            if queue.id == id {
                next = Some((queue.next.0, queue.ready + queue.in_flight + queue.delayed));
            }
        });
        let shelf = &mut self.model.shelves[index];
        let Some((next, 0)) = next else { return Err(format!("{} is not new: {next:?}", ALL[index].name)) };
        (shelf.next, shelf.start, shelf.floor) = (next, next, 0);
        let is_late = ALL[index].options.start.0 == u64::MAX;
        if stream_next.is_some_and(|stream| is_late && next != stream) {
            return Err(format!("{} begins at {next}", ALL[index].name));
        }
        if stream_next.is_some() {
            shelf.floor = next;
            shelf.items.clear();
        }
        Ok(())
    }

    fn delete_or_purge(&mut self, random: &mut Random) -> Check {
        let index = random.below(NOUNS as u64) as usize;
        let name = ALL[index].name;
        let purges = random.once_in(2) && ALL[index].stream.is_none();
        let there = self.model.shelves[index].id.now().is_some();
        self.tell(|| format!("{} {name}", if purges { "purge" } else { "delete" }));
        let command = if purges { Command::Purge { name } } else { Command::DeleteQueue { name } };
        let reply = self.execute(command)?;
        match reply {
            Some(Err(Refusal::NoQueue)) if !there => return Ok(()),
            Some(Err(Refusal::StoreFull)) => return self.was_refused(Refusal::StoreFull),
            Some(Err(refusal)) => return Err(format!("{name} stays: {refusal:?}")),
            Some(Ok(_)) if !there => return Err(format!("{name} was not there")),
            _ if !there => return Ok(()),
            _ => {}
        }
        let step = self.model.step;
        if purges {
            self.take_in_nothing()?;
            let count = self.model.shelves[index].empty(step, false);
            if reply.is_some_and(|reply| reply != Ok(Reply::Removed(count))) {
                return Err(format!("{name}: {count} were there to be purged"));
            }
        } else {
            self.model.delete(index);
            if index == nouns::SESSION {
                let held = WINDOW_KEYS as usize..(WINDOW_KEYS + HELD_KEYS) as usize;
                held.for_each(|key| self.model.keys[key].set(step, None, Millis(0)));
            }
        }
        self.after(&[], &self.meanwhile())?;
        if self.is_cut() {
            return Ok(());
        }
        self.compare(&[], &self.meanwhile())
    }

    fn wire(&mut self, random: &mut Random) -> Check {
        let index = random.below(WIRES as u64) as usize;
        let unbinds = random.once_in(3);
        self.wire_one(index, unbinds)
    }

    /// Makes a binding or takes it back.
    pub fn wire_one(&mut self, index: usize, unbinds: bool) -> Check {
        let wire = &WIRING[index];
        let destination = Destination::Queue(ALL[wire.queue].name);
        let pattern = Key::dots(wire.pattern.as_bytes());
        let grade = Grade::ExactlyOnce;
        let bind = Bind { exchange: wire.exchange, destination, pattern, arguments: &[], grade };
        let there = self.model.shelves[wire.queue].id.now().is_some();
        self.tell(|| format!("bind {} {} {unbinds}", wire.exchange, ALL[wire.queue].name));
        let reply = self.execute(if unbinds { Command::Unbind(bind) } else { Command::Bind(bind) })?;
        let step = self.model.step;
        let safe_at = match reply {
            Some(Err(Refusal::NoQueue)) if !there => return Ok(()),
            Some(Err(Refusal::StoreFull | Refusal::Limit(_))) => return self.after(&[], &self.meanwhile()),
            Some(Err(refusal)) => return Err(format!("a binding is refused: {refusal:?}")),
            Some(Ok(Reply::Done(position))) => Some(position),
            _ => None,
        };
        if there {
            self.model.wires[index].set(step, safe_at, !unbinds);
            if !ALL[wire.queue].options.durable {
                self.model.wires[index].set(step, None, !unbinds);
            }
        }
        self.after(&[], &self.meanwhile())
    }

    /// Forgets a last value, or asks for all of them.
    fn retain(&mut self, random: &mut Random) -> Check {
        if random.once_in(2) {
            return self.ask_for_retained(random);
        }
        let topic = random.below(TOPICS.len() as u64) as usize;
        let message = Message { key: Key::dots(TOPICS[topic].as_bytes()), ..Message::default() };
        let publish = Publish {
            exchange: "amq.direct",
            message,
            durable: true,
            grade: Grade::AtLeastOnce,
            retain: true,
            ..Publish::default()
        };
        self.tell(|| format!("forget the value of {}", TOPICS[topic]));
        let reply = self.execute(Command::Publish(publish))?;
        let safe_at = match reply {
            Some(Ok(Reply::Published { confirm_at, routed: 0, duplicate: false })) => Some(confirm_at),
            Some(Err(refusal)) => return self.was_refused(refusal),
            Some(other) => return Err(format!("forgetting is answered {other:?}")),
            None => None,
        };
        let step = self.model.step;
        self.model.retained[topic].set(step, safe_at, None);
        self.after(&[], &self.meanwhile())
    }

    fn ask_for_retained(&mut self, random: &mut Random) -> Check {
        let Some((owner, consumer)) = self.any_consumer(random) else { return Ok(()) };
        if ALL[consumer.queue].stream.is_some() {
            return Ok(());
        }
        self.tell(|| format!("last values for {owner}"));
        let command =
            Command::Retained { consumer: consumer.id, pattern: Key::dots(b"#"), grade: Grade::ExactlyOnce };
        let reply = self.execute(command)?;
        match reply {
            Some(Err(Refusal::StoreFull | Refusal::Limit(_))) | None | Some(Ok(_)) => {}
            Some(Err(refusal)) => return Err(format!("last values are refused: {refusal:?}")),
        }
        let values: Vec<u32> = self.model.retained.iter().filter_map(|value| value.now()).collect();
        let plan = self.copy_plan();
        let arrivals: Vec<Arrival> =
            values.iter().map(|&number| self.arrival(&plan, number, consumer.queue, None, true)).collect();
        self.after(&arrivals, &self.meanwhile())
    }

    fn copy_plan(&self) -> Plan {
        let publish = Publish { durable: true, grade: Grade::ExactlyOnce, ..Publish::default() };
        Plan { exchange: "", key: "", topic: 0, publish, dedup: None, size: 0 }
    }

    /// The holder of a key lets go of it.
    fn forget(&mut self, random: &mut Random) -> Check {
        let key = random.below(WINDOW_KEYS + HELD_KEYS) as usize;
        let Some(held) = self.dedup_key(key) else { return Ok(()) };
        self.tell(|| format!("forget {held:?}"));
        let safe_at = match self.execute(Command::Forget(held))? {
            Some(Ok(Reply::Done(position))) => Some(position),
            Some(Err(Refusal::StoreFull)) => return self.was_refused(Refusal::StoreFull),
            Some(other) => return Err(format!("forgetting is answered {other:?}")),
            None => None,
        };
        let step = self.model.step;
        self.model.keys[key].set(step, safe_at.filter(|position| position.0 > 0), Millis(0));
        self.after(&[], &self.meanwhile())
    }
}

fn is_held(key: DedupKey) -> bool {
    matches!(key, DedupKey::Held { .. })
}

/// The first noun: everything's dead letters go there.
pub const FIRST: usize = DEAD;
