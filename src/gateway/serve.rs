//! `forebay serve`: starts everything, turns the loop, and ends it in order.
//!
//! There are two threads: this one, and the one of the store's file that waits for the disk.
//!
//! ```text
//! start:  memory -> store -> listeners -> ready
//! stop:   listeners -> what waits becomes durable -> confirms -> sessions -> store
//! ```

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::{eventfd, EventfdFlags};
use smol::LocalExecutor;

use crate::units::Millis;

use super::buffers::Buffers;
use super::clock::Clock;
use super::config::{Config, Size};
use super::doors::Door;
use super::engine::Engine;
use super::errors::Fatal;
use super::plan::Plan;
use super::poller::Readiness;
use super::rooms::{Room, Rooms};
use super::runtime::Runtime;
use super::signals::Signals;
use super::store;
use super::stream::Stream;
use super::supervisor::Supervisor;
use super::table::{Table, RESERVED_COUNT};
use super::turn::{Gateway, Patience};

/// Tokens from here on are not connections.
const SPECIAL: u64 = 1 << 63;
const TOKEN_SYNC: u64 = SPECIAL;
const TOKEN_STOP: u64 = SPECIAL + 1;
const TOKEN_RELOAD: u64 = SPECIAL + 2;
const TOKEN_DOORS: u64 = SPECIAL + 3;

/// Files the gateway has open besides its connections.
const FILES_COUNT: u64 = 32;

/// What is waited for at the end before the sessions are told.
const FAREWELL_MS: u64 = 5000;

/// A warning about the limit of connections is given no more often than this.
const WARNING_MS: u64 = 10_000;

/// The running program.
struct Server {
    config: Config,
    runtime: Rc<Runtime>,
    gateway: Gateway,
    clock: Clock,
    doors: Vec<Door>,
    wake: Arc<OwnedFd>,
    stop: Signals,
    reload: Signals,
    supervisor: Supervisor,
    refused_count: u64,
    warn_again: Millis,
}

/// Runs until a signal ends it.
pub fn serve(mut config: Config) -> Result<(), Fatal> {
    log::info!("forebay {}", env!("CARGO_PKG_VERSION"));
    store::adopt_sizes(&mut config);
    let plan = Plan::fit(&mut config)?;
    raise_file_limit(u64::from(config.connections.count));
    let mut server = Server::start(config)?;
    for door in &server.doors {
        // Nobody has to know where the control socket is but those who look for trouble.
        let level = if door.room == Room::Control { log::Level::Debug } else { log::Level::Info };
        log::log!(level, "listening: {} on {}", door.room.name(), door.address());
    }
    log::info!(
        "memory: {} set aside, at most {} with all connections; `forebay plan` shows for what",
        Size(plan.boot_bytes()).rounded(),
        Size(plan.memory_bytes()).rounded()
    );
    log::info!("ready");
    server.supervisor.ready();
    let runtime = Rc::clone(&server.runtime);
    runtime.run(&LocalExecutor::new(), async {
        server.run().await?;
        server.finish().await;
        Ok::<(), Fatal>(())
    })?;
    log::info!("stopped");
    Ok(())
}

