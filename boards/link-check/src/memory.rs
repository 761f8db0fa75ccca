//! The memory of the broker: every table as a static array.

use forebay::broker::{Route, Storage};
use forebay::log::{LogStorage, SegmentState};
use forebay::model::binding::{BindingSlot, Site};
use forebay::model::consumer::Consumer;
use forebay::model::dedup::{HeldSlot, WindowSlot};
use forebay::model::entry::Entry;
use forebay::model::exchange::ExchangeSlot;
use forebay::model::flight::Flight;
use forebay::model::link::Link;
use forebay::model::pages::Page;
use forebay::model::queue::Queue;
use forebay::model::retained::RetainedSlot;
use forebay::model::text::Cell;
use forebay::model::tree::Node;
use static_cell::StaticCell;

const QUEUES: usize = 16;
const PAGES: usize = 32;
const SEGMENTS: usize = 256;
const MAX_RECORD: usize = 320;
/// One window would do for the records; a mount wants a little more.
const WINDOWS: usize = forebay::log::WINDOWS_MIN;

/// A static array of defaults, handed out once.
macro_rules! table {
    ($kind:ty, $count:expr, $empty:expr) => {{
        static TABLE: StaticCell<[$kind; $count]> = StaticCell::new();
        TABLE.try_init_with(|| [$empty; $count])?.as_mut_slice()
    }};
}

/// The storage; None if it was handed out before.
pub fn storage() -> Option<Storage<'static>> {
    Some(Storage {
        log: LogStorage {
            segments: table!(SegmentState, SEGMENTS, SegmentState::default()),
            tail: table!(u8, 512, 0),
            index: table!(u8, 512, 0),
            windows: table!(u8, WINDOWS, 0),
        },
        max_record: MAX_RECORD as u32,
        pages: table!(Page, PAGES, Page::EMPTY),
        entries: table!(Entry, 32 * PAGES, Entry::default()),
        page_heads: table!(u32, PAGES, 0),
        timers: table!(u32, PAGES, 0),
        queues: table!(Queue, QUEUES, Queue::EMPTY),
        queue_heads: table!(u16, QUEUES, 0),
        consumers: table!(Consumer, QUEUES, Consumer::EMPTY),
        flights: table!(Flight, 64, Flight::EMPTY),
        names: table!(Cell, 48, Cell::default()),
        exchanges: table!(ExchangeSlot, 10, ExchangeSlot::default()),
        exchange_names: table!(Cell, 8, Cell::default()),
        bindings: table!(BindingSlot, 32, BindingSlot::default()),
        nodes: table!(Node, 48, Node::default()),
        words: table!(Cell, 48, Cell::default()),
        sites: table!(Site, 10, Site::default()),
        bound: table!(Link, QUEUES, Link::default()),
        window_keys: table!(WindowSlot, 32, WindowSlot::default()),
        held_keys: table!(HeldSlot, 16, HeldSlot::default()),
        holders: table!(Link, QUEUES, Link::default()),
        retained: table!(RetainedSlot, 16, RetainedSlot::default()),
        routes: table!(Route, QUEUES, Route::EMPTY),
        scratch: table!(u8, 256, 0),
    })
}
