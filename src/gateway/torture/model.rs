//! The model: what a broker has to hold, in lines that can be checked by eye.
//!
//! It does not foresee when a message expires or is moved; it holds what happened against what may
//! happen. A message in a queue is an [`Item`]; it arrives in one step and leaves in another, and
//! each of the two is certain once a sync has covered it. After a loss of power
//! ```text
//! arrived, certain    left                          is there
//! yes                 no                            yes, at its offset
//! yes                 not certainly                 yes or no
//! any                 certainly                     no
//! no                  -                             yes or no; but if one published later is, yes
//! ```
//! What the mount finds is then what is there, and certain with the next sync that is over.
//!
//! A group has an item for each offset it handed out. What it never handed out it still owes.

use super::history::{History, Step, NEVER};
use super::live::Leave;
use super::look::{Seen, SeenItem, GONE};
use super::nouns::{Noun, ALL, DEAD, NOUNS, WIRES, WIRING};
use crate::units::{Millis, Position};

/// An offset that is not known.
const ANYWHERE: u64 = u64::MAX;

/// How an item left its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Acknowledged, or handed over where that is all.
    Done,
    /// Its time was over.
    Expired,
    /// A limit of its queue dropped it.
    Dropped,
    /// Purged, or its queue was deleted.
    Removed,
    /// To this queue as a dead letter, at this offset.
    Moved(usize, u64),
}

/// One message in one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Item {
    /// Its offset.
    pub offset: u64,
    /// Its number.
    pub message: u32,
    /// When it arrived.
    pub arrived: Step,
    /// It is certain once the log is durable up to here.
    pub safe_at: Option<Position>,
    /// It was moved here from another queue.
    pub moved: bool,
    /// It outlasts a loss of power.
    pub kept: bool,
    /// Its arrival does, whatever happens.
    pub certain: bool,
    /// It is there, as far as was seen.
    pub present: bool,
    /// When and how it left.
    pub left: Option<(Step, Way)>,
    /// It left and the log took no record of that: it may be gone with its segment.
    pub fades: bool,
    /// It left once, and power went before that was certain: a group may have let go of it for that.
    pub came_back: bool,
    /// It was handed out.
    pub handed: bool,
    /// It is in flight, under this tag.
    pub flight: Option<u64>,
    /// When the delivery is given up.
    pub lease_end: Millis,
    /// How often it was handed out in this life.
    pub deliveries: u8,
    /// The receiver said that it has it: in this step, certainly.
    pub received: Option<(Step, bool)>,
    /// 0 to 9.
    pub priority: u8,
    /// It waits until then.
    pub ready_at: Millis,
    /// It was put off until then: in this step, certainly.
    pub put_off: Option<(Step, bool, Millis)>,
    /// It is gone then.
    pub expires: Millis,
}

/// One queue, stream or group.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Its id, if it is there.
    pub id: History<Option<u16>>,
    /// Its messages, and what is not certainly gone.
    pub items: Vec<Item>,
    /// The next offset.
    pub next: u64,
    /// Of a group: the offset it began with.
    pub start: u64,
    /// Offsets below were handed out.
    pub floor: u64,
}

impl Shelf {
    /// The item of an offset that is there.
    pub fn item(&mut self, offset: u64) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.offset == offset && item.present)
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The queues, by noun.
    pub shelves: [Shelf; NOUNS],
    /// The bindings.
    pub wires: [History<bool>; WIRES],
    /// The number of the retained message, by topic.
    pub retained: [History<Option<u32>>; 4],
    /// When the key expires, by dedup key.
    pub keys: Vec<History<Millis>>,
    /// The step the simulation is in.
    pub step: Step,
    /// The step of the last mount.
    pub mounted: Step,
    /// Log time goes on from here or later.
    pub time_floor: Millis,
    /// The log took no record of something in this life.
    pub doubted: bool,
    /// The same, in any life: keys are written again by reclaim and may have been lost.
    pub keys_doubted: bool,
    /// The latest log time there was.
    pub latest: Millis,
    /// Messages so far.
    pub messages: u32,
    /// When each of them was published.
    pub published: Vec<Millis>,
    /// Messages that may stand among the dead letters, as power went while they were moved.
    pub floating: Vec<Item>,
}

