//! Entries of a span of offsets, for a search that need not look at all of them.

use super::pages::{PageIndex, Pages, Roots, Slot, NONE, PAGE_LEN};
use crate::units::{Offset, QueueId};

impl Pages<'_> {
    /// The first live entry of the lowest lane of a queue in a range of offsets; in time by the pages of the
    /// range that are not there.
    pub fn first_in(&self, queue: QueueId, range: core::ops::Range<u64>) -> Option<Slot> {
        let mut offset = range.start;
        while offset < range.end {
            let (number, place) = (offset / u64::from(PAGE_LEN), (offset % u64::from(PAGE_LEN)) as u32);
            let page = self.find_page(queue, 0, number);
            let live = page.and_then(|page| self.pages.get(page as usize)).map_or(0, |page| page.live);
            let rest = live & u32::MAX.checked_shl(place).unwrap_or(0);
            if rest != 0 {
                let place = rest.trailing_zeros();
                let is_inside = number * u64::from(PAGE_LEN) + u64::from(place) < range.end;
                return page.filter(|_| is_inside).map(|page| Slot { page, place: place as u8 });
            }
            offset = (number + 1).saturating_mul(PAGE_LEN.into());
        }
        None
    }

    /// The live entry of the lowest offset that is not below one, in whichever lane up to the highest it is:
    /// offsets are used once in a queue. In time by the lanes; by the pages before it as well if the page of
    /// the offset is gone, and the one before that too.
    pub fn next_from(&self, roots: &Roots, queue: QueueId, highest: u8, from: Offset) -> Option<Slot> {
        let (number, place) = (from.0 / u64::from(PAGE_LEN), (from.0 % u64::from(PAGE_LEN)) as u32);
        let mut index = self.first_from(roots, queue, highest, number);
        let mut found: Option<(u64, Slot)> = None;
        while let Some(page) = self.pages.get(index as usize) {
            if found.is_some_and(|(number, _)| number < page.number) {
                break;
            }
            let above = match page.number.cmp(&number) {
                core::cmp::Ordering::Less => 0,
                core::cmp::Ordering::Equal => u32::MAX.checked_shl(place).unwrap_or(0),
                core::cmp::Ordering::Greater => u32::MAX,
            };
            let rest = page.live & above;
            let slot = Slot { page: index, place: rest.trailing_zeros() as u8 };
            if rest != 0 && found.is_none_or(|(_, other)| slot.place < other.place) {
                found = Some((page.number, slot));
            }
            index = page.following;
        }
        found.map(|(_, slot)| slot)
    }

    /// A page of a queue from which no page of this number or a higher one is missed when its list is followed.
    fn first_from(&self, roots: &Roots, queue: QueueId, highest: u8, number: u64) -> PageIndex {
        if self.pages.get(roots.last as usize).is_none_or(|last| last.number < number) {
            return NONE;
        }
        let find = |number: u64| (0..=highest).find_map(|lane| self.find_page(queue, lane, number));
        let near = find(number).or_else(|| find(number.checked_sub(1)?));
        let mut index = near.unwrap_or(roots.first);
        // Those of the same number in other lanes stand around it.
        while let Some(prior) = self.pages.get(index as usize).map(|page| page.prior) {
            if self.pages.get(prior as usize).is_none_or(|page| page.number < number) {
                break;
            }
            index = prior;
        }
        index
    }
}
