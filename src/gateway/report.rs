//! What `forebay status` shows, as the server renders it: a text for people, or JSON.
//!
//! The server renders both, so that the client needs no parser and cannot disagree with it.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::broker::StoreInfo;
use crate::command::QueueKind;

use super::config::Size;
use super::engine::{Engine, Outage};
use super::json;
use super::look::text::plain;
use super::table::Table;

/// The state of everything, for people.
pub fn text(engine: &Engine, table: &Table) -> String {
    let mut text = Figures::new(engine, table).text();
    let mut lines = String::new();
    let mut count = 0;
    engine.for_each_queue(&mut |queue| {
        count += 1;
        let (ready, in_flight, delayed) = (queue.ready, queue.in_flight, queue.delayed);
        let (consumers, name) = (queue.consumers, plain(queue.name.as_bytes()));
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{ready:>10} {in_flight:>10} {delayed:>10} {consumers:>10}  {name}");
    });
    let _ = writeln!(text, "queues       {count}");
    if count > 0 {
        let _ = writeln!(text, "{:>10} {:>10} {:>10} {:>10}", "ready", "in flight", "delayed", "consumers");
    }
    text + &lines
}

/// The state of everything, for programs.
pub fn json(engine: &Engine, table: &Table) -> String {
    let mut json = Figures::new(engine, table).json();
    let mut comma = "";
    engine.for_each_queue(&mut |queue| {
        // Writing to a string cannot fail.
        let _ = write!(
            json,
            "{comma}{{\"name\":{},\"kind\":\"{}\",\"durable\":{},\"ready\":{},\"in_flight\":{},\
             \"delayed\":{},\"consumers\":{},\"bytes\":{}}}",
            json::string(queue.name),
            match queue.kind {
                QueueKind::Work => "work",
                QueueKind::Stream => "stream",
                QueueKind::Group { .. } => "group",
            },
            queue.durable,
            queue.ready,
            queue.in_flight,
            queue.delayed,
            queue.consumers,
            queue.bytes
        );
        comma = ",";
    });
    json + "]}\n"
}

/// What is told besides the queues.
struct Figures {
    info: StoreInfo,
    outage: Option<Outage>,
    path: String,
    connections: u64,
    connections_max: u64,
    buffer_bytes: u64,
    /// Each protocol that is spoken, and by how many.
    protocols: BTreeMap<&'static str, Speakers>,
    resident_bytes: u64,
}

/// Connections of one protocol.
#[derive(Clone, Copy, Default)]
struct Speakers {
    connections: usize,
    channels: usize,
    consumers: usize,
}

impl Speakers {
    /// What there is of each, in the order of `NAMES`.
    fn counts(&self) -> [usize; 3] {
        [self.connections, self.channels, self.consumers]
    }
}

/// What is counted of a protocol.
const NAMES: [&str; 3] = ["connections", "channels", "consumers"];

fn protocols(table: &Table) -> BTreeMap<&'static str, Speakers> {
    let mut all = BTreeMap::<&str, Speakers>::new();
    for about in table.abouts().filter(|about| !about.protocol.is_empty()) {
        let speakers = all.entry(about.protocol).or_default();
        speakers.connections += 1;
        speakers.channels += about.channels;
        speakers.consumers += about.consumers;
    }
    all
}

impl Figures {
    fn new(engine: &Engine, table: &Table) -> Figures {
        Figures {
            info: engine.info(),
            outage: engine.outage().cloned(),
            path: engine.path().to_string_lossy().into_owned(),
            // Who asks is at work, and not among them.
            connections: table.abouts().count() as u64,
            connections_max: table.limit().into(),
            buffer_bytes: table.buffers.used() as u64,
            protocols: protocols(table),
            resident_bytes: resident_bytes(),
        }
    }

    /// Bytes of records that are not needed any more and not reclaimed yet.
    fn dead_bytes(&self) -> u64 {
        self.info.log.used.saturating_sub(self.info.live_bytes)
    }

    fn text(&self) -> String {
        let (info, size) = (&self.info, |bytes: u64| Size(bytes).rounded());
        let fill_percent = (info.live_bytes * 100).checked_div(info.room).unwrap_or(0);
        let warning = self.outage.as_ref().map_or_else(String::new, |Outage { cause, error, since }| {
            format!(
                "READ-ONLY    {cause}: {error}, since {since}\n\
                 \x20            nothing is confirmed until it is started again; the log says what to do\n"
            )
        });
        format!(
            "store        {} of {}, {fill_percent} % of its room in use\n\
             \x20            {} live, {} dead, segments {} to {}, erased {} to {} times\n\
             {warning}\
             messages     {} waiting, {} in flight, room for {} more; {} retained\n\
             since start  {} published, {} delivered, {} dropped, {} damaged\n\
             connections  {} of {}, {} unsent\n{}\
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
            self.protocols_text(),
            size(self.resident_bytes),
        )
    }

    /// A line for each protocol.
    fn protocols_text(&self) -> String {
        let line = |(protocol, speakers): (&&str, &Speakers)| {
            let counts = NAMES.iter().zip(speakers.counts());
            let parts = counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}"));
            format!("{:13}{protocol}: {}\n", "", parts.collect::<Vec<_>>().join(", "))
        };
        self.protocols.iter().map(line).collect()
    }

    fn protocols_json(&self) -> String {
        let object = |(protocol, speakers): (&&str, &Speakers)| {
            let counts = NAMES.iter().zip(speakers.counts());
            let members: Vec<String> = counts.map(|(name, count)| format!("\"{name}\":{count}")).collect();
            format!("\"{protocol}\":{{{}}}", members.join(","))
        };
        self.protocols.iter().map(object).collect::<Vec<_>>().join(",")
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
        let outage = match &self.outage {
            None => "\"read_only\":false".to_string(),
            Some(Outage { cause, error, since }) => format!(
                "\"read_only\":true,\"read_only_reason\":\"{cause}\",\"read_only_error\":{},\
                 \"read_only_since\":\"{since}\"",
                json::string(error)
            ),
        };
        let connections = members(&[
            ("count", self.connections),
            ("limit", self.connections_max),
            ("buffer_bytes", self.buffer_bytes),
        ]);
        format!(
            "{{\"version\":\"{}\",\"store\":{{\"path\":{},{outage},{store}}},\"messages\":{{{messages}}},\
             \"connections\":{{{connections},\"protocols\":{{{}}}}},\"memory\":{{\"resident_bytes\":{}}},\"queues\":[",
            env!("CARGO_PKG_VERSION"),
            json::string(&self.path),
            self.protocols_json(),
            self.resident_bytes,
        )
    }
}

/// Memory of this process that is resident, as the kernel counts it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}
