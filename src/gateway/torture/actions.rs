//! What clients do, at random: one number makes one action, so an action can be left out of a run
//! and the others stay what they were.

use super::life::{Consumer, Life};
use super::model::{Check, Way};
use super::nouns::{self, ALL, DEAD, NOUNS};
use super::random::Random;
use crate::command::{Command, Message, Publish, QueueKind, Refusal, Rejection, Reply, Subscription};
use crate::model::key::Key;
use crate::units::{Offset, QueueId, Tag};

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
            96 => self.cancel(&mut random),
            _ => self.settle(),
        }
    }

    /// However often the power went, an empty store takes messages again.
    pub fn revive(&mut self) -> Check {
        self.model.step += 1;
        let mut refusal = None;
        for _ in 0..20 {
            // Also a deletion may have to wait for room.
            for name in ALL.iter().filter(|noun| noun.stream.is_none()).map(|noun| noun.name) {
                self.tell(|| format!("delete {name}"));
                let _ = self.execute(Command::DeleteQueue { name, if_unused: false, if_empty: false })?;
            }
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
        Err(format!("an empty store is dead: {refusal:?}, {:?}", self.broker.info()))
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
            0 if self.clocks.unix_ms < crate::time::EPOCH_UNIX_MS + 2 * TEN_YEARS_MS => {
                self.clocks.unix_ms += TEN_YEARS_MS
            }
            1 => self.clocks.unix_ms = self.clocks.unix_ms.saturating_sub(TEN_YEARS_MS),
            2 => self.clocks.unix_ms = 0,
            3 => self.clocks.is_frozen = !self.clocks.is_frozen,
            _ => {}
        }
        let passed_ms = [0, 1, 10, 100, 800, 3_000, 20_000, 90_000][random.below(8) as usize];
        self.tick(passed_ms);
        self.tell(|| format!("{passed_ms} ms pass"));
        Ok(())
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
                Some(Err(Refusal::StoreFull)) if release_later => {}
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

    /// Removes a message by its offset, or finds that it cannot be.
    fn cancel(&mut self, random: &mut Random) -> Check {
        let index = random.below(NOUNS as u64) as usize;
        let Some(id) = self.model.shelves[index].id.now() else { return Ok(()) };
        let options = &ALL[index].options;
        let is_work = options.kind == QueueKind::Work && ALL[index].stream.is_none();
        let shelf = &self.model.shelves[index];
        let there: Vec<_> = shelf.items.iter().filter(|item| item.present).collect();
        let item = there.get(random.below(there.len() as u64 + 1) as usize);
        let offset = item.map_or(shelf.next, |item| item.offset);
        let (is_flying, is_absent) = (item.is_some_and(|item| item.flight.is_some()), item.is_none());
        self.tell(|| format!("cancel {} {offset}", ALL[index].name));
        let command = Command::Cancel { queue: QueueId(id), offset: Offset(offset) };
        let reply = self.execute(command)?;
        let step = self.model.step;
        match reply {
            Some(Err(Refusal::NotAllowed)) if !is_work => return Ok(()),
            Some(Err(Refusal::NoMessage)) if is_work && (is_flying || is_absent) => return Ok(()),
            Some(Ok(_)) | None if is_work && !is_flying && !is_absent => {
                if let Some(item) = self.model.shelves[index].item(offset) {
                    item.leave(step, Way::Removed);
                }
            }
            None => {}
            Some(other) => {
                return Err(format!("offset {offset} of {} is cancelled: {other:?}", ALL[index].name))
            }
        }
        self.after(&[], &self.meanwhile())
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
        let queue_id = QueueId(id);
        let asked =
            Subscription { queue: queue_id, owner: owner as u64, credit, no_ack, ..Subscription::default() };
        match self.execute(Command::Subscribe(asked))? {
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

    pub(super) fn any_consumer(&self, random: &mut Random) -> Option<(usize, Consumer)> {
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
}
