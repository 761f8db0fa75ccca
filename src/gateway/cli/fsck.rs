//! `forebay fsck`: what is in a store and what is damaged, for people or for programs.
//!
//! Exit codes: 0 sound, 1 damage was found, 2 it is no store or cannot be read.

use std::io::{self, Write};
use std::process::ExitCode;

use super::args::Fsck;
use super::print;
use crate::broker::Loss;
use crate::command::QueueKind;
use crate::gateway::config::Size;
use crate::gateway::errors::Fatal;
use crate::gateway::json::{self, Object};
use crate::gateway::look;
use crate::gateway::look::check::{check, Finding, Queue, Report};
use crate::gateway::look::progress::Progress;
use crate::gateway::look::text::{iso, plain};
use crate::log::ReadError;
use crate::units::Millis;

/// Damages that are listed for people; the rest are counted. JSON has them all.
const LISTED_MAX: usize = 1000;

/// Checks a store and prints what was found.
pub fn fsck(task: &Fsck) -> Result<ExitCode, Fatal> {
    let progress = Progress::new(task.progress);
    let opened = look::open(&task.store, &progress)?;
    let report = check(&opened, &progress)?;
    let name = task.store.to_string_lossy();
    print(&if task.is_json { json(&name, &report) } else { text(&name, &report) })?;
    let _ = io::stdout().flush();
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(name: &str, report: &Report) -> String {
    let geometry = report.found.geometry;
    let log = &report.log;
    let size = Size(log.capacity).exact();
    let place = match report.found.begin {
        0 => size,
        begin => format!("{size} from byte {begin} on"),
    };
    let (least, most) = report.erases.unwrap_or_default();
    let sum = |part: fn(&Queue) -> u64| -> u64 {
        report.queues.iter().filter(|queue| !is_group(queue)).map(part).sum()
    };
    let messages = sum(|queue| queue.ready + queue.delayed + queue.received);
    let mut out = format!(
        "store       {name}, {place}\n\
         format      version {}, {} segments of {}, write units of {} bytes\n\
         segments    {} used, {} free, {} unreadable; erased {least} to {most} times\n\
         stop        {}\n\
         durable     up to segment {}, byte {}\n\
         log time    {}\n\
         messages    {messages} in {} of records\n\
         retained    {}\n\
         dedup       {} of producers, {} exactly-once publishes not released\n\
         declared    queues {}, exchanges {} and the usual, bindings {}\n",
        report.found.version,
        geometry.segment_count,
        Size::from(geometry.segment_size).exact(),
        geometry.write_unit,
        used_segments(report),
        log.free_segments,
        report.unreadable,
        stop(report),
        report.durable.sequence(),
        report.durable.offset(),
        iso(report.now),
        Size(sum(|queue| queue.bytes)).rounded(),
        report.retained,
        report.dedup.window,
        report.dedup.held,
        report.queues.len(),
        report.exchanges,
        report.bindings,
    );
    out.push_str(&table(&report.queues));
    match report.findings.len() {
        0 => out.push_str("damage      none\n"),
        count => out.push_str(&format!("damage      {count}\n")),
    }
    for finding in report.findings.iter().take(LISTED_MAX) {
        out.push_str(&format!("  {}\n", describe(finding)));
    }
    if let more @ 1.. = report.findings.len().saturating_sub(LISTED_MAX) {
        out.push_str(&format!("  and {more} more; --json has them all\n"));
    }
    out
}

fn is_group(queue: &Queue) -> bool {
    matches!(queue.kind, QueueKind::Group { .. })
}

fn used_segments(report: &Report) -> u64 {
    report.log.used.checked_div(report.found.geometry.segment_size.into()).unwrap_or(0)
}

fn table(queues: &[Queue]) -> String {
    if queues.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "{:>12} {:>10} {:>10} {:>10} {:>10}  {:6}  queue\n",
        "ready", "delayed", "received", "damaged", "bytes", "kind"
    );
    for queue in queues {
        out.push_str(&format!(
            "{:>12} {:>10} {:>10} {:>10} {:>10}  {:6}  {}\n",
            queue.ready,
            queue.delayed,
            queue.received,
            queue.damaged,
            Size(queue.bytes).rounded(),
            kind(queue),
            plain(queue.name.as_bytes())
        ));
    }
    out
}

