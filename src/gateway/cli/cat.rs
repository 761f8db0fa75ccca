//! `forebay cat`: the messages of a store, one a line.
//! ```text
//! queue#offset  time  state  key  {headers}  body
//! ```

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use super::args::Cat;
use super::{verdict, written};
use crate::broker::{Content, Standee, Standing};
use crate::gateway::errors::Fatal;
use crate::gateway::look::progress::Progress;
use crate::gateway::look::text::{headers, iso, plain};
use crate::gateway::look::{self, ImageBroker};
use crate::log::ReadError;
use crate::units::{Millis, QueueId};

/// Prints messages; fails if some of the store cannot be read.
pub fn cat(task: &Cat) -> Result<ExitCode, Fatal> {
    let opened = look::open(&task.store, &Progress::hidden())?;
    let damaged = opened.mount(|broker, mounted| -> Result<u64, Fatal> {
        let queues = chosen(broker, task)?;
        let mut printer = Printer { out: BufWriter::new(io::stdout().lock()), task, count: 0, damaged: 0 };
        let now = broker.info().now;
        let done = match task.retained {
            true => printer.retained(broker, now),
            false => queues.iter().try_for_each(|(id, name)| printer.queue(broker, *id, name, now)),
        };
        written(done.and_then(|()| printer.out.flush()))?;
        Ok(printer.damaged + u64::from(mounted.log.damages))
    })??;
    Ok(verdict(damaged, &task.store))
}

/// The queues that are to be printed, in the order they were named.
fn chosen(broker: &ImageBroker<'_>, task: &Cat) -> Result<Vec<(QueueId, String)>, Fatal> {
    let mut all = Vec::new();
    broker.for_each_queue(&mut |queue| all.push((queue.id, queue.name.to_string())));
    if task.queues.is_empty() {
        return Ok(all);
    }
    let named = task.queues.iter().map(|name| {
        all.iter().find(|(_, other)| other == name).cloned().ok_or_else(|| {
            let store = task.store.display();
            let names: Vec<&str> = all.iter().take(20).map(|(_, name)| name.as_str()).collect();
            Fatal(match names.is_empty() {
                true => format!("there is no queue {name} in {store}, nor any other"),
                false => format!("there is no queue {name} in {store}; there are {}", names.join(", ")),
            })
        })
    });
    named.collect()
}

struct Printer<'t> {
    out: BufWriter<io::StdoutLock<'static>>,
    task: &'t Cat,
    count: u64,
    damaged: u64,
}

impl Printer<'_> {
    fn is_done(&self) -> bool {
        self.task.count > 0 && self.count >= self.task.count
    }

    fn queue(
        &mut self,
        broker: &mut ImageBroker<'_>,
        id: QueueId,
        name: &str,
        now: Millis,
    ) -> io::Result<()> {
        let base = broker.base_of(id).0;
        for before in look::in_order(broker, id) {
            if self.is_done() {
                break;
            }
            let Some((_, standee)) = broker.browse(id, before) else { continue };
            let offset = standee.offset.0.saturating_sub(base);
            if offset >= self.task.from {
                let label = format!("{}#{offset}", plain(name.as_bytes()));
                let expires = standee.content.map_or(Millis::NEVER, |content| content.expires);
                self.line(&label, &state(&standee, expires, now), &standee.content)?;
            }
        }
        Ok(())
    }

    fn retained(&mut self, broker: &mut ImageBroker<'_>, now: Millis) -> io::Result<()> {
        let mut cursor = 0;
        while !self.is_done() {
            let Some((next, content)) = broker.browse_retained(cursor) else { break };
            cursor = next;
            let Some(content) = content else { continue };
            let expires = content.map_or(Millis::NEVER, |content| content.expires);
            self.line("retained", &format!("kept{}", until(expires, now)), &content)?;
        }
        Ok(())
    }

    fn line(&mut self, label: &str, state: &str, content: &Result<Content<'_>, ReadError>) -> io::Result<()> {
        self.count += 1;
        let content = match content {
            Ok(content) => content,
            Err(_) => {
                self.damaged += 1;
                return match self.task.raw {
                    true => Ok(()),
                    false => writeln!(self.out, "{label}  damaged"),
                };
            }
        };
        let message = &content.message;
        if self.task.raw {
            self.out.write_all(message.body)?;
            return self.out.write_all(b"\n");
        }
        write!(self.out, "{label}  {}  {state}  {}", iso(content.published), plain(message.key.text))?;
        for part in [headers(message.headers), plain(message.body)] {
            if !part.is_empty() {
                write!(self.out, "  {part}")?;
            }
        }
        self.out.write_all(b"\n")
    }
}

fn state(standee: &Standee<'_>, expires: Millis, now: Millis) -> String {
    let mut out = match standee.standing {
        Standing::Delayed(time) if time > now => format!("delayed until {}", iso(time)),
        Standing::InFlight => "in flight".to_string(),
        _ if standee.received => "received, not released".to_string(),
        _ => "ready".to_string(),
    };
    match standee.deliveries {
        0 if standee.redelivered => out.push_str(", perhaps delivered"),
        0 => {}
        count => out.push_str(&format!(", delivered {count} times")),
    }
    if standee.priority > 0 {
        out.push_str(&format!(", priority {}", standee.priority));
    }
    out.push_str(&until(expires, now));
    out
}

fn until(expires: Millis, now: Millis) -> String {
    match expires {
        Millis::NEVER => String::new(),
        past if past <= now => ", expired".to_string(),
        time => format!(", expires {}", iso(time)),
    }
}
