//! What the limits cost in memory, one line each.

use super::record::Route;
use crate::flash::Geometry;
use crate::limits::{Cost, Limits};
use crate::log::SegmentState;
use crate::model::binding::{BindingSlot, Site};
use crate::model::consumer::Consumer;
use crate::model::dedup::{HeldSlot, ProducerSlot, WindowSlot};
use crate::model::entry::Entry;
use crate::model::exchange::ExchangeSlot;
use crate::model::flight::Flight;
use crate::model::link::Link;
use crate::model::pages::{Page, PAGE_LEN};
use crate::model::queue::Queue;
use crate::model::retained::RetainedSlot;
use crate::model::text::{Cell, CELL_BYTES};
use crate::model::tree::Node;
use core::mem::size_of;

/// Bytes a record may need beyond the message: digest, stamp, checksum.
pub const RECORD_SLACK: u32 = 1024;

impl Limits {
    /// Pages for the entries; every queue may leave one partly used.
    pub const fn pages(&self) -> u32 {
        self.entries.div_ceil(PAGE_LEN)
    }

    /// Largest record.
    pub const fn max_record(&self) -> u32 {
        self.max_message_bytes.saturating_add(RECORD_SLACK)
    }

    /// Bytes of one read window.
    pub const fn window_bytes(&self) -> u32 {
        self.max_record().saturating_add(64)
    }

    /// Cells for a share of the text, in twelfths: names of queues, exchanges, bindings.
    pub const fn cells(&self, twelfths: u32) -> u32 {
        (self.text_bytes / 12).saturating_mul(twelfths) / CELL_BYTES as u32 + 1
    }

    /// What everything costs, one line a limit.
    pub fn costs(&self, geometry: Geometry) -> [Cost; 16] {
        let pages = u64::from(self.pages());
        let page = size_of::<Page>() as u64 + 32 * size_of::<Entry>() as u64 + 4;
        let heads = u64::from(self.pages().next_power_of_two()) * 4;
        let queue = (size_of::<Queue>() + size_of::<Route>() + 2 * size_of::<Link>()) as u64;
        let queue_heads = u64::from(self.queues.next_power_of_two()) * 2;
        let line = |name, count: u32, each: usize| Cost {
            name,
            count: u64::from(count),
            bytes: u64::from(count) * each as u64,
        };
        let cells = self.cells(6) + self.cells(1) + self.cells(5);
        [
            Cost {
                name: "queues",
                count: u64::from(self.queues),
                bytes: u64::from(self.queues) * queue + queue_heads,
            },
            Cost { name: "entries", count: pages * 32, bytes: pages * page + heads },
            line("in_flight", self.in_flight, size_of::<Flight>()),
            line("consumers", self.consumers, size_of::<Consumer>()),
            line("exchanges", self.exchanges, size_of::<ExchangeSlot>() + size_of::<Site>()),
            line("bindings", self.bindings, size_of::<BindingSlot>()),
            line("nodes", self.nodes, size_of::<Node>()),
            Cost {
                name: "text_bytes",
                count: u64::from(self.text_bytes),
                bytes: u64::from(cells) * size_of::<Cell>() as u64,
            },
            line("dedup", self.dedup, size_of::<WindowSlot>()),
            line("held", self.held, size_of::<HeldSlot>()),
            line("producers", self.producers, size_of::<ProducerSlot>()),
            line("retained", self.retained, size_of::<RetainedSlot>()),
            line("segments", geometry.segment_count, size_of::<SegmentState>()),
            line("tail_bytes", self.tail_bytes, 1),
            line("index_bytes", self.index_bytes, 1),
            Cost {
                name: "windows",
                count: u64::from(self.windows),
                bytes: u64::from(self.windows) * u64::from(self.window_bytes()),
            },
        ]
    }

    /// Bytes of everything.
    pub fn total_bytes(&self, geometry: Geometry) -> u64 {
        self.costs(geometry).iter().map(|cost| cost.bytes).sum()
    }
}
