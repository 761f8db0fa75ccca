//! Overflow: what a queue does that is at its limit of messages or bytes.
//!
//! ```text
//! drops its oldest   the new one enters, then the oldest leave as dead letters
//! rejects            the publish is refused
//! buries the new     the publish is refused, and the message goes to the dead letters all the same: `bury`
//! ```

use super::record::Route;
use super::Broker;
use crate::command::{Overflow, Publish};
use crate::flash::Flash;
use crate::model::queue::Queue;
use crate::units::{Offset, QueueId};

/// Messages that one publish pushes out of a queue at most.
pub(super) const TRIM_MAX: u32 = 64;

impl<F: Flash> Broker<'_, F> {
    /// Whether the queue of a route takes one more of this size. One that is not there refuses nothing.
    pub(super) fn may_enter(&self, size: usize, route: &Route) -> bool {
        self.state.queues.get(route.queue).is_none_or(|queue| takes(queue, size))
    }

    /// Drops the oldest of the queues that a message has made too long. This comes last, because a
    /// message that is refused must not push out another, and because dead letters fill the table of
    /// routes anew.
    pub(super) fn trim_queues(&mut self, publish: &Publish<'_>, stored: usize) {
        let (mut place, mut end) = (0, stored);
        let mut left = TRIM_MAX;
        while place < end && left > 0 {
            let Some(route) = self.state.routes.get(place).copied() else { return };
            place += 1;
            if self.trim_queue(route.queue, &mut left) {
                (place, end) = (0, self.route(publish).unwrap_or(0));
            }
        }
    }

    /// Drops the oldest of a queue while it is over its limits, but not its newest; true if it did.
    pub(super) fn trim_queue(&mut self, id: QueueId, left: &mut u32) -> bool {
        self.trim_stream(id);
        let before = *left;
        while *left > 0 {
            // One that refuses keeps what it has accepted, however much its records take.
            let drops = |queue: &&Queue| !queue.is_stream() && queue.policy.overflow == Overflow::DropOldest;
            let Some(queue) = self.state.queues.get(id).filter(drops) else { break };
            let policy = &queue.policy;
            let over = policy.max_count > 0 && queue.count() > policy.max_count
                || policy.max_bytes > 0 && queue.bytes > policy.max_bytes && queue.count() > 1;
            let newest = Offset(queue.next.0.saturating_sub(1));
            let oldest = self.state.pages.first_ready(&queue.roots).filter(|_| over);
            let is_older = |slot| self.state.pages.owner(slot).is_some_and(|(_, offset)| offset < newest);
            let Some(oldest) = oldest.filter(|&slot| is_older(slot)) else { break };
            *left -= 1;
            if !self.push_out(id, oldest) {
                break;
            }
            self.state.counters.dropped += 1;
        }
        *left < before
    }
}

/// Whether a queue takes one more message of this size, or its oldest can make way for it.
pub(super) fn takes(queue: &Queue, size: usize) -> bool {
    let policy = &queue.policy;
    let size = size as u64;
    let over = policy.max_count > 0 && queue.count() >= policy.max_count
        || policy.max_bytes > 0 && queue.bytes.saturating_add(size) > policy.max_bytes && queue.count() > 0;
    !over || queue.is_stream() || policy.overflow == Overflow::DropOldest
}
