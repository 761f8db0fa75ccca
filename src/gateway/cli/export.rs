//! `forebay export`: a store as lines of JSON, with everything needed to load it elsewhere.
//!
//! One object a line; `type` says what it is. They come in the order in which they can be made:
//! ```text
//! store      version of this format, where it comes from, log time
//! exchange   those besides the six that are always there; name, kind, alternate
//! queue      name, kind, options; of a group its stream and the offset it goes on from
//! binding    exchange, destination, pattern with its form, arguments, grade
//! message    queue, offset, times, state, key with its form, headers, body
//! pending    group, offset: handed out and not acknowledged; the message is in the stream
//! retained   the last value of a key
//! unreadable what is damaged: a message, or a retained value
//! end        how many of each; a file without it is not complete
//! ```
//! Times are milliseconds since 1970, spans milliseconds, 0 is no limit. A value that is not UTF-8 is
//! base64 in a member with `_base64` behind its name.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use super::args::Export;
use super::{verdict, written};
use crate::broker::{ExchangeInfo, Mounted, QueueInfo};
use crate::command::{Bind, Destination, ExchangeKind, Overflow, QueueKind, QueueOptions, Standee, Which};
use crate::gateway::errors::Fatal;
use crate::gateway::json::Object;
use crate::gateway::look::lines::{grade, headed, keyed, standee_object, timed, typed, worded};
use crate::gateway::look::progress::{Progress, Unit};
use crate::gateway::look::text::{iso, unix_ms};
use crate::gateway::look::{self, ImageBroker};
use crate::units::{Offset, QueueId};

/// Version of the lines.
const FORMAT: u32 = 1;

/// Bytes for the pattern and the arguments of a binding, which are at most 64 KiB each.
const BINDING_BYTES: usize = 2 << 16;

/// Exports a store; fails if some of it cannot be read.
pub fn export(task: &Export) -> Result<ExitCode, Fatal> {
    let is_shown = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let progress = if is_shown { Progress::new(false) } else { Progress::hidden() };
    let opened = look::open(&task.store, &progress)?;
    let damaged = opened.mount(|broker, mounted| -> Result<u64, Fatal> {
        progress.begin("exporting messages", Unit::Messages, mounted.messages);
        let mut exporter = Exporter::new(&progress);
        let done = exporter.run(broker, mounted, &task.store);
        progress.end();
        written(done.and_then(|()| exporter.out.flush()))?;
        Ok(exporter.counts.unreadable + u64::from(mounted.log.damages))
    })??;
    Ok(verdict(damaged, &task.store))
}

/// How many lines of each type there were.
#[derive(Default)]
struct Counts {
    exchanges: u64,
    queues: u64,
    bindings: u64,
    messages: u64,
    pending: u64,
    retained: u64,
    unreadable: u64,
}

/// A queue whose messages are to come.
struct Source {
    id: QueueId,
    name: String,
    is_group: bool,
}

struct Exporter<'p> {
    out: BufWriter<io::StdoutLock<'static>>,
    progress: &'p Progress,
    counts: Counts,
}

