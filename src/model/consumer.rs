//! Consumers: who takes messages from a queue, and how many at a time.
//!
//! The consumers of a queue form a ring, served in turn. A consumer takes no more than its
//! credit unacknowledged, and nothing while it is paused (its connection's buffer is full). Those
//! that ask for messages stand in a ring of their own.

use super::flight::{self, FlightIndex};
use super::tenancy::Serving;
use crate::units::{ConsumerId, QueueId};

/// No index.
pub const NONE: u32 = u32::MAX;

/// One consumer.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// Whom deliveries are addressed to.
    pub owner: u64,
    /// The queue it consumes from.
    pub queue: QueueId,
    /// In use.
    pub live: bool,
    /// Its connection takes nothing for now.
    pub paused: bool,
    /// Deliveries are done when handed over.
    pub no_ack: bool,
    /// It receives what it asks for and nothing else.
    #[cfg(feature = "gateway")]
    pub pull: bool,
    /// Its queue has no other.
    #[cfg(feature = "gateway")]
    pub exclusive: bool,
    /// Those of a higher priority come first.
    #[cfg(feature = "gateway")]
    pub priority: i8,
    /// Most deliveries in flight.
    pub credit: u32,
    /// Deliveries in flight.
    pub in_flight: u32,
    /// Head of its list in the in-flight table.
    pub flights: FlightIndex,
    /// Next in the ring of its queue; of the free list if not live.
    pub next: u32,
    /// Prior in the ring.
    pub prior: u32,
}

impl Consumer {
    /// All zeros, which a static array costs no code and no stack to begin with: whoever takes the table sets it up.
    pub const UNSET: Consumer = Consumer { flights: 0, next: 0, prior: 0, ..Consumer::EMPTY };

    /// A free place.
    pub const EMPTY: Consumer = Consumer {
        owner: 0,
        queue: QueueId(0),
        live: false,
        paused: false,
        no_ack: false,
        #[cfg(feature = "gateway")]
        pull: false,
        #[cfg(feature = "gateway")]
        exclusive: false,
        #[cfg(feature = "gateway")]
        priority: 0,
        credit: 0,
        in_flight: 0,
        flights: flight::NONE,
        next: NONE,
        prior: NONE,
    };

    /// It receives what it asks for and nothing else.
    pub fn is_pull(&self) -> bool {
        #[cfg(feature = "gateway")]
        return self.pull;
        #[cfg(not(feature = "gateway"))]
        false
    }

    /// Those of a higher priority come first.
    fn rank(&self) -> i8 {
        #[cfg(feature = "gateway")]
        return self.priority;
        #[cfg(not(feature = "gateway"))]
        0
    }

    /// It can take one more message that waits for an acknowledgement.
    pub fn has_credit(&self) -> bool {
        !self.paused && (self.no_ack || self.in_flight < self.credit)
    }
}

/// All consumers.
pub struct Consumers<'a> {
    places: &'a mut [Consumer],
    free: u32,
    used_count: u32,
}

impl<'a> Consumers<'a> {
    /// Takes the storage and empties it.
    pub fn new(places: &'a mut [Consumer]) -> Consumers<'a> {
        let count = places.len() as u32;
        for (index, place) in places.iter_mut().enumerate() {
            let next = index as u32 + 1;
            *place = Consumer { next: if next < count { next } else { NONE }, ..Consumer::EMPTY };
        }
        Consumers { places, free: if count > 0 { 0 } else { NONE }, used_count: 0 }
    }

    /// Consumers attached.
    pub fn count(&self) -> u32 {
        self.used_count
    }

    /// A live consumer.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.places.get(id.0 as usize).filter(|consumer| consumer.live)
    }

    /// A live consumer, to be changed.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.places.get_mut(id.0 as usize).filter(|consumer| consumer.live)
    }

    /// Adds a consumer to the ring whose first is `ring`. None if the table is full.
    pub fn add(&mut self, ring: &mut u32, consumer: Consumer) -> Option<ConsumerId> {
        let index = self.free;
        let place = self.places.get_mut(index as usize)?;
        self.free = place.next;
        *place = Consumer { live: true, next: index, prior: index, flights: flight::NONE, ..consumer };
        self.used_count += 1;
        let first = *ring;
        match self.places.get(first as usize).map(|first| first.prior) {
            None => *ring = index,
            Some(last) => {
                self.link(last, index);
                self.link(index, first);
            }
        }
        Some(ConsumerId(index))
    }

    /// Removes a consumer from its ring.
    pub fn remove(&mut self, ring: &mut u32, id: ConsumerId) {
        let Some(consumer) = self.get(id).copied() else { return };
        if consumer.next == id.0 {
            *ring = NONE;
        } else {
            self.link(consumer.prior, consumer.next);
            if *ring == id.0 {
                *ring = consumer.next;
            }
        }
        if let Some(place) = self.places.get_mut(id.0 as usize) {
            *place = Consumer { next: self.free, ..Consumer::EMPTY };
            self.free = id.0;
            self.used_count = self.used_count.saturating_sub(1);
        }
    }

    /// The next consumer of a ring that can take a message. Where they take turns, the ring then starts
    /// after it.
    pub fn next_with_credit(&self, ring: &mut u32, serving: Serving) -> Option<ConsumerId> {
        if serving == Serving::Single {
            return self
                .places
                .get(*ring as usize)
                .filter(|first| first.has_credit())
                .map(|_| ConsumerId(*ring));
        }
        let found = match serving {
            Serving::Ranks => self.highest(*ring, Consumer::has_credit)?,
            _ => self.first(*ring, Consumer::has_credit)?,
        };
        *ring = self.places.get(found as usize)?.next;
        Some(ConsumerId(found))
    }

    /// The first of a ring that is fit.
    fn first(&self, ring: u32, is_fit: impl Fn(&Consumer) -> bool) -> Option<u32> {
        let mut index = ring;
        loop {
            let consumer = self.places.get(index as usize)?;
            if is_fit(consumer) {
                return Some(index);
            }
            index = consumer.next;
            if index == ring {
                return None;
            }
        }
    }

    /// The first of the highest priority of a ring that is fit; all of them are looked at.
    pub fn highest(&self, ring: u32, is_fit: impl Fn(&Consumer) -> bool) -> Option<u32> {
        let mut best: Option<(i8, u32)> = None;
        let mut index = ring;
        loop {
            let consumer = self.places.get(index as usize)?;
            if is_fit(consumer) && best.is_none_or(|(rank, _)| consumer.rank() > rank) {
                best = Some((consumer.rank(), index));
            }
            index = consumer.next;
            if index == ring {
                return best.map(|(_, index)| index);
            }
        }
    }

    fn link(&mut self, before: u32, after: u32) {
        if let Some(place) = self.places.get_mut(before as usize) {
            place.next = after;
        }
        if let Some(place) = self.places.get_mut(after as usize) {
            place.prior = before;
        }
    }
}
