//! A broker for a microcontroller with 64 KiB of RAM: 1,024 messages in 16 queues, 64 of them in flight, over 256
//! segments; messages of up to some 200 bytes.

crate::broker_memory! {
    queues: 16, pages: 32, page_heads: 16, in_flight: 64,
    segments: 256, tail: 256, index: 384, max_record: 480,
    bindings: 16, retained: 8, dedup: 16, held: 8, producers: 2,
}
