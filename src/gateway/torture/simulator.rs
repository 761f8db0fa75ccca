//! The simulator: one seed is one device and the lives of a broker on it.
//!
//! ```text
//! format -> life -> cut | kill | close -> restart with a tear -> mount (cut -> restart)* -> check
//!            ^                                                                         |
//!            +-------------------------- mount again, the same? <----------------------+
//! ```
//! Everything that is left to chance is drawn when the [`Script`] is written, so a part of a script can
//! be left out and the rest stays what it was: that is how `shrink` makes a failure small.

use super::life::{Clocks, Life};
use super::look::{look, Seen};
use super::model::{Check, Item, Model};
use super::nouns::{NOUNS, WIRES};
use super::seeded::{End, LifeScript, Script};
use crate::broker::{Broker, Mounted, Settings};
use crate::flash::fault::{FaultFlash, Tear};
use crate::gateway::memory::Tables;
use crate::log::Log;
use crate::units::Millis;

/// Dedup keys of producers.
pub const WINDOW_KEYS: u64 = 6;
/// Exactly-once publishes that can be held.
pub const HELD_KEYS: u64 = 4;
/// How long a dedup key is remembered.
pub const DEDUP_WINDOW_MS: u64 = 30_000;
/// Deliveries that can be in flight.
pub const IN_FLIGHT: u32 = 24;

/// Free segments at a mount from which on a store may be stuck: power that goes again and again before
/// anything is reclaimed eats up what the log keeps in reserve.
const RESERVE: u32 = 1;
/// Rounds in which what a mount found becomes durable.
const SYNC_ROUNDS: u32 = 8;

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lives on one device.
    pub lives: u32,
    /// Something is wrong on purpose, to see that it is found.
    pub defect: Option<Defect>,
    /// Goes on where a mount found no free segment. Power that goes again and again before anything is
    /// reclaimed eats up what the log keeps in reserve; then it can promise less (see `log`).
    pub beyond_reserve: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { lives: 40, defect: None, beyond_reserve: false }
    }
}

/// Something wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The device says that it has synced and has not.
    LyingSync,
    /// The model is told of a message that was never published.
    Phantom,
    /// The model is told of an acknowledgement that was never made.
    FalseAck,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times the power went.
    pub cuts: u64,
    /// Of these, during a mount.
    pub cuts_in_mounts: u64,
    /// Mounts that were finished.
    pub mounts: u64,
    /// Actions of clients.
    pub actions: u64,
    /// Messages handed out.
    pub deliveries: u64,
    /// Commands refused for want of room.
    pub refusals: u64,
    /// Publishes during which the power went.
    pub doubtful: u64,
    /// Runs that ended because what the log keeps in reserve was used up.
    pub exhausted: u64,
    /// What the log took no record of.
    pub unwritten: u64,
    /// Times everything was looked at.
    pub looks: u64,
    /// Most bytes one call programmed, in hundredths of a segment.
    pub most_bytes: u64,
    /// Most erases of one call.
    pub most_erases: u64,
    /// Most reads of one call.
    pub most_reads: u64,
    /// Most reads of one mount, for each segment.
    pub most_mount_reads: u64,
}

impl Stats {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Stats) {
        self.cuts += other.cuts;
        self.cuts_in_mounts += other.cuts_in_mounts;
        self.mounts += other.mounts;
        self.actions += other.actions;
        self.deliveries += other.deliveries;
        self.refusals += other.refusals;
        self.doubtful += other.doubtful;
        self.exhausted += other.exhausted;
        self.unwritten += other.unwritten;
        self.looks += other.looks;
        self.most_bytes = self.most_bytes.max(other.most_bytes);
        self.most_erases = self.most_erases.max(other.most_erases);
        self.most_reads = self.most_reads.max(other.most_reads);
        self.most_mount_reads = self.most_mount_reads.max(other.most_mount_reads);
    }
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub message: String,
    /// The life it went wrong in, from 0.
    pub life: usize,
    /// What was done, from the beginning.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "life {}: {}", self.life, self.message)?;
        write!(f, "again: forebay torture --campaign random --seed {}", self.seed)
    }
}

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Result<Stats, Failure> {
    let script = Script::of(seed, options);
    let mut stats = Stats::default();
    play(&script, &mut stats, false).map_err(|failure| {
        let mut unused = Stats::default();
        // Once more, with somebody listening.
        play(&script, &mut unused, true).err().unwrap_or(failure)
    })?;
    Ok(stats)
}

