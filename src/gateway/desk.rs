//! Where a session at work meets the broker: commands go through, deliveries land in the table.

use std::fmt::Write;

use crate::command::{Command, Commands, Outlet, Refusal, Reply, Standee, Which};
use crate::protocol::{Close, Session};
use crate::units::{ConsumerId, Millis, Offset, Position, QueueId};

use super::engine::Engine;
use super::report;
use super::table::Table;

/// The broker and the table of connections, for the time of one call.
pub struct Desk<'g> {
    /// The broker.
    pub engine: &'g mut Engine,
    /// The connections.
    pub table: &'g mut Table,
}

impl Desk<'_> {
    /// Ends a session, for this reason; what is in its outbox is still sent.
    pub fn end(&mut self, index: u32, mut session: Box<dyn Session>, reason: &Close) {
        session.handle_close(reason, self);
        let Some(slot) = self.table.slot(index) else { return };
        slot.is_closing = true;
        slot.direct = None;
        slot.paused.clear();
        if let Some(stream) = &slot.stream {
            match reason {
                Close::Normal | Close::Lost | Close::Shutdown => log::debug!("{stream}: {}", why(reason)),
                _ => log::info!("{stream} disconnected: {}", why(reason)),
            }
        }
        self.table.mark_dirty(index);
    }
}

impl Commands for Desk<'_> {
    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        if matches!(command, Command::Publish(_)) {
            self.table.set_publishing(true);
        }
        let now = self.table.now;
        let outcome = self.engine.execute(now, command, self.table);
        if let Command::Publish(publish) = command {
            let taken = self.table.set_publishing(false);
            let routed = matches!(outcome, Ok(Reply::Published { routed, .. }) if u32::from(routed) > taken);
            if routed && !publish.durable {
                self.table.suspect_pressure();
            }
        }
        outcome
    }

    fn fetch(&mut self, consumer: ConsumerId, count: u32, outlet: &mut dyn Outlet) -> Result<Reply, Refusal> {
        self.engine.execute(self.table.now, Command::Fetch { consumer, count }, outlet)
    }

    fn browse(
        &mut self,
        queue: QueueId,
        from: Offset,
        which: Which,
    ) -> Option<(Offset, Option<Standee<'_>>)> {
        self.engine.browse(queue, from, which)
    }

    fn for_each_name(&self, tell: &mut dyn FnMut(&str)) {
        self.engine.for_each_queue(&mut |queue| tell(queue.name));
    }

    fn report(&self, is_json: bool, out: &mut dyn Write) {
        let render = if is_json { report::json } else { report::text };
        // Whoever collects it has room for all of it.
        let _ = out.write_str(&render(self.engine, self.table));
    }

    fn poll_cancelled(&mut self) -> Option<ConsumerId> {
        self.table.pop_cancelled()
    }

    fn durable(&self) -> Position {
        self.engine.durable()
    }

    fn is_short(&self) -> bool {
        self.engine.is_short()
    }

    fn now(&self) -> Millis {
        self.table.now
    }

    fn disconnect(&mut self, owner: u64) {
        let Some(index) = self.table.find(owner) else { return };
        // A session that is at work cannot be taken over by itself.
        let session = self.table.slot(index).and_then(|slot| slot.session.take());
        if let Some(session) = session {
            self.end(index, session, &Close::TakenOver);
        }
    }
}

/// A reason in words, for the log.
fn why(reason: &Close) -> &'static str {
    match reason {
        Close::Normal => "it said goodbye",
        Close::Lost => "the connection was lost",
        Close::Shutdown => "shutting down",
        Close::TakenOver => "another connection with the same client id took over; ids must be unique",
        Close::Silent => "it was silent for longer than it promised",
        Close::Protocol(text) | Close::Refused(text) => text,
    }
}
