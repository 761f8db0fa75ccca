//! The memory of the broker.

forebay_board::broker_memory! {
    queues: 16, pages: 24, page_heads: 32, in_flight: 64,
    segments: 256, tail: 512, index: 512, max_record: 480,
    bindings: 32, retained: 16, dedup: 32, held: 16, producers: 4,
}
