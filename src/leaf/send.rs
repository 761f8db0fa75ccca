//! Sending what is stored: which message is next, and what its frame says.

use super::link::Link;
use super::store::{Store, Stored, BACKLOG, FRESH};
use crate::flash::Flash;
use crate::units::Millis;
use crate::wire::frame::{flag, Bytes, Options, Publish};
use crate::wire::{seal, Frame};

impl Link<'_> {
    /// Writes the next message into `out`: a fresh one before those that waited.
    pub(super) fn publish_next<F: Flash>(
        &mut self,
        out: &mut [u8],
        store: &mut Store<'_, F>,
        now: Millis,
    ) -> Option<usize> {
        if now < self.held_until || self.window == 0 {
            return None;
        }
        [FRESH, BACKLOG].into_iter().find_map(|lane| self.publish_of(lane, out, store, now))
    }

    /// The next message of a lane. What is sent beyond the window is one message at most, the first that is
    /// not confirmed: after a reset the device knows by that what may have been sent.
    fn publish_of<F: Flash>(
        &mut self,
        lane: usize,
        out: &mut [u8],
        store: &mut Store<'_, F>,
        now: Millis,
    ) -> Option<usize> {
        let (seed, session_ms, offset_ms, before_boot, window) =
            (self.seed, self.session_ms, self.offset_ms, store.before_boot, self.window);
        let settled = store.lanes.get(lane)?.settled;
        let mut size = None;
        let mut is_skipped = true;
        while is_skipped {
            let sent = store.send_next(lane, |stored| {
                let is_within = stored.sequence.saturating_sub(settled) <= window;
                if is_within || stored.before <= settled {
                    let publish = frame_of(stored, session_ms, offset_ms, before_boot);
                    size = seal(&Frame::Publish(publish), seed, out);
                }
                size.is_some()
            });
            is_skipped = sent == Some(true) && size.is_none();
        }
        if size.is_some() && self.retry_at == Millis::NEVER {
            self.wait_for_confirm(store, now);
        }
        size
    }
}

fn frame_of<'s>(
    stored: &Stored<'s>,
    session_ms: u64,
    offset_ms: Option<i64>,
    before_boot: u64,
) -> Publish<'s> {
    let head = &stored.head;
    let is_dated = head.flags & flag::DATED != 0;
    // What was stored in this life, before the time was known, has a time now.
    let dated_ms = match (is_dated, offset_ms) {
        (true, _) => Some(head.time_ms),
        (false, Some(offset_ms)) if stored.sequence > before_boot => {
            head.time_ms.checked_add_signed(offset_ms)
        }
        _ => None,
    };
    let options = Options { ttl_ms: head.ttl_ms, delay_ms: head.delay_ms, priority: stored.priority };
    Publish {
        flags: head.flags & flag::RETAIN
            | if dated_ms.is_some() { flag::DATED } else { 0 }
            | stored.lane as u8,
        sequence: stored.sequence,
        distance: stored.sequence.saturating_sub(stored.before),
        time_ms: dated_ms.map_or(0, |ms| (ms as i64).saturating_sub(session_ms as i64)),
        topic: stored.topic,
        options: (options != Options::default()).then_some(options),
        body: Bytes(stored.body),
    }
}
