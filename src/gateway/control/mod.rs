//! The control socket: what an operator asks of the broker that runs here. One question a connection.
//!
//! ```text
//! waiting --request--> listing --a piece a turn--> answered
//!                  |-> cancelling --durable------> answered
//!                  '-> answered (status, what cannot be done, what makes no sense)
//! ```
//! The answer ends with a line that says that it is whole, so a broker that dies in the middle of it is not
//! taken for a short list. A list is never whole in memory: a turn adds a piece, and none while the client has
//! enough to take. That messages were cancelled is said once it is durable.
//!
//! Limits: a request of [`LINE_MAX`](request::LINE_MAX) bytes; of a list [`PIECE_BYTES`] and one message, or
//! [`PIECE_COUNT`] messages, a turn. Who asks nothing is disconnected after `connections.handshake`.

pub mod request;

use crate::command::{Command, Commands, Delivery, Offer, Refusal, Reply, Which};
use crate::protocol::{Close, Session};
use crate::units::{Millis, Offset, Position, QueueId};

use super::look::lines::{standee_line, standee_object};
use super::look::text::{no_queue, plain};
use request::{List, Request, DONE, LAST, LINE_MAX};

/// A turn adds no further message to a list behind so many bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Messages that a turn adds to a list at most.
const PIECE_COUNT: u32 = 64;

/// That all was done, or what went wrong.
type Verdict = Result<(), String>;

/// A connection of the control socket.
pub struct ControlSession {
    state: State,
}

enum State {
    /// Nothing was asked yet.
    Waiting,
    /// A list is being written.
    Listing(Listing),
    /// What was removed is told once it is durable.
    Cancelling(Cancelling),
    /// There is nothing more to say.
    Answered,
}

struct Listing {
    list: List,
    id: QueueId,
    /// Messages that may still come.
    left: u64,
    unreadable: u64,
}

struct Cancelling {
    durable_at: Position,
    lines: String,
    verdict: Verdict,
}

impl ControlSession {
    /// A connection that has asked nothing yet.
    pub fn new() -> ControlSession {
        ControlSession { state: State::Waiting }
    }

    /// Does what a request asks, or begins to.
    fn begin(&mut self, request: Request, broker: &mut dyn Commands, out: &mut Vec<u8>) -> Result<(), Close> {
        match request {
            Request::Status { is_json } => {
                let mut text = String::new();
                broker.report(is_json, &mut text);
                out.extend_from_slice(text.as_bytes());
                return self.end(Ok(()), out);
            }
            Request::List(list) => match find(broker, &list.queue) {
                Ok(id) => {
                    let left = if list.count == 0 { u64::MAX } else { list.count };
                    self.state = State::Listing(Listing { list, id, left, unreadable: 0 });
                }
                Err(why) => return self.end(Err(why), out),
            },
            Request::Cancel { queue, offsets } => match find(broker, &queue) {
                Ok(id) => {
                    self.state = State::Cancelling(cancel(broker, &queue, id, &offsets));
                    self.tell_removed(broker.durable(), out);
                }
                Err(why) => return self.end(Err(why), out),
            },
        }
        Ok(())
    }

    /// Ends the answer, and the connection with it.
    fn end(&mut self, verdict: Verdict, out: &mut Vec<u8>) -> Result<(), Close> {
        self.finish(&verdict, out);
        Err(Close::Normal)
    }

    fn finish(&mut self, verdict: &Verdict, out: &mut Vec<u8>) {
        let text = verdict.as_ref().map_or_else(String::as_str, |()| DONE);
        out.push(LAST);
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
        self.state = State::Answered;
    }

    /// Says what was removed, if that is durable.
    fn tell_removed(&mut self, durable: Position, out: &mut Vec<u8>) {
        if let State::Cancelling(done) = &mut self.state {
            if done.durable_at <= durable {
                out.extend_from_slice(done.lines.as_bytes());
                let verdict = std::mem::replace(&mut done.verdict, Ok(()));
                self.finish(&verdict, out);
            }
        }
    }
}