fn kind(queue: &Queue) -> &'static str {
    match queue.kind {
        QueueKind::Work => "work",
        QueueKind::Stream => "stream",
        QueueKind::Group { .. } => "group",
    }
}

fn stop(report: &Report) -> String {
    let log = &report.mounted.log;
    let mut out = match log.unclean {
        false => "in order".to_string(),
        true => "not in order; what was confirmed does not depend on that".to_string(),
    };
    if log.dropped > 0 {
        out.push_str(&format!("; {} bytes that were never confirmed are dropped", log.dropped));
    }
    // The segment that was open has no footer and is always read.
    let scanned = log.scanned.saturating_sub(u32::from(log.unclean));
    if scanned > 0 {
        out.push_str(&format!("; the footers of {scanned} segments are damaged and not needed"));
    }
    out
}

/// What is wrong, where, and what that means.
fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Truncated { missing } => {
            format!("{missing} bytes of the store are not in the file: what was stored there is lost")
        }
        Finding::Sectors(count) => {
            format!(
                "{count} sectors of {} bytes cannot be read: copy the medium before it gets worse",
                crate::flash::image::SECTOR
            )
        }
        Finding::Message { queue, offset, why } => {
            format!(
                "queue {}, offset {offset}: {}, the message is lost",
                plain(queue.as_bytes()),
                cause(*why)
            )
        }
        Finding::Retained(why) => format!("a retained value: {}, it is lost", cause(*why)),
        Finding::Record { loss, queue, at } => format!("byte {at}: {}", meaning(loss, queue.as_deref())),
        Finding::Mended(count) => {
            format!(
                "{count} records have one wrong bit: nothing is lost, it is mended whenever they are read"
            )
        }
        Finding::Stale(count) => format!(
            "{count} records of messages that are in no queue any more are damaged: nothing is lost, but the \
             medium does not keep what is written"
        ),
        Finding::Bytes { at, size, sequence, is_segment, written, missing } => {
            let what = if *is_segment { "all of segment" } else { "in segment" };
            format!(
                "bytes {at} to {}, {what} {sequence}, written {}: {}",
                at.0 + u64::from(*size).saturating_sub(1),
                span(*written),
                lost(missing)
            )
        }
    }
}

fn lost(missing: &[(String, u64, u64)]) -> String {
    let named: Vec<String> = missing
        .iter()
        .map(|(queue, first, last)| match first == last {
            true => format!("queue {}, offset {first}", plain(queue.as_bytes())),
            false => format!("queue {}, offsets {first} to {last}", plain(queue.as_bytes())),
        })
        .collect();
    match named.is_empty() {
        true => {
            "messages and declarations there are lost, and what was acknowledged there is delivered again"
                .to_string()
        }
        false => format!("{}, lost; what was acknowledged there is delivered again", named.join("; ")),
    }
}

fn cause(why: ReadError) -> &'static str {
    match why {
        ReadError::Corrupt => "its bytes are damaged",
        ReadError::Gone => "its segment is gone",
        ReadError::Medium(_) => "the medium cannot read it",
    }
}

fn span(written: (Option<Millis>, Option<Millis>)) -> String {
    match written {
        (Some(from), Some(to)) => format!("from {} to {}", iso(from), iso(to)),
        (Some(from), None) => format!("after {}", iso(from)),
        (None, Some(to)) => format!("before {}", iso(to)),
        (None, None) => "nobody knows when".to_string(),
    }
}

