//! Known: the key by which a publish is recognised as a whole.
//!
//! What is known is confirmed when all before it is on flash, and not kept again. `identity` is the same for a
//! message in one queue.

use super::record::HELD;
use super::Broker;
use crate::command::{DedupKey, Publish};
use crate::flash::Flash;
use crate::units::Millis;

impl<F: Flash> Broker<'_, F> {
    /// The key of a publish, as it is after a restart, and when that expires.
    pub(super) fn dedup_of(&self, publish: &Publish<'_>) -> Option<(DedupKey, Millis)> {
        let key = match publish.dedup? {
            DedupKey::Window(key) => DedupKey::Window(key & !HELD),
            key => key,
        };
        Some((key, self.dedup_expiry(key)))
    }

    /// Whether a key means anything after a restart: the session that holds it has to be there.
    pub(super) fn outlasts_a_restart(&self, key: DedupKey) -> bool {
        match key {
            DedupKey::Window(_) | DedupKey::Sequence { .. } => true,
            DedupKey::Held { queue, .. } => {
                self.state.queues.get(queue).is_some_and(|queue| queue.policy.durable)
            }
        }
    }

    pub(super) fn dedup_expiry(&self, key: DedupKey) -> Millis {
        match key {
            DedupKey::Window(_) => self.now.after(self.settings.dedup_window_ms),
            DedupKey::Held { .. } | DedupKey::Sequence { .. } => Millis::NEVER,
        }
    }
}
