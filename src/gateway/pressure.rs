//! Back-pressure for what nobody confirms: who publishes faster than a subscriber takes it waits.
//!
//! Transient messages have no window that slows their publisher down. Without more ado a burst
//! would fill the subscriber's outbox, then its queue, and then be dropped, while the publisher is
//! read at full speed. So a publisher whose transient message meets a blocked subscriber is put on
//! hold: read again when that subscriber has caught up, or after [`HOLD_MS`], and then in small
//! pieces until it meets no blocked subscriber any more.
//!
//! ```text
//! read freely --meets a blocked subscriber--> held --caught up, or 10 ms--> read in pieces
//!      ^-------------------------- meets none -------------------------------------/
//! ```
//! This smooths bursts and no more: a subscriber that has not caught up within [`BURST_MS`] is slow,
//! and from then on costs only itself; its messages are queued and, beyond its queue, dropped.

use crate::units::Millis;

use super::slot::Slot;

/// The longest a publisher is held.
const HOLD_MS: u64 = 10;

/// A subscriber is waited for no longer than this, until it has caught up.
const BURST_MS: u64 = 1000;

/// A subscriber that was blocked so recently may have messages left in its queue.
const RECENT_MS: u64 = 100;

/// Bytes read at once from a publisher that was held.
pub const PIECE_BYTES: usize = 4 * 1024;

/// Who waits for whom.
#[derive(Debug, Default)]
pub struct Pressure {
    /// The place of the subscriber that was blocked last.
    blocked: Option<u32>,
    /// The session at work has met it.
    is_met: bool,
    /// The broker had more to hand out at the end of the last turn.
    is_behind: bool,
    held: Vec<u32>,
    held_until: Millis,
}

impl Pressure {
    /// A transient delivery met a subscriber that is blocked.
    pub fn meet(&mut self, index: u32) {
        self.blocked = Some(index);
        self.is_met = true;
    }

    /// A transient message was not handed over to somebody: perhaps to the one that is blocked.
    pub fn suspect(&mut self, slots: &[Slot], now: Millis) {
        self.is_met |= self.is_on(slots, now);
    }

    /// Whether the session at work has met a blocked subscriber, once.
    pub fn take_met(&mut self, slots: &[Slot], now: Millis) -> bool {
        std::mem::take(&mut self.is_met) && self.is_on(slots, now)
    }

    /// The subscriber is behind, and not for long.
    fn is_on(&self, slots: &[Slot], now: Millis) -> bool {
        self.slot(slots).is_some_and(|slot| {
            let is_waiting = self.is_behind || slot.is_blocked || !slot.paused.is_empty();
            let is_behind = is_waiting || now < slot.blocked_last.after(RECENT_MS);
            is_behind && now < slot.blocked_since.after(BURST_MS)
        })
    }

    fn slot<'s>(&self, slots: &'s [Slot]) -> Option<&'s Slot> {
        self.blocked.and_then(|index| slots.get(index as usize))
    }

    /// Puts a publisher on hold.
    pub fn hold(&mut self, index: u32, now: Millis) {
        if self.held.is_empty() {
            self.held_until = now.after(HOLD_MS);
        }
        self.held.push(index);
    }

    /// Those whose hold is over. `is_behind`: the broker has more to hand out.
    pub fn release(&mut self, slots: &[Slot], now: Millis, is_behind: bool) -> Vec<u32> {
        self.is_behind = is_behind;
        let is_blocked = self.slot(slots).is_some_and(|slot| slot.is_blocked);
        let waits = (is_blocked || is_behind) && now < self.held_until && self.is_on(slots, now);
        if self.held.is_empty() || waits {
            return Vec::new();
        }
        std::mem::take(&mut self.held)
    }

    /// When the next hold is over.
    pub fn poll_timeout(&self) -> Millis {
        if self.held.is_empty() {
            Millis::NEVER
        } else {
            self.held_until
        }
    }
}
