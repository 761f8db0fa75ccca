//! When pages want to be looked at: one binary heap over all pages with a due time.
//!
//! The heap holds page numbers; each page knows its place in it, so a time can be moved or
//! withdrawn in O(log pages). A page stands in it once, with the earliest due time of its
//! entries (or an earlier one, where that entry has gone), so the heap has as many places as
//! there are pages and can never be full.

use super::pages::{PageIndex, Pages, NONE};
use crate::units::Millis;

/// Sets the time at which a page wants to be looked at; `NEVER` takes it out.
pub(super) fn set(pages: &mut Pages<'_>, index: PageIndex, wake: Millis) {
    let Some(page) = pages.pages.get_mut(index as usize) else { return };
    page.wake = wake;
    let place = page.timer;
    match (place == NONE, wake == Millis::NEVER) {
        (true, true) => {}
        (true, false) => {
            let place = pages.timer_count;
            pages.timer_count += 1;
            put(pages, place, index);
            rise(pages, place);
        }
        (false, true) => withdraw(pages, place),
        (false, false) => {
            rise(pages, place);
            let place = pages.pages.get(index as usize).map_or(NONE, |page| page.timer);
            sink(pages, place);
        }
    }
}

fn withdraw(pages: &mut Pages<'_>, place: PageIndex) {
    let last = pages.timer_count.saturating_sub(1);
    if let Some(page) = at(pages, place).and_then(|index| pages.pages.get_mut(index as usize)) {
        page.timer = NONE;
    }
    pages.timer_count = last;
    if place != last {
        if let Some(moved) = at(pages, last) {
            put(pages, place, moved);
            rise(pages, place);
            let place = pages.pages.get(moved as usize).map_or(NONE, |page| page.timer);
            sink(pages, place);
        }
    }
}

fn at(pages: &Pages<'_>, place: PageIndex) -> Option<PageIndex> {
    pages.timers.get(place as usize).copied()
}

fn put(pages: &mut Pages<'_>, place: PageIndex, index: PageIndex) {
    if let Some(slot) = pages.timers.get_mut(place as usize) {
        *slot = index;
    }
    if let Some(page) = pages.pages.get_mut(index as usize) {
        page.timer = place;
    }
}

#[cfg_attr(not(feature = "gateway"), inline(never))]
fn wake(pages: &Pages<'_>, place: PageIndex) -> Option<Millis> {
    if place >= pages.timer_count {
        return None;
    }
    Some(pages.pages.get(at(pages, place)? as usize)?.wake)
}

fn swap(pages: &mut Pages<'_>, a: PageIndex, b: PageIndex) {
    if let (Some(first), Some(second)) = (at(pages, a), at(pages, b)) {
        put(pages, a, second);
        put(pages, b, first);
    }
}

fn rise(pages: &mut Pages<'_>, mut place: PageIndex) {
    while place > 0 {
        let parent = (place - 1) / 2;
        if wake(pages, parent) <= wake(pages, place) {
            return;
        }
        swap(pages, parent, place);
        place = parent;
    }
}

fn sink(pages: &mut Pages<'_>, mut place: PageIndex) {
    loop {
        let left = place.saturating_mul(2).saturating_add(1);
        let Some(left_wake) = wake(pages, left) else { return };
        let child = match wake(pages, left + 1) {
            Some(right_wake) if right_wake < left_wake => left + 1,
            _ => left,
        };
        if wake(pages, place) <= wake(pages, child) {
            return;
        }
        swap(pages, place, child);
        place = child;
    }
}
