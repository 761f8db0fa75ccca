//! Producers that number what they publish: the last sequence of each, and nothing else.
//!
//! A producer's sequences only rise, so one number says of all of them whether they were seen, and a
//! million messages cost no more than one. An epoch is a life of the producer's counter: one that is
//! not the last known begins anew. Producers are in the order they last published in: where the
//! table is full, the one that was silent for longest is forgotten, and what it repeats comes twice.
//! ```text
//! oldest ◄─older── slot ──newer─► newest
//! ```
//! Limits: `producers`.

use super::super::hash;
use super::super::link::{bucket, chain_add, chain_find, chain_remove, chained, Link, Vacancies};

/// Bits of a producer's number that are kept.
pub const PRODUCER_BITS: u32 = 62;

/// Room for one producer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerSlot {
    head: Link,
    next: Link,
    older: Link,
    newer: Link,
    epoch: u32,
    producer: [u8; 8],
    sequence: [u8; 8],
    taken: bool,
}
chained!(ProducerSlot, next, head);

impl ProducerSlot {
    /// A vacant slot; fills tables.
    pub const EMPTY: ProducerSlot = ProducerSlot {
        head: Link::NONE,
        next: Link::NONE,
        older: Link::NONE,
        newer: Link::NONE,
        epoch: 0,
        producer: [0; 8],
        sequence: [0; 8],
        taken: false,
    };

    fn sequence(&self) -> u64 {
        u64::from_le_bytes(self.sequence)
    }
}

/// A publish of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its number, of which [`PRODUCER_BITS`] count.
    pub producer: u64,
    /// Life of its counter.
    pub epoch: u32,
    /// Its sequence.
    pub sequence: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Producers<'a> {
    slots: &'a mut [ProducerSlot],
    vacancies: Vacancies,
    oldest: Link,
    newest: Link,
}

