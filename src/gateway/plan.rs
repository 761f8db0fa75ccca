//! The plan: what memory and storage a configuration takes, decided before anything is started.
//!
//! Every noun of the broker and every buffer of the gateway is a row: how many, how large, what
//! for. With `memory.total` the limits that nobody set shrink together until everything fits;
//! what somebody set is kept, and if that alone does not fit the message names the line to change.
//!
//! ```text
//! rows(limits) <= memory.total ?   as it is
//!              >                   the largest n/1024 of the default limits that fits
//!              > even at the floor refused, with the largest row that was set
//! ```

use crate::broker::index_share;
use crate::log::{capacity_bytes, SEGMENTS_MIN};
use crate::model::entry::STORE_MAX;

use super::buffers::FLOOR_BYTES;
use super::config::{Config, Origin, Size};
use super::errors::Fatal;
use super::table::{Table, RESERVED_COUNT};
use super::turn::INPUT_BYTES;

/// What stacks, the allocator and the program's own data take besides the tables, as measured. Its
/// code is in pages of the executable, which the system can drop at any time.
const PROGRAM_BYTES: u64 = 384 << 10;

/// Memory of a session of a room, about; of AMQP with a channel and a consumer.
const SESSION_BYTES: u64 = 1024;

/// Steps of the scale that limits shrink on.
const SCALE: u64 = 1024;

/// One thing that takes memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key that decides it.
    pub key: String,
    /// How many.
    pub count: u64,
    /// Bytes of one.
    pub each_bytes: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Resident from the start; other rows are taken when needed, and at most.
    pub is_at_boot: bool,
}

/// Everything that takes memory, and the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The rows, in the order of the configuration.
    pub rows: Vec<Row>,
    store_size: u64,
    capacity_bytes: u64,
    index_share: u32,
    segment_size: u64,
    memory_bound: u64,
    shrunk: bool,
}

impl Plan {
    /// What a configuration takes as it is.
    pub fn of(config: &Config) -> Plan {
        let mut rows: Vec<Row> = Vec::new();
        let mut row = |key: &str, count: u64, each_bytes: u64, is_at_boot: bool| {
            rows.push(Row { key: key.to_string(), count, each_bytes, bytes: count * each_bytes, is_at_boot });
        };
        let connections = &config.connections;
        let places = u64::from(connections.count.saturating_add(RESERVED_COUNT));
        row("connections.count", places, Table::slot_size() as u64, true);
        row("sessions", places, SESSION_BYTES, false);
        row("connections.buffers", 1, connections.buffers.0, false);
        row("least buffers", places, FLOOR_BYTES as u64, false);
        row("read buffer", 1, INPUT_BYTES as u64, true);
        row("program", 1, PROGRAM_BYTES, true);
        rows.extend(config.capacities().costs(config.geometry()).iter().map(|cost| Row {
            key: if cost.name == "segments" { cost.name.into() } else { format!("limits.{}", cost.name) },
            count: cost.count,
            each_bytes: cost.bytes.checked_div(cost.count).unwrap_or(0),
            bytes: cost.bytes,
            is_at_boot: true,
        }));
        Plan {
            rows,
            store_size: config.store.size.0,
            capacity_bytes: capacity_bytes(config.geometry()),
            index_share: index_share(config.geometry().segment_size, config.capacities().index_bytes),
            segment_size: config.store.segment_size.0,
            memory_bound: config.memory.0,
            shrunk: false,
        }
    }

    /// Makes a configuration fit its memory, or says what keeps it from that.
    pub fn fit(config: &mut Config) -> Result<Plan, Fatal> {
        check_store(config)?;
        let plan = Plan::of(config);
        let bound = config.memory.0;
        if bound == 0 || plan.memory_bytes() <= bound {
            return Ok(plan);
        }
        let fits = |scale: u64| {
            let mut smaller = config.clone();
            shrink(&mut smaller, scale);
            let plan = Plan::of(&smaller);
            (plan.memory_bytes() <= bound).then_some((smaller, plan))
        };
        // The sum only grows with the scale, so the largest that fits is found by halving.
        let (mut least, mut most) = (0, SCALE);
        let mut best = fits(0).ok_or_else(|| too_large(config))?;
        while most - least > 1 {
            let middle = least + (most - least) / 2;
            match fits(middle) {
                Some(found) => {
                    best = found;
                    least = middle;
                }
                None => most = middle,
            }
        }
        *config = best.0;
        Ok(Plan { shrunk: true, ..best.1 })
    }

    /// Sum of the rows: the most it ever takes.
    pub fn memory_bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    /// Sum of what is taken before the first connection.
    pub fn boot_bytes(&self) -> u64 {
        self.rows.iter().filter(|row| row.is_at_boot).map(|row| row.bytes).sum()
    }

    /// The table.
    pub fn render(&self) -> String {
        let mut out = format!("{:<28} {:>10} {:>12} {:>12}\n", "memory", "count", "each", "sum");
        for row in &self.rows {
            out.push_str(&format!(
                "{:<28} {:>10} {:>12} {:>12}\n",
                row.key,
                row.count,
                Size(row.each_bytes).rounded(),
                Size(row.bytes).rounded()
            ));
        }
        for (what, bytes) in
            [("set aside at the start", self.boot_bytes()), ("all together, at most", self.memory_bytes())]
        {
            out.push_str(&format!("{what:<28} {:>10} {:>12} {:>12}\n", "", "", Size(bytes).rounded()));
        }
        if self.memory_bound > 0 {
            let how = if self.shrunk { "default limits were lowered to fit" } else { "fits" };
            out.push_str(&format!("\nmemory.total is {}: {how}\n", Size(self.memory_bound).exact()));
        }
        out.push_str(&self.render_store());
        out
    }

