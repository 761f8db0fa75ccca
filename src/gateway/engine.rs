//! The broker as the gateway drives it: mounted on the store's file, over memory set aside at boot.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::command::{Command, Outlet, Refusal, Reply};
use crate::units::{Millis, Position};

use super::config::Config;
use super::errors::Fatal;

/// The broker and its store.
pub struct Engine {}

/// Figures of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Bytes records can take.
    pub capacity_bytes: u64,
    /// Bytes of the segments in use.
    pub used_bytes: u64,
    /// Bytes still needed.
    pub live_bytes: u64,
    /// Bytes that reclaim will free.
    pub dead_bytes: u64,
    /// Sequence of the oldest segment.
    pub head: u32,
    /// Sequence of the newest segment.
    pub tail: u32,
    /// It takes no writes.
    pub is_read_only: bool,
}

/// One queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Messages that wait.
    pub ready: u32,
    /// Deliveries that wait for their acknowledgement.
    pub in_flight: u32,
    /// Messages that are not due yet.
    pub delayed: u32,
    /// Consumers.
    pub consumers: u32,
}

impl Engine {
    /// Opens the store of a configuration.
    pub fn open(_config: &Config, _wake: Arc<OwnedFd>) -> Result<Engine, Fatal> {
        Ok(Engine {})
    }

    /// Executes a command.
    pub fn execute(
        &mut self,
        _now: Millis,
        _command: Command<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply, Refusal> {
        Err(Refusal::ReadOnly)
    }

    /// Hands out what can be handed out; true if there is more.
    pub fn pump(&mut self, _now: Millis, _outlet: &mut dyn Outlet) -> bool {
        false
    }

    /// Ends a turn: what waits for the medium goes there.
    pub fn commit(&mut self, _now: Millis) {}

    /// The position that became durable, once.
    pub fn poll_durable(&mut self) -> Option<Position> {
        None
    }

    /// Everything before it survives a loss of power.
    pub fn durable(&self) -> Position {
        Position(0)
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Millis {
        Millis::NEVER
    }

    /// Delays, lifetimes and leases that are over.
    pub fn handle_timeout(&mut self, _now: Millis, _outlet: &mut dyn Outlet) {}

    /// Nothing waits for the medium.
    pub fn is_settled(&self) -> bool {
        true
    }

    /// Closes the store.
    pub fn close(&mut self) {}

    /// Figures of the store.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Tells every queue.
    pub fn for_each_queue(&self, _tell: &mut dyn FnMut(QueueInfo<'_>)) {}
}
