//! The broker as the gateway drives it: mounted on the store's file, over memory set aside at boot.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::broker::{QueueInfo, StoreInfo};
use crate::command::{Command, Outlet, Refusal, Reply};
use crate::units::{Millis, Position};

use super::config::Config;
use super::errors::Fatal;
use super::store::{self, FileBroker};

/// The broker and its store.
pub struct Engine {
    broker: FileBroker,
    is_read_only: bool,
}

impl Engine {
    /// Opens the store of a configuration; `wake` is written to whenever a sync is over. The second
    /// value is the log time to go on from.
    pub fn open(config: &Config, wake: Arc<OwnedFd>) -> Result<(Engine, Millis), Fatal> {
        let (broker, mounted) = store::open(config, wake)?;
        Ok((Engine { broker, is_read_only: false }, mounted.last))
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
        if self.is_read_only || !self.broker.is_read_only() {
            return;
        }
        self.is_read_only = true;
        log::error!(
            "store: a write or sync failed, so it takes no more: publishes are refused from now on and \
             nothing that was not confirmed is; check the medium, then start again"
        );
    }

    /// Publishes have to wait a moment until reclaim has made room.
    pub fn is_tight(&self) -> bool {
        self.broker.is_tight()
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

    /// Closes the store; it is closed once `is_settled`.
    pub fn close(&mut self, now: Millis) {
        self.broker.close(now);
    }

    /// The store takes no writes any more.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
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
