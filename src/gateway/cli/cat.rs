//! `forebay cat`: the messages of a store, one a line.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use super::args::Cat;
use super::{verdict, written};
use crate::command::{Content, Which};
use crate::gateway::errors::Fatal;
use crate::gateway::look::lines::{standee_line, value_line};
use crate::gateway::look::progress::Progress;
use crate::gateway::look::text::no_queue;
use crate::gateway::look::{self, ImageBroker};
use crate::log::ReadError;
use crate::units::{Millis, Offset, QueueId};

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
            let names = all.iter().map(|(_, name)| name.as_str());
            Fatal(no_queue(name, &task.store.display(), names))
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
        let mut from = Offset(self.task.from);
        while !self.is_done() {
            let Some((next, standee)) = broker.browse(id, from, Which::Any) else { break };
            from = next;
            let Some(standee) = standee else { continue };
            self.line(&standee.content, || standee_line(name, &standee, now))?;
        }
        Ok(())
    }

    fn retained(&mut self, broker: &mut ImageBroker<'_>, now: Millis) -> io::Result<()> {
        let mut cursor = 0;
        while !self.is_done() {
            let Some((next, content)) = broker.browse_retained(cursor) else { break };
            cursor = next;
            let Some(content) = content else { continue };
            self.line(&content, || value_line(&content, now))?;
        }
        Ok(())
    }

    fn line(
        &mut self,
        content: &Result<Content<'_>, ReadError>,
        line: impl FnOnce() -> String,
    ) -> io::Result<()> {
        self.count += 1;
        self.damaged += u64::from(content.is_err());
        match content {
            Ok(content) if self.task.raw => self.out.write_all(content.message.body)?,
            Err(_) if self.task.raw => return Ok(()),
            _ => self.out.write_all(line().as_bytes())?,
        }
        self.out.write_all(b"\n")
    }
}
