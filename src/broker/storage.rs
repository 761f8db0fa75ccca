//! The memory of a broker, borrowed: one slice for each table.
//!
//! A microcontroller hands over `static` arrays, a gateway boxes the slices once at boot; the
//! lengths follow from `limits`. The broker empties what it is given.

use super::record::Route;
use super::state::{Counters, State};
use crate::log::{LogOptions, LogStorage, MountError};
use crate::model::binding::{BindingSlot, BindingStorage, Bindings, Site};
use crate::model::consumer::{Consumer, Consumers};
use crate::model::dedup::{Dedup, DedupStorage, HeldSlot, ProducerSlot, WindowSlot};
use crate::model::entry::Entry;
use crate::model::exchange::{ExchangeSlot, Exchanges, DEFAULT};
use crate::model::flight::{Flight, Flights};
use crate::model::link::Link;
use crate::model::pages::{Page, PageIndex, PageStorage, Pages};
use crate::model::queue::Queue;
use crate::model::queues::Queues;
use crate::model::retained::{Retained, RetainedSlot};
use crate::model::text::{Cell, TextPool};
use crate::model::tree::Node;

/// Every slice a broker works in. `n` queues, `p` pages, as `limits` counts them.
pub struct Storage<'a> {
    /// What the log works in.
    pub log: LogStorage<'a>,
    /// Largest record the log takes.
    pub max_record: u32,
    /// `p` pages.
    pub pages: &'a mut [Page],
    /// `32 p` entries.
    pub entries: &'a mut [Entry],
    /// A power of two, at least `p / 2`.
    pub page_heads: &'a mut [PageIndex],
    /// `p` timers.
    pub timers: &'a mut [PageIndex],
    /// `n` queues.
    pub queues: &'a mut [Queue],
    /// A power of two, about `n`.
    pub queue_heads: &'a mut [u16],
    /// Consumers.
    pub consumers: &'a mut [Consumer],
    /// Deliveries in flight.
    pub flights: &'a mut [Flight],
    /// Names of queues and dead-letter settings.
    pub names: &'a mut [Cell],
    /// Exchanges.
    pub exchanges: &'a mut [ExchangeSlot],
    /// Names of exchanges.
    pub exchange_names: &'a mut [Cell],
    /// Bindings.
    pub bindings: &'a mut [BindingSlot],
    /// Nodes of the match tree.
    pub nodes: &'a mut [Node],
    /// Words and arguments of bindings.
    pub words: &'a mut [Cell],
    /// One for each exchange.
    pub sites: &'a mut [Site],
    /// `n` heads of the lists of bindings.
    pub bound: &'a mut [Link],
    /// Dedup keys.
    pub window_keys: &'a mut [WindowSlot],
    /// Held dedup keys.
    pub held_keys: &'a mut [HeldSlot],
    /// Producers that count what they publish.
    pub producers: &'a mut [ProducerSlot],
    /// `n` heads of the lists of held keys.
    pub holders: &'a mut [Link],
    /// Retained values.
    pub retained: &'a mut [RetainedSlot],
    /// `n` routes of one message.
    pub routes: &'a mut [Route],
    /// Where digests are written; as large as the largest digest.
    pub scratch: &'a mut [u8],
}

impl Storage<'_> {
    /// Empties the tables that are taken as they are: they may have been another broker's before.
    fn empty(&mut self) {
        self.names.fill(Cell::default());
        self.exchanges.fill(ExchangeSlot::default());
        self.exchange_names.fill(Cell::default());
        self.bindings.fill(BindingSlot::default());
        self.nodes.fill(Node::default());
        self.words.fill(Cell::default());
        self.sites.fill(Site::default());
        self.bound.fill(Link::default());
        self.window_keys.fill(WindowSlot::default());
        self.held_keys.fill(HeldSlot::default());
        self.producers.fill(ProducerSlot::default());
        self.holders.fill(Link::default());
        self.retained.fill(RetainedSlot::default());
    }
}

/// Seed of the hashes of retained keys, which stand in the store and thus never change.
pub(super) const RETAINED_SEED: u64 = 0x666f_7265_6261_7921;

/// The tables, and what the log needs.
type Parts<'a> = (State<'a>, LogStorage<'a>, LogOptions);

impl<'a> State<'a> {
    /// Takes the storage apart; what the log needs is handed back.
    pub(super) fn new(mut storage: Storage<'a>, seed: u64) -> Result<Parts<'a>, MountError> {
        storage.empty();
        let exchanges = Exchanges::new(storage.exchanges, storage.exchange_names, seed);
        let exchanges = exchanges.map_err(|limit| MountError::StorageTooSmall(limit.0))?;
        let pages = PageStorage {
            pages: storage.pages,
            entries: storage.entries,
            heads: storage.page_heads,
            timers: storage.timers,
        };
        let bindings = BindingStorage {
            nodes: storage.nodes,
            bindings: storage.bindings,
            cells: storage.words,
            exchanges: storage.sites,
            queues: storage.bound,
        };
        let dedup = DedupStorage {
            window: storage.window_keys,
            held: storage.held_keys,
            queues: storage.holders,
            producers: storage.producers,
        };
        let mut queues = Queues::new(storage.queues, storage.queue_heads);
        queues.rebuild_free();
        let state = State {
            pages: Pages::new(pages),
            queues,
            consumers: Consumers::new(storage.consumers),
            flights: Flights::new(storage.flights),
            texts: TextPool::new(storage.names),
            exchanges,
            bindings: Bindings::new(bindings, seed),
            dedup: Dedup::new(dedup, seed),
            retained: Retained::new(storage.retained, RETAINED_SEED),
            routes: storage.routes,
            scratch: storage.scratch,
            live_bytes: 0,
            live_count: 0,
            pending_count: 0,
            max_record: storage.max_record,
            seed,
            mark: 0,
            source: DEFAULT,
            has_unbound: false,
            counters: Counters::default(),
        };
        Ok((state, storage.log, LogOptions { max_record: storage.max_record, read_only: false }))
    }
}
