//! Pages of entries: the storage under every queue.
//!
//! A queue is a ring of entries by offset. It is kept as pages of 32 consecutive offsets from
//! one pool for all queues, found through a hash of (queue, lane, page number). A page exists
//! while one of its entries is live, so a queue costs what it holds, a message stuck at the
//! head holds one page and not everything behind it, and no step looks at more than a page.
//! A lane is a priority: entries of different priorities live in different pages.
//!
//! Three orders run over pages, all intrusive:
//! - `order`: per queue, a list of all its pages, by number.
//! - `ready`: per queue, a leftist heap of the pages that have ready entries, by lane and
//!   number; finding, adding and removing are O(log pages) at worst (see `ready`).
//! - `timers`: one binary heap of the pages that have a due time, by the earliest of it
//!   (see `timers`). Two or three bytes an entry buy delays and TTLs of any number.
//!
//! Invariants: `ready` and `in flight` are subsets of `live`; a page is in the ready heap of
//! its queue exactly if its `ready` mask is not empty; `wake` is never later than the due
//! time of a live entry.

use super::entry::{Entry, Flag};
use super::timers;
use crate::units::{At, Millis, Offset, QueueId};

/// Entries in a page.
pub const PAGE_LEN: u32 = 32;
/// Index of a page; two bytes in the core alone, as links are.
pub type PageIndex = super::link::Raw;
/// No page.
pub const NONE: PageIndex = PageIndex::MAX;

/// 32 consecutive entries of one queue and lane.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Offset of its first entry, divided by 32.
    pub(super) number: u64,
    pub(super) wake: Millis,
    bytes: u32,
    pub(super) live: u32,
    pub(super) ready: u32,
    pub(super) queue: u16,
    pub(super) lane: u8,
    pub(super) rank: u8,
    pub(super) left: PageIndex,
    pub(super) right: PageIndex,
    pub(super) parent: PageIndex,
    pub(super) timer: PageIndex,
    pub(super) chain: PageIndex,
    pub(super) prior: PageIndex,
    pub(super) following: PageIndex,
}

impl Page {
    /// All zeros, which a static array costs no code and no stack to begin with: whoever takes the table sets it up.
    pub const UNSET: Page = Page {
        wake: Millis(0),
        left: 0,
        right: 0,
        parent: 0,
        timer: 0,
        chain: 0,
        prior: 0,
        following: 0,
        ..Page::EMPTY
    };

    /// A page in no queue.
    pub const EMPTY: Page = Page {
        number: 0,
        wake: Millis::NEVER,
        bytes: 0,
        live: 0,
        ready: 0,
        queue: 0,
        lane: 0,
        rank: 0,
        left: NONE,
        right: NONE,
        parent: NONE,
        timer: NONE,
        chain: NONE,
        prior: NONE,
        following: NONE,
    };
}

/// Names a live entry: page and place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index of the page.
    pub page: PageIndex,
    /// 0 to 31.
    pub place: u8,
}

/// What a queue keeps of its pages.
#[derive(Clone, Copy, Debug)]
pub struct Roots {
    pub(super) ready: PageIndex,
    pub(super) first: PageIndex,
    pub(super) last: PageIndex,
}

impl Roots {
    /// No pages.
    pub const NONE: Roots = Roots { ready: NONE, first: NONE, last: NONE };
    /// Those of a queue that is not set up.
    pub(super) const UNSET: Roots = Roots { ready: 0, first: 0, last: 0 };
}

impl Default for Roots {
    fn default() -> Self {
        Roots::NONE
    }
}

/// The pool has no page left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPage;

/// The storage of `Pages`, borrowed. With `n` pages: `n` pages, `32 n` entries, `n` timers and
/// a power of two of heads (about `n`).
pub struct PageStorage<'a> {
    /// The pages.
    pub pages: &'a mut [Page],
    /// Their entries, 32 each.
    pub entries: &'a mut [Entry],
    /// Heads of the hash chains; a power of two.
    pub heads: &'a mut [PageIndex],
    /// The timer heap.
    pub timers: &'a mut [PageIndex],
}

/// All pages of all queues.
pub struct Pages<'a> {
    pub(super) pages: &'a mut [Page],
    entries: &'a mut [Entry],
    pub(super) heads: &'a mut [PageIndex],
    pub(super) timers: &'a mut [PageIndex],
    pub(super) timer_count: PageIndex,
    free: PageIndex,
    free_count: u32,
    /// Of these, how many were freed since that was last forgotten.
    freed_count: u32,
}