impl Session for ControlSession {
    fn handle_input(
        &mut self,
        input: &[u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<usize, Close> {
        match &mut self.state {
            State::Waiting => match input.iter().take(LINE_MAX + 1).position(|&byte| byte == b'\n') {
                None if input.len() <= LINE_MAX => return Ok(0),
                end => {
                    let line = end.and_then(|end| input.get(..end));
                    let Some(request) = line.and_then(Request::parse) else {
                        self.finish(&Err("this is no request that this broker understands".into()), out);
                        return Err(Close::Protocol("it asked what makes no sense on the control socket"));
                    };
                    self.begin(request, broker, out)?;
                }
            },
            State::Listing(listing) => {
                if let Some(verdict) = listing.add_piece(broker, out) {
                    self.end(verdict, out)?;
                }
            }
            State::Cancelling(_) | State::Answered => {}
        }
        // One request a connection: what comes behind it is nothing.
        Ok(input.len())
    }

    fn is_unfinished(&self) -> bool {
        matches!(self.state, State::Listing(_))
    }

    fn handle_delivery(&mut self, _: &Delivery<'_>, _: &mut Vec<u8>) -> Offer {
        Offer::Busy
    }

    fn handle_durable(&mut self, durable: Position, _: &mut dyn Commands, out: &mut Vec<u8>) {
        self.tell_removed(durable, out);
    }

    fn handle_read_only(&mut self, out: &mut Vec<u8>) -> Result<(), Close> {
        match self.state {
            State::Cancelling(_) => self.end(
                Err("the store takes no writes any more, and what was cancelled is there again after the \
                     restart; `forebay status` says why, cancel again then"
                    .into()),
                out,
            ),
            _ => Ok(()),
        }
    }

    fn is_established(&self) -> bool {
        !matches!(self.state, State::Waiting)
    }

    fn awaits_durable(&self) -> bool {
        matches!(self.state, State::Cancelling(_))
    }

    fn poll_timeout(&self) -> Millis {
        match self.state {
            State::Answered => Millis(0),
            _ => Millis::NEVER,
        }
    }

    fn handle_timeout(&mut self, _: Millis, _: &mut dyn Commands, _: &mut Vec<u8>) -> Result<(), Close> {
        match self.state {
            State::Answered => Err(Close::Normal),
            _ => Ok(()),
        }
    }

    fn handle_close(&mut self, _: &Close, _: &mut dyn Commands) {}
}

impl Listing {
    /// Adds messages to the answer; a verdict if those were the last.
    fn add_piece(&mut self, broker: &mut dyn Commands, out: &mut Vec<u8>) -> Option<Verdict> {
        // Another queue may have its place meanwhile.
        if find(broker, &self.list.queue) != Ok(self.id) {
            let name = plain(self.list.queue.as_bytes());
            return Some(Err(format!("queue {name} was deleted while it was listed")));
        }
        let (now, end) = (broker.now(), out.len() + PIECE_BYTES);
        for _ in 0..PIECE_COUNT {
            if self.left == 0 {
                return Some(self.verdict());
            }
            let Some((next, standee)) = broker.browse(self.id, self.list.from, self.list.which) else {
                return Some(self.verdict());
            };
            self.list.from = next;
            let Some(standee) = standee else { break };
            self.left -= 1;
            self.unreadable += u64::from(standee.content.is_err());
            let line = match self.list.is_json {
                true => standee_object(&self.list.queue, &standee).finish(),
                false => standee_line(&self.list.queue, &standee, now),
            };
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
            if out.len() >= end {
                break;
            }
        }
        None
    }

    fn verdict(&self) -> Verdict {
        match self.unreadable {
            0 => Ok(()),
            count => Err(format!("messages that cannot be read: {count}; `forebay fsck` finds out more when the broker is stopped")),
        }
    }
}

fn find(broker: &mut dyn Commands, name: &str) -> Result<QueueId, String> {
    if let Ok(Reply::Queue { id, .. }) = broker.execute(Command::FindQueue { name }) {
        return Ok(id);
    }
    let mut names = Vec::new();
    broker.for_each_name(&mut |name| names.push(name.to_string()));
    Err(no_queue(name, &"this broker", names.iter().map(String::as_str)))
}

/// Removes messages, as far as they can be.
fn cancel(broker: &mut dyn Commands, queue: &str, id: QueueId, offsets: &[Offset]) -> Cancelling {
    let mut done = Cancelling { durable_at: Position(0), lines: String::new(), verdict: Ok(()) };
    let mut failures = Vec::new();
    for &offset in offsets {
        let label = format!("{}#{offset}", plain(queue.as_bytes()));
        match broker.execute(Command::Cancel { queue: id, offset }) {
            Ok(Reply::Done(position)) => {
                done.durable_at = done.durable_at.max(position);
                done.lines.push_str(&format!("{label}  cancelled\n"));
            }
            Err(Refusal::NoMessage) if is_there(broker, id, offset) => {
                failures.push(format!("{label} is in flight, at a consumer"));
            }
            Err(Refusal::NoMessage) => failures.push(format!("{label} is not there")),
            Err(Refusal::NotAllowed) => {
                let name = plain(queue.as_bytes());
                failures = vec![format!("{name} is a stream or a group, from which nothing is cancelled")];
                break;
            }
            Err(Refusal::ReadOnly) => failures.push(format!(
                "{label} stays, since the store takes no writes any more; `forebay status` says why"
            )),
            other => failures.push(format!("{label} stays: {other:?}")),
        }
    }
    if !failures.is_empty() {
        done.verdict = Err(failures.join("; "));
    }
    done
}

fn is_there(broker: &mut dyn Commands, queue: QueueId, offset: Offset) -> bool {
    let found = broker.browse(queue, offset, Which::Any);
    found.is_some_and(|(_, standee)| standee.is_some_and(|standee| standee.offset == offset))
}
