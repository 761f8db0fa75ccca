//! The verbs: publish, route, append, deliver, acknowledge, expire, restore.
//!
//! The broker is one state machine without a clock, a socket or a thread. A driver calls
//! ```text
//! execute(now, command)   for every command; replies at once
//! pump(now, outlet)       hands out what can be handed out, a bounded piece at a time
//! commit(now)             at the end of a turn: writes, and asks for a sync if none is under way
//! poll_durable()          when the device's sync ended: the position before which all is safe
//! handle_timeout(now)     at poll_timeout(): delays, expiry, leases, late acknowledgements
//! ```
//! in reading order: `publish` (admit, dedup, stamp, route, append), `deliver`, `settle`
//! (acknowledge, reject, return), `expire`, `dead`, `finish`; `declare` for the nouns;
//! `restore` and `reclaim` for the log. `record` and `meta` draw what is written.
//!
//! Promises kept here
//! - A durable message leaves a durable queue only once it is durable, so its consumer never sees
//!   what a loss of power could undo, and an offset seen by anyone is never used again. A queue
//!   that does not outlive the power hands it over at once.
//! - A message is stored once; a queue holds a reference. It leaves a queue in `finish` only.
//! - No step looks at more than a page of entries, or at more than one consumer's deliveries.

#[cfg(feature = "gateway")]
mod browse;
#[cfg(feature = "gateway")]
mod bury;
mod copy;
mod costs;
mod dead;
#[cfg(feature = "gateway")]
mod deaths;
mod declare;
mod declared;
mod deliver;
mod exchanges;
mod expire;
#[cfg(feature = "gateway")]
mod fetch;
mod finish;
#[cfg(feature = "gateway")]
mod identity;
mod known;
mod lanes;
mod loss;
mod lost;
mod meta;
mod overflow;
#[cfg(feature = "gateway")]
mod pieces;
mod publish;
mod reclaim;
mod record;
mod restore;
mod retained;
mod room;
mod settle;
mod state;
mod status;
mod storage;
mod streams;
mod sweep;
mod tables;
#[cfg(feature = "gateway")]
mod tenants;
mod topology;
#[cfg(feature = "gateway")]
mod tx;

pub use declared::{DedupInfo, ExchangeInfo};
pub use loss::{for_each_loss, Loss};
pub use record::Route;
pub use restore::{MountFailure, Mounted};
pub use room::index_share;
pub use state::Counters;
pub use status::{QueueInfo, StoreInfo};
pub use storage::Storage;

use crate::command::{Command, Outlet, Refusal, Reply};
use crate::flash::Flash;
use crate::log::{AppendError, Log, Purpose};
use crate::units::{Millis, Position};
use state::State;

/// Log time is written at most this often.
const ANCHOR_EVERY_MS: u64 = 60_000;

/// What a publisher or declarer is told when the log takes no record.
fn refusal_of(error: AppendError) -> Refusal {
    match error {
        AppendError::Full => Refusal::StoreFull,
        AppendError::TooLarge => Refusal::TooLarge,
        AppendError::ReadOnly | AppendError::Medium(_) | AppendError::Source(_) => Refusal::ReadOnly,
    }
}

/// What an operator decides besides the limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seed for hashes; different at every boot, so that nobody can prepare collisions.
    pub seed: u64,
    /// How long a dedup key of a producer is remembered.
    pub dedup_window_ms: u64,
    /// An acknowledgement is written at the latest after this time.
    pub ack_delay_ms: u64,
    /// Only look at the store: nothing is written to the device, every change is refused.
    pub read_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { seed: 0, dedup_window_ms: 600_000, ack_delay_ms: 50, read_only: false }
    }
}

/// The broker over one store.
pub struct Broker<'a, F: Flash> {
    log: Log<'a, F>,
    state: State<'a>,
    settings: Settings,
    now: Millis,
    /// Something was accepted whose publisher waits for the sync.
    urgent: bool,
    /// Since when acknowledgements wait to be written and synced.
    lazy_since: Option<Millis>,
    /// The last time that was written for its own sake.
    anchored: Millis,
    /// The log may say of records before this position that they count, and they do not any more.
    owed: Option<Position>,
    /// Held keys that are among that.
    held_owed: usize,
    /// Publishes are part of a transaction that may still be refused.
    in_tx: bool,
    /// What small records are written for, hence how far they may reach into the log's reserve.
    purpose: Purpose,
    /// When a queue may have to go because nobody uses it.
    #[cfg(feature = "gateway")]
    queues_due: Millis,
    /// There is little room left.
    #[cfg(feature = "gateway")]
    is_short: bool,
}

