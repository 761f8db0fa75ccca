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
use crate::model::dedup::{HeldSlot, WindowSlot};
use crate::model::entry::Entry;
use crate::model::exchange::ExchangeSlot;
use crate::model::flight::Flight;
use crate::model::link::Link;
use crate::model::pages::{Page, PAGE_LEN};
use crate::model::queue::Queue;
use crate::model::retained::RetainedSlot;
use crate::model::text::Cell;
use crate::model::tree::Node;

/// Bytes for digests; the largest is that of a declaration with three long names.
const SCRATCH_BYTES: u32 = 1024;

/// Sets everything aside that a broker with these limits works in.
pub fn set_aside(limits: &Limits, geometry: Geometry) -> Storage<'static> {
    let pages = limits.pages();
    Storage {
        log: LogStorage {
            segments: slice(SegmentState::default(), geometry.segment_count),
            tail: bytes(limits.tail_bytes),
            index: bytes(limits.index_bytes),
            windows: bytes(limits.windows.saturating_mul(limits.window_bytes())),
        },
        max_record: limits.max_record(),
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
        holders: slice(Link::default(), limits.queues),
        retained: slice(RetainedSlot::default(), limits.retained),
        routes: slice(Route::EMPTY, limits.queues),
        scratch: bytes(SCRATCH_BYTES),
    }
}

/// It is never given back: the broker lives as long as the process.
fn slice<T: Clone>(empty: T, count: u32) -> &'static mut [T] {
    let mut table = vec![empty.clone(); count as usize];
    let stride = (4096 / std::mem::size_of::<T>().max(1)).max(1);
    // Zeroes may come from the kernel as promises; writing one item a page calls them in.
    table.iter_mut().step_by(stride).for_each(|item| *item = black_box(empty.clone()));
    Vec::leak(table)
}

fn bytes(count: u32) -> &'static mut [u8] {
    slice(0, count)
}
