//! The ledger of a run: which states the store may be in when power goes at a step of the device.
//!
//! One run is recorded; every act of it (a publish, an acknowledgement) is stamped with the step of the
//! device at which it was begun, and the one from which it was durable. The log promises more than that
//! nothing durable is lost: what survives is a beginning of what was done, in order. So for a cut at a
//! step there are few states that are right, and all of them are known:
//! ```text
//! acts      0 1 2 3 4 5 6 7 8 9 ...
//!           durable |   | begun        states 4, 5, 6 and 7 are allowed, where a state
//!             before cut  before cut   is known by its fingerprint
//! ```

use std::collections::VecDeque;

use super::random::Random;
use crate::units::Position;

/// A step that never comes.
pub const NEVER: u64 = u64::MAX;

/// The part of a fingerprint that stands for one thing.
pub fn mix(thing: u64) -> u64 {
    Random(thing).draw()
}

/// What changes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A message is published.
    Publish(u32),
    /// A message is acknowledged.
    Ack(u32),
    /// The store was mounted, and what it then held is durable.
    Mounted,
}

/// Acts in order, with their stamps, and the states between them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    acts: Vec<Act>,
    begun: Vec<u64>,
    durable: Vec<u64>,
    /// The state behind every act.
    prints: Vec<u64>,
    /// How many acts are known to be durable.
    settled: usize,
    /// Where the log ended, and how many acts there were then.
    ends: VecDeque<(Position, usize)>,
}

impl Ledger {
    /// Begins with a state that is durable.
    pub fn begin(&mut self, print: u64) {
        self.acts.clear();
        self.begun.clear();
        self.durable.clear();
        self.prints.clear();
        self.settled = 0;
        self.forget_ends();
        self.push(Act::Mounted, 0, print);
        self.settle(1, 0);
    }

    /// Number of acts, the beginning included.
    pub fn len(&self) -> usize {
        self.acts.len()
    }

    /// Whether nothing was begun.
    pub fn is_empty(&self) -> bool {
        self.acts.is_empty()
    }

    /// An act that begins at a step and leads to a state.
    pub fn push(&mut self, act: Act, step: u64, print: u64) {
        self.acts.push(act);
        self.begun.push(step);
        self.durable.push(NEVER);
        self.prints.push(print);
    }

    /// The first so many acts are durable from this step on.
    pub fn settle(&mut self, count: usize, step: u64) {
        for durable in self.durable.iter_mut().take(count).skip(self.settled) {
            *durable = step;
        }
        self.settled = self.settled.max(count.min(self.durable.len()));
    }

    /// All acts up to now are durable once the log is up to here.
    pub fn ends_at(&mut self, end: Position) {
        self.ends.push_back((end, self.acts.len()));
    }

    /// The log is durable up to here, from this step on.
    pub fn settle_to(&mut self, durable: Position, step: u64) {
        while let Some((_, count)) = self.ends.front().copied().filter(|(end, _)| *end <= durable) {
            self.ends.pop_front();
            self.settle(count, step);
        }
    }

    /// A mount ends the log elsewhere.
    pub fn forget_ends(&mut self) {
        self.ends.clear();
    }

    /// The states that are right if power goes at a step, the oldest first.
    pub fn allowed(&self, step: u64) -> &[u64] {
        let least = self.durable.partition_point(|&durable| durable <= step).saturating_sub(1);
        let most = self.begun.partition_point(|&begun| begun < step).max(least + 1);
        self.prints.get(least..most).unwrap_or(&[])
    }

    /// The state that is right at last.
    pub fn last(&self) -> u64 {
        self.prints.last().copied().unwrap_or(0)
    }

    /// Says what is wrong with a state that is not allowed, from its fingerprint: the one act that
    /// would explain it, if there is one.
    pub fn explain(&self, step: u64, print: u64) -> String {
        let least = self.durable.partition_point(|&durable| durable <= step).saturating_sub(1);
        let most = self.begun.partition_point(|&begun| begun < step).max(least + 1) - 1;
        let mut text = format!("allowed are the states after acts {least} to {most}");
        match self.prints.iter().position(|&known| known == print) {
            Some(place) => text += &format!(", found is the one after act {place}"),
            None => {
                let ids = self.acts.iter().filter_map(|act| match act {
                    Act::Publish(id) | Act::Ack(id) => Some(*id),
                    Act::Mounted => None,
                });
                let states = self.prints.get(least..=most).unwrap_or(&[]);
                let near = ids.flat_map(|id| states.iter().map(move |state| (id, state)));
                let one = near.into_iter().find(|(id, state)| **state ^ mix(u64::from(*id) + 1) == print);
                match one {
                    Some((id, _)) => text += &format!(", found is one of them but for message {id}"),
                    None => text += ", found is none that ever was",
                }
            }
        }
        let from = least.saturating_sub(3);
        let to = (most + 3).min(self.acts.len());
        for act in from..to {
            text += &format!(
                "\n  act {act}: {:?}, begun at {}, durable at {}",
                self.acts[act],
                self.begun[act],
                if self.durable[act] == NEVER { -1 } else { self.durable[act] as i64 }
            );
        }
        text
    }
}
