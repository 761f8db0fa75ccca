//! What the broker knows besides the log: every table, and the small steps on them.
//!
//! It is apart from the log so that a record can be read while tables change, and so that a
//! mount can fill it while the log is being read.

use super::record::Route;
use crate::command::Refusal;
use crate::model::binding::Bindings;
use crate::model::consumer::{Consumer, Consumers};
use crate::model::dedup::Dedup;
use crate::model::entry::Flag;
use crate::model::exchange::Exchanges;
use crate::model::flight::{FlightIndex, Flights};
use crate::model::hash::hash_bytes;
use crate::model::pages::{Pages, Slot};
use crate::model::queue::NOBODY;
use crate::model::queues::Queues;
use crate::model::retained::Retained;
#[cfg(feature = "gateway")]
use crate::model::tenancy::Serving;
use crate::model::text::TextPool;
use crate::units::{At, ConsumerId, ExchangeId, QueueId};

/// What was counted since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages accepted.
    pub published: u64,
    /// Messages handed over.
    pub delivered: u64,
    /// Deliveries acknowledged.
    pub acked: u64,
    /// Deliveries that came back.
    pub returned: u64,
    /// Messages that expired.
    pub expired: u64,
    /// Messages moved to a dead-letter exchange.
    pub dead_lettered: u64,
    /// Messages dropped by a limit of their queue, or given up and wanted by no dead-letter exchange.
    pub dropped: u64,
    /// Publishes recognised as repeated.
    pub duplicates: u64,
    /// Acknowledgements and the like that the log did not take.
    pub unwritten: u64,
    /// Messages that could not be read from the log.
    pub damaged: u64,
}

/// Every table of the broker.
pub struct State<'a> {
    /// Entries of all queues.
    pub pages: Pages<'a>,
    /// Queues, streams, groups.
    pub queues: Queues<'a>,
    /// Consumers.
    pub consumers: Consumers<'a>,
    /// Deliveries in flight.
    pub flights: Flights<'a>,
    /// Names of queues and dead-letter settings.
    pub texts: TextPool<'a>,
    /// Exchanges.
    pub exchanges: Exchanges<'a>,
    /// Bindings and the match tree.
    pub bindings: Bindings<'a>,
    /// Identities of publishes.
    pub dedup: Dedup<'a>,
    /// Last values by key.
    pub retained: Retained<'a>,
    /// Routes of the publish being processed.
    pub routes: &'a mut [Route],
    /// A place to encode in.
    pub scratch: &'a mut [u8],
    /// Bytes of records that are still needed.
    pub live_bytes: u64,
    /// Entries in all queues.
    pub live_count: u64,
    /// Entries in all durable groups.
    pub pending_count: u32,
    /// Largest record the log takes, in bytes.
    pub max_record: u32,
    /// Hash seed of this boot.
    pub seed: u64,
    /// Number of the publish being routed.
    pub mark: u32,
    /// The exchange it was published to.
    pub source: ExchangeId,
    /// An exchange that goes with its last binding has lost one.
    pub has_unbound: bool,
    /// What was counted.
    pub counters: Counters,
}

impl State<'_> {
    /// The queue of a name.
    pub fn find_queue(&self, name: &str) -> Option<QueueId> {
        self.queues.find(&self.texts, self.name_hash(name), name.as_bytes())
    }

    /// Where the record of an entry stands, if the entry is not that of a group.
    pub fn stands_at(&self, slot: Slot) -> Option<At> {
        let entry = self.pages.entry(slot)?;
        match entry.is(Flag::InFlight) {
            true => Some(self.flights.get(entry.at().0 as FlightIndex)?.at()),
            false => Some(entry.at()),
        }
    }

    /// Hash of a queue's name.
    pub fn name_hash(&self, name: &str) -> u32 {
        hash_bytes(self.seed, name.as_bytes()) as u32
    }

    /// Whether a queue has a consumer that could take a message now.
    pub fn has_taker(&self, id: QueueId) -> bool {
        let Some(queue) = self.queues.get(id) else { return false };
        let mut ring = queue.consumers;
        self.consumers.next_with_credit(&mut ring, queue.tenancy.serving()).is_some()
    }

    /// Attaches a consumer to the ring of its queue.
    pub fn attach(&mut self, consumer: Consumer) -> Result<ConsumerId, Refusal> {
        let queue = self.queues.get_mut(consumer.queue).ok_or(Refusal::NoQueue)?;
        let full = Refusal::Limit("consumers");
        #[cfg(feature = "gateway")]
        {
            if consumer.pull {
                return self.consumers.add(&mut queue.tenancy.pullers, consumer).ok_or(full);
            }
            let first = self.consumers.get(ConsumerId(queue.consumers));
            if first.is_some_and(|first| first.exclusive || consumer.exclusive) {
                return Err(Refusal::Exclusive);
            }
            if consumer.priority != 0 && queue.tenancy.serving == Serving::Turns {
                queue.tenancy.serving = Serving::Ranks;
            }
        }
        let id = self.consumers.add(&mut queue.consumers, consumer).ok_or(full)?;
        queue.consumer_count += 1;
        Ok(id)
    }

    /// Detaches a consumer from its queue; true if that has lost its last one by it.
    pub fn detach(&mut self, id: ConsumerId) -> bool {
        let Some(consumer) = self.consumers.get(id).copied() else { return false };
        let Some(queue) = self.queues.place_mut(consumer.queue) else { return false };
        #[cfg(feature = "gateway")]
        if consumer.pull {
            self.consumers.remove(&mut queue.tenancy.pullers, id);
            return false;
        }
        let was_first = queue.consumers == id.0;
        self.consumers.remove(&mut queue.consumers, id);
        queue.consumer_count = queue.consumer_count.saturating_sub(1);
        if was_first && queue.tenancy.is_single() {
            queue.consumers = self.consumers.highest(queue.consumers, |_| true).unwrap_or(NOBODY);
        }
        if queue.consumer_count > 0 {
            self.queues.make_runnable(consumer.queue);
            return false;
        }
        true
    }
}
