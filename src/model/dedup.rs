//! The dedup index: which publishes were seen before.
//!
//! Three classes of identity live in slots of their own, so none can crowd out or be mistaken
//! for another. *Window* keys are a ring in the order of their insertion: the oldest goes when
//! its time is over or when the ring is full. *Held* keys (exactly-once publishes that the peer
//! has not released) stay until forgotten: their index refuses a key rather than lose one, because a
//! lost one is a message twice. Every call takes constant time but for those that say otherwise.
//! ```text
//! window   [ dead │ oldest … (forgotten) … newest │ free ]   a ring: age is place
//! held     by (queue, packet) in a hash table; by queue in a list, first at queues[queue]
//! ```
//! Producers that count have one slot each, see `producers`.
//!
//! Invariants: a window slot in its table is live; the ring covers every live slot; the first
//! held key of a queue has itself as the one before, so a slot is taken exactly if it has one.
//!
//! Limits: `dedup window` and `dedup held`, the numbers of slots; a full window forgets early.
//! `producers`.

mod producers;

pub use producers::{Numbered, ProducerSlot, Producers, PRODUCER_BITS};

use super::hash;
use super::link::{bucket, chain_add, chain_find, chain_remove, chained, Limit, Link, Packed, Vacancies};
use crate::command::DedupKey;
use crate::units::{Millis, QueueId};

/// Room for one window key.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowSlot {
    head: Link,
    next: Link,
    key: [u8; 8],
    expires: Packed,
    live: bool,
}
chained!(WindowSlot, next, head);

impl WindowSlot {
    /// A vacant slot; fills tables.
    pub const EMPTY: WindowSlot =
        WindowSlot { head: Link::NONE, next: Link::NONE, key: [0; 8], expires: Packed::NONE, live: false };
}

/// Room for one held key.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeldSlot {
    head: Link,
    next: Link,
    queue_next: Link,
    queue_before: Link,
    queue: u16,
    packet: u16,
}
chained!(HeldSlot, next, head);

impl HeldSlot {
    /// A vacant slot; fills tables.
    pub const EMPTY: HeldSlot = HeldSlot {
        head: Link::NONE,
        next: Link::NONE,
        queue_next: Link::NONE,
        queue_before: Link::NONE,
        queue: 0,
        packet: 0,
    };
}

/// What the index borrows, all zeroed (default).
#[derive(Debug, Default)]
pub struct DedupStorage<'a> {
    /// Window keys.
    pub window: &'a mut [WindowSlot],
    /// Held keys.
    pub held: &'a mut [HeldSlot],
    /// One link for each queue that can hold keys.
    pub queues: &'a mut [Link],
    /// Producers that count.
    pub producers: &'a mut [ProducerSlot],
}

/// Whether a key was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No; now it is.
    Fresh,
    /// Yes; its expiry is as it was.
    Seen,
}

/// The index.
#[derive(Debug)]
pub struct Dedup<'a> {
    window: &'a mut [WindowSlot],
    oldest: usize,
    span: usize,
    held: &'a mut [HeldSlot],
    vacancies: Vacancies,
    queues: &'a mut [Link],
    producers: Producers<'a>,
    seed: u64,
    now: Millis,
}