    fn render_store(&self) -> String {
        let segments = self.store_size.checked_div(self.segment_size).unwrap_or(0);
        let holds = |size: u64| self.capacity_bytes / (size + RECORD_BYTES).max(self.index_share.into());
        format!(
            "\nstore of {}: {segments} segments of {}; holds about {} messages of 100 bytes, or {} of 1 KiB\n",
            Size(self.store_size).exact(),
            Size(self.segment_size).exact(),
            holds(100),
            holds(1024)
        )
    }
}

/// Record overhead, a key, and what is kept free for each, about.
const RECORD_BYTES: u64 = 80;

/// The limits that may shrink, with the least they shrink to.
fn shrinking(config: &mut Config) -> Vec<(&'static str, &mut u32, u32)> {
    let limits = &mut config.limits;
    vec![
        ("connections.count", &mut config.connections.count, 8),
        ("limits.queues", &mut limits.queues, 16),
        ("limits.entries", &mut limits.entries, 1024),
        ("limits.in_flight", &mut limits.in_flight, 128),
        ("limits.consumers", &mut limits.consumers, 16),
        ("limits.exchanges", &mut limits.exchanges, 8),
        ("limits.bindings", &mut limits.bindings, 32),
        ("limits.nodes", &mut limits.nodes, 64),
        ("limits.text_bytes", &mut limits.text_bytes, 4096),
        ("limits.dedup", &mut limits.dedup, 128),
        ("limits.held", &mut limits.held, 64),
        ("limits.producers", &mut limits.producers, 16),
        ("limits.retained", &mut limits.retained, 32),
        ("limits.max_message_bytes", &mut limits.max_message_bytes, 16 << 10),
    ]
}

fn shrink(config: &mut Config, scale: u64) {
    let origins = config.clone();
    let is_free = |key: &str| *origins.origin(key) == Origin::Default;
    for (key, limit, floor) in shrinking(config) {
        if is_free(key) {
            let scaled = u64::from(*limit) * scale / SCALE;
            *limit = (scaled as u32).max(floor.min(*limit));
        }
    }
    if is_free("connections.buffers") {
        let buffers = &mut config.connections.buffers;
        *buffers = Size((buffers.0 * scale / SCALE).max(buffers.0.min(64 << 10)));
    }
    let most = config.connections.buffers;
    if is_free("connections.high_mark") {
        config.connections.high_mark = config.connections.high_mark.min(most);
    }
    if is_free("mqtt.max_packet_size") {
        config.mqtt.max_packet_size = config.mqtt.max_packet_size.min(config.limits.max_message_bytes);
    }
}

fn too_large(config: &Config) -> Fatal {
    let mut smallest = config.clone();
    shrink(&mut smallest, 0);
    let plan = Plan::of(&smallest);
    let was_set = |row: &&Row| *config.origin(&row.key) != Origin::Default;
    let needs = Size(plan.memory_bytes()).rounded();
    let bound = format!("{} = {}", config.place("memory.total"), config.memory.exact());
    match plan.rows.iter().filter(was_set).max_by_key(|row| row.bytes) {
        Some(row) => Fatal(format!(
            "this needs at least {needs}, more than {bound}: lower {}, which takes {}, or allow more memory",
            config.place(&row.key),
            Size(row.bytes).rounded()
        )),
        None => Fatal(format!("even the smallest limits need {needs}, more than {bound}: allow more memory")),
    }
}

fn check_store(config: &Config) -> Result<(), Fatal> {
    let (size, segment) = (config.store.size.0, config.store.segment_size.0);
    let refuse = |key: &str, what: String| Err(Fatal(format!("{}: {what}", config.place(key))));
    if !segment.is_power_of_two() || !(4096..=64 << 20).contains(&segment) {
        return refuse("store.segment_size", "must be a power of two from 4K to 64M".into());
    }
    if capacity_bytes(config.geometry()) == 0 {
        // One more than what the log works with, or nothing could ever be kept in it.
        let (least, count) = (Size(segment * u64::from(SEGMENTS_MIN + 1)), SEGMENTS_MIN + 1);
        return refuse("store.size", format!("must be {} or more ({count} segments)", least.exact()));
    }
    if size > STORE_MAX {
        return refuse("store.size", format!("must be {} or less", Size(STORE_MAX).exact()));
    }
    let message = Size::from(config.limits.max_message_bytes);
    if message.0 > segment / 2 && *config.origin("limits.max_message_bytes") != Origin::Default {
        let most = Size(segment / 2).exact();
        return refuse("limits.max_message_bytes", format!("must be at most half a segment, here {most}"));
    }
    if size % segment != 0 {
        let near = Size(size / segment * segment);
        return refuse("store.size", format!("must be whole segments, such as {}", near.exact()));
    }
    Ok(())
}
