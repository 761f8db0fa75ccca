//! The memory of the broker: every table as a static array.
//!
//! Tables that are empty when they are zero stand in one static, which costs no code; the others
//! are filled when they are handed out.

use forebay::broker::{Route, Storage};
use forebay::log::{LogStorage, SegmentState};
use forebay::model::binding::{BindingSlot, Site};
use forebay::model::consumer::Consumer;
use forebay::model::dedup::{HeldSlot, ProducerSlot, WindowSlot};
use forebay::model::entry::Entry;
use forebay::model::exchange::ExchangeSlot;
use forebay::model::flight::Flight;
use forebay::model::link::Link;
use forebay::model::pages::{Page, PageIndex};
use forebay::model::queue::Queue;
use forebay::model::retained::RetainedSlot;
use forebay::model::text::Cell;
use forebay::model::tree::Node;
use static_cell::{ConstStaticCell, StaticCell};

const QUEUES: usize = 16;
const PAGES: usize = 24;
const SEGMENTS: usize = 256;
const MAX_RECORD: usize = 320;
/// One window would do for the records; a mount wants a little more.
const WINDOWS: usize = forebay::log::WINDOWS_MIN;

/// Every table that is zero when it is empty.
struct Tables {
    tail: [u8; 512],
    index: [u8; 512],
    windows: [u8; WINDOWS],
    entries: [Entry; 32 * PAGES],
    page_heads: [PageIndex; 32],
    timers: [PageIndex; PAGES],
    queue_heads: [u16; QUEUES],
    names: [Cell; 48],
    exchanges: [ExchangeSlot; 10],
    exchange_names: [Cell; 8],
    bindings: [BindingSlot; 32],
    nodes: [Node; 48],
    words: [Cell; 48],
    sites: [Site; 10],
    bound: [Link; QUEUES],
    window_keys: [WindowSlot; 32],
    held_keys: [HeldSlot; 16],
    producers: [ProducerSlot; 4],
    holders: [Link; QUEUES],
    retained: [RetainedSlot; 16],
    scratch: [u8; 256],
}

static TABLES: ConstStaticCell<Tables> = ConstStaticCell::new(Tables {
    tail: [0; 512],
    index: [0; 512],
    windows: [0; WINDOWS],
    entries: [Entry::EMPTY; 32 * PAGES],
    page_heads: [0; 32],
    timers: [0; PAGES],
    queue_heads: [0; QUEUES],
    names: [Cell::EMPTY; 48],
    exchanges: [ExchangeSlot::EMPTY; 10],
    exchange_names: [Cell::EMPTY; 8],
    bindings: [BindingSlot::EMPTY; 32],
    nodes: [Node::EMPTY; 48],
    words: [Cell::EMPTY; 48],
    sites: [Site::EMPTY; 10],
    bound: [Link::NONE; QUEUES],
    window_keys: [WindowSlot::EMPTY; 32],
    held_keys: [HeldSlot::EMPTY; 16],
    producers: [ProducerSlot::EMPTY; 4],
    holders: [Link::NONE; QUEUES],
    retained: [RetainedSlot::EMPTY; 16],
    scratch: [0; 256],
});

/// A static array of defaults, handed out once.
macro_rules! table {
    ($kind:ty, $count:expr, $empty:expr) => {{
        static TABLE: StaticCell<[$kind; $count]> = StaticCell::new();
        TABLE.try_init_with(|| [$empty; $count])?.as_mut_slice()
    }};
}

/// The storage; None if it was handed out before.
pub fn storage() -> Option<Storage<'static>> {
    let tables = TABLES.try_take()?;
    Some(Storage {
        log: LogStorage {
            segments: table!(SegmentState, SEGMENTS, SegmentState::default()),
            tail: &mut tables.tail,
            index: &mut tables.index,
            windows: &mut tables.windows,
        },
        max_record: MAX_RECORD as u32,
        pages: table!(Page, PAGES, Page::EMPTY),
        entries: &mut tables.entries,
        page_heads: &mut tables.page_heads,
        timers: &mut tables.timers,
        queues: table!(Queue, QUEUES, Queue::EMPTY),
        queue_heads: &mut tables.queue_heads,
        consumers: table!(Consumer, QUEUES, Consumer::EMPTY),
        flights: table!(Flight, 64, Flight::EMPTY),
        names: &mut tables.names,
        exchanges: &mut tables.exchanges,
        exchange_names: &mut tables.exchange_names,
        bindings: &mut tables.bindings,
        nodes: &mut tables.nodes,
        words: &mut tables.words,
        sites: &mut tables.sites,
        bound: &mut tables.bound,
        window_keys: &mut tables.window_keys,
        held_keys: &mut tables.held_keys,
        producers: &mut tables.producers,
        holders: &mut tables.holders,
        retained: &mut tables.retained,
        routes: table!(Route, QUEUES, Route::EMPTY),
        scratch: &mut tables.scratch,
    })
}
