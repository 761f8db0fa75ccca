//! The table of queues, and the three lists that run through it.
//!
//! A queue is found by id (its index) or by name (a hash chain, verified against the text).
//! `runnable` holds queues that may have something to hand out, `waiting` those whose next
//! message is not durable yet, `runs` those with acknowledgements not yet written. A queue
//! stands in at most one of the first two. All steps are O(1) but for hash chains.

use super::key::Form;
use super::queue::{Life, Queue, NONE};
use super::text::TextPool;
use crate::units::QueueId;

/// A first-in first-out list of queues, linked through their places.
#[derive(Clone, Copy, Debug)]
pub struct List {
    head: u16,
    tail: u16,
    /// Queues in it.
    pub count: u16,
}

impl List {
    /// Nothing in it.
    pub const EMPTY: List = List { head: NONE, tail: NONE, count: 0 };
}

/// All queues.
pub struct Queues<'a> {
    places: &'a mut [Queue],
    heads: &'a mut [u16],
    runnable: List,
    waiting: List,
    runs: List,
    free: List,
    /// Queues deleted but not yet emptied.
    pub dying_count: u16,
}

impl<'a> Queues<'a> {
    /// Takes the storage and empties it; the heads are a power of two.
    pub fn new(places: &'a mut [Queue], heads: &'a mut [u16]) -> Queues<'a> {
        places.fill(Queue::EMPTY);
        heads.fill(NONE);
        let empty = List::EMPTY;
        Queues { places, heads, runnable: empty, waiting: empty, runs: empty, free: empty, dying_count: 0 }
    }

    /// Places in the table.
    pub fn capacity(&self) -> u16 {
        self.places.len().min(NONE as usize) as u16
    }

    /// Any place, free or not.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn place(&self, id: QueueId) -> Option<&Queue> {
        self.places.get(id.0 as usize)
    }

    /// Any place, free or not, to be changed.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn place_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.places.get_mut(id.0 as usize)
    }

    /// A declared queue.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn get(&self, id: QueueId) -> Option<&Queue> {
        self.place(id).filter(|queue| queue.is_live())
    }

    /// A declared queue, to be changed.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.place_mut(id).filter(|queue| queue.is_live())
    }

    /// All places with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (QueueId, &Queue)> {
        self.places.iter().enumerate().map(|(index, queue)| (QueueId(index as u16), queue))
    }

    /// Finds a declared queue by name.
    pub fn find(&self, texts: &TextPool<'_>, hash: u32, name: &[u8]) -> Option<QueueId> {
        let mut index = *self.heads.get(self.bucket(hash))?;
        while let Some(queue) = self.places.get(index as usize) {
            let same = queue.name_hash == hash
                && queue.name.is_some_and(|text| texts.equals(text, name, Form::Dots));
            if same && queue.is_live() {
                return Some(QueueId(index));
            }
            index = queue.chain;
        }
        None
    }

    /// Enters a declared queue under the hash of its name.
    pub fn index(&mut self, id: QueueId, hash: u32) {
        let bucket = self.bucket(hash);
        let (Some(head), Some(queue)) = (self.heads.get_mut(bucket), self.places.get_mut(id.0 as usize))
        else {
            return;
        };
        queue.name_hash = hash;
        queue.chain = *head;
        *head = id.0;
    }

    /// Takes a queue out of the names.
    pub fn unindex(&mut self, id: QueueId) {
        let Some(&Queue { name_hash, chain, .. }) = self.place(id) else { return };
        let bucket = self.bucket(name_hash);
        let Some(head) = self.heads.get_mut(bucket) else { return };
        if *head == id.0 {
            *head = chain;
            return;
        }
        let mut at = *head;
        while let Some(other) = self.places.get_mut(at as usize) {
            if other.chain == id.0 {
                other.chain = chain;
                return;
            }
            at = other.chain;
        }
    }

    /// A free place, if there is one.
    pub fn allocate(&mut self) -> Option<QueueId> {
        let id = self.pop(|queues| &mut queues.free)?;
        Some(id)
    }

    /// Gives a place back. Its offsets go on where they were, so that no old record of this
    /// id can be mistaken for one of the next queue.
    pub fn release(&mut self, id: QueueId) {
        self.withdraw(id);
        if let Some(queue) = self.place_mut(id) {
            *queue = Queue { next: queue.next, ..Queue::EMPTY };
            self.push(id, |queues| &mut queues.free);
        }
    }

    /// Takes a queue out of every list it stands in: they run through its place. Walks along them,
    /// as it happens only once in the life of a queue.
    fn withdraw(&mut self, id: QueueId) {
        if self.place(id).is_some_and(|queue| queue.runnable) {
            self.unlist(id, |queues| &mut queues.runnable);
            self.unlist(id, |queues| &mut queues.waiting);
        }
        if self.place(id).is_some_and(|queue| queue.run_listed) {
            self.unlist_run(id);
        }
    }

    fn unlist(&mut self, id: QueueId, list: impl Fn(&mut Self) -> &mut List) {
        for _ in 0..list(self).count {
            match self.pop(&list) {
                Some(other) if other != id => self.push(other, &list),
                _ => {}
            }
        }
    }

    fn unlist_run(&mut self, id: QueueId) {
        let after = self.place(id).map_or(NONE, |queue| queue.run_next);
        self.runs.count = self.runs.count.saturating_sub(1);
        if self.runs.head == id.0 {
            self.runs.head = after;
            return;
        }
        let mut at = self.runs.head;
        while let Some(other) = self.places.get_mut(at as usize) {
            if other.run_next == id.0 {
                other.run_next = after;
                return;
            }
            at = other.run_next;
        }
    }

    /// Makes the list of free places anew, after places were filled by id.
    pub fn rebuild_free(&mut self) {
        self.free = List::EMPTY;
        for index in 0..self.capacity() {
            let id = QueueId(index);
            if self.place(id).is_some_and(|queue| queue.life == Life::Free) {
                self.push(id, |queues| &mut queues.free);
            }
        }
    }

    /// Notes that a queue may have something to hand out.
    pub fn make_runnable(&mut self, id: QueueId) {
        if let Some(queue) = self.place_mut(id).filter(|queue| !queue.runnable) {
            queue.runnable = true;
            self.push(id, |queues| &mut queues.runnable);
        }
    }

    /// The next queue to be served. It is in no list until it is put into one.
    pub fn next_runnable(&mut self) -> Option<QueueId> {
        let id = self.pop(|queues| &mut queues.runnable)?;
        if let Some(queue) = self.place_mut(id) {
            queue.runnable = false;
        }
        Some(id)
    }

    /// Queues that may have something to hand out.
    pub fn runnable_count(&self) -> u16 {
        self.runnable.count
    }

    /// A queue waits until more is durable.
    pub fn make_waiting(&mut self, id: QueueId) {
        if let Some(queue) = self.place_mut(id).filter(|queue| !queue.runnable) {
            queue.runnable = true;
            self.push(id, |queues| &mut queues.waiting);
        }
    }

    /// More is durable: the waiting queues may have something to hand out.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn wake_waiting(&mut self) {
        let waiting = core::mem::replace(&mut self.waiting, List::EMPTY);
        if waiting.count == 0 {
            return;
        }
        match self.places.get_mut(self.runnable.tail as usize) {
            Some(tail) => tail.list_next = waiting.head,
            None => self.runnable.head = waiting.head,
        }
        self.runnable.tail = waiting.tail;
        self.runnable.count += waiting.count;
    }

    /// A queue has acknowledgements to be written.
    pub fn list_run(&mut self, id: QueueId) {
        let head = self.runs.head;
        if let Some(queue) = self.place_mut(id).filter(|queue| !queue.run_listed) {
            queue.run_listed = true;
            queue.run_next = head;
            self.runs.head = id.0;
            self.runs.count += 1;
        }
    }

    /// The next queue with acknowledgements to be written.
    pub fn next_run(&mut self) -> Option<QueueId> {
        let id = QueueId(self.runs.head);
        let queue = self.place_mut(id)?;
        queue.run_listed = false;
        let next = queue.run_next;
        self.runs.head = next;
        self.runs.count = self.runs.count.saturating_sub(1);
        Some(id)
    }

    /// Some queue has acknowledgements to be written.
    pub fn has_runs(&self) -> bool {
        self.runs.count > 0
    }

    fn push(&mut self, id: QueueId, list: impl Fn(&mut Self) -> &mut List) {
        let tail = list(self).tail;
        if let Some(queue) = self.place_mut(id) {
            queue.list_next = NONE;
        }
        match self.place_mut(QueueId(tail)) {
            Some(last) => last.list_next = id.0,
            None => list(self).head = id.0,
        }
        let list = list(self);
        list.tail = id.0;
        list.count += 1;
    }

    fn pop(&mut self, list: impl Fn(&mut Self) -> &mut List) -> Option<QueueId> {
        let head = list(self).head;
        let next = self.place(QueueId(head))?.list_next;
        let list = list(self);
        list.head = next;
        list.count = list.count.saturating_sub(1);
        if next == NONE {
            list.tail = NONE;
        }
        Some(QueueId(head))
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & self.heads.len().wrapping_sub(1)
    }
}