impl Exporter<'_> {
    fn new(progress: &Progress) -> Exporter<'_> {
        Exporter { out: BufWriter::new(io::stdout().lock()), progress, counts: Counts::default() }
    }

    fn line(&mut self, object: Object) -> io::Result<()> {
        self.out.write_all(object.finish().as_bytes())?;
        self.out.write_all(b"\n")
    }

    fn run(&mut self, broker: &mut ImageBroker<'_>, mounted: &Mounted, store: &Path) -> io::Result<()> {
        let first = typed("store")
            .member("format", FORMAT)
            .text("forebay", env!("CARGO_PKG_VERSION"))
            .text("path", &store.to_string_lossy())
            .text("time", &iso(mounted.last))
            .member("time_ms", unix_ms(mounted.last))
            .member("clean", !mounted.log.unclean)
            .member("damages", mounted.log.damages);
        self.line(first)?;
        let sources = self.declarations(broker)?;
        for source in &sources {
            let mut from = Offset(0);
            while let Some((next, standee)) = broker.browse(source.id, from, Which::Any) {
                from = next;
                let Some(standee) = standee else { continue };
                self.progress.message();
                self.standee(source, &standee)?;
            }
        }
        self.retained(broker)?;
        let counts = &self.counts;
        let end = typed("end")
            .member("exchanges", counts.exchanges)
            .member("queues", counts.queues)
            .member("bindings", counts.bindings)
            .member("messages", counts.messages)
            .member("pending", counts.pending)
            .member("retained", counts.retained)
            .member("unreadable", counts.unreadable);
        self.line(end)
    }

    fn declarations(&mut self, broker: &ImageBroker<'_>) -> io::Result<Vec<Source>> {
        let mut lines = Vec::new();
        broker.for_each_exchange(&mut |exchange| {
            if !exchange.predeclared {
                lines.push(exchange_line(exchange));
            }
        });
        self.counts.exchanges = lines.len() as u64;
        let mut sources = Vec::new();
        let mut names = Vec::new();
        broker.for_each_queue(&mut |queue| names.push((queue.id, queue.name.to_string())));
        // Groups come behind the streams they read.
        for wants_groups in [false, true] {
            broker.for_each_queue(&mut |queue| {
                let is_group = matches!(queue.kind, QueueKind::Group { .. });
                if is_group == wants_groups {
                    broker.show_options(queue.id, &mut |options| {
                        let next = broker.offset_told(queue.id, queue.next);
                        lines.push(queue_line(&QueueInfo { next, ..*queue }, options, &names))
                    });
                    sources.push(Source { id: queue.id, name: queue.name.to_string(), is_group });
                }
            });
        }
        self.counts.queues = sources.len() as u64;
        let before = lines.len();
        let mut memory = vec![0; BINDING_BYTES];
        let unfit = broker.for_each_binding(&mut memory, &mut |bind| lines.push(binding_line(bind)));
        self.counts.unreadable += u64::from(unfit);
        self.counts.bindings = (lines.len() - before) as u64;
        lines.into_iter().try_for_each(|line| self.line(line))?;
        Ok(sources)
    }

    fn standee(&mut self, source: &Source, standee: &Standee<'_>) -> io::Result<()> {
        if source.is_group {
            self.counts.pending += 1;
            let pending = typed("pending")
                .text("queue", &source.name)
                .member("offset", standee.offset)
                .member("deliveries", standee.deliveries)
                .member("received", standee.received);
            return self.line(pending);
        }
        match standee.content.is_ok() {
            true => self.counts.messages += 1,
            false => self.counts.unreadable += 1,
        }
        self.line(standee_object(&source.name, standee))
    }

    fn retained(&mut self, broker: &mut ImageBroker<'_>) -> io::Result<()> {
        let mut cursor = 0;
        while let Some((next, content)) = broker.browse_retained(cursor) {
            cursor = next;
            match content {
                None => {}
                Some(Ok(content)) => {
                    self.counts.retained += 1;
                    self.line(worded(timed(typed("retained"), &content), &content.message))?;
                }
                Some(Err(_)) => {
                    self.counts.unreadable += 1;
                    self.line(typed("unreadable").member("retained", true))?;
                }
            }
        }
        Ok(())
    }
}

fn exchange_line(exchange: &ExchangeInfo<'_>) -> Object {
    let kind = match exchange.kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
        ExchangeKind::Headers => "headers",
    };
    typed("exchange")
        .text("name", exchange.name)
        .text("kind", kind)
        .text_or_null("alternate", exchange.alternate)
}

fn queue_line(queue: &QueueInfo<'_>, options: &QueueOptions<'_>, names: &[(QueueId, String)]) -> Object {
    let mut line = typed("queue").text("name", queue.name);
    line = match options.kind {
        QueueKind::Work => line.text("kind", "work"),
        QueueKind::Stream => line.text("kind", "stream"),
        QueueKind::Group { stream } => {
            let name = names.iter().find(|(id, _)| *id == stream).map(|(_, name)| name.as_str());
            line.text("kind", "group").text_or_null("stream", name)
        }
    };
    let overflow = match options.overflow {
        Overflow::DropOldest => "drop-oldest",
        Overflow::Reject => "reject",
        Overflow::DeadLetterNew => "dead-letter-new",
    };
    line = line
        .member("next_offset", queue.next)
        .member("auto_delete", options.auto_delete)
        .member("session", options.session)
        .member("single_active", options.single_active)
        .member("deduplication", options.dedup)
        .member("expires_ms", options.expires_ms)
        .member("max_count", options.max_count)
        .member("max_bytes", options.max_bytes)
        .text("overflow", overflow)
        .member("ttl_ms", options.ttl_ms.map_or("null".to_string(), |ttl_ms| ttl_ms.to_string()))
        .member("delivery_limit", options.delivery_limit)
        .member("max_priority", options.max_priority)
        .member("lease_ms", options.lease_ms)
        .text_or_null("dead_letter_exchange", options.dead_letter_exchange);
    match options.dead_letter_key {
        Some(key) => keyed(line, "dead_letter_key", key),
        None => line,
    }
}

fn binding_line(bind: &Bind<'_>) -> Object {
    let line = typed("binding").text("exchange", bind.exchange);
    let line = match bind.destination {
        Destination::Queue(name) => line.text("queue", name),
        Destination::Exchange(name) => line.text("to_exchange", name),
    };
    headed(keyed(line, "pattern", bind.pattern), "arguments", bind.arguments).text("grade", grade(bind.grade))
}