/// Plays a script.
pub fn play(script: &Script, stats: &mut Stats, is_traced: bool) -> Result<(), Failure> {
    let mut player = Player {
        script,
        stats,
        model: Model::new((WINDOW_KEYS + HELD_KEYS) as usize),
        clocks: Clocks {
            mono_ms: 1_000,
            unix_ms: crate::time::EPOCH_UNIX_MS + 200_000_000_000,
            is_frozen: false,
        },
        trace: is_traced.then(Vec::new),
        life: 0,
        doomed: None,
        was_full: false,
    };
    let played = player.play();
    let Player { trace, life, .. } = player;
    let fail = |message| Failure { seed: script.seed, message, life, trace: trace.unwrap_or_default() };
    played.map_err(fail)
}

struct Player<'s> {
    script: &'s Script,
    stats: &'s mut Stats,
    model: Model,
    clocks: Clocks,
    trace: Option<Vec<String>>,
    life: usize,
    /// A mount found no free segment.
    was_full: bool,
    /// Why a mount failed, which is right only if the power went.
    doomed: Option<String>,
}

impl Player<'_> {
    fn play(&mut self) -> Check {
        let script = self.script;
        let mut device = FaultFlash::new(script.geometry, script.device).ok_or("no such device")?;
        let mut tables = Tables::new(&script.limits(), script.geometry);
        Log::format(&mut device, script.seed as u32, Millis(0), &mut [0; 256])
            .map_err(|e| format!("format: {e:?}"))?;
        device.lie_about_syncs(script.defect == Some(Defect::LyingSync));
        for (number, life) in script.lives.iter().enumerate() {
            self.life = number;
            self.come_up(&mut device, &mut tables, number)?;
            self.live(&mut device, &mut tables, life, number == 0)?;
            if self.was_full && !script.beyond_reserve {
                self.stats.exhausted += 1;
                return Ok(());
            }
            if let Some(error) = self.doomed.take() {
                if !device.is_cut() {
                    return Err(error);
                }
            }
            self.spoil();
            self.go_down(&mut device, life);
        }
        self.life = script.lives.len();
        self.come_up(&mut device, &mut tables, script.lives.len())?;
        let last = LifeScript {
            actions: Vec::new(),
            end: End::Late,
            tear: (Tear::Prefix, 0),
            mount_cuts: Vec::new(),
            twice: false,
        };
        self.live(&mut device, &mut tables, &last, false)
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    fn mount<'t>(
        &self,
        device: &'t mut FaultFlash,
        tables: &'t mut Tables,
    ) -> Result<(Broker<'t, &'t mut FaultFlash>, Mounted), String> {
        let settings =
            Settings { seed: self.script.seed, dedup_window_ms: DEDUP_WINDOW_MS, ..Settings::default() };
        device.reopen();
        Broker::mount(device, tables.storage(), settings)
            .map_err(|error| format!("the store does not mount: {error:?}"))
    }

    /// Mounts, with the cuts that are to come meanwhile; then mounts again and holds it against itself.
    fn come_up(&mut self, device: &mut FaultFlash, tables: &mut Tables, number: usize) -> Check {
        let before = number.checked_sub(1).and_then(|before| self.script.lives.get(before));
        for &(steps, tear, seed) in before.iter().flat_map(|life| &life.mount_cuts) {
            device.cut_after(steps);
            let mounted = self.mount(device, tables).map(|_| ());
            self.tell(|| format!("mount, cut after {steps}: {mounted:?}"));
            let was_cut = device.is_cut();
            if !was_cut {
                mounted?;
            }
            self.stats.cuts += 1;
            self.stats.cuts_in_mounts += u64::from(was_cut);
            device.restart_with(tear, seed);
        }
        if before.is_some_and(|life| life.twice) {
            let (first, _, is_durable) = self.seen(device, tables)?;
            let (second, last, _) = self.seen(device, tables)?;
            if is_durable && first.in_essence(last) != second.in_essence(last) {
                return Err(format!("a second mount changes what is there: {first:?}\n{second:?}"));
            }
        }
        Ok(())
    }

    /// What a mount finds, its log time, and whether that was made durable: no later one finds anything else.
    fn seen(&mut self, device: &mut FaultFlash, tables: &mut Tables) -> Result<(Seen, Millis, bool), String> {
        let (mut broker, mounted) = self.mount(device, tables)?;
        self.stats.mounts += 1;
        let seen = look(&mut broker)?;
        for _ in 0..SYNC_ROUNDS {
            broker.commit(mounted.last);
            broker.poll_durable();
        }
        Ok((seen, mounted.last, broker.tail() <= broker.durable()))
    }

    fn live(
        &mut self,
        device: &mut FaultFlash,
        tables: &mut Tables,
        script: &LifeScript,
        is_first: bool,
    ) -> Check {
        let reads = device.meter().reads;
        if let End::Cut(steps) = script.end {
            if !is_first {
                device.cut_after(steps);
            }
        }
        let (mut broker, mounted) = match self.mount(device, tables) {
            Ok(mounted) => mounted,
            Err(error) => return self.mount_failed(error, script),
        };
        self.tell(|| format!("life: {mounted:?}"));
        if broker.device().is_cut() {
            return Ok(());
        }
        self.was_full |= mounted.log.in_place || broker.info().log.free_segments <= RESERVE;
        if self.was_full && !self.script.beyond_reserve {
            return Ok(());
        }
        let seen = look(&mut broker)?;
        let reads = broker.device().meter().reads - reads;
        let each = reads / u64::from(self.script.geometry.segment_count);
        self.stats.most_mount_reads = self.stats.most_mount_reads.max(each);
        self.stats.mounts += 1;
        self.model.mount(&seen)?;
        if mounted.last < self.model.time_floor {
            return Err(format!("log time went back to {} from {}", mounted.last, self.model.time_floor));
        }
        if broker.tail() <= broker.durable() {
            self.model.settle(self.model.step, broker.durable());
        }
        let (model, stats) = (&mut self.model, &mut *self.stats);
        let is_last = self.life == self.script.lives.len();
        let mut life = Life::new(broker, mounted.last, model, stats, &mut self.clocks, &mut self.trace);
        if is_first {
            furnish(&mut life)?;
        }
        for &number in &script.actions {
            if life.is_cut() {
                break;
            }
            life.act(number)?;
        }
        if is_last && !self.was_full {
            return life.revive();
        }
        if script.end == End::Close && !life.is_cut() {
            life.settle()?;
            life.model.step += 1;
            life.close()?;
        }
        life.model.settle(0, life.broker.durable());
        Ok(())
    }

    /// A mount may fail only because the power went.
    fn mount_failed(&mut self, error: String, script: &LifeScript) -> Check {
        self.tell(|| error.clone());
        let End::Cut(_) = script.end else { return Err(error) };
        self.stats.cuts_in_mounts += 1;
        self.doomed = Some(error);
        Ok(())
    }

    /// Tells the model what is not so, if that is asked for.
    fn spoil(&mut self) {
        let model = &mut self.model;
        let is_kept = |item: &Item| item.certain && item.present && item.left.is_none();
        let shelf = model.shelves.iter_mut().find(|shelf| shelf.items.iter().any(is_kept));
        let Some(shelf) = shelf.filter(|shelf| shelf.id.is_certain()) else { return };
        match self.script.defect {
            Some(Defect::Phantom) => {
                let phantom = Item {
                    offset: shelf.next,
                    message: model.messages,
                    kept: true,
                    certain: true,
                    ..Item::default()
                };
                shelf.items.push(Item { present: true, ..phantom });
            }
            Some(Defect::FalseAck) => shelf.items.retain(|item| !is_kept(item)),
            _ => {}
        }
    }

    fn go_down(&mut self, device: &mut FaultFlash, script: &LifeScript) {
        let (tear, seed) = script.tear;
        let kills = script.end == End::Kill && !device.is_cut();
        self.tell(|| format!("end: {:?}, {tear:?}, {seed}", script.end));
        if !kills {
            self.stats.cuts += 1;
            device.restart_with(tear, seed);
        }
    }
}

/// Declares everything there can be.
fn furnish(life: &mut Life<'_>) -> Check {
    for index in 0..NOUNS {
        life.model.step += 1;
        life.declare_one(index)?;
    }
    for index in 0..WIRES {
        life.model.step += 1;
        life.wire_one(index, false)?;
    }
    life.settle()
}
