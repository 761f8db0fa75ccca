//! Entries of a span of offsets, for a search that need not look at all of them.

use super::pages::{Pages, Slot, PAGE_LEN};
use crate::units::QueueId;

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
}
