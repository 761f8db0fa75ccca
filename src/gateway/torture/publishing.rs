//! Publishing, at random: to queues and exchanges, with times, priorities, keys and last values.

use super::body;
use super::life::{grade, Life};
use super::live::{Arrival, Leave};
use super::model::{Check, Item};
use super::nouns::{self, ALL, EXCHANGES, NOUNS, TOPICS};
use super::random::Random;
use super::simulator::{DEDUP_WINDOW_MS, HELD_KEYS, WINDOW_KEYS};
use crate::command::{Command, DedupKey, Grade, Message, Publish, QueueKind, Refusal, Reply};
use crate::model::key::Key;
use crate::units::{Millis, Position, QueueId};

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
        let delay_ms = publish.delay_ms.filter(|_| !publish.retain);
        let publish = Publish { ttl_ms, delay_ms, ..publish };
        Plan { exchange, key, topic, publish, dedup, size }
    }

    fn dedup_key(&self, number: usize) -> Option<DedupKey> {
        if (number as u64) < WINDOW_KEYS {
            return Some(DedupKey::Window(number as u64 + 1));
        }
        let queue = QueueId(self.model.shelves[nouns::SESSION].id.now()?);
        Some(DedupKey::Held { queue, packet: number as u16 })
    }

    pub(super) fn publish(&mut self, random: &mut Random) -> Check {
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
        safe_at: Option<Position>,
        is_doubtful: bool,
    ) -> Arrival {
        let noun = &ALL[queue];
        let publish = &plan.publish;
        let fleeting = noun.options.session && publish.grade == Grade::AtMostOnce;
        let is_stream = noun.options.kind == QueueKind::Stream;
        let delay_ms = publish.delay_ms.filter(|_| !is_stream).unwrap_or(0);
        let perhaps = is_doubtful || !publish.durable || fleeting;
        let item = Item {
            message,
            arrived: self.model.step,
            safe_at,
            kept: (publish.durable || is_stream) && noun.options.durable && !fleeting,
            lease_end: Millis::NEVER,
            priority: publish.priority.min(noun.options.max_priority),
            ready_at: if delay_ms > 0 { self.now.after(delay_ms) } else { Millis(0) },
            expires: noun.expiry(self.model.published[message as usize], publish.ttl_ms),
            ..Item::default()
        };
        Arrival { queue, perhaps, item }
    }

    /// It was refused: nothing has changed.
    pub(super) fn was_refused(&mut self, refusal: Refusal) -> Check {
        self.stats.refusals += 1;
        match refusal {
            Refusal::Limit(_) | Refusal::QueueFull | Refusal::StoreFull => {}
            other => return Err(format!("refused: {other:?}")),
        }
        self.take_in_nothing()?;
        self.after(&[], &self.meanwhile())?;
        self.compare(&[], &self.meanwhile())
    }

    pub(super) fn take_in_nothing(&mut self) -> Check {
        match self.inbox.taken.first() {
            Some(taken) => Err(format!("refused and handed out: {taken:?}")),
            None => Ok(()),
        }
    }

    /// The broker says that a publish was made before.
    fn was_published(&mut self, plan: &Plan) -> Check {
        let Some(key) = plan.dedup else { return Err("a publish without a key was made before".into()) };
        let (now, mounted) = (self.now, self.model.mounted);
        let history = &self.model.keys[key];
        if !history.states(mounted).any(|expires| expires > now) {
            return Err(format!("key {key} is said to be known: {history:?}"));
        }
        self.after(&[], &self.meanwhile())
    }

    /// The broker took a key for a new one.
    fn is_new(&self, key: usize, is_sure: bool) -> Check {
        let history = &self.model.keys[key];
        // Log time may have gone back to before it expired; then it need not be known again.
        let is_known = history.states(self.model.mounted).all(|expires| expires > self.model.latest);
        match is_known && is_sure && !self.model.keys_doubted {
            true => Err(format!("key {key} is forgotten: {history:?}")),
            false => Ok(()),
        }
    }

    /// Forgets a last value, or asks for all of them.
    pub(super) fn retain(&mut self, random: &mut Random) -> Check {
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
    pub(super) fn forget(&mut self, random: &mut Random) -> Check {
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
