//! Restore of dedup keys: the last word on each counts.

use super::Player;
use crate::command::DedupKey;
use crate::log::RestoreError;
use crate::units::Millis;

impl Player<'_, '_> {
    pub(super) fn key(&mut self, key: DedupKey, expires: Millis) -> Result<(), RestoreError> {
        let is_held = matches!(key, DedupKey::Held { .. });
        let expires = if is_held { Millis::NEVER } else { expires };
        let limit = match key {
            DedupKey::Window(_) => RestoreError::Limit("dedup"),
            DedupKey::Held { .. } => RestoreError::Limit("held"),
            DedupKey::Sequence { .. } => RestoreError::Limit("producers"),
        };
        // The last publish of a key counts, but reclaim may have copied an earlier one behind it.
        let known = self.state.dedup.expiry(key);
        if known.is_some_and(|known| known < expires) {
            self.state.dedup.forget(key);
        }
        self.state.dedup.insert(key, expires).map_err(|_| limit)?;
        Ok(())
    }
}
