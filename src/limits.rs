//! Every capacity of the broker, by name.
//!
//! All memory is set aside at boot from these numbers; nothing grows afterwards. The names are
//! the ones users see in the configuration, in `plan` and in errors. What each costs is counted
//! in `broker`, which knows the tables.

/// How many of everything. All are counts unless their name ends in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Queues, streams and groups; an MQTT session with subscriptions is one.
    pub queues: u32,
    /// Messages in all queues together, counted once for each queue.
    pub entries: u32,
    /// Deliveries not acknowledged, of all consumers.
    pub in_flight: u32,
    /// Consumers attached.
    pub consumers: u32,
    /// Exchanges, the predeclared six included.
    pub exchanges: u32,
    /// Bindings; an MQTT subscription is one.
    pub bindings: u32,
    /// Nodes of the match tree: words of all patterns, common beginnings counted once.
    pub nodes: u32,
    /// Bytes for names, words and arguments.
    pub text_bytes: u32,
    /// Dedup keys of producers.
    pub dedup: u32,
    /// Inbound exactly-once publishes not yet released.
    pub held: u32,
    /// Producers that count what they publish: devices of the wire protocol.
    pub producers: u32,
    /// Retained values.
    pub retained: u32,
    /// Bytes of one message with key and headers.
    pub max_message_bytes: u32,
    /// Bytes of the open segment kept in memory.
    pub tail_bytes: u32,
    /// Bytes of the footer of the open segment.
    pub index_bytes: u32,
    /// Windows of the read cache, each as large as the largest record.
    pub windows: u32,
}

/// One line of what the limits cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Name of the limit.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// Bytes for all of them.
    pub bytes: u64,
}
