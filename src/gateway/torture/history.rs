//! What something may be after a loss of power: its changes, from the last that is certain.
//!
//! ```text
//! certain | change | change | change          a loss of power leaves any one of these
//!                           ^ now
//! found by a mount: one of them, and now that; the others go once a sync is over
//! ```

use crate::units::Position;

/// Number of a step of the simulation; a sync that is over covers all before it.
pub type Step = u64;

/// A step that no sync covers.
pub const NEVER: Step = Step::MAX;

/// A state that is or was, from a step on.
#[derive(Clone, Copy, Debug)]
struct Change<T> {
    step: Step,
    /// The broker said that it is safe once the log is durable up to here.
    safe_at: Option<Position>,
    state: T,
}

/// One thing over time. The first change is certain.
#[derive(Clone, Debug)]
pub struct History<T> {
    changes: Vec<Change<T>>,
    /// A mount in this step did not show it: which of the changes before were found is open.
    open: Step,
}

impl<T: Copy + PartialEq + Default> Default for History<T> {
    fn default() -> Self {
        History { changes: vec![Change { step: 0, safe_at: None, state: T::default() }], open: 0 }
    }
}

impl<T: Copy + PartialEq + Default> History<T> {
    /// What it is now, as far as that is known.
    pub fn now(&self) -> T {
        self.changes.last().map_or_else(T::default, |change| change.state)
    }

    /// It changes.
    pub fn set(&mut self, step: Step, safe_at: Option<Position>, state: T) {
        self.changes.push(Change { step, safe_at, state });
    }

    /// It could be this now, after a loss of power.
    pub fn may_be(&self, state: T) -> bool {
        self.changes.iter().any(|change| change.state == state)
    }

    /// All that it may be, if the last mount was in this step.
    pub fn states(&self, mounted: Step) -> impl Iterator<Item = T> + '_ {
        let is_known = self.changes.last().is_some_and(|last| last.step > mounted);
        let from = if is_known { self.changes.len().saturating_sub(1) } else { 0 };
        self.changes.iter().skip(from).map(|change| change.state)
    }

    /// It could be nothing else, whatever a loss of power does.
    pub fn is_certain(&self) -> bool {
        self.changes.iter().all(|change| change.state == self.now())
    }

    /// Everything up to this step is durable, and all that was promised to be by this position.
    pub fn settle(&mut self, step: Step, durable: Position) {
        let is_safe = |change: &Change<T>| {
            change.step <= step || change.safe_at.is_some_and(|position| position <= durable)
        };
        let is_told = |change: &Change<T>| change.step > self.open || self.open == 0;
        let last = self.changes.iter().rposition(|change| is_safe(change) && is_told(change));
        if let Some(last) = last {
            self.changes.drain(..last);
        }
    }

    /// What changed and is not certain will not become so: the log took no record of it.
    pub fn doubt(&mut self, mounted: Step) {
        let changes = self.changes.iter_mut().skip(1).filter(|change| change.step > mounted);
        changes.for_each(|change| (change.step, change.safe_at) = (NEVER, None));
    }

    /// A mount found it so.
    pub fn find(&mut self, step: Step, state: T) {
        self.pass(step);
        self.set(step, None, state);
    }

    /// A mount was made that does not show it.
    pub fn leave_open(&mut self, step: Step) {
        self.pass(step);
        self.open = step;
    }

    /// A life is over. Promised positions mean nothing any more: they may be used again.
    fn pass(&mut self, step: Step) {
        for change in &mut self.changes {
            (change.step, change.safe_at) = (change.step.min(step), None);
        }
    }
}
