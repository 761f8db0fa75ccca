//! The memory of a broker: every table as a static array.
//!
//! All of them are zero in the image, which costs no code; the broker sets them up where they are.

/// Defines `storage()`, which hands out the memory of one broker, once.
///
/// `pages` of 32 entries are shared by all queues. `tail` and `index` are bytes: what is not programmed yet
/// (at least one write unit), and the footer of the open segment. A message may have the bytes of `max_record`
/// less some 275: room for the longest digest. The rest are counts.
#[macro_export]
macro_rules! broker_memory {
    (
        queues: $queues:expr, pages: $pages:expr, page_heads: $page_heads:expr, in_flight: $in_flight:expr,
        segments: $segments:expr, tail: $tail:expr, index: $index:expr, max_record: $max_record:expr,
        bindings: $bindings:expr, retained: $retained:expr, dedup: $dedup:expr, held: $held:expr, producers: $producers:expr $(,)?
    ) => {
        use $crate::forebay::broker::{Route, Storage};
        use $crate::forebay::log::{LogStorage, SegmentState, WINDOWS_MIN};
        use $crate::forebay::model::binding::{BindingSlot, Site};
        use $crate::forebay::model::consumer::Consumer;
        use $crate::forebay::model::dedup::{HeldSlot, ProducerSlot, WindowSlot};
        use $crate::forebay::model::entry::Entry;
        use $crate::forebay::model::exchange::ExchangeSlot;
        use $crate::forebay::model::flight::Flight;
        use $crate::forebay::model::link::Link;
        use $crate::forebay::model::pages::{Page, PageIndex};
        use $crate::forebay::model::queue::Queue;
        use $crate::forebay::model::retained::RetainedSlot;
        use $crate::forebay::model::text::Cell;
        use $crate::forebay::model::tree::Node;
        use $crate::static_cell::ConstStaticCell;

        const QUEUES: usize = $queues;
        const PAGES: usize = $pages;
        /// The six that are always there, and some.
        const EXCHANGES: usize = 10;
        /// Cells of twelve bytes for names: three for each queue.
        const NAMES: usize = 3 * QUEUES;
        /// Nodes and cells for the words of patterns.
        const WORDS: usize = 3 * $bindings / 2;

        /// Every table.
        struct Tables {
            tail: [u8; $tail],
            index: [u8; $index],
            windows: [u8; WINDOWS_MIN],
            entries: [Entry; 32 * PAGES],
            page_heads: [PageIndex; $page_heads],
            timers: [PageIndex; PAGES],
            queue_heads: [u16; QUEUES],
            names: [Cell; NAMES],
            exchanges: [ExchangeSlot; EXCHANGES],
            exchange_names: [Cell; 8],
            bindings: [BindingSlot; $bindings],
            nodes: [Node; WORDS],
            words: [Cell; WORDS],
            sites: [Site; EXCHANGES],
            bound: [Link; QUEUES],
            window_keys: [WindowSlot; $dedup],
            held_keys: [HeldSlot; $held],
            producers: [ProducerSlot; $producers],
            holders: [Link; QUEUES],
            retained: [RetainedSlot; $retained],
            scratch: [u8; 256],
            segments: [SegmentState; $segments],
            pages: [Page; PAGES],
            queues: [Queue; QUEUES],
            consumers: [Consumer; QUEUES],
            flights: [Flight; $in_flight],
            routes: [Route; QUEUES],
        }

        static TABLES: ConstStaticCell<Tables> = ConstStaticCell::new(Tables {
            tail: [0; $tail],
            index: [0; $index],
            windows: [0; WINDOWS_MIN],
            entries: [Entry::EMPTY; 32 * PAGES],
            page_heads: [0; $page_heads],
            timers: [0; PAGES],
            queue_heads: [0; QUEUES],
            names: [Cell::EMPTY; NAMES],
            exchanges: [ExchangeSlot::EMPTY; EXCHANGES],
            exchange_names: [Cell::EMPTY; 8],
            bindings: [BindingSlot::EMPTY; $bindings],
            nodes: [Node::EMPTY; WORDS],
            words: [Cell::EMPTY; WORDS],
            sites: [Site::EMPTY; EXCHANGES],
            bound: [Link::NONE; QUEUES],
            window_keys: [WindowSlot::EMPTY; $dedup],
            held_keys: [HeldSlot::EMPTY; $held],
            producers: [ProducerSlot::EMPTY; $producers],
            holders: [Link::NONE; QUEUES],
            retained: [RetainedSlot::EMPTY; $retained],
            scratch: [0; 256],
            segments: [SegmentState::EMPTY; $segments],
            pages: [Page::UNSET; PAGES],
            queues: [Queue::UNSET; QUEUES],
            consumers: [Consumer::UNSET; QUEUES],
            flights: [Flight::UNSET; $in_flight],
            routes: [Route::EMPTY; QUEUES],
        });

        /// The storage; None if it was handed out before.
        #[inline(never)]
        pub fn storage() -> Option<Storage<'static>> {
            let tables = TABLES.try_take()?;
            Some(Storage {
                log: LogStorage {
                    segments: &mut tables.segments,
                    tail: &mut tables.tail,
                    index: &mut tables.index,
                    windows: &mut tables.windows,
                },
                max_record: $max_record,
                pages: &mut tables.pages,
                entries: &mut tables.entries,
                page_heads: &mut tables.page_heads,
                timers: &mut tables.timers,
                queues: &mut tables.queues,
                queue_heads: &mut tables.queue_heads,
                consumers: &mut tables.consumers,
                flights: &mut tables.flights,
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
                routes: &mut tables.routes,
                scratch: &mut tables.scratch,
            })
        }

        /// Tables with how many they hold and the bytes they take.
        pub const SIZES: [(&str, usize, usize); 13] = {
            const fn of<T>(count: usize) -> usize {
                count * core::mem::size_of::<T>()
            }
            [
                ("entries", 32 * PAGES, of::<Entry>(32 * PAGES)),
                (
                    "pages of 32 entries",
                    PAGES,
                    of::<Page>(PAGES) + of::<PageIndex>(PAGES) + of::<PageIndex>($page_heads),
                ),
                (
                    "queues",
                    QUEUES,
                    of::<Queue>(QUEUES) + of::<Route>(QUEUES) + of::<Link>(2 * QUEUES) + 2 * QUEUES,
                ),
                ("consumers", QUEUES, of::<Consumer>(QUEUES)),
                ("in flight", $in_flight, of::<Flight>($in_flight)),
                ("segments", $segments, of::<SegmentState>($segments)),
                ("exchanges", EXCHANGES, of::<ExchangeSlot>(EXCHANGES) + of::<Site>(EXCHANGES)),
                ("bindings", $bindings, of::<BindingSlot>($bindings) + of::<Node>(WORDS)),
                ("cells of text", NAMES + WORDS + 8, of::<Cell>(NAMES + WORDS + 8)),
                (
                    "dedup keys",
                    $dedup + $held + $producers,
                    of::<WindowSlot>($dedup) + of::<HeldSlot>($held) + of::<ProducerSlot>($producers),
                ),
                ("retained values", $retained, of::<RetainedSlot>($retained)),
                ("bytes of tail, index, scratch", 1, $tail + $index + 256),
                ("bytes of read windows", 1, WINDOWS_MIN),
            ]
        };
    };
}