/// What the model has to object.
pub type Check = Result<(), String>;

impl Model {
    /// A model of an empty store, with so many dedup keys.
    pub fn new(keys: usize) -> Model {
        Model { keys: vec![History::default(); keys], ..Model::default() }
    }

    /// The noun of a queue's id.
    pub fn noun_of(&self, id: u16) -> Option<usize> {
        self.shelves.iter().position(|shelf| shelf.id.now() == Some(id))
    }

    /// A sync is over that covers everything up to a step.
    pub fn settle(&mut self, step: Step, durable: Position) {
        if self.doubted {
            self.doubt();
        }
        let mounted = self.mounted;
        for shelf in &mut self.shelves {
            shelf.id.settle(step, durable);
            shelf.items.retain_mut(|item| {
                let safe = item.safe_at.is_some_and(|position| position <= durable);
                item.certain |= item.present && (item.arrived <= step || safe);
                item.received = item.received.map(|(at, certain)| (at, certain || at <= step));
                item.put_off = item.put_off.map(|(at, certain, until)| (at, certain || at <= step, until));
                match item.left {
                    Some((left, _)) => left > step,
                    // A mount did not find it, and that is durable now.
                    None => item.present || mounted > step,
                }
            });
        }
        self.wires.iter_mut().for_each(|wire| wire.settle(step, durable));
        self.retained.iter_mut().for_each(|value| value.settle(step, durable));
        self.keys.iter_mut().for_each(|key| key.settle(step, durable));
    }

    /// Holds what a mount found against what may be there, and goes on from it.
    pub fn mount(&mut self, seen: &Seen) -> Check {
        self.step += 1;
        for (noun, shelf) in ALL.iter().zip(&mut self.shelves) {
            shelf.items.retain(|item| item.kept);
            for item in &mut shelf.items {
                item.handed &= !self.doubted;
                (item.flight, item.deliveries, item.lease_end) = (None, 0, Millis::NEVER);
            }
            if !noun.options.durable {
                shelf.id = History::default();
            }
        }
        self.land_floating(seen);
        let prefix = self.prefix(seen);
        let kept = self.kept_in_streams(seen);
        for (index, noun) in ALL.iter().enumerate() {
            let found = seen.queues[index].as_ref();
            let shelf = &mut self.shelves[index];
            let objection = match noun.stream {
                None => shelf.hold_against(found, self.step, prefix, self.doubted),
                Some(stream) => shelf.hold_group_against(found, self.step, &kept[stream]),
            };
            objection.map_err(|error| format!("{}: {error}", noun.name))?;
        }
        self.moves_are_whole()?;
        for (value, &found) in self.retained.iter_mut().zip(&seen.retained) {
            if !value.may_be(found) {
                return Err(format!("the value of a key is {found:?}, not one of {value:?}"));
            }
            value.find(self.step, found);
        }
        for (wire, made) in WIRING.iter().zip(&mut self.wires) {
            made.leave_open(self.step);
            if !ALL[wire.queue].options.durable {
                *made = History::default();
            }
        }
        self.keys.iter_mut().for_each(|key| key.leave_open(self.step));
        self.mounted = self.step;
        self.doubted = false;
        Ok(())
    }

    /// The offsets in each queue that were not over already: a group lets go of a message with its stream.
    fn kept_in_streams(&self, seen: &Seen) -> Vec<Vec<u64>> {
        let is_over = |shelf: &Shelf, offset: u64| {
            let known = shelf.items.iter().find(|item| item.offset == offset);
            known.is_none_or(|item| {
                item.expires <= self.latest || item.left.is_some() || item.came_back || item.fades
            })
        };
        let queues = self.shelves.iter().zip(&seen.queues);
        let kept = queues.map(|(shelf, found)| {
            let offsets = found.iter().flat_map(|queue| &queue.items).map(|item| item.offset);
            offsets.filter(|&offset| !is_over(shelf, offset)).collect()
        });
        kept.collect()
    }

