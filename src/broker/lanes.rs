//! Lanes of entries that were restored before the declaration of their queue.
//!
//! Reclaim writes a declaration anew behind messages that are older, and how many lanes a queue has
//! stands there. Until a mount comes to it, all entries of the queue are in the lowest lane and
//! carry their priority where an entry in flight would count; nothing is in flight during a mount.
//! When the declaration comes, they go to their lanes, a page at a time and never with more pages
//! than the queue has in the end: what fitted before power went has to fit again.
//! ```text
//! deliveries, while InFlight is set      count (4 bits, up to 15) | priority (4 bits)
//! ```

use super::state::State;
use crate::log::RestoreError;
use crate::model::entry::{Entry, Flag};
use crate::model::pages::Slot;
use crate::units::QueueId;

const PRIORITY_MASK: u8 = 0x0F;
const COUNT_SHIFT: u32 = 4;

/// Notes the priority of an entry whose queue is not declared yet.
pub(super) fn set_priority(entry: &mut Entry, priority: u8) {
    if priority > 0 {
        entry.put(Flag::InFlight, true);
        entry.deliveries = priority & PRIORITY_MASK;
    }
}

/// Sets how often an entry was delivered, whether or not its queue is declared yet.
pub(super) fn set_deliveries(entry: &mut Entry, count: u8) {
    entry.deliveries = match entry.is(Flag::InFlight) {
        true => entry.deliveries & PRIORITY_MASK | count.min(PRIORITY_MASK) << COUNT_SHIFT,
        false => count,
    };
}

/// Takes the note from an entry: its priority.
fn take_priority(entry: &mut Entry) -> u8 {
    if !entry.is(Flag::InFlight) {
        return 0;
    }
    let priority = entry.deliveries & PRIORITY_MASK;
    entry.deliveries >>= COUNT_SHIFT;
    entry.put(Flag::InFlight, false);
    priority
}

impl State<'_> {
    /// A queue is declared: its entries go to their lanes.
    pub(super) fn set_lanes(&mut self, id: QueueId) -> Result<(), RestoreError> {
        let Some(queue) = self.queues.place(id) else { return Ok(()) };
        let mut here = self.pages.next_live(&queue.roots, None);
        while let Some(first) = here {
            here = self.set_lanes_of_page(id, first)?;
        }
        Ok(())
    }

    /// Moves all of a page that belongs to another lane than its lowest, then the page to that lane.
    /// Returns the first entry of the next page.
    fn set_lanes_of_page(&mut self, id: QueueId, first: Slot) -> Result<Option<Slot>, RestoreError> {
        let lane = self.lowest_lane(id, first);
        let mut here = Some(first);
        while let Some(slot) = here.filter(|slot| slot.page == first.page) {
            here = self.after(id, slot);
            let own = self.lane_wanted(id, slot);
            if let Some(entry) = self.pages.entry_mut(slot) {
                take_priority(entry);
            }
            if own != lane {
                self.move_to_lane(id, slot, own)?;
            }
        }
        let Some(queue) = self.queues.place_mut(id) else { return Ok(None) };
        queue.laned |= lane > 0;
        self.pages.set_lane(&mut queue.roots, first.page, lane);
        // Moved entries may have made the next page only now.
        Ok(here.or_else(|| self.pages.next_page(first)))
    }

    fn after(&self, id: QueueId, slot: Slot) -> Option<Slot> {
        self.pages.next_live(&self.queues.place(id)?.roots, Some(slot))
    }

    /// The lowest lane that an entry of a page belongs to.
    fn lowest_lane(&self, id: QueueId, first: Slot) -> u8 {
        let mut lane = self.lane_wanted(id, first);
        let mut here = self.after(id, first);
        while let Some(slot) = here.filter(|slot| slot.page == first.page) {
            lane = lane.min(self.lane_wanted(id, slot));
            here = self.after(id, slot);
        }
        lane
    }

    /// The lane an entry belongs to; it is there already, or in the lowest.
    fn lane_wanted(&self, id: QueueId, slot: Slot) -> u8 {
        let highest = self.queues.place(id).map_or(0, |queue| queue.policy.max_priority);
        let noted = self.pages.entry(slot).copied().map_or(0, |mut entry| take_priority(&mut entry));
        self.pages.lane(slot).max(noted.min(highest))
    }

    fn move_to_lane(&mut self, id: QueueId, slot: Slot, lane: u8) -> Result<(), RestoreError> {
        let (Some(&entry), Some((_, offset))) = (self.pages.entry(slot), self.pages.owner(slot)) else {
            return Ok(());
        };
        let Some(queue) = self.queues.place_mut(id) else { return Ok(()) };
        queue.laned |= lane > 0;
        let ready = self.pages.is_ready(slot);
        let share = self.pages.remove(&mut queue.roots, slot, None);
        let moved = self.pages.insert(&mut queue.roots, id, lane, offset, entry, share);
        let moved = moved.map_err(|_| RestoreError::Limit("entries"))?;
        self.pages.set_ready(&mut queue.roots, moved, ready);
        Ok(())
    }
}
