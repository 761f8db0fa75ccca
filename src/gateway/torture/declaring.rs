//! Declaring, at random: queues and bindings come and go.

use super::life::Life;
use super::model::Check;
use super::nouns::{self, ALL, NOUNS, WIRES, WIRING};
use super::random::Random;
use super::simulator::{HELD_KEYS, WINDOW_KEYS};
use crate::command::{Bind, Command, Destination, Grade, Refusal, Reply};
use crate::model::key::Key;
use crate::units::{Millis, QueueId};

impl Life<'_> {
    pub(super) fn declare(&mut self, random: &mut Random) -> Check {
        let start = random.below(NOUNS as u64) as usize;
        for place in 0..NOUNS {
            self.declare_one((start + place) % NOUNS)?;
            if self.is_cut() {
                break;
            }
        }
        Ok(())
    }

    /// Declares a queue if it can be; again if it is there.
    pub fn declare_one(&mut self, index: usize) -> Check {
        let noun = &ALL[index];
        let stream = noun.stream.map(|stream| self.model.shelves[stream].id.now());
        if stream == Some(None) {
            return Ok(());
        }
        let stream_next = noun.stream.map(|stream| self.model.shelves[stream].next);
        let options = nouns::options(index, stream.flatten());
        self.tell(|| format!("declare {}", noun.name));
        let reply = self.execute(Command::DeclareQueue { name: noun.name, options })?;
        let step = self.model.step;
        let shelf = &mut self.model.shelves[index];
        let known = shelf.id.now();
        match reply {
            Some(Ok(Reply::Queue { id, existed, durable_at, .. })) => {
                if existed != known.is_some() || existed && known != Some(id.0) {
                    return Err(format!("{} existed: {existed}, as {id}", noun.name));
                }
                if !existed {
                    let safe_at = noun.options.durable.then_some(durable_at);
                    shelf.id.set(step, safe_at, Some(id.0));
                    self.born(index, id, stream_next)?;
                }
            }
            Some(Err(Refusal::StoreFull | Refusal::Limit(_))) => self.stats.refusals += 1,
            Some(other) => return Err(format!("{} is answered {other:?}", noun.name)),
            None if known.is_none() => {
                // It may be there, under an id that nobody was told.
                self.model.shelves[index].id.set(step, None, Some(u16::MAX));
            }
            None => {}
        }
        self.after(&[], &self.meanwhile())
    }

    /// A queue is new: with which offset it begins is the broker's choice.
    fn born(&mut self, index: usize, id: QueueId, stream_next: Option<u64>) -> Check {
        let mut next = None;
        self.broker.for_each_queue(&mut |queue| {
            if queue.id == id {
                next = Some((queue.next.0, queue.ready + queue.in_flight + queue.delayed));
            }
        });
        let shelf = &mut self.model.shelves[index];
        let Some((next, 0)) = next else { return Err(format!("{} is not new: {next:?}", ALL[index].name)) };
        (shelf.next, shelf.start, shelf.floor) = (next, next, 0);
        let is_late = ALL[index].options.start.0 == u64::MAX;
        if stream_next.is_some_and(|stream| is_late && next != stream) {
            return Err(format!("{} begins at {next}", ALL[index].name));
        }
        if stream_next.is_some() {
            shelf.floor = next;
            shelf.items.clear();
        }
        Ok(())
    }

    pub(super) fn delete_or_purge(&mut self, random: &mut Random) -> Check {
        let index = random.below(NOUNS as u64) as usize;
        let name = ALL[index].name;
        let purges = random.once_in(2) && ALL[index].stream.is_none();
        let there = self.model.shelves[index].id.now().is_some();
        self.tell(|| format!("{} {name}", if purges { "purge" } else { "delete" }));
        let command = match purges {
            true => Command::Purge { name },
            false => Command::DeleteQueue { name, if_unused: false, if_empty: false },
        };
        let reply = self.execute(command)?;
        match reply {
            Some(Err(Refusal::NoQueue)) if !there => return Ok(()),
            Some(Err(Refusal::StoreFull)) => return self.was_refused(Refusal::StoreFull),
            Some(Err(refusal)) => return Err(format!("{name} stays: {refusal:?}")),
            Some(Ok(_)) if !there => return Err(format!("{name} was not there")),
            _ if !there => return Ok(()),
            _ => {}
        }
        let step = self.model.step;
        if purges {
            self.take_in_nothing()?;
            let count = self.model.shelves[index].empty(step, false);
            if reply.is_some_and(|reply| reply != Ok(Reply::Purged { count, more: false })) {
                return Err(format!("{name}: {count} were there to be purged"));
            }
        } else {
            self.model.delete(index);
            if index == nouns::SESSION {
                let held = WINDOW_KEYS as usize..(WINDOW_KEYS + HELD_KEYS) as usize;
                held.for_each(|key| self.model.keys[key].set(step, None, Millis(0)));
            }
        }
        self.after(&[], &self.meanwhile())?;
        if self.is_cut() {
            return Ok(());
        }
        self.compare(&[], &self.meanwhile())
    }

    pub(super) fn wire(&mut self, random: &mut Random) -> Check {
        let index = random.below(WIRES as u64) as usize;
        let unbinds = random.once_in(3);
        self.wire_one(index, unbinds)
    }

    /// Makes a binding or takes it back.
    pub fn wire_one(&mut self, index: usize, unbinds: bool) -> Check {
        let wire = &WIRING[index];
        let destination = Destination::Queue(ALL[wire.queue].name);
        let pattern = Key::dots(wire.pattern.as_bytes());
        let grade = Grade::ExactlyOnce;
        let bind = Bind { exchange: wire.exchange, destination, pattern, arguments: &[], grade };
        let there = self.model.shelves[wire.queue].id.now().is_some();
        self.tell(|| format!("bind {} {} {unbinds}", wire.exchange, ALL[wire.queue].name));
        let reply = self.execute(if unbinds { Command::Unbind(bind) } else { Command::Bind(bind) })?;
        let step = self.model.step;
        let safe_at = match reply {
            Some(Err(Refusal::NoQueue)) if !there => return Ok(()),
            Some(Err(Refusal::StoreFull | Refusal::Limit(_))) => return self.after(&[], &self.meanwhile()),
            Some(Err(refusal)) => return Err(format!("a binding is refused: {refusal:?}")),
            Some(Ok(Reply::Done(position))) => Some(position),
            _ => None,
        };
        if there {
            self.model.wires[index].set(step, safe_at, !unbinds);
            if !ALL[wire.queue].options.durable {
                self.model.wires[index].set(step, None, !unbinds);
            }
        }
        self.after(&[], &self.meanwhile())
    }
}
