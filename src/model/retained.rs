//! Retained messages: where the last value of each key stands in the log.
//!
//! The table keeps no keys. A key is known by 64 bits of keyed hash of its AMQP spelling, its
//! value by the address of its record; who needs the key reads it there. Two keys of one hash would
//! share a place, which among a million of them is one chance in tens of millions, and not to
//! be provoked without the seed.
//!
//! A subscription with wildcards walks over all values with a cursor, a bounded number of
//! slots a call: read the record, compare its key with `topics::matches`, go on. Values do not
//! move, so one that is there during the whole walk is met exactly once.
//!
//! Limits: `retained`, the number of slots.

use super::hash;
use super::key::Key;
use super::link::{bucket, chain_add, chain_find, chain_remove, chained, Limit, Link, Packed, Vacancies};
use crate::units::At;

/// Slots passed over by one step of a walk.
const STEP_SLOTS: usize = 32;

/// Room for one value. Without an address it is vacant.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetainedSlot {
    head: Link,
    next: Link,
    hash: [u8; 8],
    at: Packed,
}
chained!(RetainedSlot, next, head);

impl RetainedSlot {
    /// A vacant slot; fills tables.
    pub const EMPTY: RetainedSlot =
        RetainedSlot { head: Link::NONE, next: Link::NONE, hash: [0; 8], at: Packed::NONE };
}

/// The table of retained messages.
#[derive(Debug)]
pub struct Retained<'a> {
    slots: &'a mut [RetainedSlot],
    vacancies: Vacancies,
    seed: u64,
}