impl<'a> Pages<'a> {
    /// Takes the storage and empties it.
    pub fn new(storage: PageStorage<'a>) -> Pages<'a> {
        let PageStorage { pages, entries, heads, timers } = storage;
        let count = pages.len().min(entries.len() / PAGE_LEN as usize).min(timers.len());
        let count = count.min(NONE as usize) as PageIndex;
        for (index, page) in pages.iter_mut().enumerate() {
            let next = (index as PageIndex).wrapping_add(1);
            *page = Page { chain: if next < count { next } else { NONE }, ..Page::EMPTY };
        }
        heads.fill(NONE);
        let free = if count > 0 { 0 } else { NONE };
        Pages {
            pages,
            entries,
            heads,
            timers,
            timer_count: 0,
            free,
            free_count: count as u32,
            freed_count: 0,
        }
    }

    /// Pages not in use.
    pub fn free_count(&self) -> u32 {
        self.free_count
    }

    /// Pages, in use or not.
    #[cfg(feature = "gateway")]
    pub fn page_count(&self) -> u32 {
        self.timers.len().min(self.pages.len()) as u32
    }

    /// Pages not in use that were free already at [`Pages::forget_freed`].
    pub fn settled_count(&self) -> u32 {
        self.free_count.saturating_sub(self.freed_count)
    }

    /// Begins to count freed pages anew.
    pub fn forget_freed(&mut self) {
        self.freed_count = 0;
    }

    /// The entry in a slot.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(entry_index(slot))
    }

