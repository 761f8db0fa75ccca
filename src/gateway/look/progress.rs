//! How far it is, on standard error: a line that is written over on a terminal, and lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::gateway::config::Size;

/// Time between two updates of a line on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Time between two lines elsewhere.
const RELINE: Duration = Duration::from_secs(2);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes read.
    Bytes,
    /// Messages checked.
    Messages,
}

#[derive(Clone, Copy)]
struct Phase {
    name: &'static str,
    unit: Unit,
    done: u64,
    /// 0 if nobody knows.
    total: u64,
    told: Instant,
}

/// What is being done, and how far it is.
pub struct Progress {
    is_shown: bool,
    is_terminal: bool,
    phase: Cell<Option<Phase>>,
}

impl Progress {
    /// Shown on a terminal, or anywhere if it was asked for.
    pub fn new(is_asked: bool) -> Rc<Progress> {
        let is_terminal = std::io::stderr().is_terminal();
        Rc::new(Progress { is_shown: is_asked || is_terminal, is_terminal, phase: Cell::new(None) })
    }

    /// Never shown.
    pub fn hidden() -> Rc<Progress> {
        Rc::new(Progress { is_shown: false, is_terminal: false, phase: Cell::new(None) })
    }

    /// Begins something; a total of 0 is not known.
    pub fn begin(&self, name: &'static str, unit: Unit, total: u64) {
        if self.is_shown {
            self.phase.set(Some(Phase { name, unit, done: 0, total, told: Instant::now() }));
        }
    }

    /// So many bytes were read.
    pub fn read(&self, bytes: u64) {
        self.advance(Unit::Bytes, bytes);
    }

    /// A message was checked.
    pub fn message(&self) {
        self.advance(Unit::Messages, 1);
    }

    /// It is done.
    pub fn end(&self) {
        let Some(phase) = self.phase.take() else { return };
        if self.is_terminal {
            say("\r\x1b[K");
        } else {
            say(&format!("{}\n", line(&phase)));
        }
    }

    fn advance(&self, unit: Unit, by: u64) {
        let Some(mut phase) = self.phase.get().filter(|phase| phase.unit == unit) else { return };
        phase.done += by;
        let wait = if self.is_terminal { REDRAW } else { RELINE };
        if phase.told.elapsed() >= wait {
            phase.told = Instant::now();
            let (before, behind) = if self.is_terminal { ("\r", "\x1b[K") } else { ("", "\n") };
            say(&format!("{before}{}{behind}", line(&phase)));
        }
        self.phase.set(Some(phase));
    }
}

fn line(phase: &Phase) -> String {
    let Phase { name, unit, done, total, .. } = *phase;
    let show = |count: u64| match unit {
        Unit::Bytes => Size(count).rounded(),
        Unit::Messages => count.to_string(),
    };
    match total {
        0 => format!("{name}: {}", show(done)),
        _ => {
            // What is damaged is read more than once.
            let percent = (done.saturating_mul(100) / total).min(100);
            format!("{name}: {} of {} ({percent} %)", show(done), show(total))
        }
    }
}

fn say(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
