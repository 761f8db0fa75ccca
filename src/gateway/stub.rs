//! Stand-ins for rooms that are being built.

/// Capacities of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limits {
    pub queues: u32,
    pub entries: u32,
    pub in_flight: u32,
    pub consumers: u32,
    pub exchanges: u32,
    pub bindings: u32,
    pub nodes: u32,
    pub text_bytes: u32,
    pub dedup: u32,
    pub retained: u32,
    pub max_message_size: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            queues: 1024,
            entries: 131_072,
            in_flight: 16_384,
            consumers: 1024,
            exchanges: 64,
            bindings: 4096,
            nodes: 8192,
            text_bytes: 256 << 10,
            dedup: 16_384,
            retained: 4096,
            max_message_size: 256 << 10,
        }
    }
}

impl Limits {
    /// Name, count, bytes each and bytes of everything.
    pub fn cost(&self) -> impl Iterator<Item = (&'static str, u64, u64, u64)> {
        [
            ("queues", self.queues, 96),
            ("entries", self.entries, 16),
            ("in_flight", self.in_flight, 32),
            ("consumers", self.consumers, 32),
            ("exchanges", self.exchanges, 32),
            ("bindings", self.bindings, 32),
            ("nodes", self.nodes, 24),
            ("text_bytes", self.text_bytes, 1),
            ("dedup", self.dedup, 16),
            ("retained", self.retained, 24),
        ]
        .into_iter()
        .map(|(name, count, each)| (name, u64::from(count), each, u64::from(count) * each))
    }
}
