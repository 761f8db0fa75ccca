//! Status: what an operator may ask.

use super::dead::Name;
use super::{Broker, Counters};
use crate::command::QueueKind;
use crate::flash::Flash;
use crate::log::LogStats;
use crate::model::queue::Life;
use crate::units::{Millis, Offset, QueueId};

/// A queue, stream or group as it stands.
#[derive(Clone, Copy, Debug)]
pub struct QueueInfo<'n> {
    /// Its id.
    pub id: QueueId,
    /// Its name.
    pub name: &'n str,
    /// Work queue, stream or group.
    pub kind: QueueKind,
    /// It survives a restart.
    pub durable: bool,
    /// Messages ready; of a stream, those kept.
    pub ready: u32,
    /// Deliveries not acknowledged.
    pub in_flight: u32,
    /// Messages that wait for their time.
    pub delayed: u32,
    /// Consumers attached.
    pub consumers: u32,
    /// Bytes of records.
    pub bytes: u64,
    /// First offset it has, or of a group its first pending.
    pub first: Offset,
    /// Next offset, or of a group the next it hands out.
    pub next: Offset,
    /// Of a group: messages of its stream it has not handed out.
    pub lag: u64,
}

/// The store and the tables as they stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreInfo {
    /// What the log says.
    pub log: LogStats,
    /// Bytes that can be live before publishes are refused.
    pub room: u64,
    /// Bytes of records in use by queues.
    pub live_bytes: u64,
    /// Entries in all queues.
    pub entries: u64,
    /// Entries there is room for.
    pub entries_free: u64,
    /// Deliveries in flight.
    pub in_flight: u32,
    /// Consumers attached.
    pub consumers: u32,
    /// Retained values.
    pub retained: u32,
    /// What was counted.
    pub counters: Counters,
    /// Log time.
    pub now: Millis,
}

impl<F: Flash> Broker<'_, F> {
    /// Shows every queue. Names are copied through a small buffer.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn for_each_queue(&self, visit: &mut dyn FnMut(&QueueInfo<'_>)) {
        for (id, queue) in self.state.queues.iter().filter(|(_, queue)| queue.life == Life::Live) {
            let name: Option<Name> = queue.name.and_then(|text| self.state.texts.to_string(text));
            let stream = queue.stream().and_then(|id| self.state.queues.get(id));
            visit(&QueueInfo {
                id,
                name: name.as_deref().unwrap_or_default(),
                kind: queue.policy.kind,
                durable: queue.policy.durable,
                ready: queue.ready,
                in_flight: queue.in_flight,
                delayed: queue.delayed,
                consumers: u32::from(queue.consumer_count),
                bytes: queue.bytes,
                first: queue.first,
                next: queue.next,
                lag: stream.map_or(0, |stream| stream.next.0.saturating_sub(queue.next.0)),
            });
        }
    }

    /// The store and the tables as they stand.
    pub fn info(&self) -> StoreInfo {
        StoreInfo {
            log: self.log.stats(),
            room: self.log.capacity_bytes(),
            live_bytes: self.state.live_bytes,
            entries: self.state.live_count,
            entries_free: u64::from(self.state.pages.free_count()) * u64::from(crate::model::pages::PAGE_LEN),
            in_flight: self.state.flights.count(),
            consumers: self.state.consumers.count(),
            retained: self.state.retained.count() as u32,
            counters: self.state.counters,
            now: self.now,
        }
    }

    /// There is little room left: publishers that can wait should be asked to, before they are refused.
    /// Found out at every commit; it stays until there is clearly more room.
    #[cfg(feature = "gateway")]
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Finds out whether there is little room left.
    #[cfg(feature = "gateway")]
    pub(super) fn measure(&mut self) {
        let spare = if self.is_short { 8 } else { 16 };
        let (room, pages) = (self.log.capacity_bytes(), u64::from(self.state.pages.page_count()));
        let is_scarce = |free: u64, all: u64| free < all / spare;
        self.is_short = is_scarce(room.saturating_sub(self.bytes_needed(0)), room)
            || is_scarce(self.state.pages.free_count().into(), pages);
    }

    /// The store takes no writes any more: a write or a sync failed.
    pub fn is_read_only(&self) -> bool {
        self.log.read_only()
    }

    /// The device under the log.
    pub fn device(&self) -> &F {
        self.log.device()
    }
}
