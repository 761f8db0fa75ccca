//! The broker's memory: boxed once at boot from the limits, and never again.
//!
//! Every page of it is touched here, so what the process will ever take of memory is resident
//! before the first client connects: a machine that has not enough says so now, and not at the
//! peak of a day.

use std::hint::black_box;

use crate::broker::{Route, Storage};
use crate::flash::Geometry;
use crate::limits::Limits;
use crate::log::{LogStorage, SegmentState};
use crate::model::binding::{BindingSlot, Site};
use crate::model::consumer::Consumer;
use crate::model::dedup::{HeldSlot, ProducerSlot, WindowSlot};
use crate::model::entry::Entry;
use crate::model::exchange::ExchangeSlot;
use crate::model::flight::Flight;
use crate::model::link::Link;
use crate::model::pages::{Page, PageIndex, PAGE_LEN};
use crate::model::queue::Queue;
use crate::model::retained::RetainedSlot;
use crate::model::text::Cell;
use crate::model::tree::Node;

/// Bytes for digests; the largest is that of a declaration with three long names.
const SCRATCH_BYTES: u32 = 1024;

/// Every table of a broker. A broker borrows them for its life and empties them when it mounts.
pub struct Tables {
    max_record: u32,
    segments: Vec<SegmentState>,
    tail: Vec<u8>,
    index: Vec<u8>,
    windows: Vec<u8>,
    pages: Vec<Page>,
    entries: Vec<Entry>,
    page_heads: Vec<PageIndex>,
    timers: Vec<PageIndex>,
    queues: Vec<Queue>,
    queue_heads: Vec<u16>,
    consumers: Vec<Consumer>,
    flights: Vec<Flight>,
    names: Vec<Cell>,
    exchanges: Vec<ExchangeSlot>,
    exchange_names: Vec<Cell>,
    bindings: Vec<BindingSlot>,
    nodes: Vec<Node>,
    words: Vec<Cell>,
    sites: Vec<Site>,
    bound: Vec<Link>,
    window_keys: Vec<WindowSlot>,
    held_keys: Vec<HeldSlot>,
    producers: Vec<ProducerSlot>,
    holders: Vec<Link>,
    retained: Vec<RetainedSlot>,
    routes: Vec<Route>,
    scratch: Vec<u8>,
}

impl Tables {
    /// Tables with these limits, for a device of this geometry.
    pub fn new(limits: &Limits, geometry: Geometry) -> Tables {
        let pages = limits.pages();
        Tables {
            max_record: limits.max_record(),
            segments: slice(SegmentState::default(), geometry.segment_count),
            tail: bytes(limits.tail_bytes),
            index: bytes(limits.index_bytes),
            windows: bytes(limits.windows.saturating_mul(limits.window_bytes())),
            pages: slice(Page::EMPTY, pages),
            entries: slice(Entry::default(), pages.saturating_mul(PAGE_LEN)),
            page_heads: slice(0, pages.next_power_of_two()),
            timers: slice(0, pages),
            queues: slice(Queue::EMPTY, limits.queues),
            queue_heads: slice(0, limits.queues.next_power_of_two()),
            consumers: slice(Consumer::EMPTY, limits.consumers),
            flights: slice(Flight::EMPTY, limits.in_flight),
            names: slice(Cell::default(), limits.cells(6)),
            exchanges: slice(ExchangeSlot::default(), limits.exchanges),
            exchange_names: slice(Cell::default(), limits.cells(1)),
            bindings: slice(BindingSlot::default(), limits.bindings),
            nodes: slice(Node::default(), limits.nodes),
            words: slice(Cell::default(), limits.cells(5)),
            sites: slice(Site::default(), limits.exchanges),
            bound: slice(Link::default(), limits.queues),
            window_keys: slice(WindowSlot::default(), limits.dedup),
            held_keys: slice(HeldSlot::default(), limits.held),
            producers: slice(ProducerSlot::default(), limits.producers),
            holders: slice(Link::default(), limits.queues),
            retained: slice(RetainedSlot::default(), limits.retained),
            routes: slice(Route::EMPTY, limits.queues),
            scratch: bytes(SCRATCH_BYTES),
        }
    }

    /// The tables as a broker takes them.
    pub fn storage(&mut self) -> Storage<'_> {
        Storage {
            log: LogStorage {
                segments: &mut self.segments,
                tail: &mut self.tail,
                index: &mut self.index,
                windows: &mut self.windows,
            },
            max_record: self.max_record,
            pages: &mut self.pages,
            entries: &mut self.entries,
            page_heads: &mut self.page_heads,
            timers: &mut self.timers,
            queues: &mut self.queues,
            queue_heads: &mut self.queue_heads,
            consumers: &mut self.consumers,
            flights: &mut self.flights,
            names: &mut self.names,
            exchanges: &mut self.exchanges,
            exchange_names: &mut self.exchange_names,
            bindings: &mut self.bindings,
            nodes: &mut self.nodes,
            words: &mut self.words,
            sites: &mut self.sites,
            bound: &mut self.bound,
            window_keys: &mut self.window_keys,
            held_keys: &mut self.held_keys,
            producers: &mut self.producers,
            holders: &mut self.holders,
            retained: &mut self.retained,
            routes: &mut self.routes,
            scratch: &mut self.scratch,
        }
    }
}

/// Sets everything aside that a broker with these limits works in. It is never given back: the broker
/// lives as long as the process.
pub fn set_aside(limits: &Limits, geometry: Geometry) -> Storage<'static> {
    Box::leak(Box::new(Tables::new(limits, geometry))).storage()
}

fn slice<T: Clone>(empty: T, count: u32) -> Vec<T> {
    let mut table = vec![empty.clone(); count as usize];
    let stride = (4096 / std::mem::size_of::<T>().max(1)).max(1);
    // Zeroes may come from the kernel as promises; writing one item a page calls them in.
    table.iter_mut().step_by(stride).for_each(|item| *item = black_box(empty.clone()));
    table
}

fn bytes(count: u32) -> Vec<u8> {
    slice(0, count)
}
