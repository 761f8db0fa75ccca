//! The order of a queue's ready pages: a leftist heap, linked through the pages.
//!
//! In a leftist heap the right spine of every node is the shortest way to a missing child,
//! so it has at most log2(n) nodes, and merging two heaps walks two right spines. Every
//! operation is a merge; the worst case is logarithmic, not only the average, and it needs
//! no memory of its own. The key is (lane, higher first; page number, lower first).

use super::pages::{Page, PageIndex, Pages, Roots, NONE};

/// Highest lane; keys order lanes from it downwards.
pub const MAX_LANE: u8 = 9;

fn key(page: &Page) -> (u8, u64) {
    (MAX_LANE.saturating_sub(page.lane), page.number)
}

impl Pages<'_> {
    /// Puts a page that has ready entries into the order of its queue.
    pub(super) fn add_ready(&mut self, roots: &mut Roots, index: PageIndex) {
        if let Some(page) = self.pages.get_mut(index as usize) {
            page.left = NONE;
            page.right = NONE;
            page.parent = NONE;
            page.rank = 1;
            roots.ready = self.merge(roots.ready, index);
        }
    }

    /// Takes a page that has no ready entries any more out of the order.
    pub(super) fn drop_ready(&mut self, roots: &mut Roots, index: PageIndex) {
        let Some(page) = self.pages.get(index as usize).copied() else { return };
        self.set_parent(page.left, NONE);
        self.set_parent(page.right, NONE);
        let merged = self.merge(page.left, page.right);
        match self.pages.get_mut(page.parent as usize) {
            None => roots.ready = merged,
            Some(parent) => {
                if parent.left == index {
                    parent.left = merged;
                } else {
                    parent.right = merged;
                }
                self.set_parent(merged, page.parent);
                self.fix_upwards(page.parent, true);
            }
        }
        if let Some(page) = self.pages.get_mut(index as usize) {
            page.left = NONE;
            page.right = NONE;
            page.parent = NONE;
            page.rank = 0;
        }
    }

    /// Merges two heaps whose roots have no parent; returns the new root.
    fn merge(&mut self, a: PageIndex, b: PageIndex) -> PageIndex {
        let (Some(page_a), Some(page_b)) = (self.pages.get(a as usize), self.pages.get(b as usize)) else {
            return if a == NONE { b } else { a };
        };
        let (root, mut other) = if key(page_a) <= key(page_b) { (a, b) } else { (b, a) };
        let mut top = root;
        // Down the right spines, always linking the smaller root.
        loop {
            let right = self.pages.get(top as usize).map_or(NONE, |page| page.right);
            let right_first = match (self.pages.get(right as usize), self.pages.get(other as usize)) {
                (Some(page), Some(rest)) => key(page) <= key(rest),
                _ => false,
            };
            if right_first {
                top = right;
                continue;
            }
            if let Some(page) = self.pages.get_mut(top as usize) {
                page.right = other;
            }
            self.set_parent(other, top);
            if right == NONE {
                break;
            }
            top = other;
            other = right;
        }
        self.fix_upwards(top, false);
        root
    }

    /// Restores "left is at least as far as right" from a node to the root; `early`: stop
    /// where nothing changes.
    fn fix_upwards(&mut self, from: PageIndex, early: bool) {
        let mut index = from;
        while let Some(page) = self.pages.get(index as usize).copied() {
            let left = self.rank(page.left);
            let right = self.rank(page.right);
            let rank = left.min(right).saturating_add(1);
            if early && rank == page.rank && left >= right {
                return;
            }
            if let Some(page) = self.pages.get_mut(index as usize) {
                page.rank = rank;
                if left < right {
                    core::mem::swap(&mut page.left, &mut page.right);
                }
            }
            index = page.parent;
        }
    }

    fn rank(&self, index: PageIndex) -> u8 {
        self.pages.get(index as usize).map_or(0, |page| page.rank)
    }

    fn set_parent(&mut self, index: PageIndex, parent: PageIndex) {
        if let Some(page) = self.pages.get_mut(index as usize) {
            page.parent = parent;
        }
    }
}
