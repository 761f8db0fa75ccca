//! What `forebay status` shows, as the server renders it: a text for people, a NUL, and JSON.
//!
//! The server renders both, so that the client needs no parser and cannot disagree with it.

use std::fmt::Write;

use crate::broker::StoreInfo;

use super::config::{Config, Size};
use super::json;
use super::turn::Gateway;

/// Between the text and the JSON.
pub const SEPARATOR: char = '\0';

/// Renders the state of everything.
pub fn render(gateway: &Gateway, config: &Config) -> String {
    let figures = Figures {
        info: gateway.engine.info(),
        is_read_only: gateway.engine.is_read_only(),
        path: config.store.path.to_string_lossy().into_owned(),
        connections: gateway.table.count() as u64,
        connections_max: u64::from(config.connections.count),
        buffer_bytes: gateway.table.buffers.used() as u64,
        resident_bytes: resident_bytes(),
    };
    let (mut text, mut json) = (figures.text(), figures.json());
    queues(gateway, &mut text, &mut json);
    json.push_str("]}\n");
    format!("{text}{SEPARATOR}{json}")
}

/// What is told besides the queues.
struct Figures {
    info: StoreInfo,
    is_read_only: bool,
    path: String,
    connections: u64,
    connections_max: u64,
    buffer_bytes: u64,
    resident_bytes: u64,
}

impl Figures {
    /// Bytes of records that are not needed any more and not reclaimed yet.
    fn dead_bytes(&self) -> u64 {
        self.info.log.used.saturating_sub(self.info.live_bytes)
    }

    fn text(&self) -> String {
        let (info, size) = (&self.info, |bytes: u64| Size(bytes).rounded());
        let fill_percent = (info.live_bytes * 100).checked_div(info.room).unwrap_or(0);
        let warning = match self.is_read_only {
            true => "READ-ONLY    the store takes no writes since an error of the medium; see the log\n",
            false => "",
        };
        format!(
            "store        {} of {}, {fill_percent} % of its room in use\n\
             \x20            {} live, {} dead, segments {} to {}, erased {} to {} times\n\
             {warning}\
             messages     {} waiting, {} in flight, room for {} more; {} retained\n\
             since start  {} published, {} delivered, {} dropped, {} damaged\n\
             connections  {} of {}, {} unsent\n\
             memory       {} resident\n",
            self.path,
            size(info.log.capacity),
            size(info.live_bytes),
            size(self.dead_bytes()),
            info.log.head_sequence,
            info.log.tail_sequence,
            info.log.erases_min,
            info.log.erases_max,
            info.entries,
            info.in_flight,
            info.entries_free,
            info.retained,
            info.counters.published,
            info.counters.delivered,
            info.counters.dropped,
            info.counters.damaged,
            self.connections,
            self.connections_max,
            size(self.buffer_bytes),
            size(self.resident_bytes),
        )
    }

    fn json(&self) -> String {
        let (info, log) = (&self.info, &self.info.log);
        let members = |pairs: &[(&str, u64)]| -> String {
            let all: Vec<String> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            all.join(",")
        };
        let store = members(&[
            ("capacity_bytes", log.capacity),
            ("used_bytes", log.used),
            ("live_bytes", info.live_bytes),
            ("dead_bytes", self.dead_bytes()),
            ("room_bytes", info.room),
            ("head", log.head_sequence.into()),
            ("tail", log.tail_sequence.into()),
            ("free_segments", log.free_segments.into()),
            ("bad_segments", log.bad_segments.into()),
            ("erases_min", log.erases_min.into()),
            ("erases_max", log.erases_max.into()),
            ("syncs", log.syncs),
            ("programmed_bytes", log.programmed),
            ("copied_bytes", log.copied),
        ]);
        let messages = members(&[
            ("entries", info.entries),
            ("entries_free", info.entries_free),
            ("in_flight", info.in_flight.into()),
            ("retained", info.retained.into()),
            ("published", info.counters.published),
            ("delivered", info.counters.delivered),
            ("dropped", info.counters.dropped),
            ("damaged", info.counters.damaged),
        ]);
        let connections = members(&[
            ("count", self.connections),
            ("limit", self.connections_max),
            ("buffer_bytes", self.buffer_bytes),
        ]);
        format!(
            "{{\"version\":\"{}\",\"store\":{{\"path\":{},\"read_only\":{},{store}}},\"messages\":{{{messages}}},\
             \"connections\":{{{connections}}},\"memory\":{{\"resident_bytes\":{}}},\"queues\":[",
            env!("CARGO_PKG_VERSION"),
            json::string(&self.path),
            self.is_read_only,
            self.resident_bytes,
        )
    }
}

fn queues(gateway: &Gateway, text: &mut String, json: &mut String) {
    let mut count = 0;
    let mut table = String::new();
    gateway.engine.for_each_queue(&mut |queue| {
        let comma = if count == 0 { "" } else { "," };
        count += 1;
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:>10} {:>10} {:>10} {:>10}  {}",
            queue.ready, queue.in_flight, queue.delayed, queue.consumers, queue.name
        );
        let _ = write!(
            json,
            "{comma}{{\"name\":{},\"ready\":{},\"in_flight\":{},\"delayed\":{},\"consumers\":{}}}",
            json::string(queue.name),
            queue.ready,
            queue.in_flight,
            queue.delayed,
            queue.consumers
        );
    });
    let _ = writeln!(text, "queues       {count}");
    if count > 0 {
        let _ = writeln!(text, "{:>10} {:>10} {:>10} {:>10}", "ready", "in flight", "delayed", "consumers");
        text.push_str(&table);
    }
}

/// Memory of this process that is resident, as the kernel counts it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}