impl<'a> Producers<'a> {
    /// An empty table, over slots that are zero.
    pub fn new(slots: &'a mut [ProducerSlot]) -> Producers<'a> {
        Producers { slots, ..Producers::default() }
    }

    /// Number of producers.
    pub const fn count(&self) -> usize {
        self.vacancies.used()
    }

    /// There is a place for a producer.
    pub const fn has_any_room(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The publish or a later one of its producer was taken.
    pub fn has_seen(&self, seed: u64, key: &Numbered) -> bool {
        let slot = self.slots.get(self.find(seed, key.producer).index());
        slot.is_some_and(|slot| slot.epoch == key.epoch && key.sequence <= slot.sequence())
    }

    /// It is the last one of its producer.
    pub fn is_last(&self, seed: u64, key: &Numbered) -> bool {
        let slot = self.slots.get(self.find(seed, key.producer).index());
        slot.is_some_and(|slot| slot.epoch == key.epoch && key.sequence == slot.sequence())
    }

    /// The publish was taken.
    pub fn insert(&mut self, seed: u64, key: &Numbered) {
        let known = self.find(seed, key.producer);
        let link = if known.is_some() { known } else { self.add(seed, key.producer) };
        self.unlink(link);
        let Some(slot) = self.slots.get_mut(link.index()) else { return };
        let before = if known.is_some() && slot.epoch == key.epoch { slot.sequence() } else { 0 };
        (slot.epoch, slot.sequence) = (key.epoch, key.sequence.max(before).to_le_bytes());
        (slot.older, slot.newer) = (self.newest, Link::NONE);
        match self.slots.get_mut(self.newest.index()) {
            Some(newest) => newest.newer = link,
            None => self.oldest = link,
        }
        self.newest = link;
    }

    /// Forgets a producer; whether it was known.
    pub fn forget(&mut self, seed: u64, producer: u64) -> bool {
        let link = self.find(seed, producer);
        if link.is_some() {
            self.remove(seed, link);
        }
        link.is_some()
    }

    /// The producer in a place; none if there is none. The outer none: there is no such place.
    pub fn at(&self, place: usize) -> Option<Option<Numbered>> {
        let slot = self.slots.get(place)?;
        let producer = u64::from_le_bytes(slot.producer);
        Some(slot.taken.then(|| Numbered { producer, epoch: slot.epoch, sequence: slot.sequence() }))
    }

    fn home(&self, seed: u64, producer: u64) -> usize {
        bucket(hash::hash_bytes(seed, &producer.to_le_bytes()), self.slots.len())
    }

    fn find(&self, seed: u64, producer: u64) -> Link {
        let producer = kept(producer);
        let bytes = producer.to_le_bytes();
        chain_find(self.slots, self.home(seed, producer), |slot| slot.producer == bytes)
    }

    fn add(&mut self, seed: u64, producer: u64) -> Link {
        if self.vacancies.used() >= self.slots.len().min(Link::SLOTS_MAX) {
            self.remove(seed, self.oldest);
        }
        let link = self.vacancies.take(self.slots);
        let producer = kept(producer);
        if let Some(slot) = self.slots.get_mut(link.index()) {
            (slot.producer, slot.taken) = (producer.to_le_bytes(), true);
            let home = self.home(seed, producer);
            chain_add(self.slots, home, link);
        }
        link
    }

    fn remove(&mut self, seed: u64, link: Link) {
        self.unlink(link);
        let Some(slot) = self.slots.get_mut(link.index()) else { return };
        slot.taken = false;
        let producer = u64::from_le_bytes(slot.producer);
        let home = self.home(seed, producer);
        chain_remove(self.slots, home, link);
        self.vacancies.give(self.slots, link);
    }

    /// Takes a slot out of the order.
    fn unlink(&mut self, link: Link) {
        let Some(slot) = self.slots.get_mut(link.index()) else { return };
        let (older, newer) = (slot.older, slot.newer);
        let is_alone = self.oldest == link && self.newest == link;
        if !is_alone && older.is_none() && newer.is_none() {
            return;
        }
        (slot.older, slot.newer) = (Link::NONE, Link::NONE);
        match self.slots.get_mut(older.index()) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer.index()) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }
}

const fn kept(producer: u64) -> u64 {
    producer & ((1 << PRODUCER_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(producer: u64, epoch: u32, sequence: u64) -> Numbered {
        Numbered { producer, epoch, sequence }
    }

    #[test]
    fn one_number_says_of_all_sequences_whether_they_were_seen() {
        let mut slots = [ProducerSlot::EMPTY; 4];
        let mut producers = Producers::new(&mut slots);
        producers.insert(1, &key(7, 1, 5));
        assert!(producers.has_seen(1, &key(7, 1, 5)) && producers.has_seen(1, &key(7, 1, 1)));
        assert!(!producers.has_seen(1, &key(7, 1, 6)) && !producers.has_seen(1, &key(8, 1, 1)));
        producers.insert(1, &key(7, 1, 9));
        producers.insert(1, &key(7, 1, 8));
        assert!(producers.has_seen(1, &key(7, 1, 9)) && producers.is_last(1, &key(7, 1, 9)));
        assert!(!producers.is_last(1, &key(7, 1, 8)));
        // The counter of a producer whose store was lost begins anew.
        assert!(!producers.has_seen(1, &key(7, 2, 1)));
        producers.insert(1, &key(7, 2, 1));
        assert!(producers.has_seen(1, &key(7, 2, 1)) && !producers.has_seen(1, &key(7, 1, 1)));
        assert_eq!(producers.count(), 1);
        assert!(producers.has_seen(1, &key(7 | 3 << 62, 2, 1)), "62 bits count");
    }

    #[test]
    fn the_producer_that_was_silent_for_longest_makes_way() {
        let mut slots = [ProducerSlot::EMPTY; 8];
        let mut producers = Producers::new(&mut slots);
        let mut order: Vec<u64> = Vec::new();
        let mut state = 12345u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let producer = (state >> 33) % 20;
            order.retain(|&other| other != producer);
            if (state >> 50) % 8 == 0 {
                let was_known = producers.has_seen(3, &key(producer, 1, 1));
                assert_eq!(producers.forget(3, producer), was_known);
            } else {
                producers.insert(3, &key(producer, 1, 1));
                order.push(producer);
                if order.len() > 8 {
                    order.remove(0);
                }
            }
            for producer in 0..20 {
                let known = producers.has_seen(3, &key(producer, 1, 1));
                assert_eq!(known, order.contains(&producer), "{producer}");
            }
            assert_eq!(producers.count(), order.len());
        }
    }
}
