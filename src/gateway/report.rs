//! What `forebay status` shows, as the server renders it: a text for people, a NUL, and JSON.
//!
//! The server renders both, so that the client needs no parser and cannot disagree with it.

use std::fmt::Write;

use super::config::{Config, Size};
use super::turn::Gateway;

/// Between the text and the JSON.
pub const SEPARATOR: char = '\0';

/// Renders the state of everything.
pub fn render(gateway: &Gateway, config: &Config) -> String {
    let stats = gateway.engine.stats();
    let connections = gateway.table.count();
    let buffers = gateway.table.buffers.used();
    let resident = resident_bytes();
    let fill_percent = (stats.used_bytes * 100).checked_div(stats.capacity_bytes).unwrap_or(0);
    let mut text = format!(
        "store        {}  {} of {} ({fill_percent} %), {} live, {} dead, segments {} to {}\n\
         connections  {connections} of {}, {} unsent\n\
         memory       {} resident\n",
        config.store.path.display(),
        Size(stats.used_bytes).rounded(),
        Size(stats.capacity_bytes).rounded(),
        Size(stats.live_bytes).rounded(),
        Size(stats.dead_bytes).rounded(),
        stats.head,
        stats.tail,
        config.connections.count,
        Size(buffers as u64).rounded(),
        Size(resident).rounded(),
    );
    let mut json = format!(
        "{{\"version\":\"{}\",\"store\":{{\"path\":{},\"capacity_bytes\":{},\"used_bytes\":{},\"live_bytes\":{},\
         \"dead_bytes\":{},\"head\":{},\"tail\":{},\"read_only\":{}}},\"connections\":{{\"count\":{connections},\
         \"limit\":{},\"buffer_bytes\":{buffers}}},\"memory\":{{\"resident_bytes\":{resident}}},\"queues\":[",
        env!("CARGO_PKG_VERSION"),
        json_string(&config.store.path.to_string_lossy()),
        stats.capacity_bytes,
        stats.used_bytes,
        stats.live_bytes,
        stats.dead_bytes,
        stats.head,
        stats.tail,
        stats.is_read_only,
        config.connections.count,
    );
    if stats.is_read_only {
        text.push_str("READ-ONLY    the store takes no writes; see the log for the cause\n");
    }
    queues(gateway, &mut text, &mut json);
    json.push_str("]}\n");
    format!("{text}{SEPARATOR}{json}")
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
            json_string(queue.name),
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

fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