impl<'a> Dedup<'a> {
    /// An empty index; the seed is secret and may differ from boot to boot.
    pub fn new(storage: DedupStorage<'a>, seed: u64) -> Dedup<'a> {
        let DedupStorage { window, held, queues, producers } = storage;
        let producers = Producers::new(producers);
        let usable = window.len().min(Link::SLOTS_MAX);
        let window = window.get_mut(..usable).unwrap_or_default();
        let (vacancies, now) = (Vacancies::new(), Millis(0));
        Dedup { window, oldest: 0, span: 0, held, vacancies, queues, producers, seed, now }
    }

    /// Remembers a key. A held key has no expiry. At its limit a window forgets its oldest key.
    pub fn insert(&mut self, key: DedupKey, expires: Millis) -> Result<Seen, Limit> {
        match key {
            DedupKey::Window(key) => self.insert_window(key, expires),
            DedupKey::Held { queue, packet } => self.insert_held(queue, packet),
            DedupKey::Sequence { .. } if self.contains(key) => Ok(Seen::Seen),
            DedupKey::Sequence { producer, epoch, sequence } => {
                self.check_room(key)?;
                self.producers.insert(self.seed, &Numbered { producer, epoch, sequence });
                Ok(Seen::Fresh)
            }
        }
    }

    /// Whether there is a place for a key.
    pub fn check_room(&self, key: DedupKey) -> Result<(), Limit> {
        match key {
            DedupKey::Window(_) if self.window.is_empty() => Err(Limit("dedup window")),
            DedupKey::Sequence { .. } if !self.producers.has_any_room() => Err(Limit("producers")),
            DedupKey::Held { .. } if self.held_room() == 0 && !self.contains(key) => Err(Limit("dedup held")),
            _ => Ok(()),
        }
    }

    /// How many more held keys there is place for.
    pub const fn held_room(&self) -> usize {
        self.held.len().saturating_sub(self.vacancies.used())
    }

    /// A record of this key says what would be forgotten without it: of a producer's only the last does, and none
    /// of a window key that was forgotten and taken again since.
    pub fn is_needed(&self, key: DedupKey, expires: Millis) -> bool {
        match key {
            DedupKey::Window(key) => {
                let slot = self.window.get(self.find_window(key).index());
                expires > self.now && slot.is_some_and(|slot| slot.expires == Packed::from_millis(expires))
            }
            DedupKey::Sequence { producer, epoch, sequence } => {
                self.producers.is_last(self.seed, &Numbered { producer, epoch, sequence })
            }
            _ => self.contains(key),
        }
    }

    /// The key is known.
    pub fn contains(&self, key: DedupKey) -> bool {
        match key {
            DedupKey::Window(key) => self
                .window
                .get(self.find_window(key).index())
                .is_some_and(|slot| slot.expires.millis() > self.now),
            DedupKey::Held { queue, packet } => self.find_held(queue, packet).is_some(),
            DedupKey::Sequence { producer, epoch, sequence } => {
                self.producers.has_seen(self.seed, &Numbered { producer, epoch, sequence })
            }
        }
    }

    /// When a known key expires.
    pub fn expiry(&self, key: DedupKey) -> Option<Millis> {
        match key {
            DedupKey::Window(number) if self.contains(key) => {
                self.window.get(self.find_window(number).index()).map(|slot| slot.expires.millis())
            }
            _ => self.contains(key).then_some(Millis::NEVER),
        }
    }

    /// Forgets a key, or the producer it is of; tells whether it was known.
    pub fn forget(&mut self, key: DedupKey) -> bool {
        let known = self.contains(key);
        match key {
            DedupKey::Window(key) => self.drop_window(self.find_window(key)),
            DedupKey::Held { queue, packet } => self.drop_held(self.find_held(queue, packet)),
            DedupKey::Sequence { producer, .. } => {
                self.producers.forget(self.seed, producer);
            }
        }
        known
    }

    /// Forgets all held keys of a queue, in time by their number, which it returns.
    pub fn forget_queue(&mut self, queue: QueueId) -> usize {
        let mut count = 0usize;
        while let Some(&first) = self.queues.get(usize::from(queue.0)) {
            if first.is_none() {
                break;
            }
            self.drop_held(first);
            count = count.saturating_add(1);
        }
        count
    }

    /// Time is now: window keys that expire at it or before are unknown from here on. Takes time
    /// by the number of keys that go, each of which came once.
    pub fn expire(&mut self, now: Millis) {
        self.now = self.now.max(now);
        while self.span > 0 {
            let over = self
                .window
                .get(self.oldest)
                .is_none_or(|slot| !slot.live || slot.expires.millis() <= self.now);
            if !over {
                break;
            }
            self.drop_oldest();
        }
    }

    /// Walks over all keys, one a call, starting at cursor 0; passes over a bounded number of slots
    /// and says `None` as the key if none of them held one. Keys that are there during the whole
    /// walk are met exactly once.
    pub fn next(&self, cursor: u32) -> Option<(u32, Option<(DedupKey, Millis)>)> {
        const STEP_SLOTS: usize = 32;
        let start = cursor as usize;
        for place in start..start.saturating_add(STEP_SLOTS) {
            let after = (place as u32).wrapping_add(1);
            if let Some(slot) = self.window.get(place) {
                if slot.live && slot.expires.millis() > self.now {
                    let key = DedupKey::Window(u64::from_le_bytes(slot.key));
                    return Some((after, Some((key, slot.expires.millis()))));
                }
            } else {
                let place = place.wrapping_sub(self.window.len());
                let key = match self.held.get(place) {
                    Some(slot) if slot.queue_before.is_some() => {
                        Some(DedupKey::Held { queue: QueueId(slot.queue), packet: slot.packet })
                    }
                    Some(_) => None,
                    None => self.producers.at(place.wrapping_sub(self.held.len()))?.map(|key| {
                        let Numbered { producer, epoch, sequence } = key;
                        DedupKey::Sequence { producer, epoch, sequence }
                    }),
                };
                if let Some(key) = key {
                    return Some((after, Some((key, Millis::NEVER))));
                }
            }
        }
        Some((cursor.wrapping_add(STEP_SLOTS as u32), None))
    }

    /// No key is known.
    pub const fn is_empty(&self) -> bool {
        self.span == 0 && self.vacancies.used() == 0 && self.producers.count() == 0
    }

    /// Number of producers that count.
    pub const fn producer_count(&self) -> usize {
        self.producers.count()
    }

    /// Number of held keys.
    pub const fn held_count(&self) -> usize {
        self.vacancies.used()
    }

    /// Number of window slots between the oldest and the newest key.
    pub const fn window_span(&self) -> usize {
        self.span
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn window_bucket(&self, key: u64) -> usize {
        bucket(hash::hash_bytes(self.seed, &key.to_le_bytes()), self.window.len())
    }

    fn find_window(&self, key: u64) -> Link {
        let key_bytes = key.to_le_bytes();
        chain_find(self.window, self.window_bucket(key), |slot| slot.key == key_bytes)
    }

    fn insert_window(&mut self, key: u64, expires: Millis) -> Result<Seen, Limit> {
        let known = self.find_window(key);
        if let Some(slot) = self.window.get(known.index()) {
            if slot.expires.millis() > self.now {
                return Ok(Seen::Seen);
            }
            self.drop_window(known);
        }
        if self.span == self.window.len() {
            self.drop_oldest();
        }
        let newest = self.wrapped(self.oldest.wrapping_add(self.span));
        let slot = self.window.get_mut(newest).ok_or(Limit("dedup window"))?;
        slot.key = key.to_le_bytes();
        slot.expires = Packed::from_millis(expires);
        slot.live = true;
        self.span = self.span.wrapping_add(1);
        let home = self.window_bucket(key);
        chain_add(self.window, home, Link::to(newest));
        Ok(Seen::Fresh)
    }

    fn drop_window(&mut self, link: Link) {
        let Some(slot) = self.window.get_mut(link.index()) else { return };
        if core::mem::take(&mut slot.live) {
            let key = u64::from_le_bytes(slot.key);
            let home = self.window_bucket(key);
            chain_remove(self.window, home, link);
        }
    }

    fn drop_oldest(&mut self) {
        self.drop_window(Link::to(self.oldest));
        self.oldest = self.wrapped(self.oldest.wrapping_add(1));
        self.span = self.span.saturating_sub(1);
    }

    /// A place of the ring, from one that is less than two rounds on.
    fn wrapped(&self, place: usize) -> usize {
        place.checked_sub(self.window.len()).unwrap_or(place)
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn held_bucket(&self, queue: QueueId, packet: u16) -> usize {
        let ([a, b], [c, d]) = (queue.0.to_le_bytes(), packet.to_le_bytes());
        bucket(hash::hash_bytes(self.seed, &[a, b, c, d]), self.held.len())
    }

    fn find_held(&self, queue: QueueId, packet: u16) -> Link {
        let home = self.held_bucket(queue, packet);
        chain_find(self.held, home, |slot| slot.queue == queue.0 && slot.packet == packet)
    }

    fn insert_held(&mut self, queue: QueueId, packet: u16) -> Result<Seen, Limit> {
        if self.find_held(queue, packet).is_some() {
            return Ok(Seen::Seen);
        }
        let first_place = self.queues.get_mut(usize::from(queue.0)).ok_or(Limit("queues"))?;
        let link = self.vacancies.take(self.held);
        let slot = self.held.get_mut(link.index()).ok_or(Limit("dedup held"))?;
        let second = core::mem::replace(first_place, link);
        slot.queue = queue.0;
        slot.packet = packet;
        slot.queue_next = second;
        slot.queue_before = link;
        if let Some(slot) = self.held.get_mut(second.index()) {
            slot.queue_before = link;
        }
        let home = self.held_bucket(queue, packet);
        chain_add(self.held, home, link);
        Ok(Seen::Fresh)
    }

    fn drop_held(&mut self, link: Link) {
        let Some(slot) = self.held.get_mut(link.index()) else { return };
        let HeldSlot { queue, packet, queue_next, queue_before, .. } = *slot;
        slot.queue_before = Link::NONE;
        let is_first = queue_before == link;
        if let Some(after) = self.held.get_mut(queue_next.index()) {
            after.queue_before = if is_first { queue_next } else { queue_before };
        }
        if is_first {
            if let Some(first) = self.queues.get_mut(usize::from(queue)) {
                *first = queue_next;
            }
        } else if let Some(before) = self.held.get_mut(queue_before.index()) {
            before.queue_next = queue_next;
        }
        let home = self.held_bucket(QueueId(queue), packet);
        chain_remove(self.held, home, link);
        self.vacancies.give(self.held, link);
    }
}
