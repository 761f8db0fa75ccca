//! Readiness of sockets: edge-triggered epoll, in one file.
//!
//! A source is registered once, for reading and writing, and never again: no system call re-arms
//! it, which is what the one-shot reactors of the async runtimes spend a third of a wake-up on.
//! The price is the edge: a source that was told readable is told again only after *new* bytes
//! arrived, so the reader has to go on until a read comes back short, and remember that it has not.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::Timespec;

/// Events taken from the kernel at once; with what they bring it bounds a turn.
const EVENTS_COUNT: usize = 64;

/// What became possible with a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to read.
    pub readable: bool,
    /// It takes bytes again.
    pub writable: bool,
    /// The peer stopped sending or the stream failed: read until the end shows.
    pub hangup: bool,
}

/// The kernel's list of sources, and what it brought last.
pub struct Poller {
    epoll: OwnedFd,
    events: RefCell<Vec<Event>>,
}

impl Poller {
    /// An empty list.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll, events: RefCell::new(Vec::with_capacity(EVENTS_COUNT)) })
    }

    /// Adds a source; it leaves the list when it is closed.
    pub fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Waits for events, at most this long; a signal ends the wait early.
    pub fn wait(&self, timeout_ms: Option<u64>) -> io::Result<()> {
        let timeout = timeout_ms.map(|ms| Timespec {
            tv_sec: (ms / 1000).min(86_400) as _,
            tv_nsec: (ms % 1000 * 1_000_000) as _,
        });
        let mut events = self.events.borrow_mut();
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Number of events the last wait brought.
    pub fn count(&self) -> usize {
        self.events.borrow().len()
    }

    /// One event of the last wait: the source's token and what became possible.
    pub fn event(&self, index: usize) -> Option<(u64, Readiness)> {
        let event = *self.events.borrow().get(index)?;
        let (flags, data) = (event.flags, event.data);
        let ended = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let readiness = Readiness {
            readable: flags.intersects(EventFlags::IN | ended),
            writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
            hangup: flags.intersects(ended),
        };
        Some((data.u64(), readiness))
    }
}
