//! What is in flight: deliveries that wait for an acknowledgement.
//!
//! A fixed table of slots. A slot holds the address of the message (its entry holds the slot
//! meanwhile), the consumer, and the links of the consumer's own list, so that everything a
//! consumer holds can be returned when it goes. A tag is slot and generation: an old tag finds
//! nothing.

use super::pages::{PageIndex, Slot};
use crate::units::{At, ConsumerId, Tag};

/// Index of a slot; two bytes in the core alone, as links are.
pub type FlightIndex = super::link::Raw;
/// No slot.
pub const NONE: FlightIndex = FlightIndex::MAX;

/// One delivery.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    at_low: u32,
    page: PageIndex,
    /// Who has it.
    pub consumer: ConsumerId,
    prior: FlightIndex,
    next: FlightIndex,
    generation: u16,
    at_high: u8,
    place: u8,
}

impl Flight {
    /// All zeros, which a static array costs no code and no stack to begin with: whoever takes the table sets it up.
    pub const UNSET: Flight = Flight { page: 0, consumer: ConsumerId(0), prior: 0, next: 0, ..Flight::EMPTY };

    /// A free slot.
    pub const EMPTY: Flight = Flight {
        at_low: 0,
        page: NONE,
        consumer: ConsumerId(u32::MAX),
        prior: NONE,
        next: NONE,
        generation: 0,
        at_high: 0,
        place: 0,
    };

    /// Address of the message.
    pub fn at(&self) -> At {
        At(u64::from(self.at_high) << 32 | u64::from(self.at_low))
    }

    /// Its entry.
    pub fn slot(&self) -> Slot {
        Slot { page: self.page, place: self.place }
    }

    fn is_used(&self) -> bool {
        self.page != NONE
    }
}

/// All deliveries in flight.
pub struct Flights<'a> {
    slots: &'a mut [Flight],
    free: FlightIndex,
    used_count: u32,
}

impl<'a> Flights<'a> {
    /// Takes the storage and empties it.
    pub fn new(slots: &'a mut [Flight]) -> Flights<'a> {
        let count = slots.len().min(NONE as usize) as FlightIndex;
        for (index, slot) in slots.iter_mut().enumerate() {
            let next = (index as FlightIndex).wrapping_add(1);
            *slot = Flight { next: if next < count { next } else { NONE }, ..Flight::EMPTY };
        }
        Flights { slots, free: if count > 0 { 0 } else { NONE }, used_count: 0 }
    }

    /// Whether nothing more can be put in flight.
    pub fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Deliveries in flight.
    pub fn count(&self) -> u32 {
        self.used_count
    }

    /// Puts a message in flight; `list` is the head of the consumer's list. None if full.
    pub fn add(
        &mut self,
        list: &mut FlightIndex,
        consumer: ConsumerId,
        entry: Slot,
        at: At,
    ) -> Option<FlightIndex> {
        let index = self.free;
        let slot = self.slots.get_mut(index as usize)?;
        self.free = slot.next;
        *slot = Flight {
            at_low: at.0 as u32,
            at_high: (at.0 >> 32) as u8,
            page: entry.page,
            place: entry.place,
            consumer,
            prior: NONE,
            next: *list,
            generation: slot.generation,
        };
        if let Some(next) = self.slots.get_mut(*list as usize) {
            next.prior = index;
        }
        *list = index;
        self.used_count += 1;
        Some(index)
    }

    /// The slot of an index.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn get(&self, index: FlightIndex) -> Option<&Flight> {
        self.slots.get(index as usize).filter(|slot| slot.is_used())
    }

    /// Notes a new address of the message.
    pub fn set_at(&mut self, index: FlightIndex, at: At) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.at_low = at.0 as u32;
            slot.at_high = (at.0 >> 32) as u8;
        }
    }

    /// The tag of a slot.
    pub fn tag(&self, index: FlightIndex) -> Tag {
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        Tag(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slot a tag names, if it is still in flight.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn find(&self, tag: Tag) -> Option<FlightIndex> {
        let index = (tag.0 as u32 as usize).min(NONE as usize) as FlightIndex;
        let slot = self.get(index)?;
        (u64::from(slot.generation) == tag.0 >> 32).then_some(index)
    }

    /// Frees a slot; `list` is the head of its consumer's list.
    pub fn remove(&mut self, list: &mut FlightIndex, index: FlightIndex) {
        let Some(slot) = self.get(index).copied() else { return };
        match self.slots.get_mut(slot.prior as usize) {
            Some(prior) => prior.next = slot.next,
            None => *list = slot.next,
        }
        if let Some(next) = self.slots.get_mut(slot.next as usize) {
            next.prior = slot.prior;
        }
        if let Some(place) = self.slots.get_mut(index as usize) {
            *place = Flight { next: self.free, generation: slot.generation.wrapping_add(1), ..Flight::EMPTY };
            self.free = index;
            self.used_count = self.used_count.saturating_sub(1);
        }
    }
}