    /// The last step whose publishes were found though they were not certain.
    fn prefix(&self, seen: &Seen) -> Step {
        let mut prefix = 0;
        for (shelf, found) in self.shelves.iter().zip(&seen.queues) {
            let Some(found) = found else { continue };
            for item in shelf.items.iter().filter(|item| !item.certain && item.arrived > self.mounted) {
                if found.items.iter().any(|seen| item.is(seen)) {
                    prefix = prefix.max(item.arrived);
                }
            }
        }
        prefix
    }

    /// Power went while messages were moved: those found among the dead letters were.
    fn land_floating(&mut self, seen: &Seen) {
        let floating = std::mem::take(&mut self.floating);
        let Some(found) = &seen.queues[DEAD] else { return };
        let shelf = &mut self.shelves[DEAD];
        for item in &found.items {
            if shelf.items.iter().any(|known| known.is(item)) {
                continue;
            }
            if let Some(origin) = floating.iter().find(|origin| origin.message == item.message) {
                shelf.items.push(Item { offset: item.offset, ..*origin });
            }
        }
    }

    /// The log took no record of something that happened: none of it will be certain.
    pub fn doubt(&mut self) {
        let mounted = self.mounted;
        for shelf in &mut self.shelves {
            shelf.id.doubt(mounted);
            for item in &mut shelf.items {
                if !matches!(item.left, Some((_, Way::Moved(..)))) {
                    item.left = item.left.map(|(_, way)| (NEVER, way));
                }
                item.handed = false;
                item.received = item.received.map(|(_, certain)| (NEVER, certain));
                item.put_off = item.put_off.map(|(_, certain, until)| (NEVER, certain, until));
            }
        }
        self.wires.iter_mut().for_each(|wire| wire.doubt(mounted));
        self.retained.iter_mut().for_each(|value| value.doubt(mounted));
        self.keys.iter_mut().for_each(|key| key.doubt(mounted));
        self.time_floor = Millis(0);
        (self.doubted, self.keys_doubted) = (true, true);
    }

    /// Power went in a step: what was under way may have happened.
    pub fn cut(&mut self, leave: &Leave) {
        let step = self.step;
        let has_dead = self.shelves[DEAD].id.now().is_some();
        for (index, noun) in ALL.iter().enumerate() {
            for item in self.shelves[index].items.iter_mut().filter(|item| item.present) {
                let Some(way) = item.way_out(index, leave) else { continue };
                if noun.dead && has_dead {
                    self.floating.push(item.as_dead_letter(ANYWHERE, step, leave.now, true));
                    item.leave(step, Way::Moved(DEAD, ANYWHERE));
                } else {
                    item.leave(step, way);
                }
            }
        }
    }

    /// What moved from one queue to another is in one of them.
    fn moves_are_whole(&self) -> Check {
        for (noun, shelf) in ALL.iter().zip(&self.shelves) {
            for item in &shelf.items {
                let Some((_, Way::Moved(to, offset))) = item.left.filter(|_| item.certain) else { continue };
                if item.present {
                    continue;
                }
                let other = self.shelves[to].items.iter();
                let mut other = other.filter(|other| {
                    other.message == item.message && (other.offset == offset || offset == ANYWHERE)
                });
                // One that left later, with its queue or by itself, is accounted for there.
                if !other.any(|other| other.present || other.left.is_some())
                    && self.shelves[to].id.now().is_some()
                {
                    return Err(format!(
                        "{}: message {} was to move from offset {} to {} at {offset} and is in neither",
                        noun.name, item.message, item.offset, ALL[to].name
                    ));
                }
            }
        }
        Ok(())
    }