impl<F: Flash> Broker<'_, F> {
    /// Executes one command. If it is refused, nothing has changed.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn execute(
        &mut self,
        now: Millis,
        command: Command<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        self.set_now(now);
        match command {
            Command::Publish(publish) => self.publish(&publish, outlet),
            Command::Ack(tag) => self.ack(tag),
            Command::Received(tag) => self.received(tag),
            Command::Reject(tag, rejection) => self.reject(tag, rejection),
            Command::Extend(tag) => self.extend(tag),
            Command::Pause(consumer, paused) => self.pause(consumer, paused),
            Command::Subscribe(asked) => self.subscribe(&asked),
            Command::Unsubscribe(consumer) => self.unsubscribe(consumer, outlet),
            Command::Forget(key) => self.forget(key),
            Command::Retained { consumer, pattern, grade } => {
                self.send_retained(consumer, pattern, grade, outlet)
            }
            Command::DeclareQueue { name, options } => self.declare_queue(name, &options),
            Command::FindQueue { name } => self.find_queue(name),
            Command::DeleteQueue { name, if_unused, if_empty } => {
                self.delete_queue(name, if_unused, if_empty, outlet)
            }
            Command::Purge { name } => self.purge(name),
            Command::DeclareExchange { name, options } => self.declare_exchange(name, &options),
            #[cfg(feature = "gateway")]
            Command::FindExchange { name } => self.find_exchange(name),
            Command::DeleteExchange { name, if_unused } => self.delete_exchange(name, if_unused),
            Command::Bind(bind) => self.bind(&bind),
            Command::Unbind(bind) => self.unbind(&bind),
            #[cfg(feature = "gateway")]
            Command::DeleteExclusive { owner } => self.delete_exclusive(owner, outlet),
            #[cfg(feature = "gateway")]
            Command::Fetch { consumer, count } => self.fetch(consumer, count, outlet),
            #[cfg(feature = "gateway")]
            Command::Locate { queue, at } => self.locate(queue, at),
            #[cfg(feature = "gateway")]
            Command::Cancel { queue, offset } => self.cancel(queue, offset),
            #[cfg(feature = "gateway")]
            Command::Tx(steps) => self.transact(steps, outlet),
            // What only the clients of a gateway ask for.
            #[cfg(not(feature = "gateway"))]
            _ => Err(Refusal::NotAllowed),
        }
    }

    /// Ends a turn: what was accepted is written, and synced if no sync is under way.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn commit(&mut self, now: Millis) {
        self.set_now(now);
        #[cfg(feature = "gateway")]
        self.measure();
        if self.log.syncing() {
            return;
        }
        let late = self.lazy_since.is_some_and(|since| now >= since.after(self.settings.ack_delay_ms));
        if !self.urgent && !late {
            return;
        }
        self.write_runs();
        // Here and not where they are written, which may be long before a sync.
        self.lazy_since = None;
        self.write_anchor();
        self.urgent = false;
        // A failure shows in the durable position, which then never moves again.
        if self.log.commit().is_err() {
            self.state.queues.wake_waiting();
        }
    }

    /// Takes the end of a sync: the new durable position, if it moved.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn poll_durable(&mut self) -> Option<Position> {
        match self.log.poll() {
            Ok(true) => {
                self.state.queues.wake_waiting();
                Some(self.log.durable())
            }
            _ => {
                if self.log.read_only() {
                    self.state.queues.wake_waiting();
                }
                None
            }
        }
    }

    /// Where the log ends: what was appended so far survives once [`Broker::durable`] has come here.
    pub fn tail(&self) -> Position {
        self.log.tail()
    }

    /// Everything before this position survives a loss of power.
    pub fn durable(&self) -> Position {
        self.log.durable()
    }

    /// When `handle_timeout` or `commit` has something to do without anybody asking.
    pub fn poll_timeout(&self) -> Millis {
        let late = self.lazy_since.map_or(Millis::NEVER, |since| since.after(self.settings.ack_delay_ms));
        #[cfg(feature = "gateway")]
        let late = late.min(self.queues_due);
        self.state.pages.next_wake().min(late)
    }

    /// Writes everything that is in memory only and asks for a sync. Where the caller polls until `is_closed` before
    /// it closes, the store ends with nothing in doubt, and the next mount has less to read.
    pub fn wind_up(&mut self, now: Millis) {
        self.set_now(now);
        self.write_runs();
        self.tidy_up();
        self.write_anchor();
        let _ = self.log.commit();
    }

    /// Winds up, ends the log in order and asks for a last sync. The caller polls until `is_closed`.
    #[cfg_attr(not(feature = "gateway"), inline(never))]
    pub fn close(&mut self, now: Millis) {
        self.wind_up(now);
        let _ = self.log.close();
    }

    /// Nothing is left to be synced, or nothing can be.
    pub fn is_closed(&self) -> bool {
        !self.log.syncing()
    }

    /// Writes what time it is, now and then: a restart goes on from there.
    fn write_anchor(&mut self) {
        if self.now.since(self.anchored) >= ANCHOR_EVERY_MS {
            self.anchored = self.now;
            self.write_meta(&meta::Meta::Anchor(self.now));
        }
    }

    #[cfg_attr(not(feature = "gateway"), inline(never))]
    fn set_now(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.log.set_time(self.now);
    }

    /// Asks for a sync at the end of this turn; the position that it will make durable. Once the log
    /// takes nothing more, that is one which is never reached.
    fn make_durable(&mut self) -> Position {
        if self.log.read_only() {
            return Position(u64::MAX);
        }
        self.urgent = true;
        self.log.tail()
    }
}