fn meaning(loss: &Loss, queue: Option<&str>) -> String {
    let queue = queue.map_or("a queue that is not declared".to_string(), |name| {
        format!("queue {}", plain(name.as_bytes()))
    });
    let what = match *loss {
        Loss::Message { offset, .. } => format!("the message of {queue}, offset {offset}"),
        Loss::Retained(_) => "a retained value".to_string(),
        Loss::Done { first, count, .. } => format!(
            "the acknowledgement of {queue}, offsets {first} to {},",
            first.0.saturating_add(count).saturating_sub(1)
        ),
        Loss::Received { offset, .. } => format!("the receipt of {queue}, offset {offset},"),
        Loss::Exposed { .. } => format!("how far {queue} was delivered"),
        Loss::Returned { offset, .. } => format!("the count of deliveries of {queue}, offset {offset},"),
        Loss::Declaration => "a declaration".to_string(),
        Loss::Dedup => "the identity of a publish".to_string(),
        Loss::Time => "a note of the time".to_string(),
    };
    format!("{what} is damaged; nothing is lost, the footer of its segment has it too")
}

fn json(name: &str, report: &Report) -> String {
    let geometry = report.found.geometry;
    let log = &report.log;
    let found = Object::new()
        .text("path", name)
        .member("begin", report.found.begin)
        .member("size_bytes", log.capacity)
        .member("format", report.found.version)
        .member("segment_size", geometry.segment_size)
        .member("segment_count", geometry.segment_count)
        .member("write_unit", geometry.write_unit);
    let segments = Object::new()
        .member("used", used_segments(report))
        .member("free", log.free_segments)
        .member("unreadable", report.unreadable)
        .member("erases_min", report.erases.unwrap_or_default().0)
        .member("erases_max", report.erases.unwrap_or_default().1)
        .member("head", log.head_sequence)
        .member("tail", log.tail_sequence);
    let stop = Object::new()
        .member("clean", !report.mounted.log.unclean)
        .member("dropped_bytes", report.mounted.log.dropped)
        .member("segments_scanned", report.mounted.log.scanned)
        .member("durable_segment", report.durable.sequence())
        .member("durable_byte", report.durable.offset())
        .text("time", &iso(report.now));
    let queues = report.queues.iter().map(|queue| {
        Object::new()
            .text("name", &queue.name)
            .text("kind", kind(queue))
            .member("ready", queue.ready)
            .member("delayed", queue.delayed)
            .member("received", queue.received)
            .member("damaged", queue.damaged)
            .member("bytes", queue.bytes)
            .member("next_offset", queue.next)
            .finish()
    });
    let whole = Object::new()
        .member("sound", report.findings.is_empty())
        .member("store", found.finish())
        .member("segments", segments.finish())
        .member("stop", stop.finish())
        .member("exchanges", report.exchanges)
        .member("bindings", report.bindings)
        .member("retained", report.retained)
        .member("dedup", report.dedup.window)
        .member("held", report.dedup.held)
        .member("queues", json::list(queues))
        .member("damage", json::list(report.findings.iter().map(finding_json)));
    format!("{}\n", whole.finish())
}

fn finding_json(finding: &Finding) -> String {
    let object = match finding {
        Finding::Truncated { missing } => Object::new().text("what", "truncated").member("bytes", missing),
        Finding::Sectors(count) => Object::new().text("what", "sectors").member("count", count),
        Finding::Message { queue, offset, .. } => {
            Object::new().text("what", "message").text("queue", queue).member("offset", offset)
        }
        Finding::Retained(_) => Object::new().text("what", "retained"),
        Finding::Record { queue, at, .. } => {
            Object::new().text("what", "record").member("at", at).text_or_null("queue", queue.as_deref())
        }
        Finding::Mended(count) => Object::new().text("what", "mended").member("count", count),
        Finding::Stale(count) => Object::new().text("what", "stale").member("count", count),
        Finding::Bytes { at, size, sequence, is_segment, missing, .. } => {
            let missing = missing.iter().map(|(queue, first, last)| {
                Object::new().text("queue", queue).member("first", first).member("last", last).finish()
            });
            Object::new()
                .text("what", if *is_segment { "segment" } else { "bytes" })
                .member("at", at)
                .member("bytes", size)
                .member("segment", sequence)
                .member("missing", json::list(missing))
        }
    };
    object.text("meaning", &describe(finding)).finish()
}