    /// The entry in a slot, to be changed; its due time is changed by `set_due` only.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(entry_index(slot))
    }

    /// The queue and the offset of the entry in a slot.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn owner(&self, slot: Slot) -> Option<(QueueId, Offset)> {
        let page = self.pages.get(slot.page as usize)?;
        Some((QueueId(page.queue), Offset(page.number * u64::from(PAGE_LEN) + u64::from(slot.place))))
    }

    /// The live entry of an offset in one lane.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn find(&self, queue: QueueId, lane: u8, offset: Offset) -> Option<Slot> {
        let place = (offset.0 % u64::from(PAGE_LEN)) as u8;
        let page = self.find_page(queue, lane, offset.0 / u64::from(PAGE_LEN))?;
        let live = self.pages.get(page as usize)?.live;
        (live & bit(place) != 0).then_some(Slot { page, place })
    }

    /// Whether the page is there that an entry of this lane and offset goes to.
    pub fn has_page(&self, roots: &Roots, queue: QueueId, lane: u8, offset: Offset) -> bool {
        self.hint(roots, queue, lane, offset.0 / u64::from(PAGE_LEN)).is_some()
    }

    /// Adds an entry that is neither ready nor due; `bytes` is its share of the log.
    /// An entry that is there already is replaced.
    pub fn insert(
        &mut self,
        roots: &mut Roots,
        queue: QueueId,
        lane: u8,
        offset: Offset,
        entry: Entry,
        bytes: u32,
    ) -> Result<Slot, NoPage> {
        let number = offset.0 / u64::from(PAGE_LEN);
        let place = (offset.0 % u64::from(PAGE_LEN)) as u8;
        let index = match self.hint(roots, queue, lane, number) {
            Some(page) => page,
            None => self.add_page(roots, queue, lane, number)?,
        };
        let slot = Slot { page: index, place };
        let page = self.pages.get_mut(index as usize).ok_or(NoPage)?;
        page.live |= bit(place);
        page.bytes = page.bytes.saturating_add(bytes);
        *self.entries.get_mut(entry_index(slot)).ok_or(NoPage)? = entry;
        let due = entry.due();
        if due != Millis::NEVER {
            self.wake_by(index, due);
        }
        Ok(slot)
    }

    /// Removes an entry; `bytes` is its share if known, else the average of its page is taken.
    /// Returns the share that was removed.
    pub fn remove(&mut self, roots: &mut Roots, slot: Slot, bytes: Option<u32>) -> u32 {
        self.set_ready(roots, slot, false);
        let Some(page) = self.pages.get_mut(slot.page as usize) else { return 0 };
        if page.live & bit(slot.place) == 0 {
            return 0;
        }
        let average = page.bytes.checked_div(page.live.count_ones()).unwrap_or(0);
        page.live &= !bit(slot.place);
        let share = if page.live == 0 { page.bytes } else { bytes.unwrap_or(average).min(page.bytes) };
        page.bytes -= share;
        if page.live == 0 {
            self.free_page(roots, slot.page);
        }
        share
    }

    /// Changes the share of an entry; returns what it was, as far as its page has that much.
    pub fn recharge(&mut self, slot: Slot, before: u32, share: u32) -> u32 {
        let Some(page) = self.pages.get_mut(slot.page as usize) else { return share };
        let before = before.min(page.bytes);
        page.bytes = (page.bytes - before).saturating_add(share);
        before
    }

    /// Marks an entry ready for delivery, or not.
    pub fn set_ready(&mut self, roots: &mut Roots, slot: Slot, ready: bool) {
        let Some(page) = self.pages.get_mut(slot.page as usize) else { return };
        let before = page.ready;
        page.ready = if ready { before | bit(slot.place) & page.live } else { before & !bit(slot.place) };
        let after = page.ready;
        if before == 0 && after != 0 {
            self.add_ready(roots, slot.page);
        } else if before != 0 && after == 0 {
            self.drop_ready(roots, slot.page);
        }
    }

    /// Whether an entry is ready.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn is_ready(&self, slot: Slot) -> bool {
        self.pages.get(slot.page as usize).is_some_and(|page| page.ready & bit(slot.place) != 0)
    }

    /// The first ready entry: highest lane, then lowest offset.
    pub fn first_ready(&self, roots: &Roots) -> Option<Slot> {
        let page = self.pages.get(roots.ready as usize)?;
        (page.ready != 0).then(|| Slot { page: roots.ready, place: page.ready.trailing_zeros() as u8 })
    }

    /// Sets when something is to happen to an entry.
    pub fn set_due(&mut self, slot: Slot, due: Millis) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.set_due(due);
        }
        if due != Millis::NEVER {
            self.wake_by(slot.page, due);
        }
    }

    /// When the next page wants to be looked at.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn next_wake(&self) -> Millis {
        let first = self.timers.first().filter(|_| self.timer_count > 0);
        first.and_then(|&page| self.pages.get(page as usize)).map_or(Millis::NEVER, |page| page.wake)
    }

    /// A live entry whose time has come, if any. Its due time is cleared: what happens
    /// next is the caller's.
    pub fn pop_due(&mut self, now: Millis) -> Option<Slot> {
        // Each round either finds an entry or moves a page's wake time into the future, so
        // the number of rounds is bounded by the pages whose earliest entry went early.
        while self.next_wake() <= now {
            let index = *self.timers.first()?;
            let page = *self.pages.get(index as usize)?;
            let mut found = None;
            let mut wake = Millis::NEVER;
            let mut rest = page.live;
            while rest != 0 {
                let slot = Slot { page: index, place: rest.trailing_zeros() as u8 };
                rest &= rest - 1;
                let due = self.entry(slot)?.due();
                if due <= now && found.is_none() {
                    found = Some(slot);
                } else {
                    wake = wake.min(due);
                }
            }
            timers::set(self, index, wake);
            if let Some(slot) = found {
                self.entry_mut(slot)?.set_due(Millis::NEVER);
                return found;
            }
        }
        None
    }

    /// The first live entry of a queue; of one with lanes any of the first.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn any_live(&self, roots: &Roots) -> Option<Slot> {
        let page = self.pages.get(roots.first as usize)?;
        (page.live != 0).then(|| Slot { page: roots.first, place: page.live.trailing_zeros() as u8 })
    }

    /// The offset of that entry.
    pub fn first_offset(&self, roots: &Roots) -> Option<Offset> {
        Some(self.owner(self.any_live(roots)?)?.1)
    }

    /// Live entries of a queue after `from` in the order of its pages, for walks in steps.
    pub fn next_live(&self, roots: &Roots, from: Option<Slot>) -> Option<Slot> {
        let Some(from) = from else { return self.any_live(roots) };
        let page = self.pages.get(from.page as usize)?;
        let above = u32::MAX.checked_shl(u32::from(from.place) + 1).unwrap_or(0);
        let rest = page.live & above;
        if rest != 0 {
            return Some(Slot { page: from.page, place: rest.trailing_zeros() as u8 });
        }
        let next = page.following;
        let live = self.pages.get(next as usize)?.live;
        (live != 0).then(|| Slot { page: next, place: live.trailing_zeros() as u8 })
    }

    /// Every live entry's address, with its slot, of all queues; for restoring references.
    pub fn for_each_live(&self, mut visit: impl FnMut(Slot, QueueId, At)) {
        for (index, page) in self.pages.iter().enumerate() {
            let mut rest = page.live;
            while rest != 0 {
                let slot = Slot { page: index as PageIndex, place: rest.trailing_zeros() as u8 };
                rest &= rest - 1;
                if let Some(entry) = self.entry(slot) {
                    visit(slot, QueueId(page.queue), entry.at());
                }
            }
        }
    }

    /// Takes every page of a queue out of its ready order.
    pub fn unready_all(&mut self, roots: &mut Roots) {
        while let Some(page) = self.pages.get_mut(roots.ready as usize) {
            page.ready = 0;
            let index = roots.ready;
            self.drop_ready(roots, index);
        }
    }

    /// The lane of an entry.
    pub fn lane(&self, slot: Slot) -> u8 {
        self.pages.get(slot.page as usize).map_or(0, |page| page.lane)
    }

    /// Whether the entry of a slot is in flight.
    pub fn is_in_flight(&self, slot: Slot) -> bool {
        self.entry(slot).is_some_and(|entry| entry.is(Flag::InFlight))
    }

    fn wake_by(&mut self, index: PageIndex, due: Millis) {
        if self.pages.get(index as usize).is_some_and(|page| due < page.wake) {
            timers::set(self, index, due);
        }
    }

    /// The page for a number: most often the newest of the queue.
    fn hint(&self, roots: &Roots, queue: QueueId, lane: u8, number: u64) -> Option<PageIndex> {
        let last = self.pages.get(roots.last as usize);
        if last.is_some_and(|page| page.number == number && page.lane == lane) {
            return Some(roots.last);
        }
        self.find_page(queue, lane, number)
    }

    pub(super) fn find_page(&self, queue: QueueId, lane: u8, number: u64) -> Option<PageIndex> {
        let mut index = *self.heads.get(self.bucket(queue, lane, number))?;
        while let Some(page) = self.pages.get(index as usize) {
            if page.number == number && page.queue == queue.0 && page.lane == lane {
                return Some(index);
            }
            index = page.chain;
        }
        None
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub(super) fn bucket(&self, queue: QueueId, lane: u8, number: u64) -> usize {
        let key = number << 24 ^ u64::from(queue.0) << 8 ^ u64::from(lane);
        let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 32) as usize & self.heads.len().wrapping_sub(1)
    }

    fn add_page(
        &mut self,
        roots: &mut Roots,
        queue: QueueId,
        lane: u8,
        number: u64,
    ) -> Result<PageIndex, NoPage> {
        let index = self.free;
        let bucket = self.bucket(queue, lane, number);
        let head = self.heads.get_mut(bucket).ok_or(NoPage)?;
        let page = self.pages.get_mut(index as usize).ok_or(NoPage)?;
        self.free = page.chain;
        self.free_count -= 1;
        *page = Page { number, queue: queue.0, lane, chain: *head, ..Page::EMPTY };
        *head = index;
        self.link(roots, index, self.place_of(roots, queue, lane, number));
        Ok(index)
    }

    fn free_page(&mut self, roots: &mut Roots, index: PageIndex) {
        timers::set(self, index, Millis::NEVER);
        let Some(page) = self.pages.get(index as usize).copied() else { return };
        self.unchain(&page, index);
        self.unlink(roots, &page);
        if let Some(page) = self.pages.get_mut(index as usize) {
            *page = Page { chain: self.free, ..Page::EMPTY };
            self.free = index;
            self.free_count += 1;
            self.freed_count = self.freed_count.saturating_add(1);
        }
    }

    pub(super) fn unchain(&mut self, page: &Page, index: PageIndex) {
        let bucket = self.bucket(QueueId(page.queue), page.lane, page.number);
        let Some(head) = self.heads.get_mut(bucket) else { return };
        if *head == index {
            *head = page.chain;
            return;
        }
        let mut at = *head;
        while let Some(other) = self.pages.get_mut(at as usize) {
            if other.chain == index {
                other.chain = page.chain;
                return;
            }
            at = other.chain;
        }
    }
}

fn bit(place: u8) -> u32 {
    1u32.checked_shl(u32::from(place)).unwrap_or(0)
}

fn entry_index(slot: Slot) -> usize {
    slot.page as usize * PAGE_LEN as usize + slot.place as usize
}
