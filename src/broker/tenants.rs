//! Queues that go by themselves: with their owner, or because nobody used them for long enough.
//!
//! There is no timer for each: the earliest time at which one may have to go is kept, and when it has
//! come every queue is looked at. Use in between makes that time too early and never too late. How
//! long a queue was unused begins anew at a restart.

use super::Broker;
use crate::command::{Outlet, Refusal, Reply};
use crate::flash::Flash;
use crate::units::{Millis, QueueId};

/// Queues removed in one step.
const EXPIRE_BUDGET: u32 = 64;

impl<F: Flash> Broker<'_, F> {
    /// Removes the queues of an owner that is gone.
    pub(super) fn delete_exclusive(&mut self, owner: u64, outlet: &mut dyn Outlet) -> Result<Reply, Refusal> {
        let mut count = 0;
        for index in 0..self.state.queues.capacity() {
            let id = QueueId(index);
            if owner > 0 && self.state.queues.get(id).is_some_and(|queue| queue.tenancy.exclusive == owner) {
                self.delete_queue_by_id(id, outlet);
                count += 1;
            }
        }
        Ok(Reply::Removed(count))
    }

    /// A queue is used, or its last consumer has gone: its time begins anew.
    pub(super) fn note_use(&mut self, id: QueueId) {
        let now = self.now;
        let Some(queue) = self.state.queues.get_mut(id) else { return };
        if queue.tenancy.expires_ms > 0 {
            queue.tenancy.idle_since = now;
            self.queues_due = self.queues_due.min(now.after(queue.tenancy.expires_ms.into()));
        }
    }

    /// Removes queues that nobody has used for long enough, a bounded number.
    pub(super) fn expire_queues(&mut self, outlet: &mut dyn Outlet) {
        if self.queues_due > self.now {
            return;
        }
        self.queues_due = Millis::NEVER;
        let mut left = EXPIRE_BUDGET;
        for index in 0..self.state.queues.capacity() {
            let id = QueueId(index);
            let Some(queue) = self.state.queues.get_mut(id) else { continue };
            let tenancy = &mut queue.tenancy;
            if tenancy.expires_ms == 0 || queue.consumer_count > 0 {
                continue;
            }
            if tenancy.idle_since == Millis(0) {
                tenancy.idle_since = self.now;
            }
            let due = tenancy.idle_since.after(tenancy.expires_ms.into());
            if due <= self.now && left > 0 {
                left -= 1;
                self.delete_queue_by_id(id, outlet);
            } else {
                self.queues_due = self.queues_due.min(due);
            }
        }
    }
}
