//! The model while the broker runs: what it may hand out, and what may change behind the scenes.

use super::history::Step;
use super::look::{Seen, SeenItem, GONE};
use super::model::{Check, Item, Model, Way};
use super::nouns::{ALL, DEAD, NOUNS};
use crate::command::Overflow;
use crate::units::{Millis, Position};

/// A delivery, as it was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Index of the consumer in the simulator's list.
    pub owner: u64,
    /// The queue's id.
    pub queue: u16,
    /// Its offset; none if it was never stored.
    pub offset: Option<u64>,
    /// The tag it is to be acknowledged with.
    pub tag: Option<u64>,
    /// The message's number; none if its body is nobody's.
    pub message: Option<u32>,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// Only its release is outstanding.
    pub received: bool,
    /// It is a last value.
    pub retained: bool,
    /// How often it was delivered before.
    pub count: u8,
    /// When it was published.
    pub published: Millis,
}

/// A message that should have arrived in a queue.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The queue.
    pub queue: usize,
    /// It may have been handed out or dropped instead.
    pub perhaps: bool,
    /// The item it makes; its offset is not known yet.
    pub item: Item,
}

/// What the step allowed to happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leave {
    /// Log time.
    pub now: Millis,
    /// A publish was accepted, so queues with limits may have dropped something.
    pub published: bool,
    /// This queue and offset were rejected.
    pub rejected: Option<(usize, u64)>,
    /// Deliveries came back, so some may have been worn out.
    pub returned: bool,
}

/// Something missing from a queue, and where it may have gone.
struct Missing {
    queue: usize,
    item: Item,
    way: Way,
    found: Option<(usize, u64)>,
}

impl Model {
    /// A stored message is handed out: it has to be the right one, and safe.
    pub fn deliver(&mut self, taken: &Taken, now: Millis, lease_ms: u64, needs_ack: bool) -> Check {
        let queue = self.noun_of(taken.queue).ok_or("a delivery comes from no queue")?;
        let offset = taken.offset.ok_or("a delivery has no offset")?;
        let (step, latest) = (self.step, self.latest);
        if let Some(stream) = ALL[queue].stream {
            self.advance(queue, stream, offset)?;
        }
        let shelf = &mut self.shelves[queue];
        let name = ALL[queue].name;
        let item = shelf.item(offset).ok_or_else(|| format!("{name}: offset {offset} is not there"))?;
        let number = item.message;
        if taken.message != Some(number) {
            return Err(format!("{name}: offset {offset} is {:?}, not {number}", taken.message));
        }
        if item.flight.is_some() && now < item.lease_end {
            return Err(format!("{name}: offset {offset} is handed out twice"));
        }
        if item.kept && !item.certain {
            return Err(format!("{name}: offset {offset} is handed out before it is durable"));
        }
        let ready_at = item.put_off.map_or(item.ready_at, |(_, _, until)| until.max(item.ready_at));
        // What was due once may have been written so before log time went back.
        if ready_at > now.max(latest) {
            return Err(format!("{name}: offset {offset} is handed out at {now}, before {ready_at}"));
        }
        if item.handed && !taken.redelivered {
            return Err(format!("{name}: offset {offset} was handed out and is said to be new"));
        }
        if taken.count != item.deliveries && item.flight.is_none() {
            return Err(format!("{name}: offset {offset} counts {}, not {}", taken.count, item.deliveries));
        }
        let limit = ALL[queue].options.delivery_limit;
        if limit > 0 && taken.count >= limit {
            return Err(format!("{name}: offset {offset} is handed out beyond its limit"));
        }
        let (priority, kept) = (item.priority, item.kept);
        if needs_ack {
            item.flight = taken.tag;
            item.lease_end = if lease_ms > 0 { now.after(lease_ms) } else { Millis::NEVER };
            item.deliveries = item.deliveries.saturating_add(1);
        }
        (item.handed, item.put_off) = (true, None);
        if taken.tag.is_none() {
            item.leave(step, Way::Done);
        }
        if kept {
            shelf.floor = shelf.floor.max(offset + 1);
        }
        let stream = ALL[queue].stream.map(|stream| &self.shelves[stream].items);
        let earlier = self.shelves[queue].items.iter().find(|other| {
            let is_before = other.priority > priority || other.priority == priority && other.offset < offset;
            let is_it = |item: &&Item| item.offset == other.offset && item.present && item.expires > now;
            let is_before = is_before && stream.is_none_or(|items| items.iter().find(is_it).is_some());
            is_before && other.certain && other.is_plainly_ready(now, limit)
        });
        match earlier {
            Some(other) => Err(format!("{name}: offset {offset} is handed out before {}", other.offset)),
            None => Ok(()),
        }
    }

    /// Power went while messages were handed out, so this one was or was not.
    pub fn deliver_in_the_dark(&mut self, taken: &Taken) {
        let step = self.step;
        let (Some(queue), Some(offset)) = (self.noun_of(taken.queue), taken.offset) else { return };
        if let Some(stream) = ALL[queue].stream {
            if self.advance(queue, stream, offset).is_err() {
                return;
            }
        }
        if let Some(item) = self.shelves[queue].item(offset).filter(|_| taken.tag.is_none()) {
            item.leave(step, Way::Done);
        }
    }

