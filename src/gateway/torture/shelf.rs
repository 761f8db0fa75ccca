//! One queue of the model after a mount: what has to be there, what may be, and nothing else.

use super::history::{Step, NEVER};
use super::look::{SeenItem, SeenQueue};
use super::model::{Check, Item, Shelf, Way};
use crate::units::Millis;

impl Shelf {
    /// Everything leaves, or all that is not in flight.
    pub fn empty(&mut self, step: Step, in_flight_too: bool) -> u32 {
        let mut count = 0;
        for item in self.items.iter_mut().filter(|item| item.present) {
            if in_flight_too || item.flight.is_none() {
                item.leave(step, Way::Removed);
                count += 1;
            }
        }
        count
    }

    fn find_queue(&mut self, found: Option<&SeenQueue>, step: Step) -> Check {
        let id = found.map(|queue| queue.id);
        if !self.id.may_be(id) {
            return Err(format!("the queue is {id:?}, not one of {:?}", self.id));
        }
        // Deleted and declared anew, or the one or the other: nobody can tell.
        let is_the_same = self.id.is_certain();
        self.id.find(step, id);
        self.next = found.map_or(self.next, |queue| queue.next);
        if found.is_some() && is_the_same && self.next < self.floor {
            return Err(format!("offset {} was seen and is used again", self.next));
        }
        self.floor = if is_the_same { self.floor } else { 0 };
        Ok(())
    }

    pub(super) fn hold_against(
        &mut self,
        found: Option<&SeenQueue>,
        step: Step,
        prefix: Step,
        doubted: bool,
    ) -> Check {
        self.find_queue(found, step)?;
        let none = Vec::new();
        let seen = found.map_or(&none, |queue| &queue.items);
        for item in &mut self.items {
            let found = seen.iter().find(|seen| item.is(seen));
            let must = (item.certain || item.present && item.arrived < prefix) && !item.fades;
            if found.is_none() && must && item.left.is_none() {
                return Err(format!("message {} at offset {} is lost", item.message, item.offset));
            }
            item.present = found.is_some();
            item.left = item.left.map(|(left, way)| (left.min(step), way));
            let Some(found) = found else { continue };
            item.fades |= item.left.is_some() && doubted;
            item.came_back |= item.left.is_some();
            item.left = None;
            item.came_back(found)?;
        }
        // The same may have come to the same place before, and power went.
        let mut places = Vec::new();
        self.items.retain(|item| {
            let place = (item.offset, item.message);
            let is_first = !item.present || !places.contains(&place);
            places.push(place);
            is_first
        });
        let is_known = |seen: &&SeenItem| self.items.iter().any(|item| item.is(seen));
        match seen.iter().find(|seen| !is_known(seen)) {
            None => Ok(()),
            Some(ghost) => {
                let SeenItem { message, offset, .. } = ghost;
                Err(format!("message {message} at offset {offset} should not be there"))
            }
        }
    }

    /// Of a group: `floor` is behind all it ever handed out, and what is below and no item of its
    /// is certainly acknowledged.
    pub(super) fn hold_group_against(
        &mut self,
        found: Option<&SeenQueue>,
        step: Step,
        stream: &[u64],
    ) -> Check {
        let (floor, is_the_same) = (self.floor, self.id.is_certain());
        self.floor = 0;
        self.find_queue(found, step)?;
        let Some(found) = found else {
            self.items.iter_mut().for_each(|item| item.present = false);
            self.floor = floor;
            return Ok(());
        };
        let is_pending = |offset: u64| found.items.iter().any(|item| item.offset == offset);
        let is_owed = |offset: u64| offset >= found.next || is_pending(offset);
        if !is_the_same {
            self.items.clear();
            (self.start, self.floor) = (found.next, found.next);
            let pending = found.items.iter().map(|seen| Item::pending(seen, step));
            self.items.extend(pending);
            return Ok(());
        }
        self.floor = floor;
        for &offset in stream.iter().filter(|&&offset| offset >= self.start) {
            let known = self.items.iter().find(|item| item.offset == offset);
            let (may, must) = match known {
                Some(item) => (true, item.left.is_none()),
                None => (offset >= floor, offset >= floor),
            };
            if must && !is_owed(offset) {
                return Err(format!("offset {offset} was not acknowledged and is not owed"));
            }
            if !may && is_owed(offset) {
                return Err(format!("offset {offset} was acknowledged and is owed"));
            }
        }
        for item in &mut self.items {
            item.present = is_owed(item.offset);
            item.left = item.left.filter(|_| !item.present);
            item.put_off = item.put_off.filter(|&(_, certain, until)| {
                certain
                    || found.items.iter().any(|seen| seen.offset == item.offset && seen.waits == Some(until))
            });
            let pending = found.items.iter().find(|seen| seen.offset == item.offset);
            if item.put_off.is_none() && pending.is_some_and(|seen| seen.waits.is_some()) {
                item.put_off = Some((NEVER, false, Millis(0)));
            }
            item.deliveries = pending.map_or(0, |seen| seen.deliveries);
        }
        Ok(())
    }
}
