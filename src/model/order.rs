//! The list of a queue's pages, by number: where its first entry is, and how all are walked.
//!
//! Numbers grow while a broker runs, so a new page is the last. Only a mount may come to an older page
//! behind a younger one, since reclaim has moved what is in it there. It then finds the page before it
//! through the hash, or walks back to where it belongs if that has gone. Pages of one number in several
//! lanes stand side by side, which only the gateway needs, to browse by offset.

use super::pages::{Page, PageIndex, Pages, Roots};
use crate::units::QueueId;

impl Pages<'_> {
    /// The page that one of this number comes behind. Numbers grow but for a mount, which may find the older
    /// page behind the younger, as reclaim has moved it there.
    pub(super) fn place_of(&self, roots: &Roots, queue: QueueId, lane: u8, number: u64) -> PageIndex {
        let is_last = self.pages.get(roots.last as usize).is_none_or(|last| last.number <= number);
        let before = number.checked_sub(1).filter(|_| !is_last);
        let mut index = before.and_then(|before| self.find_page(queue, lane, before)).unwrap_or(roots.last);
        while let Some(page) = self.pages.get(index as usize).filter(|page| page.number > number) {
            index = page.prior;
        }
        // Behind the page of the number before stand those of other lanes.
        #[cfg(feature = "gateway")]
        while let Some(page) = self.pages.get(index as usize) {
            let is_later = self.pages.get(page.following as usize).is_none_or(|next| next.number > number);
            if is_later {
                break;
            }
            index = page.following;
        }
        index
    }

    /// Puts a page behind another one in the list of its queue; first, if that is none.
    pub(super) fn link(&mut self, roots: &mut Roots, index: PageIndex, prior: PageIndex) {
        let following = match self.pages.get_mut(prior as usize) {
            Some(page) => core::mem::replace(&mut page.following, index),
            None => core::mem::replace(&mut roots.first, index),
        };
        match self.pages.get_mut(following as usize) {
            Some(page) => page.prior = index,
            None => roots.last = index,
        }
        if let Some(page) = self.pages.get_mut(index as usize) {
            (page.prior, page.following) = (prior, following);
        }
    }

    /// Takes a page out of the list of its queue.
    pub(super) fn unlink(&mut self, roots: &mut Roots, page: &Page) {
        match self.pages.get_mut(page.prior as usize) {
            Some(prior) => prior.following = page.following,
            None => roots.first = page.following,
        }
        match self.pages.get_mut(page.following as usize) {
            Some(following) => following.prior = page.prior,
            None => roots.last = page.prior,
        }
    }
}
