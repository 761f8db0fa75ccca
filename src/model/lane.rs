//! Pages change their lane: where a queue's priorities become known only after its messages.
//!
//! A page stands in a hash chain and in the ready order of its queue by its lane, so it leaves both and
//! enters them again. Its entries stay where they are.

use super::pages::{PageIndex, Pages, Roots, Slot};
use crate::units::QueueId;

impl Pages<'_> {
    /// Moves a page to another lane, in which its queue has no page of that number.
    pub fn set_lane(&mut self, roots: &mut Roots, index: PageIndex, lane: u8) {
        let Some(page) = self.pages.get(index as usize).copied().filter(|page| page.lane != lane) else {
            return;
        };
        if page.ready != 0 {
            self.drop_ready(roots, index);
        }
        self.unchain(&page, index);
        let bucket = self.bucket(QueueId(page.queue), lane, page.number);
        let (Some(head), Some(page)) = (self.heads.get_mut(bucket), self.pages.get_mut(index as usize))
        else {
            return;
        };
        page.lane = lane;
        page.chain = *head;
        *head = index;
        if page.ready != 0 {
            self.add_ready(roots, index);
        }
    }

    /// The first entry of the page behind that of an entry.
    pub fn next_page(&self, slot: Slot) -> Option<Slot> {
        let page = self.pages.get(slot.page as usize)?.following;
        let live = self.pages.get(page as usize)?.live;
        (live != 0).then(|| Slot { page, place: live.trailing_zeros() as u8 })
    }
}
