//! The broker as the gateway drives it: mounted on the store's file, over memory set aside at boot.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::broker::{QueueInfo, StoreInfo};
use crate::command::{Command, Outlet, Refusal, Reply, Standee, Which};
use crate::flash::file::Cause;
use crate::units::{Millis, Offset, Position, QueueId};

use super::config::Config;
use super::errors::Fatal;
use super::logger::Utc;
use super::store::{self, FileBroker};

/// Why the store takes no writes any more.
#[derive(Clone, Debug)]
pub struct Outage {
    /// What failed.
    pub cause: Cause,
    /// What the system says of it.
    pub error: String,
    /// Since when.
    pub since: Utc,
}

/// The broker and its store.
pub struct Engine {
    broker: FileBroker,
    path: PathBuf,
    outage: Option<Outage>,
    /// The sessions were not told of the outage yet.
    is_news: bool,
}

impl Engine {
    /// Opens the store of a configuration; `wake` is written to whenever a sync is over. The second
    /// value is the log time to go on from.
    pub fn open(config: &Config, wake: Arc<OwnedFd>) -> Result<(Engine, Millis), Fatal> {
        let (broker, mounted) = store::open(config, wake)?;
        let path = config.store.path.clone();
        Ok((Engine { broker, path, outage: None, is_news: false }, mounted.last))
    }

    /// Executes a command.
    pub fn execute(
        &mut self,
        now: Millis,
        command: Command<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        self.broker.execute(now, command, outlet)
    }

    /// Hands out what can be handed out; true if there is more.
    pub fn pump(&mut self, now: Millis, outlet: &mut dyn Outlet) -> bool {
        self.broker.pump(now, outlet)
    }

    /// Ends a turn: what waits for the medium goes there.
    pub fn commit(&mut self, now: Millis) {
        self.broker.commit(now);
        self.report_failure();
    }

    /// The position that became durable, once.
    pub fn poll_durable(&mut self) -> Option<Position> {
        let durable = self.broker.poll_durable();
        self.report_failure();
        durable
    }

    fn report_failure(&mut self) {
        if self.outage.is_some() || !self.broker.is_read_only() {
            return;
        }
        let failure = self.broker.device().failure();
        let cause = failure.map_or(Cause::Write, |failure| failure.cause);
        let error = failure.map_or_else(|| "unknown".to_string(), |failure| failure.error().to_string());
        let advice = match cause {
            Cause::NoRoom => "make room on its file system",
            Cause::ReadOnlyFileSystem => "see in the kernel's log why its file system is read-only",
            Cause::Sync | Cause::Write => "check the medium and the kernel's log",
        };
        log::error!(
            "store: {}: {cause}: {error}; it takes no writes any more: nothing is confirmed, publishes that \
             ask for it are refused, what was confirmed is still delivered, and acknowledgements are \
             remembered only until the restart; {advice}, then start again",
            self.path.display()
        );
        self.outage = Some(Outage { cause, error, since: Utc::of(SystemTime::now()) });
        self.is_news = true;
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message of a queue that stands as asked.
    pub fn browse(
        &mut self,
        queue: QueueId,
        from: Offset,
        which: Which,
    ) -> Option<(Offset, Option<Standee<'_>>)> {
        self.broker.browse(queue, from, which)
    }

    /// The store's file.
    #[cfg(test)]
    pub fn device(&self) -> &crate::flash::file::FileFlash {
        self.broker.device()
    }

    /// The store has stopped taking writes, told once: what waits to become durable waits in vain.
    pub fn take_outage_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Publishes have to wait a moment until reclaim has made room.
    pub fn is_tight(&self) -> bool {
        self.broker.is_tight()
    }

    /// There is little room left.
    pub fn is_short(&self) -> bool {
        self.broker.is_short()
    }

    /// Everything before it survives a loss of power.
    pub fn durable(&self) -> Position {
        self.broker.durable()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Millis {
        self.broker.poll_timeout()
    }

    /// Delays, lifetimes and leases that are over.
    pub fn handle_timeout(&mut self, now: Millis, outlet: &mut dyn Outlet) {
        self.broker.handle_timeout(now, outlet);
    }

    /// No sync is under way.
    pub fn is_settled(&self) -> bool {
        self.broker.is_closed()
    }

    /// Writes what is in memory only; it is on flash once `is_settled`.
    pub fn wind_up(&mut self, now: Millis) {
        self.broker.wind_up(now);
    }

    /// Closes the store; it is closed once `is_settled`.
    pub fn close(&mut self, now: Millis) {
        self.broker.close(now);
    }

    /// Why the store takes no writes any more.
    pub fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
    }

    /// The store and the tables as they stand.
    pub fn info(&self) -> StoreInfo {
        self.broker.info()
    }

    /// Tells every queue.
    pub fn for_each_queue(&self, tell: &mut dyn FnMut(&QueueInfo<'_>)) {
        self.broker.for_each_queue(tell);
    }
}