    /// A group takes an offset from its stream.
    fn advance(&mut self, group: usize, stream: usize, offset: u64) -> Check {
        let source = self.shelves[stream].items.iter().find(|item| item.offset == offset && item.present);
        let name = ALL[group].name;
        let Some(&source) = source else {
            return Err(format!("{name}: offset {offset} is not in the stream"));
        };
        let shelf = &mut self.shelves[group];
        if let Some(item) = shelf.item(offset) {
            // What a group has pending is as safe as it is in the stream.
            (item.message, item.certain) = (source.message, item.certain || source.certain);
            return Ok(());
        }
        if offset < shelf.floor.max(shelf.start) {
            return Err(format!("{name}: offset {offset} was done"));
        }
        let item = Item {
            certain: source.certain,
            ready_at: Millis(0),
            expires: Millis::NEVER,
            lease_end: Millis::NEVER,
            ..Item::default()
        };
        let item =
            Item { offset, message: source.message, arrived: source.arrived, kept: source.kept, ..item };
        // What its stream had dropped was passed over, and may be there again after a loss of power.
        let passed = shelf.floor.max(shelf.start)..offset;
        for offset in passed {
            if shelf.items.iter().all(|item| item.offset != offset) {
                shelf.items.push(Item::passed_over(offset));
            }
        }
        let shelf = &mut self.shelves[group];
        shelf.items.retain(|item| item.offset != offset);
        shelf.items.push(Item { present: true, ..item });
        shelf.next = shelf.next.max(offset + 1);
        Ok(())
    }

    /// Messages have arrived, and nothing else has changed: they are at the next offsets.
    pub fn arrive(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            let shelf = &mut self.shelves[arrival.queue];
            let offset = shelf.next;
            shelf.next += 1;
            shelf.items.push(Item { offset, present: true, ..arrival.item });
        }
    }

    /// Power went while messages arrived: any of them may be at any of the next offsets.
    pub fn arrive_in_the_dark(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            let count = arrivals.iter().filter(|other| other.queue == arrival.queue).count() as u64;
            let shelf = &mut self.shelves[arrival.queue];
            let places = shelf.next..shelf.next + count;
            shelf.items.extend(places.map(|offset| Item { offset, present: true, ..arrival.item }));
        }
    }

    /// Holds everything there is against what may be, where something may have moved.
    pub fn compare(&mut self, seen: &Seen, arrivals: &[Arrival], leave: &Leave) -> Check {
        let mut missing = Vec::new();
        for index in 0..NOUNS {
            self.gone(index, seen, leave, &mut missing)?;
        }
        let mut arrivals: Vec<(Arrival, bool)> = arrivals.iter().map(|&arrival| (arrival, false)).collect();
        for index in 0..NOUNS {
            self.come(index, seen, leave.now, &mut missing, &mut arrivals)?;
        }
        for (arrival, _) in arrivals.iter().filter(|(arrival, arrived)| !arrived && !arrival.perhaps) {
            let noun = &ALL[arrival.queue];
            // A limit may have taken it at once.
            if noun.options.max_count == 0 && noun.options.max_bytes == 0 {
                return Err(format!("{}: message {} did not arrive", noun.name, arrival.item.message));
            }
        }
        for missing in missing {
            self.take_out(&missing)?;
        }
        for (topic, (value, &found)) in self.retained.iter().zip(&seen.retained).enumerate() {
            if value.now() != found {
                return Err(format!("the value of topic {topic} is {found:?}, not {:?}", value.now()));
            }
        }
        Ok(())
    }

    /// What is not in a queue any more, and why that is right.
    fn gone(&mut self, index: usize, seen: &Seen, leave: &Leave, missing: &mut Vec<Missing>) -> Check {
        let noun = &ALL[index];
        let found = seen.queues[index].as_ref();
        if found.map(|queue| queue.id) != self.shelves[index].id.now() {
            return Err(format!("{}: it is {:?} now", noun.name, found.map(|queue| queue.id)));
        }
        let stream = noun.stream.and_then(|stream| seen.queues[stream].as_ref());
        let still = |item: &Item, seen: &SeenItem| {
            item.is(seen)
                || item.offset == seen.offset
                    && stream.is_some()
                    && (seen.message == GONE || item.message == 0)
        };
        for item in self.shelves[index].items.iter_mut().filter(|item| item.present) {
            let entry = found.and_then(|queue| queue.items.iter().find(|seen| still(item, seen)));
            let Some(entry) = entry else {
                let dropped =
                    stream.is_some_and(|queue| !queue.items.iter().any(|seen| seen.offset == item.offset));
                let is_skipped = found.is_some_and(|queue| stream.is_some() && item.offset >= queue.next);
                if is_skipped {
                    continue;
                }
                let way = if dropped { Some(Way::Dropped) } else { item.way_out(index, leave) };
                let way = way.ok_or_else(|| {
                    format!("{}: message {} at offset {} is gone", noun.name, item.message, item.offset)
                })?;
                missing.push(Missing { queue: index, item: *item, way, found: None });
                continue;
            };
            if item.flight.is_some() && !entry.in_flight && leave.now >= item.lease_end {
                item.land();
            }
            if item.flight.is_some() != entry.in_flight {
                return Err(format!("{}: offset {} in flight: {}", noun.name, item.offset, entry.in_flight));
            }
        }
        Ok(())
    }

    /// What is new in a queue, and where it comes from.
    fn come(
        &mut self,
        index: usize,
        seen: &Seen,
        now: Millis,
        missing: &mut [Missing],
        arrivals: &mut [(Arrival, bool)],
    ) -> Check {
        let Some(found) = &seen.queues[index] else { return Ok(()) };
        if ALL[index].stream.is_some() {
            return Ok(());
        }
        let step = self.step;
        let shelf = &mut self.shelves[index];
        for seen in &found.items {
            if shelf.items.iter().any(|item| item.present && item.is(seen)) {
                continue;
            }
            if seen.offset < shelf.next {
                return Err(format!("{}: offset {} is used again", ALL[index].name, seen.offset));
            }
            let arrival = arrivals.iter_mut().find(|(arrival, arrived)| {
                !arrived && arrival.queue == index && arrival.item.message == seen.message
            });
            if let Some((arrival, arrived)) = arrival {
                *arrived = true;
                shelf.items.push(Item { offset: seen.offset, present: true, ..arrival.item });
                continue;
            }
            let origin = missing.iter_mut().find(|missing| {
                missing.found.is_none()
                    && missing.item.message == seen.message
                    && ALL[missing.queue].dead
                    && index == DEAD
            });
            let Some(origin) = origin else {
                return Err(format!("{}: message {} is there, and why?", ALL[index].name, seen.message));
            };
            origin.found = Some((index, seen.offset));
            shelf.items.push(origin.item.as_dead_letter(seen.offset, step, now, shelf.id.now().is_some()));
        }
        shelf.next = found.next;
        Ok(())
    }

    fn take_out(&mut self, missing: &Missing) -> Check {
        let step = self.step;
        let is_owed = ALL[missing.queue].dead && self.shelves[DEAD].id.now().is_some();
        let way = match missing.found {
            Some((queue, offset)) => Way::Moved(queue, offset),
            // Its stream has dropped it, or a deletion is under way.
            None if is_owed
                && missing.way != Way::Removed
                && !(missing.way == Way::Dropped && ALL[missing.queue].stream.is_some()) =>
            {
                let name = ALL[missing.queue].name;
                return Err(format!("{name}: message {} is no dead letter but gone", missing.item.message));
            }
            None => missing.way,
        };
        if let Some(item) = self.shelves[missing.queue].item(missing.item.offset) {
            item.leave(step, way);
        }
        Ok(())
    }
}

