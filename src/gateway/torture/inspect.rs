//! What is asked of a store whose power went: the checks behind every cut, with the toy broker.
//!
//! ```text
//! mount -> one of the allowed states? no damage? every body as published? no misuse of the device?
//!   again    mount once more: the same
//!   go on    publish a few, settle, power off and on, mount: all of it and no more
//! ```
//! Everything is mounted in the same memory, and nothing is allocated.

use super::ledger::{Act, Ledger};
use super::script::settle;
use super::stats::Stats;
use super::toy::{Bench, Bodies, Toy};
use crate::flash::fault::{FaultFlash, Tear};
use crate::log::{AppendError, Log, MountReport};

/// Messages published to see that a store goes on.
const ON_COUNT: u32 = 3;
/// Rounds of reclaim and sync in which there must be room for one message.
const ROOM_ROUNDS: u32 = 32;

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One mount.
    Once,
    /// A second mount.
    Again,
    /// And it goes on.
    On,
}

/// The memory of the checks, and what they counted.
pub struct Inspector {
    bench: Bench,
    toy: Toy,
    again: Toy,
    /// What was counted.
    pub stats: Stats,
}

impl Inspector {
    /// Checks stores that are mounted in this memory, with so many messages.
    pub fn new(bench: Bench, messages: usize) -> Inspector {
        Inspector { bench, toy: Toy::new(messages), again: Toy::new(messages), stats: Stats::default() }
    }

    /// Checks the store on a device: one of these states is right.
    pub fn inspect(
        &mut self,
        flash: &mut FaultFlash,
        allowed: &[u64],
        bodies: &Bodies,
        depth: Depth,
        tear: Tear,
    ) -> Result<(), Wrong> {
        self.stats.cuts += 1;
        let Inspector { bench, toy, again, stats } = self;
        {
            let mut log = mount(bench, flash, toy, bodies, stats)?;
            if !allowed.contains(&toy.print()) {
                return Err(Wrong::State(toy.print()));
            }
            match depth {
                Depth::Once => {}
                // What it found lasts once that is durable.
                Depth::Again => settled(&mut log)?,
                Depth::On => {
                    go_on(&mut log, toy, bodies)?;
                    stats.continued += 1;
                }
            }
        }
        if depth == Depth::On {
            flash.restart(tear);
        }
        if depth != Depth::Once {
            mount(bench, flash, again, bodies, stats)?;
            if again.print() != toy.print() {
                return Err(Wrong::Again(toy.print() ^ again.print()));
            }
        }
        match flash.meter().misuses {
            0 => Ok(()),
            count => Err(Wrong::Misuse(count)),
        }
    }

    /// Mounts a device, makes that durable and publishes a little, as the next life would; the step from
    /// which on the ledger says what is right; that is none where a store has no room for that.
    pub fn revive(
        &mut self,
        flash: &mut FaultFlash,
        bodies: &Bodies,
        ledger: &mut Ledger,
    ) -> Result<u64, Wrong> {
        let mut log = mount(&mut self.bench, flash, &mut self.toy, bodies, &mut self.stats)?;
        self.toy.hold_all(&mut log);
        settled(&mut log)?;
        let begun = if log.tail() > log.durable() { u64::MAX } else { log.device().steps() };
        ledger.begin(self.toy.print());
        let step = log.device().steps();
        if let Ok(id) = self.toy.publish(&mut log, bodies) {
            ledger.push(Act::Publish(id), step, self.toy.print());
        }
        settled(&mut log)?;
        ledger.settle(ledger.len(), log.device().steps() + 1);
        Ok(begun)
    }

    /// The state of the store at the end of the last check.
    pub fn print(&self) -> u64 {
        self.toy.print()
    }

    /// Where the messages are that were found last.
    pub fn places(&self) -> Vec<u64> {
        self.toy.live().map(|(_, at)| at.0).collect()
    }
}

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It holds a state that is not allowed; its fingerprint.
    State(u64),
    /// A second mount shows another state.
    Again(u64),
    /// The device was misused so often.
    Misuse(u64),
    /// Anything else.
    Told(String),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::State(print) => write!(f, "a state that is not allowed ({print:016x})"),
            Wrong::Again(print) => write!(f, "a second mount shows another state ({print:016x})"),
            Wrong::Misuse(count) => write!(f, "the device was misused {count} times"),
            Wrong::Told(text) => f.write_str(text),
        }
    }
}

fn mount<'m>(
    bench: &'m mut Bench,
    flash: &'m mut FaultFlash,
    toy: &mut Toy,
    bodies: &Bodies,
    stats: &mut Stats,
) -> Result<Log<'m, &'m mut FaultFlash>, Wrong> {
    toy.clear();
    let before = flash.meter();
    let mounted = bench.mount(flash, toy);
    let (mut log, report) = mounted.map_err(|error| Wrong::Told(format!("cannot be mounted: {error:?}")))?;
    let after = log.device().meter();
    stats.mounts += 1;
    stats.recoveries += u64::from(report.copied > 0);
    let calls = (after.reads - before.reads) + (after.programs - before.programs);
    stats.most_calls = stats.most_calls.max(calls);
    whole(toy, &report)?;
    match toy.wrong(&mut log, bodies) {
        Some(id) => Err(Wrong::Told(format!("message {id} is not what was published, {report:?}"))),
        None => Ok(log),
    }
}

fn whole(toy: &Toy, report: &MountReport) -> Result<(), Wrong> {
    if report.damages > 0 || toy.damages > 0 {
        return Err(Wrong::Told(format!("damage is told where only power was lost: {report:?}")));
    }
    if toy.strays > 0 {
        return Err(Wrong::Told(format!("{} records that nobody wrote, {report:?}", toy.strays)));
    }
    Ok(())
}

fn go_on(log: &mut Log<'_, &mut FaultFlash>, toy: &mut Toy, bodies: &Bodies) -> Result<(), Wrong> {
    let told = |what: String| Err(Wrong::Told(what));
    toy.hold_all(log);
    for _ in 0..ON_COUNT {
        for round in 0.. {
            match toy.publish(log, bodies) {
                Ok(_) => break,
                Err(AppendError::Full) if round < ROOM_ROUNDS => {
                    let room = toy.reclaim(log).and_then(|()| log.commit()).and_then(|()| log.poll());
                    if let Err(error) = room {
                        return told(format!("cannot make room: {error:?}"));
                    }
                }
                Err(error) => return told(format!("goes not on: {error:?}, {:?}", log.stats())),
            }
        }
        if let Err(error) = toy.reclaim(log) {
            return told(format!("cannot reclaim: {error:?}"));
        }
    }
    settled(log)
}

fn settled(log: &mut Log<'_, &mut FaultFlash>) -> Result<(), Wrong> {
    settle(log).map_err(|error| Wrong::Told(format!("cannot settle: {error:?}")))
}