impl Server {
    fn start(config: Config) -> Result<Server, Fatal> {
        let broken = |error: std::io::Error| Fatal::system("cannot start", &error);
        let stop = Signals::stop().map_err(broken)?;
        let reload = Signals::reload().map_err(broken)?;
        let runtime = Runtime::new().map_err(broken)?;
        let poller = &runtime.poller;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).map_err(|errno| broken(errno.into()))?);
        poller.add(&wake, TOKEN_SYNC).map_err(broken)?;
        poller.add(&stop, TOKEN_STOP).map_err(broken)?;
        poller.add(&reload, TOKEN_RELOAD).map_err(broken)?;

        let (engine, last) = Engine::open(&config, Arc::clone(&wake))?;
        let mut clock = Clock::going_on_from(last);
        let limits = &config.connections;
        let buffers = Buffers::new(limits.buffers.0 as usize, limits.high_mark.0 as usize);
        let mut table = Table::new(limits.count, buffers, Rooms::write_direct());
        table.now = clock.tick().0;
        let patience = Patience { handshake_ms: limits.handshake.0, stall_ms: limits.stall.0 };
        let gateway = Gateway::new(engine, table, Rooms::new(&config), patience);
        let doors = Door::open_all(&config, poller, TOKEN_DOORS)?;
        let warn_again = gateway.table.now;
        Ok(Server {
            config,
            runtime,
            gateway,
            clock,
            doors,
            wake,
            stop,
            reload,
            supervisor: Supervisor::of_environment(),
            refused_count: 0,
            warn_again,
        })
    }

    async fn run(&mut self) -> Result<(), Fatal> {
        loop {
            let doors = self.doors.iter().map(Door::poll_timeout);
            let others = doors.chain([self.supervisor.poll_timeout()]).min();
            self.wait(others).await?;
            self.supervisor.handle_time(self.gateway.table.now);
            if self.stop.take() {
                return Ok(());
            }
            for index in 0..self.doors.len() {
                self.accept(index);
            }
            self.gateway.serve_ready();
            self.gateway.handle_time();
            self.gateway.end_turn();
        }
    }

    /// Waits for events and takes note of them.
    async fn wait(&mut self, at_most_until: Option<Millis>) -> Result<(), Fatal> {
        let now = self.gateway.table.now;
        let other_ms = at_most_until.filter(|until| *until != Millis::NEVER).map(|until| until.since(now));
        let timeout_ms = match (self.gateway.timeout_ms(), other_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.runtime.wait(timeout_ms).await.map_err(|error| Fatal::system("epoll", &error))?;
        let (now, leapt) = self.clock.tick();
        self.gateway.table.now = now;
        if leapt {
            self.gateway.forgive();
        }
        for index in 0..self.runtime.poller.count() {
            if let Some((token, readiness)) = self.runtime.poller.event(index) {
                self.dispatch(token, readiness);
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, token: u64, readiness: Readiness) {
        match token {
            TOKEN_SYNC => {
                let mut count = [0; 8];
                // Edge-triggered: the counter need not be empty, only read so that it stays small.
                let _ = rustix::io::read(&self.wake, &mut count);
                self.gateway.handle_sync();
            }
            TOKEN_STOP => {}
            TOKEN_RELOAD => self.reload(),
            owner if owner < SPECIAL => self.gateway.handle_event(owner, readiness),
            door => {
                if let Some(door) = self.doors.get_mut((door - TOKEN_DOORS) as usize) {
                    door.mark_pending();
                }
            }
        }
    }

    fn accept(&mut self, index: usize) {
        let now = self.gateway.table.now;
        let Some(door) = self.doors.get_mut(index) else { return };
        if door.poll_timeout() > now {
            return;
        }
        let room = door.room;
        for stream in door.take(now) {
            match self.gateway.connect(stream, room) {
                Ok(index) => self.watch(index),
                Err(stream) => self.refuse(&stream),
            }
        }
    }

    fn watch(&mut self, index: u32) {
        let owner = self.gateway.table.owner(index);
        let Some(slot) = self.gateway.table.slot(index) else { return };
        let Some(stream) = &slot.stream else { return };
        if let Err(error) = self.runtime.poller.add(stream, owner) {
            log::warn!("{stream}: {error}");
            self.gateway.table.remove(index);
        }
    }

    fn refuse(&mut self, stream: &Stream) {
        self.refused_count += 1;
        let now = self.gateway.table.now;
        if now < self.warn_again {
            return;
        }
        self.warn_again = now.after(WARNING_MS);
        let count = self.config.connections.count;
        log::warn!(
            "{stream} refused: all {count} connections are taken ({} refused so far); raise connections.count",
            self.refused_count
        );
    }

    /// Re-reads what can change while the program runs.
    fn reload(&mut self) {
        if !self.reload.take() {
            return;
        }
        let Some(file) = self.config.file.clone() else {
            log::info!("SIGHUP: there is no configuration file to read again");
            return;
        };
        match Config::from_file(&file) {
            Ok(fresh) => {
                if *self.config.origin("log.level") != super::config::Origin::Flag {
                    super::logger::start(fresh.log_level);
                }
                log::info!("SIGHUP: log.level is {}; every other key needs a restart", log::max_level());
            }
            Err(error) => log::error!("SIGHUP: nothing changed: {error}"),
        }
    }

    /// Ends in order; nothing that was confirmed depends on it.
    async fn finish(&mut self) {
        log::info!("stopping");
        self.supervisor.stopping();
        self.doors.clear();
        self.settle().await;
        self.gateway.disconnect_all();
        self.gateway.end_turn();
        self.settle().await;
        let now = self.gateway.table.now;
        self.gateway.engine.wind_up(now);
        self.settle().await;
        self.gateway.engine.close(now);
        self.settle().await;
    }

    /// Turns until everything is durable and sent, for a bounded time.
    async fn settle(&mut self) {
        let deadline = self.clock.tick().0.after(FAREWELL_MS);
        self.gateway.end_turn();
        while !self.gateway.engine.is_settled() && self.gateway.table.now < deadline {
            if let Err(error) = self.wait(Some(deadline)).await {
                log::error!("{error}");
                return;
            }
            self.gateway.end_turn();
        }
    }
}

/// Raises the soft limit of open files to what the connections need.
fn raise_file_limit(connections_count: u64) {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let needed = connections_count + u64::from(RESERVED_COUNT) + FILES_COUNT;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = limit.maximum.map_or(needed, |most| most.min(needed));
    let outcome = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    if outcome.is_err() || raised < needed {
        log::warn!("only {raised} files may be open: connections.count = {connections_count} needs {needed} (ulimit -n)");
    }
}