impl<'a> Retained<'a> {
    /// An empty table over zeroed (default) slots; the seed is secret and may differ from boot
    /// to boot.
    pub fn new(slots: &'a mut [RetainedSlot], seed: u64) -> Retained<'a> {
        Retained { slots, vacancies: Vacancies::new(), seed }
    }

    /// What stands for a key in this table, and in the records that fill it.
    pub fn hash_of(&self, key: Key<'_>) -> u64 {
        hash::hash_key(self.seed, key)
    }

    /// Whether a value could be set for a key of this hash.
    pub fn has_room(&self, hash: u64) -> bool {
        self.vacancies.used() < self.slots.len() || self.get_hash(hash).is_some()
    }

    /// Sets the value of a key; returns the one it had.
    pub fn insert(&mut self, key: Key<'_>, at: At) -> Result<Option<At>, Limit> {
        self.insert_hash(self.hash_of(key), at)
    }

    /// Sets the value of the key of this hash; returns the one it had.
    pub fn insert_hash(&mut self, hash: u64, at: At) -> Result<Option<At>, Limit> {
        let known = self.find(hash);
        if let Some(slot) = self.slots.get_mut(known.index()) {
            let before = core::mem::replace(&mut slot.at, Packed::from_at(Some(at)));
            return Ok(before.at());
        }
        let link = self.vacancies.take(self.slots);
        let home = bucket(hash, self.slots.len());
        let slot = self.slots.get_mut(link.index()).ok_or(Limit("retained"))?;
        slot.hash = hash.to_le_bytes();
        slot.at = Packed::from_at(Some(at));
        chain_add(self.slots, home, link);
        Ok(None)
    }

    /// Forgets the value of a key; returns it.
    pub fn remove(&mut self, key: Key<'_>) -> Option<At> {
        self.remove_hash(self.hash_of(key))
    }

    /// Forgets the value of the key of this hash; returns it.
    pub fn remove_hash(&mut self, hash: u64) -> Option<At> {
        let link = self.find(hash);
        let before = self.slots.get_mut(link.index()).map(|slot| core::mem::take(&mut slot.at))?;
        let home = bucket(hash, self.slots.len());
        chain_remove(self.slots, home, link);
        self.vacancies.give(self.slots, link);
        before.at()
    }

    /// Forgets the value that stands there; whether there was one.
    pub fn remove_at(&mut self, at: At) -> bool {
        let touched = self.slots.get(..self.vacancies.touched()).unwrap_or(&[]);
        let hash =
            touched.iter().find(|slot| slot.at.at() == Some(at)).map(|slot| u64::from_le_bytes(slot.hash));
        hash.is_some_and(|hash| self.remove_hash(hash).is_some())
    }

    /// The value of a key.
    pub fn get(&self, key: Key<'_>) -> Option<At> {
        self.get_hash(self.hash_of(key))
    }

    /// The value of the key of this hash.
    pub fn get_hash(&self, hash: u64) -> Option<At> {
        let link = self.find(hash);
        self.slots.get(link.index())?.at.at()
    }

    /// Walks over all values, starting at cursor 0: the cursor to go on with and a value, or no
    /// value if the slots of this step held none. `None` at the end.
    pub fn next(&self, cursor: u32) -> Option<(u32, Option<At>)> {
        let start = cursor as usize;
        let touched = self.slots.get(start..self.vacancies.touched()).filter(|rest| !rest.is_empty())?;
        let step = touched.iter().take(STEP_SLOTS);
        let mut after = cursor;
        for slot in step {
            after = after.wrapping_add(1);
            if let Some(at) = slot.at.at() {
                return Some((after, Some(at)));
            }
        }
        Some((after, None))
    }

    /// Number of values.
    pub const fn count(&self) -> usize {
        self.vacancies.used()
    }

    fn find(&self, hash: u64) -> Link {
        let bytes = hash.to_le_bytes();
        chain_find(self.slots, bucket(hash, self.slots.len()), |slot| slot.hash == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_replaced_across_forms_and_removed() {
        let mut slots = [RetainedSlot::default(); 4];
        let mut retained = Retained::new(&mut slots, 1);
        assert_eq!(retained.insert(Key::slashes(b"a/b"), At(1)), Ok(None));
        assert_eq!(retained.insert(Key::dots(b"a.b"), At(2)), Ok(Some(At(1))));
        assert_eq!(retained.get(Key::slashes(b"a/b")), Some(At(2)));
        assert_eq!(retained.get(Key::slashes(b"a/c")), None);
        assert_eq!(retained.remove(Key::slashes(b"a/b")), Some(At(2)));
        assert_eq!(retained.remove(Key::slashes(b"a/b")), None);
        assert_eq!(retained.count(), 0);
    }

    #[test]
    fn a_full_table_refuses_new_keys_and_replaces_known_ones() {
        let mut slots = [RetainedSlot::default(); 2];
        let mut retained = Retained::new(&mut slots, 1);
        assert_eq!(retained.insert(Key::slashes(b"a"), At(1)), Ok(None));
        assert_eq!(retained.insert(Key::slashes(b"b"), At(2)), Ok(None));
        assert_eq!(retained.insert(Key::slashes(b"c"), At(3)), Err(Limit("retained")));
        assert_eq!(retained.get(Key::slashes(b"c")), None);
        assert_eq!(retained.insert(Key::slashes(b"a"), At(4)), Ok(Some(At(1))));
        retained.remove(Key::slashes(b"b"));
        assert_eq!(retained.insert(Key::slashes(b"c"), At(3)), Ok(None));
    }

    #[test]
    fn a_walk_meets_what_stays_exactly_once_in_bounded_steps() {
        const COUNT: usize = 200;
        let mut slots = [RetainedSlot::default(); COUNT];
        let mut retained = Retained::new(&mut slots, 7);
        for number in 0..COUNT as u16 {
            retained.insert(Key::dots(&number.to_be_bytes()), At(u64::from(number))).unwrap();
        }
        for number in (0..COUNT as u16).filter(|number| number % 50 != 0) {
            retained.remove(Key::dots(&number.to_be_bytes())).unwrap();
        }
        let mut met = [0; COUNT];
        let (mut cursor, mut steps) = (0, 0);
        while let Some((after, at)) = retained.next(cursor) {
            assert!(after > cursor && after - cursor <= STEP_SLOTS as u32);
            cursor = after;
            steps += 1;
            if let Some(At(number)) = at {
                met[number as usize] += 1;
                let moved = At(number);
                retained.insert(Key::dots(&(number as u16).to_be_bytes()), moved).unwrap();
            }
        }
        assert!((0..COUNT).all(|number| met[number] == u32::from(number % 50 == 0)));
        assert!(steps < 20);
    }
}