impl Item {
    /// Nothing hinders its delivery, as far as the model knows for certain.
    pub fn is_plainly_ready(&self, now: Millis, limit: u8) -> bool {
        if limit > 0 && self.deliveries >= limit {
            return false;
        }
        self.present
            && self.flight.is_none()
            && self.ready_at == Millis(0)
            && self.put_off.is_none()
            && self.expires > now
    }

    /// It should have been gone by now, if it had where to go.
    pub fn is_overdue(&self, now: Millis) -> bool {
        let waits = self.ready_at > now || self.put_off.is_some();
        self.present && self.expires <= now && self.flight.is_none() && !waits
    }

    /// Why it may have left a queue behind the scenes.
    pub fn way_out(&self, index: usize, leave: &Leave) -> Option<Way> {
        let options = &ALL[index].options;
        let limited = options.max_count > 0 || options.max_bytes > 0;
        let is_in_flight = self.flight.is_some() && leave.now < self.lease_end;
        if leave.rejected == Some((index, self.offset)) {
            return Some(Way::Removed).filter(|_| !ALL[index].dead).or(Some(Way::Expired));
        }
        if self.expires <= leave.now && !is_in_flight {
            return Some(Way::Expired);
        }
        let worn_out = options.delivery_limit > 0 && self.deliveries >= options.delivery_limit;
        if worn_out && (leave.returned || leave.now >= self.lease_end) {
            return Some(Way::Expired);
        }
        if limited && leave.published && options.overflow == Overflow::DropOldest && !is_in_flight {
            return Some(Way::Dropped);
        }
        None
    }

    /// The same message as it arrives among the dead letters.
    pub fn as_dead_letter(&self, offset: u64, step: Step, now: Millis, durable: bool) -> Item {
        let expires = ALL[DEAD].expiry(now, None);
        Item {
            offset,
            message: self.message,
            arrived: step,
            moved: true,
            kept: self.kept && durable,
            present: true,
            ready_at: Millis(0),
            expires,
            lease_end: Millis::NEVER,
            safe_at: None::<Position>,
            ..Item::default()
        }
    }
}