    /// The queues a message of this topic goes to: certainly, and perhaps.
    pub fn routes(&self, exchange: &str, topic: usize) -> (Vec<usize>, Vec<usize>) {
        let mut certain = Vec::new();
        let mut perhaps = Vec::new();
        for (wire, made) in WIRING.iter().zip(&self.wires) {
            let leads = wire.exchange == exchange && (wire.matches[topic] || exchange == "amq.fanout");
            if !leads || self.shelves[wire.queue].id.now().is_none() {
                continue;
            }
            let mut states = made.states(self.mounted);
            let list = match (states.all(|made| made), made.may_be(true)) {
                (true, _) => &mut certain,
                (false, true) => &mut perhaps,
                _ => continue,
            };
            if !list.contains(&wire.queue) {
                list.push(wire.queue);
            }
        }
        perhaps.retain(|queue| !certain.contains(queue));
        (certain, perhaps)
    }

    /// A queue is deleted, and its groups with it.
    pub fn delete(&mut self, index: usize) {
        for (other, noun) in ALL.iter().enumerate() {
            if (other == index || noun.stream == Some(index)) && self.shelves[other].id.now().is_some() {
                let step = self.step;
                self.shelves[other].id.set(step, None, None);
                self.shelves[other].empty(step, true);
                for (wire, made) in WIRING.iter().zip(&mut self.wires) {
                    if wire.queue == other {
                        made.set(step, None, false);
                    }
                }
            }
        }
    }
}

impl Item {
    /// One that a group handed out before anybody looked.
    pub(super) fn pending(seen: &SeenItem, step: Step) -> Item {
        let SeenItem { offset, deliveries, .. } = *seen;
        let (never, message) = (Millis::NEVER, if seen.message == GONE { 0 } else { seen.message });
        let put_off = seen.waits.map(|_| (NEVER, false, Millis(0)));
        let item =
            Item { offset, message, deliveries, put_off, arrived: step, present: true, ..Item::default() };
        // Of a stream that keeps its messages, or nobody would have found it.
        Item { kept: true, expires: never, lease_end: never, ..item }
    }

    /// One that a group never handed out because its stream had dropped it.
    pub fn passed_over(offset: u64) -> Item {
        let (never, left) = (Millis::NEVER, Some((NEVER, Way::Dropped)));
        Item { offset, kept: true, left, expires: never, lease_end: never, ..Item::default() }
    }

    /// It is this one.
    pub fn is(&self, seen: &SeenItem) -> bool {
        self.offset == seen.offset && self.message == seen.message
    }

    /// It leaves.
    pub fn leave(&mut self, step: Step, way: Way) {
        self.left = Some((step, way));
        self.present = false;
        self.flight = None;
    }

    /// Its delivery is over, without an acknowledgement.
    pub fn land(&mut self) {
        self.flight = None;
        self.lease_end = Millis::NEVER;
    }

    pub(super) fn came_back(&mut self, seen: &SeenItem) -> Check {
        self.certain |= seen.certain;
        if self.handed && !seen.redelivered {
            return Err(format!("message {} was handed out and that is forgotten", self.message));
        }
        if self.received.is_some_and(|(_, certain)| certain) && !seen.received {
            return Err(format!("message {} was received and that is forgotten", self.message));
        }
        if self.received.is_none() && seen.received {
            return Err(format!("message {} was not received", self.message));
        }
        if seen.in_flight {
            return Err(format!("message {} is in flight after a mount", self.message));
        }
        self.received = self.received.filter(|_| seen.received);
        self.put_off = self.put_off.filter(|&(_, certain, until)| certain || seen.waits == Some(until));
        self.deliveries = seen.deliveries;
        if seen.waits.is_some_and(|until| until != self.ready_at) && self.put_off.is_none() {
            // Log time may have gone back to before a delay that was over.
            self.put_off = Some((NEVER, false, Millis(0)));
        }
        Ok(())
    }
}

impl Noun {
    /// When a message published then, with such a TTL, expires in this queue.
    pub fn expiry(&self, published: Millis, ttl_ms: Option<u64>) -> Millis {
        let own = ttl_ms.map_or(Millis::NEVER, |ttl_ms| published.after(ttl_ms));
        self.options.ttl_ms.map_or(own, |ttl_ms| own.min(published.after(ttl_ms)))
    }
}
